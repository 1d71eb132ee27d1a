"""A line between the gateway and its database that is cut at the very moment a commit is on its way."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum

_COMMIT = b"COMMIT"
#: A statement that is said often gets a name, and is said by that from then on.
_NAMED = re.compile(rb"(_pg3_\w+\0)COMMIT\0")


class Cut(StrEnum):
    """Where the line is cut."""

    NEVER = "never"
    BEFORE = "before"
    """The commit never arrives."""
    AFTER = "after"
    """It arrives, and its answer does not."""


@dataclass(slots=True)
class Cutter:
    """A port in front of the database at *target*; *cut* is done once, and then is `NEVER` again."""

    target: int
    cut: Cut = Cut.NEVER
    cuts: int = 0
    port: int = 0
    down: bool = False
    """Whether nothing gets through at all."""
    _pairs: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def sever(self) -> None:
        """Cuts every connection there is."""
        with self._guard:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def serve(self, listener: socket.socket) -> None:
        """Passes on whatever comes until the listener is closed."""
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                try:
                    if self.down:
                        raise ConnectionRefusedError
                    far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
                    far.settimeout(None)
                except OSError:
                    near.close()
                    continue
                with self._guard:
                    self._pairs.append((near, far))
                threading.Thread(target=self._out, args=(near, far), daemon=True).start()
                threading.Thread(target=self._back, args=(near, far), daemon=True).start()

    def _out(self, near: socket.socket, far: socket.socket) -> None:
        names: set[bytes] = set()
        with suppress(OSError):
            while said := near.recv(65536):
                names.update(_NAMED.findall(said))
                wanted = self._takes(_COMMIT in said or any(name in said for name in names))
                if wanted is Cut.BEFORE:
                    break
                if wanted is Cut.AFTER:
                    # Nobody hears the answer, and the database commits.
                    near.shutdown(socket.SHUT_RDWR)
                    far.sendall(said)
                    far.settimeout(2)
                    far.recv(65536)
                    break
                far.sendall(said)
        _end(near, far)

    def _takes(self, commits: bool) -> Cut:
        with self._guard:
            if self.cut is Cut.NEVER or not commits:
                return Cut.NEVER
            wanted, self.cut = self.cut, Cut.NEVER
            self.cuts += 1
            return wanted

    def _back(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while said := far.recv(65536):
                near.sendall(said)
        _end(near, far)


def _end(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@contextmanager
def cutting(target: int) -> Iterator[Cutter]:
    """A line to *target* for as long as the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        cutter = Cutter(target, port=listener.getsockname()[1])
        serving = threading.Thread(target=cutter.serve, args=(listener,), daemon=True)
        serving.start()
        try:
            yield cutter
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            cutter.sever()
            serving.join(5)
