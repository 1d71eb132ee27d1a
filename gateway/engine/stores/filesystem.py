"""Bytes under keys in one directory of this host; what a verb calls durable survives a loss of power.

    grow(key) ─▶ Spool: locked, written at its end, synced ─▶ publish(spool, key) ─▶ open(key) ─▶ Stored: read
                                                          └▶ discard(key)

Every verb blocks: call it in a thread. Files are readable by their owner alone (0600, directories 0700).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.engine.stores.files import Spool, Stored, is_at
from gateway.engine.stores.folders import place, sync_directory


class Filesystem:
    """A store in the directory *root*, on a local disk. Keys are relative paths that the caller has made itself."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._prefix = f"{root}/"  # joining text is ten times as fast, and reads do it for each request
        self._durable: set[Path] = set()

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
                if is_at(descriptor, path):
                    return Spool(descriptor, path)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def publish(self, spool: Spool, key: str) -> None:
        """
        Moves a synced *spool* to *key*, in place of what was there; durable, its new directories too.

        What is open under *key* stays readable by who has it open. Raises `OSError`, and `ValueError` for a spool that
        was released: by then its file may be somebody else's.
        """
        path = self.root / key
        with spool.locked():
            self._make_directory(path.parent)
            try:
                place(spool.path, path)
            except FileNotFoundError:
                self._remake_directory(path.parent)
                place(spool.path, path)

    def borrow(self, source: Path, key: str) -> Spool:
        """
        A hard link to the file *source*, at *key*, to be read and published, never written: its bytes stay *source*'s.

        Raises `OSError`: another file system, no permission, no such file, or no file.
        """
        path = self.root / key
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
        self._make_directory(path.parent)
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._remake_directory(path.parent)
            return os.open(path, flags, 0o600)

    def _make_directory(self, path: Path) -> None:
        """Makes *path*, if it is missing, and its name durable, whoever made it: they may not have got so far."""
        if path in self._durable or (path == self.root and path.is_dir()):
            return
        if path != self.root:
            self._make_directory(path.parent)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        sync_directory(path.parent)
        self._durable.add(path)

    def _remake_directory(self, path: Path) -> None:
        """Makes *path* anew after somebody has removed it, or what it lies in."""
        self._durable.clear()
        self._make_directory(path)
