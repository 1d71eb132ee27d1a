"""The connection that a sink sends through: TCP, with TLS or without, on which nobody can be kept waiting for ever.

A time limit of one read or one write is kept by whoever moves a byte now and then. So a delivery has one of its own,
over connecting, sending and the answer together: when it is up, the connection is ended under whatever waits on it.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator

__all__ = ["Line"]


class Line:
    """
    One connection at a time: *silence_seconds* bound each wait of it, *whole_seconds* a delivery as a whole.

    Names are looked up within what the system's resolver allows itself, which is not counted while it lasts.
    """

    def __init__(self, silence_seconds: float, whole_seconds: float) -> None:
        self._silence_seconds = silence_seconds
        self._whole_seconds = whole_seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._ends_at = 0.0
        self._ended = False

    @contextlib.contextmanager
    def delivery(self) -> Iterator[None]:
        """Within, all is over after *whole_seconds* or `abort`: raises `TimeoutError`, whatever came of it by then."""
        limit = threading.Timer(self._whole_seconds, self.abort)
        limit.daemon = True
        self._ended, self._ends_at = False, time.monotonic() + self._whole_seconds
        limit.start()
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            limit.cancel()
            self.require(error)
            raise
        finally:
            limit.cancel()
        self.require()

    def require(self, cause: Exception | None = None) -> None:
        """Raises `TimeoutError` if the delivery is over."""
        if self._ended or time.monotonic() >= self._ends_at:
            self.abort()
            raise TimeoutError("it takes too long") from cause

    def opened(self, host: str, port: int, context: ssl.SSLContext | None = None) -> socket.socket:
        """A new connection, with TLS if there is a *context*, to the first address of *host* that takes one."""
        last: OSError = OSError("it has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            self.require(last)
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(min(self._silence_seconds, max(0.001, self._ends_at - time.monotonic())))
                plain.connect(address)
            except OSError as error:
                plain.close()
                last = error
                continue
            plain.settimeout(self._silence_seconds)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._secured(plain, host, context)
        raise last

    def abort(self) -> None:
        """Ends the delivery that is under way in another thread."""
        with self._lock:
            self._ended = True
            if self._socket is not None:
                # An SSL socket's own would say goodbye first, and wait to.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Lets go of the connection."""
        with self._lock:
            held, self._socket = self._socket, None
        if held is not None:
            with contextlib.suppress(OSError):
                held.close()

    def _secured(self, plain: socket.socket, host: str, context: ssl.SSLContext | None) -> socket.socket:
        with self._lock:
            self._socket = plain
            if context is not None:
                self._socket = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
            made = self._socket
        # Whoever ended it while there was nothing to end is heard now.
        self.require()
        if isinstance(made, ssl.SSLSocket):
            made.do_handshake()
        return made
