"""Bytes under keys in one directory of this host; what a verb calls durable survives a loss of power.

    grow(key) ─▶ Spool: locked, written at its end, synced ─▶ publish(spool, key) ─▶ open(key) ─▶ Stored: read
                                                          └▶ discard(key)

Every verb blocks: call it in a thread. Files are readable by their owner alone (0600, directories 0700).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from gateway.engine.stores.folders import identity, place

#: The system takes at most so many buffers in one call (IOV_MAX).
_BUFFERS: Final = 1024
_READ_BYTES: Final = 1024 * 1024
#: The disk begins with what was written after so much of it, not only when `Spool.sync` waits for all.
_BEGUN_BYTES: Final = 8 * 1024 * 1024


class _Open:
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


class Spool(_Open):
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
            return _is_at(descriptor, self.path)

    def exclusive(self) -> bool:
        """Whether this is a regular file that nobody but the owner of this process may write to."""
        with self._using() as descriptor:
            status = os.fstat(descriptor)
        return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022

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

    def sync(self) -> None:
        """Makes the bytes durable, not yet their name. After an `OSError` the file is worth nothing."""
        with self._using() as descriptor:
            os.fsync(descriptor)

    def sync_name(self) -> None:
        """Makes the file's name durable, once, if it may be new; whoever publishes at once needs not."""
        if self._fresh:
            _sync_directory(self.path.parent)
            self._fresh = False

    def pieces(self, size: int) -> Iterator[bytes]:
        """The first *size* bytes, in pieces; ends early where the file does."""
        with self._using() as descriptor:
            yield from _pieces(descriptor, size)

    def discard(self) -> None:
        """Removes the file, if it still has its name, and releases it."""
        with self._using() as descriptor:
            if _is_at(descriptor, self.path):
                self.path.unlink()
        self.release()


class Stored(_Open):
    """Bytes that were published, open for reading; *size* is what the file has now."""

    __slots__ = ("identity", "size")

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        status = os.fstat(descriptor)
        self.size = status.st_size
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


class Filesystem:
    """A store in the directory *root*, on a local disk. Keys are relative paths that the caller has made itself."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._prefix = f"{root}/"  # joining text is ten times as fast, and reads do it for each request

    def grow(self, key: str) -> Spool:
        """
        The file at *key*, made if it is missing, locked for whoever holds the answer.

        Raises `BlockingIOError` while somebody else, of this or another process, holds it.
        """
        path = self.root / key
        while True:
            descriptor = self._open_or_make(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Between opening and locking the file may have been published or discarded: then it is not ours.
                if _is_at(descriptor, path):
                    return Spool(descriptor, path)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def publish(self, spool: Spool, key: str) -> None:
        """
        Moves a synced *spool* to *key*, in place of what was there; durable, its new directories too.

        What is open under *key* stays readable by who has it open. Raises `OSError`.
        """
        path = self.root / key
        try:
            place(spool.path, path)
        except FileNotFoundError:
            self._make_directory(path.parent)
            place(spool.path, path)

    def borrow(self, source: Path, key: str) -> Spool:
        """
        A hard link to the file *source*, at *key*, to be read and published, never written: its bytes stay *source*'s.

        Raises `OSError`: another file system, no permission, no such file, or no file.
        """
        path = self.root / key
        try:
            os.link(source, path, follow_symlinks=False)
        except FileNotFoundError:
            self._make_directory(path.parent)
            os.link(source, path, follow_symlinks=False)
        try:
            return Spool(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), path)
        except OSError:
            path.unlink()
            raise

    @contextmanager
    def held(self, key: str, *, shared: bool = False) -> Iterator[None]:
        """
        Holds the lock at *key*: alone, or *shared* with others who share it; dropped when the process dies.

        Raises `BlockingIOError` while somebody, of this or another process, holds it otherwise.
        """
        descriptor = self._open_or_make(self.root / key)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            yield
        finally:
            os.close(descriptor)

    def clear(self, folder: str) -> None:
        """Removes every file in *folder*: what a process that died left there. Others are kept out by the caller."""
        with suppress(FileNotFoundError):
            for entry in os.scandir(self.root / folder):
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)

    def open(self, key: str) -> Stored:
        """The bytes at *key*; raises `FileNotFoundError`."""
        return Stored(os.open(self._prefix + key, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))

    def size(self, key: str) -> int | None:
        """How many bytes are at *key*; None if there is no such key."""
        try:
            return os.stat(self._prefix + key).st_size
        except FileNotFoundError:
            return None

    def changed(self, key: str) -> float | None:
        """When the file at *key* was last changed or put there, in UNIX seconds; None if there is no such key."""
        try:
            return os.stat(self._prefix + key).st_ctime
        except FileNotFoundError:
            return None

    def discard(self, key: str) -> bool:
        """Removes the file at *key*; False if somebody holds it. A missing one counts as removed."""
        if not (self.root / key).exists():
            return True
        try:
            self.grow(key).discard()
        except BlockingIOError:
            return False
        return True

    def _open_or_make(self, path: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._make_directory(path.parent)
            return os.open(path, flags, 0o600)

    def _make_directory(self, path: Path) -> None:
        if path.is_dir():
            return
        if path != self.root:
            self._make_directory(path.parent)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        _sync_directory(path.parent)


def _is_at(descriptor: int, path: Path) -> bool:
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


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
