"""Admission: whose passwords are hashed next, so that no crowd of strangers keeps everybody else waiting.

    block     an IPv4 address or /64   100 tries at once, then 2 a second
    /56       of IPv6, one subscriber  150 at once, then 2 a second
    /48       of IPv6, one site        300 at once, then 4 a second

Of what waits to be hashed each has at most 20, of the 25 places that strangers have on two cores. What was verified a
moment ago is no try; what is refused for want of room is one. A block that somebody signed in from
lately is known: the wider ones do not bound it, and part of the room to hash in is kept for it.
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
    """The tries of this process, in bounded memory."""

    ENTRIES = 10_000
    KNOWN_SECONDS = 12 * 3600.0
    PLACES = 20

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._block = Budget(2, 100, clock)
        self._wider = (Budget(2, 150, clock), Budget(4, 300, clock))
        self._known: OrderedDict[str, float] = OrderedDict()
        self._under_way: Counter[str] = Counter()

    def welcome(self, address: str) -> None:
        """Somebody has signed in from *address*."""
        block = address_block(address)
        self._known[block] = self._clock()
        self._known.move_to_end(block)
        while len(self._known) > self.ENTRIES:
            self._known.popitem(last=False)

    def known(self, address: str) -> bool:
        """Whether somebody has signed in from the block of *address* in the last twelve hours."""
        at = self._known.get(address_block(address))
        return at is not None and self._clock() - at < self.KNOWN_SECONDS

    def wait(self, address: str) -> int:
        """0 when a password that comes from *address* may be tried; otherwise the seconds until one may."""
        return max(budget.wait(block) for budget, block in self._bounds(address))

    @contextmanager
    def trying(self, address: str) -> Iterator[None]:
        """One password from *address* is tried meanwhile; raises `TooManyRequests` when so many are already."""
        bounds = self._bounds(address)
        for budget, block in bounds:
            budget.spend(block)
        blocks = [block for _, block in bounds]
        if any(self._under_way[block] >= self.PLACES for block in blocks):
            raise TooManyRequests(CROWDED, retry_after_seconds=5)
        self._under_way.update(blocks)
        try:
            yield
        finally:
            self._under_way.subtract(blocks)
            for block in blocks:
                if self._under_way[block] <= 0:
                    del self._under_way[block]

    def _bounds(self, address: str) -> list[tuple[Budget, str]]:
        wider = () if self.known(address) else wider_blocks(address)
        return [(self._block, address_block(address)), *zip(self._wider, wider, strict=False)]
