"""Turns: one request at a time goes on with an upload, over all processes, and notes where it stands.

    DATA/uploads/<id>.lock      locked while a request has its turn; its one line is the newest `Stand`

A note is written when bytes set out and again when they have arrived, before anybody commits anything: where the note
and the upload's row differ, the note is ahead. It is a hint that a crash of the process survives, not a record: a lost
note leaves what the row says.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from gateway.errors import Unavailable, UploadBusy

_NOTE_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Stand:
    """
    Where an upload stands in the registry behind us: *offset* bytes at *location* ("" before the first byte).

    *prefix_digest* is their SHA-256, "" if no one process has seen them all. What is not *certain* has had more bytes
    on their way when it was noted: only the registry behind can say how many have arrived.
    """

    offset: int
    location: str
    prefix_digest: str
    certain: bool = True


class Turn:
    """The right to go on with one upload, until it is released; every verb may be called from any thread."""

    __slots__ = ("__weakref__", "_descriptor", "_guard", "_path")

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path
        self._guard = threading.Lock()

    def read(self) -> Stand | None:
        """What was noted last, if anything legible was."""
        with self._guard:
            return _read(self._descriptor)

    def note(self, stand: Stand) -> None:
        """Notes where the upload stands, for whoever has the next turn. Raises `Unavailable` on a full disk."""
        line = json.dumps(asdict(stand)).encode() + b"\n"
        with self._guard:
            try:
                written = os.pwrite(self._descriptor, line, 0)
                os.ftruncate(self._descriptor, written)
            except OSError as error:
                raise no_room() from error

    def release(self) -> None:
        """Lets the next one have its turn; again is no harm."""
        with self._guard:
            self._close()

    def discard(self) -> None:
        """Removes the note and releases the turn: the upload is over."""
        with self._guard:
            if self._descriptor >= 0 and is_at(self._descriptor, self._path):
                self._path.unlink()
            self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        # A change nobody ever applied takes its turn with it.
        self._close()


class Turns:
    """The turns of one data directory. Nothing here waits: it may be called in the event loop."""

    def __init__(self, data: Path) -> None:
        self._folder = data / "uploads"

    def take(self, upload_id: str) -> Turn:
        """Raises `UploadBusy` while another request, of this or another process, has its turn."""
        path = self._path(upload_id)
        while True:
            descriptor = self._open_or_make(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Between opening and locking it, the upload may have come to its end: then this is nobody's note.
                if is_at(descriptor, path):
                    return Turn(descriptor, path)
            except BlockingIOError:
                os.close(descriptor)
                raise UploadBusy("Another request is writing to this upload; wait for it to end.") from None
            os.close(descriptor)

    def look(self, upload_id: str) -> Stand | None:
        """What was noted last, without a turn: while it is being written, perhaps nothing."""
        try:
            descriptor = os.open(self._path(upload_id), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            return _read(descriptor)
        finally:
            os.close(descriptor)

    def _path(self, upload_id: str) -> Path:
        return self._folder / f"{upload_id}.lock"

    def _open_or_make(self, path: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            with suppress(FileNotFoundError):
                return os.open(path, flags, 0o600)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            return os.open(path, flags, 0o600)
        except OSError as error:
            raise no_room() from error


def _read(descriptor: int) -> Stand | None:
    line, _, _ = os.pread(descriptor, _NOTE_BYTES, 0).partition(b"\n")
    try:
        return Stand(**json.loads(line))
    except (ValueError, TypeError):
        return None


def is_at(descriptor: int, path: Path) -> bool:
    """Whether *path* is still the name of the open file."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def no_room() -> Unavailable:
    """What to raise when nothing can be written."""
    return Unavailable("The gateway cannot write to its disk; try again when its operator has made room.")
