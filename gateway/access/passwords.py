"""Passwords: what may be one, how they are kept (bcrypt), and the bounded pool in which they are checked."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hmac
import os
import re
import secrets as randomness
import sys
import threading
import time
import unicodedata
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

import bcrypt

from gateway.errors import Invalid, TooManyRequests

#: bcrypt's cost for new hashes: 2^12 rounds.
COST = 12
MINIMUM_CHARACTERS = 8
#: bcrypt reads no more; a longer password is refused, never cut.
MAXIMUM_BYTES = 72

#: Letters and digits that no font lets one mistake for another.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"

_COST = re.compile(r"\$2[aby]\$([0-9]{2})\$", re.ASCII)

_Job: TypeAlias = tuple[Future[Any], Callable[[], None]]
#: What is told of it when there is no room.
CROWDED = "Too many sign-ins at once; try again in a few seconds."

R = TypeVar("R")


def check_password(text: str) -> None:
    """Raises `Invalid` unless *text* may be chosen as a password: 8 characters to 72 bytes (UTF-8, NFC), printable."""
    if not text:
        raise Invalid("A password cannot be empty.")
    if not text.isprintable():
        raise Invalid("A password has no control characters and no line breaks.")
    encoded = _encoded(text)
    if encoded is None:
        raise Invalid(f"A password has at most {MAXIMUM_BYTES} bytes in UTF-8; choose a shorter one.")
    if len(unicodedata.normalize("NFC", text)) < MINIMUM_CHARACTERS:
        raise Invalid(f"A password has at least {MINIMUM_CHARACTERS} characters; choose a longer one.")


def hash_password(text: str, cost: int = COST) -> str:
    """The bcrypt string to keep for *text*; raises `Invalid` as `check_password`. Takes about 0.2 s of a core."""
    check_password(text)
    return _hashed(text, cost)


def generate_password() -> str:
    """A random password of 138 bits that can be read out: seven groups of four letters and digits."""
    return "-".join("".join(randomness.choice(_ALPHABET) for _ in range(4)) for _ in range(7))


def verify(text: str, hashed: str) -> bool:
    """Whether *text* is the password *hashed* was made of. Never raises; what cannot be a password costs the same."""
    encoded = _encoded(text)
    try:
        right = bcrypt.checkpw(encoded or b"-", hashed.encode())
    except ValueError:
        return False
    return right and bool(encoded)


def dummy_hash(cost: int = COST) -> str:
    """A bcrypt string that no password has; checking against it costs what a real one costs."""
    return bcrypt.gensalt(cost).decode("ascii") + "." * 31


def rehash_needed(hashed: str, cost: int = COST) -> bool:
    """Whether *hashed* was made with another cost or form than new ones are."""
    return not hashed.startswith(f"$2b${cost:02d}$")


def _hashed(text: str, cost: int) -> str:
    encoded = _encoded(text)
    assert encoded is not None
    return bcrypt.hashpw(encoded, bcrypt.gensalt(cost)).decode("ascii")


def _missing_costs(hashed: str, cost: int) -> range:
    """Dummies of which costs take, all together, what a check against *hashed* takes less than one at *cost*."""
    found = _COST.match(hashed)
    # Each cost is twice the one before, so that c, c + 1 … cost - 1 and c once more make one of cost.
    return range(int(found[1]), cost) if found is not None else range(0)


def _encoded(text: str) -> bytes | None:
    """What bcrypt is given for *text*; None for what can be nobody's password."""
    if len(text) > MAXIMUM_BYTES:
        return None
    try:
        encoded = unicodedata.normalize("NFC", text).encode()
    except UnicodeEncodeError:
        return None
    return None if len(encoded) > MAXIMUM_BYTES or b"\0" in encoded else encoded


