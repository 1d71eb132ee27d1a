"""What lies in the folders of a store, and files moved within them: into their place, or out of it."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """What a folder has under *name*, unfollowed; *modified* and *changed* (by a renaming, too) are UNIX seconds."""

    name: str
    size: int
    regular: bool
    folder: bool
    modified: float
    changed: float


class Folders:
    """The folders below *root*, looked through by whoever keeps them in order; every verb blocks."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable: set[Path] = set()

    def entries(self, folder: str) -> list[Entry]:
        """What is in *folder*, in no order; nothing if there is no such folder."""
        try:
            with os.scandir(self._root / folder) as found:
                return [entry for each in found if (entry := _looked_at(each)) is not None]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def entry(self, key: str) -> Entry | None:
        """What is at *key*; None if nothing is."""
        try:
            status = os.stat(self._root / key, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return _entry(key.rpartition("/")[2], status)

    def set_aside(self, key: str, target: str, wanted: tuple[int, int, int]) -> bool:
        """
        Moves the file at *key* to *target*, durably, if it still is the one of the identity *wanted*; False if not.

        What is published meanwhile is never moved: whoever publishes waits, or has come first and is seen.
        """
        path, aside = self._root / key, self._root / target
        self._make(aside.parent)
        try:
            with _locked(path.parent, fcntl.LOCK_EX) as directory:
                if identity(os.stat(path, follow_symlinks=False)) != wanted:
                    return False
                os.rename(path, aside)
                os.fsync(directory)
        except FileNotFoundError:
            return False
        sync_directory(aside.parent)
        return True

    def mark(self, key: str, content: bytes = b"") -> bool:
        """Makes the file *key* with *content*, if there is none; False if there is one."""
        path = self._root / key
        self._make(path.parent)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return False
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)
        return True

    def keep(self, key: str, content: bytes, modified: float | None = None) -> None:
        """
        Puts *content*, which is small, at *key*, in place of what was there; whole or not at all, and durable.

        It is as if last *modified* then, in UNIX seconds; now if nothing is said.
        """
        path = self._root / key
        self._make(path.parent)
        fresh = path.with_name(f".{path.name}.new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, content)
            if modified is not None:
                os.utime(descriptor, (modified, modified))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(fresh, path)
        sync_directory(path.parent)

    def kept(self, key: str) -> bytes:
        """What `keep` put at *key*; b"" if nothing is there."""
        try:
            return (self._root / key).read_bytes()
        except FileNotFoundError:
            return b""

    def forget(self, key: str) -> None:
        """Removes the file at *key*, if there is one."""
        with suppress(FileNotFoundError):
            os.unlink(self._root / key)

    def _make(self, folder: Path) -> None:
        if folder not in self._durable or not folder.is_dir():
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            # Whoever else made it may not have got so far.
            sync_directory(folder.parent)
            self._durable.add(folder)


def place(source: Path, target: Path) -> None:
    """Renames *source* to *target*, durably. Raises `FileNotFoundError` without the one or the folder of the other."""
    # Against whoever judges the file that was there: see `Folders.set_aside`.
    with _locked(target.parent, fcntl.LOCK_SH) as directory:
        os.rename(source, target)
        os.fsync(directory)


def identity(status: os.stat_result) -> tuple[int, int, int]:
    """What tells a file from every other, and from itself before it was changed."""
    return status.st_ino, status.st_size, status.st_mtime_ns


@contextmanager
def _locked(folder: Path, lock: int) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, lock)
        yield descriptor
    finally:
        os.close(descriptor)


def sync_directory(folder: Path) -> None:
    """Makes the names in *folder* durable; raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _looked_at(found: os.DirEntry[str]) -> Entry | None:
    try:
        return _entry(found.name, found.stat(follow_symlinks=False))
    except FileNotFoundError:
        return None


def _entry(name: str, status: os.stat_result) -> Entry:
    regular, folder = stat.S_ISREG(status.st_mode), stat.S_ISDIR(status.st_mode)
    return Entry(name, status.st_size, regular, folder, status.st_mtime, status.st_ctime)
