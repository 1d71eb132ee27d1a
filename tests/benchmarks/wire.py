"""A connection to a server under load: TLS, kept open, with as little work in this process as Python allows."""

from __future__ import annotations

import socket
import ssl


def connect(port: int) -> ssl.SSLSocket:
    """A TLS connection to 127.0.0.1 that does not wait to fill a packet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The certificate is the measuring side's own: checking it once a connection proves nothing about speed.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = context.wrap_socket(socket.create_connection(("127.0.0.1", port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def head(port: int, method: str, path: str, authorization: str, *more: str) -> bytes:
    """The head of a request."""
    told = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *more]
    told += [f"Authorization: {authorization}"] if authorization else []
    return ("\r\n".join(told) + "\r\n\r\n").encode()
