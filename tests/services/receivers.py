"""Receivers that sinks send to, on a free port of this machine: a webhook with scripted failures, syslog over TLS."""

from __future__ import annotations

import contextlib
import queue
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.services.daemon import free_port


@dataclass(frozen=True, slots=True)
class Post:
    """What came to a webhook, and what was answered."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Hook:
    """A webhook; it answers with *replies* first, each a status, and with 200 from then on."""

    url: str
    replies: list[int]
    got: list[Post] = field(default_factory=list)

    def lines(self) -> list[str]:
        """All lines that were received with a receipt, in their order."""
        return [line for post in self.got if post.status == 200 for line in post.body.decode().splitlines()]


@contextmanager
def a_hook(replies: Sequence[int] = (), headers: dict[str, str] | None = None) -> Iterator[Hook]:
    """A real HTTP server that keeps what is posted to it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status = hook.replies.pop(0) if hook.replies else 200
            hook.got.append(Post(status, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing is said."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hook = Hook(f"http://127.0.0.1:{server.server_port}/events", list(replies))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield hook
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def a_slow_peer(answer: bytes = b"", context: ssl.SSLContext | None = None) -> Iterator[int]:
    """
    A port on which somebody keeps us just busy enough: they take a byte at a time, and say *answer* in the same way.

    With an *answer* they take nothing first; with a *context*, through TLS.
    """

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                connection = self.request
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True)
                # Through TLS it is another socket than the one that the server closes.
                with connection:
                    for letter in answer:
                        connection.sendall(bytes([letter]))
                        time.sleep(0.05)
                    while connection.recv(1):
                        time.sleep(0.05)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

        def server_bind(self) -> None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            super().server_bind()

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@dataclass(slots=True)
class Syslog:
    """A syslog server; *got* has each message as it came, without its length."""

    port: int
    got: queue.Queue[bytes] = field(default_factory=queue.Queue)
    connections: list[Any] = field(default_factory=list)

    def next(self) -> str:
        return self.got.get(timeout=10).decode()

    def hang_up(self) -> None:
        """Ends every connection."""
        for connection in self.connections:
            connection.shutdown(2)
        self.connections.clear()


@contextmanager
def a_syslog(certificate: Path, key: Path) -> Iterator[Syslog]:
    """TLS with this certificate, RFC 5425 framing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                with context.wrap_socket(self.request, server_side=True) as connection:
                    syslog.connections.append(connection)
                    with connection.makefile("rb") as stream:
                        while size := _size(stream):
                            syslog.got.put(stream.read(size))
            except OSError:
                return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        syslog = Syslog(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield syslog
        finally:
            server.shutdown()
            thread.join()


def _size(stream: Any) -> int:
    digits = b""
    while (digit := stream.read(1)) not in (b" ", b""):
        digits += digit
    return int(digits or b"0")


_RSYSLOG = """
global(workDirectory="{folder}" maxMessageSize="64k" defaultNetstreamDriver="ossl"
       defaultNetstreamDriverCAFile="{authority}"
       defaultNetstreamDriverCertFile="{certificate}" defaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")
template(name="line" type="list") {{
  constant(value="{{") property(name="pri" format="jsonf" outname="pri")
  constant(value=",") property(name="app-name" format="jsonf" outname="app")
  constant(value=",") property(name="msgid" format="jsonf" outname="msgid")
  constant(value=",") property(name="timereported" dateFormat="rfc3339" format="jsonf" outname="time")
  constant(value=",") property(name="msg" format="jsonf" outname="msg") constant(value="}}\\n") }}
ruleset(name="all") {{ action(type="omfile" file="{folder}/out.jsonl" template="line") }}
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="all")
"""


@contextmanager
def a_rsyslog(folder: Path, authority: Path, certificate: Path, key: Path) -> Iterator[int]:
    """A real rsyslog on the port that is given, writing what it gets to `out.jsonl` in *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    told = {"folder": folder, "authority": authority, "certificate": certificate, "key": key, "port": port}
    (folder / "rsyslog.conf").write_text(_RSYSLOG.format(**told))
    with (folder / "log").open("wb") as log:
        command = ["/usr/sbin/rsyslogd", "-n", "-f", str(folder / "rsyslog.conf"), "-i", str(folder / "pid")]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield port
        finally:
            process.terminate()
            process.wait(timeout=10)
