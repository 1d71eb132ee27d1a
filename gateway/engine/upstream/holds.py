"""Holds: whoever does an act in the registry behind holds its intent, and until then nobody else says how it ended.

    DATA/intents/<id>.<n>      locked from before the intent can be seen until its outcome is recorded, or given up

The lock ends with its process, however that ends. A file that nobody has locked says nothing: whoever looks removes it.
No name is used twice, so that what is removed is what was looked at. Whoever settles an intent holds it as well.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from pathlib import Path

from gateway.engine.upstream.turns import is_at, no_room
from gateway.errors import Unavailable


class Hold:
    """One intent held, until it is released; every verb may be called from any thread."""

    __slots__ = ("_descriptor", "_guard", "_over", "_path")

    def __init__(self, descriptor: int, path: Path, over: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._path = path
        self._over = over
        self._guard = threading.Lock()

    def release(self) -> None:
        """Leaves the intent to others, if it is still there; again is no harm."""
        with self._guard:
            if self._descriptor < 0:
                return
            try:
                # While it is locked: nobody else removes it.
                with suppress(OSError):
                    self._path.unlink()
            finally:
                os.close(self._descriptor)
                self._descriptor = -1
                self._over()

    def __del__(self) -> None:
        self.release()


class Holds:
    """The holds of one data directory. Nothing here waits; what was taken here is told of without looking at a file."""

    def __init__(self, data: Path) -> None:
        self._folder = data / "intents"
        # In the order in which they were taken. No lock: a hold may be dropped wherever memory is made room in.
        self._taken: dict[str, Future[None]] = {}

    def take(self, intent_id: str, *, again: bool = False) -> Hold:
        """
        Holds an intent that nobody has begun yet, or *again* one that was left. Raises `Unavailable` on a full disk.
        """
        for number in count(secrets.randbits(62) if again else 0):
            path = self._folder / f"{intent_id}.{number}"
            with suppress(FileExistsError):
                descriptor = self._make(path)
                # Whoever looks before it is locked takes it for one that was left: then the next is as good.
                if _is_locked(descriptor) and is_at(descriptor, path):
                    return Hold(descriptor, path, self._tell(intent_id))
                os.close(descriptor)
        raise AssertionError("numbers do not end")

    def own(self, intent_ids: Collection[str]) -> list[Future[None]]:
        """
        Of the intents those that were taken here and not released since, in the order in which they were taken: each
        done when it is released, and not to be cancelled.
        """
        found = (self._taken.get(each) for each in list(self._taken) if each in intent_ids)
        return [over for over in found if over is not None]

    def held(self) -> frozenset[str]:
        """
        The intents that somebody holds just now.

        One that was seen before this was asked, and is not among them, is held by nobody any more. Raises
        `Unavailable` if that cannot be told.
        """
        return frozenset(name.partition(".")[0] for name in self._names() if self._is_held(self._folder / name))

    def still(self, intent_ids: Collection[str]) -> frozenset[str]:
        """Those of the intents that somebody holds just now; as `held`, without looking at others."""
        mine = [name for name in self._names() if name.partition(".")[0] in intent_ids] if intent_ids else []
        return frozenset(name.partition(".")[0] for name in mine if self._is_held(self._folder / name))

    def _tell(self, intent_id: str) -> Callable[[], None]:
        """Whoever asks from now on waits for the intent, until what is returned is called."""
        over = self._taken[intent_id] = Future()
        # Of many that wait for it, one that is cancelled does not cancel it for the others.
        over.set_running_or_notify_cancel()

        def tell() -> None:
            if self._taken.get(intent_id) is over:
                del self._taken[intent_id]
            over.set_result(None)

        return tell

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Unavailable("The gateway cannot read its data directory; see to that first.") from error

    def _is_held(self, path: Path) -> bool:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        except OSError:
            # What cannot be told is left alone.
            return True
        try:
            # Shared: whoever else looks is not taken for a holder.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _make(self, path: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            with suppress(FileNotFoundError):
                return os.open(path, flags, 0o600)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            return os.open(path, flags, 0o600)
        except FileExistsError:
            if not self._folder.is_dir():
                raise no_room() from None
            raise
        except OSError as error:
            raise no_room() from error


def _is_locked(descriptor: int) -> bool:
    """Locks the file, if nobody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
