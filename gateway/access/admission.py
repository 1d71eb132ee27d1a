"""Admission: whose passwords are hashed next, so that no crowd of strangers keeps everybody else waiting.

    block           an IPv4 address or /64    100 wrong tries at once, then 2 a second for each thread that hashes
    /56, /48        of IPv6                   no more places than one block
    known block     where somebody signed in  200 wrong tries at once, then 4 a second; bound by no wider one

A right password costs nothing: its try is given back, and what was verified a moment ago is none. A try that finds no
room is paid for like a wrong one. Of the places in which to wait for hashing a block has at most half, a known one
three quarters; the last quarter is kept for the known ones.

Where there is no room, what was verified a moment ago is believed all the same; anything else is turned away, and is no
failure. So that nobody can guess by that, an account and address that were turned away 5 times have such a look only
once in 15 seconds: otherwise they wait for room like everybody.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.access.passwords import CROWDED
from gateway.access.throttle import Budget, address_block, wider_blocks
from gateway.errors import TooManyRequests


class Admission:
    """The tries of this process, in bounded memory; *threads* hash, and *queue* more may wait for them."""

    ENTRIES = 10_000
    KNOWN_SECONDS = 12 * 3600.0

    def __init__(self, threads: int = 1, queue: int = 64, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: Of strangers, and of known blocks.
        self._tries = (Budget(2 * threads, 100, clock), Budget(4 * threads, 200, clock))
        self._places = (threads + queue // 2, threads + queue - queue // 4)
        self._looks = Budget(1 / 15, 5, clock)
        self._known: OrderedDict[str, float] = OrderedDict()
        self._under_way: Counter[str] = Counter()

    def welcome(self, address: str) -> None:
        """Somebody has signed in from *address* with a password."""
        block = address_block(address)
        self._known[block] = self._clock()
        self._known.move_to_end(block)
        while len(self._known) > self.ENTRIES:
            self._known.popitem(last=False)

    def known(self, address: str) -> bool:
        """Whether somebody has signed in from the block of *address* in the last twelve hours."""
        at = self._known.get(address_block(address))
        return at is not None and self._clock() - at < self.KNOWN_SECONDS

    def wait(self, address: str, *, known: bool) -> int:
        """0 when *address* may try a password, if there is room; otherwise the seconds until it may."""
        return self._tries[known].wait(address)

    def looks(self, pair: str) -> bool:
        """Whether what was verified a moment ago may be believed for *pair*, an account and address."""
        return not self._looks.wait(pair)

    @contextmanager
    def trying(self, address: str, pair: str, *, known: bool) -> Iterator[Callable[[], None]]:
        """
        One password for *pair* from *address* is tried meanwhile; what it yields is called once it was right.

        Raises `TooManyRequests` when there were too many wrong ones, or so many are under way already.
        """
        try:
            with self._place(address, known=known) as right:
                yield right
        except TooManyRequests:
            self._looks.spend(pair)
            raise

    @contextmanager
    def _place(self, address: str, *, known: bool) -> Iterator[Callable[[], None]]:
        tries, most = self._tries[known], self._places[known]
        wait_seconds = tries.spend(address)
        if wait_seconds:
            raise TooManyRequests(CROWDED, retry_after_seconds=wait_seconds)
        blocks = [address_block(address), *(() if known else wider_blocks(address))]
        if any(self._under_way[block] >= most for block in blocks):
            raise TooManyRequests(CROWDED, retry_after_seconds=5)
        self._under_way.update(blocks)
        try:
            yield lambda: tries.give_back(address)
        finally:
            self._under_way.subtract(blocks)
            for block in blocks:
                if self._under_way[block] <= 0:
                    del self._under_way[block]