class HashingPool:
    """
    A few threads in which passwords are hashed, so that nothing else waits for them.

    By default one thread fewer than there are cores, of lower priority than the event loop; with a folder for *turns*,
    the threads of all processes that name it hash no more at once than those of one. At most *queue* more wait, a
    quarter of them known callers, who come first; beyond, `TooManyRequests`.
    """

    def __init__(
        self, cost: int = COST, workers: int | None = None, queue: int = 64, turns: Path | None = None
    ) -> None:
        self.cost = cost
        self.workers = workers = workers or max(1, (os.cpu_count() or 1) - 1)
        self.queue = queue
        self._room = threading.Semaphore(workers + queue)
        self._strangers = threading.Semaphore(workers + queue - queue // 4)
        self._dummy = dummy_hash(cost)
        self._turns: SimpleQueue[int] = SimpleQueue()
        for number in range(workers if turns is not None else 0):
            self._turns.put(os.open(f"{turns}/hashing-{number}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        self._shared = turns is not None
        #: Of known callers, and of others.
        self._waiting: tuple[deque[_Job], deque[_Job]] = (deque(), deque())
        self._threads = ThreadPoolExecutor(workers, "hashing", initializer=_yield_to_others)

    async def verify(self, text: str, hashed: str | None, *, known: bool = False) -> bool:
        """
        Whether *text* is the password of *hashed*; with None the answer is no, after the same work.

        One that was made at a lower cost, elsewhere, takes the same work too; one of a higher cost takes more.
        """
        right = await self._run(lambda: self._verified(text, hashed or self._dummy), known=known)
        return right and hashed is not None

    async def hash(self, text: str) -> str:
        """As `hash_password`, at this pool's cost."""
        check_password(text)
        return await self.hash_again(text)

    async def hash_again(self, text: str) -> str:
        """As `hash`, for what is a password already, though it may not be chosen as one here."""
        return await self._run(lambda: _hashed(text, self.cost))

    def close(self) -> None:
        """Waits for what runs and forgets what waits."""
        for waiting in self._waiting:
            for future, _ in tuple(waiting):
                future.cancel()
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._turns.empty():
            os.close(self._turns.get())

    def _verified(self, text: str, hashed: str) -> bool:
        right = verify(text, hashed)
        for cost in _missing_costs(hashed, self.cost):
            verify(text, dummy_hash(cost))
        return right

    def _in_turn(self, work: Callable[[], R]) -> R:
        if not self._shared:
            return work()
        # There are as many as threads.
        lock = self._turns.get()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return work()
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)
            self._turns.put(lock)

    async def _run(self, work: Callable[[], R], *, known: bool = True) -> R:
        rooms = [self._room] if known else [self._strangers, self._room]
        future: Future[R] = Future()

        def done() -> None:
            # Whoever gave up while it waited is passed over.
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self._in_turn(work))
                except BaseException as error:
                    future.set_exception(error)

        with contextlib.ExitStack() as places:
            for room in rooms:
                if not room.acquire(blocking=False):
                    raise TooManyRequests(CROWDED, retry_after_seconds=5)
                places.callback(room.release)
            waiting = self._waiting[0 if known else 1]
            waiting.append((future, done))
            try:
                self._threads.submit(self._next)
            except BaseException:
                waiting.remove((future, done))
                raise
            taken = places.pop_all()
        # Whoever waits may be cancelled; the room is free again only when the thread is.
        future.add_done_callback(lambda _: taken.close())
        return await asyncio.wrap_future(future)

    def _next(self) -> None:
        """Does what waits first: of known callers, then of others. It is called once for each that was added."""
        for waiting in self._waiting:
            with contextlib.suppress(IndexError):
                _, done = waiting.popleft()
                break
        else:
            return
        done()


def _yield_to_others() -> None:
    if sys.platform == "linux":
        # On Linux a thread has a priority of its own.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


class Verified:
    """
    Passwords found right in the last minute, so that clients that send them again and again cost no hashing.

    Only in memory, only as keyed hashes under a key of this process, only right ones; a new generation of the account
    is a new entry. Whether the account is still enabled is the asker's to check.
    """

    SECONDS = 60.0
    ENTRIES = 10_000

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = randomness.token_bytes(32)
        self._until: OrderedDict[bytes, float] = OrderedDict()
        self._clock = clock

    def knows(self, account_id: int, generation: int, text: str) -> bool:
        entry = self._entry(account_id, generation, text)
        until = self._until.get(entry)
        if until is None:
            return False
        if until <= self._clock():
            del self._until[entry]
            return False
        self._until.move_to_end(entry)
        return True

    def remember(self, account_id: int, generation: int, text: str) -> None:
        entry = self._entry(account_id, generation, text)
        self._until[entry] = self._clock() + self.SECONDS
        self._until.move_to_end(entry)
        while len(self._until) > self.ENTRIES:
            self._until.popitem(last=False)

    def _entry(self, account_id: int, generation: int, text: str) -> bytes:
        # The numbers end at a character no number has: no two triples are spelled alike.
        spelled = f"{account_id}:{generation}:{text}"
        return hmac.digest(self._key, spelled.encode("utf-8", "surrogatepass"), "sha256")
