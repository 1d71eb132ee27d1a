"""Files that a store has open: one that grows and is published or discarded, one that is read.

Every verb blocks: call it in a thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway.engine.stores.folders import identity, sync_directory

#: The system takes at most so many buffers in one call (IOV_MAX).
_BUFFERS: Final = 1024
_READ_BYTES: Final = 1024 * 1024
#: The disk begins with what was written after so much of it, not only when `Spool.sync` waits for all.
_BEGUN_BYTES: Final = 8 * 1024 * 1024


class Opened:
    """
    A file descriptor that threads work on: released by its last user, never under one that still works.

    A request may be cancelled while a thread of its own still writes; the number of a closed descriptor is reused at
    once, so closing it there would let that thread write into a stranger's file.
    """

    __slots__ = ("_descriptor", "_guard", "_released", "_users")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._guard = threading.Lock()
        self._users = 0
        self._released = False

    def release(self) -> None:
        """Closes the file, with its lock, as soon as no thread uses it; may be called twice."""
        with self._guard:
            self._released = True
            self._close_if_idle()

    @contextmanager
    def _using(self) -> Iterator[int]:
        with self._guard:
            if self._released:
                raise ValueError("the file is released")
            self._users += 1
        try:
            yield self._descriptor
        finally:
            with self._guard:
                self._users -= 1
                self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._released and not self._users and self._descriptor >= 0:
            # Closed it is even if that fails, and its number soon another's.
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def __del__(self) -> None:
        # A change nobody ever applied takes its lock with it.
        if self._descriptor >= 0:
            os.close(self._descriptor)


class Spool(Opened):
    """A file that grows, locked against every other opener of any process until it is released."""

    __slots__ = ("_begun", "_fresh", "path", "size")

    def __init__(self, descriptor: int, path: Path) -> None:
        super().__init__(descriptor)
        self.path = path
        self.size = os.fstat(descriptor).st_size
        self._fresh = self.size == 0
        self._begun = self.size

    def write(self, pieces: Sequence[bytes]) -> None:
        """Appends *pieces*; durable only after `sync`. Raises `OSError`."""
        with self._using() as descriptor:
            for start in range(0, len(pieces), _BUFFERS):
                self._write_all(descriptor, list(pieces[start : start + _BUFFERS]))
            self._begin(descriptor)

    def _write_all(self, descriptor: int, pieces: list[bytes]) -> None:
        left: list[bytes | memoryview] = list(pieces)
        while left:
            written = os.pwritev(descriptor, left, self.size)
            self.size += written
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if written:
                left[0] = memoryview(left[0])[written:]

    def take(self, source: int, size: int) -> int:
        """
        Appends up to *size* bytes of the file *source*, from where this one ends; how many, 0 at its end.

        The system copies them itself, or shares them where the file system can. Raises `OSError`.
        """
        with self._using() as descriptor:
            count = os.copy_file_range(source, descriptor, size, self.size, self.size)
            self.size += count
            self._begin(descriptor)
            return count

    def _begin(self, descriptor: int) -> None:
        # Nothing else begins it without waiting. What is not on the disk yet stays in memory all the same.
        if self.size - self._begun >= _BEGUN_BYTES:
            os.posix_fadvise(descriptor, self._begun, self.size - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = self.size

    def read(self, offset: int, size: int) -> bytes:
        """At most *size* bytes from *offset*, b"" at the end."""
        with self._using() as descriptor:
            return os.pread(descriptor, size, offset)

    def is_named(self) -> bool:
        """Whether the file still lies where it was opened: it was neither published nor discarded."""
        with self._using() as descriptor:
            return is_at(descriptor, self.path)

    def exclusive(self) -> bool:
        """Whether this is a regular file that nobody but the owner of this process may write to."""
        with self._using() as descriptor:
            status = os.fstat(descriptor)
        return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps the file locked within the block, also against a `release`; `ValueError` for one released before."""
        with self._using():
            yield

    def identity(self) -> tuple[int, int, int]:
        """What `Stored` calls the identity of this file, as it is now."""
        with self._using() as descriptor:
            return identity(os.fstat(descriptor))

    def truncate(self, size: int) -> None:
        """Cuts the file at *size* bytes."""
        with self._using() as descriptor:
            os.ftruncate(descriptor, size)
            self.size = size
            self._begun = min(self._begun, size)
            # What was never acknowledged may come from somebody who died before the name was on the disk.
            self._fresh = self._fresh or not size

    def sync(self) -> None:
        """Makes the bytes durable, not yet their name. After an `OSError` the file is worth nothing."""
        with self._using() as descriptor:
            os.fsync(descriptor)

    def sync_name(self) -> None:
        """Makes the file's name durable, once, if it may be new; whoever publishes at once needs not."""
        if self._fresh:
            sync_directory(self.path.parent)
            self._fresh = False

    def pieces(self, size: int) -> Iterator[bytes]:
        """The first *size* bytes, in pieces; ends early where the file does."""
        with self._using() as descriptor:
            yield from _pieces(descriptor, size)

    def discard(self) -> None:
        """Removes the file, if it still has its name, and releases it."""
        with self._using() as descriptor:
            if is_at(descriptor, self.path):
                self.path.unlink()
        self.release()


class Stored(Opened):
    """Bytes that were published, open for reading; *size* is what the file has now, if it is a *regular* one."""

    __slots__ = ("identity", "regular", "size")

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        status = os.fstat(descriptor)
        self.size = status.st_size
        self.regular = stat.S_ISREG(status.st_mode)
        self.identity = identity(status)

    def cached(self, offset: int, buffer: memoryview) -> int:
        """Fills *buffer* with bytes that are in memory and says how many; 0 if reading might wait for a disk."""
        with self._using() as descriptor:
            try:
                return os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP):
                    return 0
                raise

    def read(self, offset: int, size: int) -> bytes:
        """At most *size* bytes from *offset*, b"" at the end; may wait for the disk. Raises `OSError`."""
        with self._using() as descriptor:
            return os.pread(descriptor, size, offset)

    def fill(self, offset: int, buffer: memoryview) -> int:
        """Fills *buffer* with bytes from *offset* and says how many, 0 at the end; may wait for the disk."""
        with self._using() as descriptor:
            return os.preadv(descriptor, [buffer], offset)

    def ahead(self, offset: int, size: int) -> None:
        """Has the system begin to read what will be asked for next."""
        with self._using() as descriptor:
            os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_WILLNEED)

    def pass_memory(self, passing: bool) -> bool:
        """
        Has `fill` read from the disk, not from what the system holds in memory, or as usual; False if it cannot.

        Offsets and buffers are to be whole pages then. What the disk cannot give that way is refused with EINVAL.
        """
        with self._using() as descriptor:
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~os.O_DIRECT
            try:
                fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | (os.O_DIRECT if passing else 0))
            except OSError:
                return False
        return True

    def leave_memory(self) -> None:
        """Has the system forget what it holds of the file in memory: whoever reads next reads from the disk."""
        with self._using() as descriptor:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def pieces(self, size: int) -> Iterator[bytes]:
        """The first *size* bytes, in pieces; ends early where the file does."""
        with self._using() as descriptor:
            yield from _pieces(descriptor, size)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the file that is open lies at *path*."""
    try:
        named = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(descriptor))


def _pieces(descriptor: int, size: int) -> Iterator[bytes]:
    offset = 0
    while offset < size:
        piece = os.pread(descriptor, min(_READ_BYTES, size - offset), offset)
        if not piece:
            return
        offset += len(piece)
        yield piece
