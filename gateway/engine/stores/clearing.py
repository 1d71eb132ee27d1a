"""Files on their way out of a store: locked, moved aside, looked at once more, and only then removed.

    doom(key) ─▶ Doomed: locked ─▶ move() ─▶ aside under a name of its own ─▶ end(): unlinked
                                      │ └─▶ back, if what was moved is another file than the one that was locked
                                      └─▶ unlinked, if the folder is still ─▶ end(): closed, its blocks given back

Whoever finishes an upload holds the lock on the file it has published until that is committed. `move` is called where
commits are held off: what it finds in a file's place then was put there by somebody who has yet to commit.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import stat
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Threads that remove files.
_REMOVING: Final = 8


@dataclass(frozen=True, slots=True)
class Lying:
    """A file as it lies: *changed* is when its bytes or its name last did, in UNIX seconds; *names* how many it has."""

    size_bytes: int
    changed: float
    names: int

    @classmethod
    def of(cls, status: os.stat_result) -> Lying:
        return cls(status.st_size, max(status.st_mtime, status.st_ctime), status.st_nlink)


class Doomed:
    """A file that is to go, locked until `end`. Any thread may use it, one after the other."""

    __slots__ = ("_aside", "_descriptor", "_guard", "_moved", "_path", "_status", "lying")

    def __init__(self, descriptor: int, path: str, aside: str) -> None:
        self._descriptor = descriptor
        self._path = path
        self._aside = aside
        self._guard = threading.Lock()
        self._moved = False
        self._status = os.fstat(descriptor)
        self.lying = Lying.of(self._status)

    def move(self, *, still: bool = False) -> bool:
        """
        Takes the file out of its place; False if it is not there any more, or another one is: that one stays.

        For a moment nothing may be in the place, so the caller holds off whoever counts on it. *still*: in a folder
        that `Clearing.still` keeps so, where it costs a fraction.
        """
        with self._guard:
            if self._descriptor < 0:
                raise ValueError("the file is given up")
            try:
                if still:
                    # What is looked at is what goes: nobody puts another in its place.
                    if not _same(os.lstat(self._path), self._status):
                        return False
                    os.unlink(self._path)
                    return True
                os.rename(self._path, self._aside)
            except FileNotFoundError:
                return False
            if _same(os.lstat(self._aside), self._status):
                self._moved = True
                return True
            # Somebody has published here since. If yet another one has by now, that has the same bytes.
            with suppress(FileExistsError):
                os.link(self._aside, self._path, follow_symlinks=False)
            os.unlink(self._aside)
            return False

    def end(self) -> None:
        """Removes the file if it was moved, and lets go of it in any case."""
        with self._guard:
            try:
                if self._moved:
                    os.unlink(self._aside)
            except FileNotFoundError:
                pass
            finally:
                self._moved = False
                if self._descriptor >= 0:
                    os.close(self._descriptor)
                    self._descriptor = -1


class Removal:
    """
    Removes doomed files beside whoever goes on.

    Several at once: to give a file's blocks back takes some disks milliseconds, and many at once hardly longer.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_REMOVING, thread_name_prefix="remove")
        self._running: list[Future[None]] = []

    def begin(self, files: Sequence[Doomed]) -> None:
        """Has *files* removed; returns when those that were begun before are gone, and raises their `OSError`."""
        before = self._running
        self._running = [self._threads.submit(_end, files[start::_REMOVING]) for start in range(_REMOVING)]
        for each in before:
            each.result()

    def let_end(self) -> None:
        """Returns when all are gone; raises their `OSError`."""
        self.begin(())

    def close(self) -> None:
        """Returns when all are gone, or could not be removed; may be called twice."""
        self._threads.shutdown()


class Clearing:
    """Removes files of the store in *root*; what is on its way out lies in the folder *aside* of it."""

    def __init__(self, root: Path, aside: str) -> None:
        self._root = root
        self._aside = root / aside
        self._made = False
        # Names that nobody has: this one's own, and a number.
        self._names = f"{self._aside}/{uuid.uuid4()}-"
        self._numbers = itertools.count()
        # Joining text is ten times as fast as joining paths, and there is one of each for every file.
        self._prefix = f"{root}/"

    def files(self, folder: str) -> dict[str, Lying]:
        """The regular files in *folder*, by name; none if there is no such folder. Raises `OSError`."""
        found: dict[str, Lying] = {}
        with suppress(FileNotFoundError), os.scandir(self._root / folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    # It went meanwhile.
                    continue
                if stat.S_ISREG(status.st_mode):
                    found[entry.name] = Lying.of(status)
        return found

    def folders(self, folder: str) -> list[str]:
        """The folders in *folder*, by name, sorted."""
        with suppress(FileNotFoundError), os.scandir(self._root / folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        return []

    @contextmanager
    def still(self, folder: str) -> Iterator[bool]:
        """
        Keeps everybody from publishing in *folder* while the block lasts; False, and it does not, if somebody is at it.

        Waits for nobody; whoever publishes waits for the block's end, which is therefore soon.
        """
        try:
            descriptor = os.open(self._prefix + folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield False
            return
        try:
            yield _locked(descriptor)
        finally:
            os.close(descriptor)

    def doom(self, key: str) -> Doomed | None:
        """The file at *key*, locked; None if there is none. Raises `BlockingIOError` while somebody holds it."""
        path = self._prefix + key
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._made:
                self._aside.mkdir(mode=0o700, exist_ok=True)
                self._made = True
            return Doomed(descriptor, path, f"{self._names}{next(self._numbers)}")
        except BaseException:
            os.close(descriptor)
            raise


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end(files: Iterable[Doomed]) -> None:
    wrong: BaseException | None = None
    for file in files:
        # Each is let go of, whatever becomes of another.
        try:
            file.end()
        except BaseException as error:
            wrong = error
    if wrong is not None:
        raise wrong


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return one.st_ino == other.st_ino and one.st_dev == other.st_dev
