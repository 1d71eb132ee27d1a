"""The directory that backups go into: private, locked while one is made, cleared of what older ones left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from gateway.backup.copying import sync_folder
from gateway.backup.inventory import FILE_NAME, Inventory
from gateway.engine.embedded.layout import blob_key
from gateway.errors import Conflict, Invalid, Refusal

LOCK: Final = "backup.lock"
SNAPSHOTS: Final = "snapshots"
#: What a new file system has in its root.
FOUND: Final = "lost+found"
_INCOMING: Final = "incoming"
_NAME: Final = "%Y%m%dT%H%M%SZ"
#: Several made at once are named for seconds that follow one another.
_CLOSE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Removed:
    """What was cleared away: so many snapshots, and blobs with so many bytes that no snapshot names any more."""

    snapshots: int = 0
    blobs: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """A directory of backups; make one with `prepared`, and hold it `alone` while it is changed."""

    root: Path

    @classmethod
    def prepared(cls, root: Path, data: Path) -> Target:
        """
        The directory *root*, made if it is missing, for backups of the data directory *data*.

        Raises `Invalid` for a place that cannot be one: inside the data or around it, a directory with something else
        in it, one that others may read, one that cannot be written to.
        """
        root = root.absolute()
        real, kept = Path(os.path.realpath(root)), Path(os.path.realpath(data))
        if real.is_relative_to(kept) or kept.is_relative_to(real):
            raise Invalid(f"{root} and the data directory {data} lie in one another; keep backups somewhere else.")
        try:
            with contextlib.suppress(FileExistsError):
                root.mkdir(mode=0o700, parents=True)
            if not root.is_dir():
                raise Invalid(f"{root} is not a directory; choose another place for backups.")
            if not (root / LOCK).exists():
                if any(entry.name != FOUND for entry in root.iterdir()):
                    raise Invalid(f"{root} has something else in it than backups; choose an empty or a new directory.")
                root.chmod(0o700)
            if root.stat().st_mode & 0o077:
                raise Invalid(f"{root} is open to others, and backups hold secrets; run: chmod 700 {root}")
            os.close(os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            for folder in ("blobs", SNAPSHOTS, _INCOMING):
                with contextlib.suppress(FileExistsError):
                    (root / folder).mkdir(mode=0o700)
            sync_folder(root)
        except OSError as error:
            raise Invalid(
                f"{root} cannot hold backups ({_why(error)}); name a directory that the owner of the data may write to."
            ) from error
        return cls(root)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps every other backup and restore away from the directory; raises `Conflict` if one is under way."""
        with held(self.root, fcntl.LOCK_EX):
            yield

    @property
    def spare(self) -> Path:
        """Where blobs are while they come."""
        return self.root / _INCOMING

    def begin(self) -> Path:
        """
        An empty folder for the next snapshot, not yet one; what an interrupted backup left is removed.

        Raises `Invalid` if none can be named after the newest there is.
        """
        for left in self.spare.iterdir():
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
        moment, newest = datetime.now(UTC), self._newest()
        if newest is not None:
            # Named after a clock that was ahead, it would count as newer than what is made now.
            moment = max(moment, self._after(newest))
        folder = self.spare / moment.strftime(_NAME)
        folder.mkdir(mode=0o700)
        return folder

    def _after(self, newest: datetime) -> datetime:
        try:
            return newest + timedelta(seconds=1)
        except OverflowError:
            folder = self.root / SNAPSHOTS / newest.strftime(_NAME)
            told = f"No snapshot can be named after {folder}, whose name is the last there is"
            raise Invalid(f"{told}; move it elsewhere, or give it the name of an earlier time.") from None

    def ahead(self) -> Path | None:
        """The newest snapshot if it is named after a time that is yet to come; asked before another is begun."""
        newest = self._newest()
        is_ahead = newest is not None and newest > datetime.now(UTC) + _CLOSE
        return self.root / SNAPSHOTS / newest.strftime(_NAME) if newest is not None and is_ahead else None

    def _newest(self) -> datetime | None:
        """The last time that a snapshot is named after, whether or not it is complete; None without any."""
        found = []
        for each in (self.root / SNAPSHOTS).iterdir():
            # A second one of a second had a number, once.
            with contextlib.suppress(ValueError):
                found.append(datetime.strptime(each.name.partition("-")[0], _NAME).replace(tzinfo=UTC))
        return max(found, default=None)

    def publish(self, folder: Path) -> Path:
        """Makes the finished *folder* a snapshot, at once and durably; where it is then."""
        for inner in folder.rglob("*"):
            if inner.is_dir():
                sync_folder(inner)
        sync_folder(folder)
        place = self.root / SNAPSHOTS / folder.name
        folder.rename(place)
        sync_folder(place.parent)
        return place

    def snapshots(self) -> list[Path]:
        """The snapshots, the oldest first."""
        return complete(self.root)

    def clear(self, keep: int, newest: Path) -> Removed:
        """
        Removes all snapshots but *newest* and those before it, *keep* of them, and then the blobs that none names.

        Raises `Conflict`, before any blob is removed, if the list of one that stays is damaged.
        """
        others = [each for each in self.snapshots() if each != newest]
        old = others[: max(0, len(others) - (keep - 1))]
        for each in old:
            # First it is no snapshot any more, and then it goes.
            gone = self.spare / f"{each.name}.removed"
            each.rename(gone)
            sync_folder(each.parent)
            shutil.rmtree(gone)
        named = {key for each in self.snapshots() for key in _named(each)}
        count = size = 0
        for path in (self.root / "blobs").rglob("*"):
            if path.is_file() and str(path.relative_to(self.root)) not in named:
                count, size = count + 1, size + path.stat().st_size
                path.unlink()
        return Removed(len(old), count, size)


def _named(snapshot: Path) -> set[str]:
    """The keys of the blobs that *snapshot* names."""
    try:
        return {blob_key(blob.digest) for blob in Inventory.read(snapshot).listed_blobs(snapshot)}
    except Refusal as refusal:
        raise Conflict(
            f"The backup is made, but nothing was cleared away, because {snapshot} is damaged; "
            "remove that directory, and run it again."
        ) from refusal


def complete(root: Path) -> list[Path]:
    """The snapshots in the directory of backups *root*, the oldest first."""
    return sorted(each for each in (root / SNAPSHOTS).iterdir() if (each / FILE_NAME).is_file())


@contextmanager
def held(root: Path, how: int) -> Iterator[None]:
    """Holds the directory of backups *root* by its lock file; raises `Conflict` if somebody else does, `Invalid`."""
    with ExitStack() as closing:
        try:
            descriptor = os.open(root / LOCK, os.O_RDONLY | os.O_CLOEXEC)
            closing.callback(os.close, descriptor)
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"A backup or restore is using {root}; wait until it has ended.") from None
        except OSError as error:
            raise Invalid(f"{root} cannot be locked ({_why(error)}); run as its owner, on a local disk.") from error
        yield


def _why(error: OSError) -> str:
    return (error.strerror or "unknown reason").lower()
