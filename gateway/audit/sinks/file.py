"""The sink that is a file: JSON lines, on disk before they count, rotated by size.

audit.jsonl                                  is written to
audit.jsonl.20261124T120000.000000Z          was, until then, or just after the one before if the clock went back
"""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from gateway.audit.sinks.port import Shipment, SinkFailed, why

_LOOK_BYTES: Final = 64 * 1024
_FORM: Final = "%Y%m%dT%H%M%S.%fZ"


class FileSink:
    """
    Appends to *path*; past *rotate_bytes* the file is renamed and a new one begun, of which the last *keep* stay.

    With *keep* 0 all stay. A file that somebody else renames is begun anew; what a crash left of a line is cut off.
    """

    def __init__(self, path: Path, rotate_bytes: int, keep: int = 0) -> None:
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._keep = keep
        self._file: int | None = None

    def deliver(self, shipment: Shipment) -> None:
        content = "".join(f"{line}\n" for line in shipment.lines).encode()
        try:
            file = self._opened()
            size = os.fstat(file).st_size
            if size and size + len(content) > self._rotate_bytes:
                self._rotate()
                file, size = self._opened(), 0
            self._append(file, content, size)
        except OSError as error:
            self.close()
            raise SinkFailed(f"{self._path} cannot be written: {why(error)}") from error

    def abort(self) -> None:
        """Nothing: a write ends by itself."""

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None

    def _append(self, file: int, content: bytes, size: int) -> None:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(file, view) :]
            os.fsync(file)
        except OSError:
            # Half a shipment would be sent again whole: better none of it than a torn line.
            with contextlib.suppress(OSError):
                os.ftruncate(file, size)
            raise

    def _opened(self) -> int:
        if self._file is not None and self._is_there(self._file):
            return self._file
        self.close()
        made = not self._path.exists()
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._file = file
        _mend(file)
        if made:
            _sync(self._path.parent)
        return file

    def _is_there(self, file: int) -> bool:
        """Whether *file* is what stands under the path still."""
        try:
            there, mine = os.stat(self._path), os.fstat(file)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def _rotate(self) -> None:
        self.close()
        older = self._rotated()
        moment = datetime.now(UTC)
        if older:
            # Named after a clock that was ahead, they would count as newer than what is rotated now.
            moment = max(moment, older[-1][0] + timedelta(microseconds=1))
        path = self._path.with_name(f"{self._path.name}.{moment.strftime(_FORM)}")
        os.rename(self._path, path)
        if self._keep:
            for _, old in [*older, (moment, path)][: -self._keep]:
                old.unlink()
        _sync(self._path.parent)

    def _rotated(self) -> list[tuple[datetime, Path]]:
        """What was rotated before and is there still, the oldest first; files of other names are nobody's business."""
        found = []
        prefix = f"{self._path.name}."
        for path in self._path.parent.iterdir():
            with contextlib.suppress(ValueError):
                if path.name.startswith(prefix):
                    found.append((datetime.strptime(path.name[len(prefix) :], _FORM).replace(tzinfo=UTC), path))
        return sorted(found)


def _mend(file: int) -> None:
    """Cuts off what a crash left of a line: it was not counted as delivered, and comes again."""
    size = os.fstat(file).st_size
    end = size
    while end:
        begin = max(0, end - _LOOK_BYTES)
        piece = os.pread(file, end - begin, begin)
        newline = piece.rfind(b"\n")
        if newline >= 0:
            end = begin + newline + 1
            break
        end = begin
    if end != size:
        os.ftruncate(file, end)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
