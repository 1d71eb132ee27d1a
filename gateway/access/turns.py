"""Turns: one at a time under a key, and no more than so many of the slowed in one line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from gateway.access.passwords import CROWDED
from gateway.errors import TooManyRequests

#: With more in a line, whoever has the turn included, nobody joins it who is slowed.
LONGEST_LINE = 100


@dataclass(slots=True, weakref_slot=True, eq=False)
class _Line:
    standing: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Turns:
    """The lines of one event loop, each there for as long as somebody stands in it."""

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        self._lines: WeakValueDictionary[str, _Line] = WeakValueDictionary()

    @contextmanager
    def line(self, key: str, *, slowed: bool) -> Iterator[asyncio.Lock]:
        """
        A place in the line under *key*, with the turn that those in it take.

        Raises `TooManyRequests` for one that is *slowed* when the line is full. The others cost little and are soon
        through: theirs has no end.
        """
        line = self._lines.setdefault(key, _Line())
        if slowed and line.standing >= self._longest:
            raise TooManyRequests(CROWDED, retry_after_seconds=5)
        line.standing += 1
        try:
            yield line.turn
        finally:
            line.standing -= 1
