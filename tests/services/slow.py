"""A slow line: what is sent through it towards the server arrives at so many bytes a second, whoever shares it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PIECE_BYTES = 16 * 1024
_BUFFER_BYTES = 256 * 1024
_SMALL_BYTES = 4096


class SlowLine:
    """
    A relay to another port of the same address.

    `bytes_per_second` is for all connections together, and only on the way to the server.
    """

    def __init__(self, server_port: int, bytes_per_second: int, port: int = 0, address: str = "127.0.0.1") -> None:
        self._server = (address, server_port)
        self._rate = bytes_per_second
        self._lock = threading.Lock()
        self._free_at = time.monotonic()
        self._listener = socket.create_server((address, port))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections; those there are go on."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        # A big buffer would let the client believe that it has sent what has not left yet.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        with client, socket.create_connection(self._server) as server:
            back = threading.Thread(target=self._relay, args=(server, client, False), daemon=True)
            back.start()
            self._relay(client, server, True)
            back.join()

    def _relay(self, source: socket.socket, target: socket.socket, slow: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(_PIECE_BYTES):
                # What is small is not what makes a line slow: handshakes and heads pass at once.
                if slow and len(piece) > _SMALL_BYTES:
                    self._wait(len(piece))
                target.sendall(piece)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _wait(self, size: int) -> None:
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + size / self._rate
            pause = self._free_at - time.monotonic()
        time.sleep(max(0.0, pause))


@contextmanager
def slow_line(server_port: int, bytes_per_second: int, port: int = 0, address: str = "127.0.0.1") -> Iterator[SlowLine]:
    """A slow line to the server for as long as the block lasts."""
    line = SlowLine(server_port, bytes_per_second, port, address)
    try:
        yield line
    finally:
        line.close()
