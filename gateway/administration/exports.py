"""Exports that are under way: so many at once, so many of one account, and none for whoever takes nothing of it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final, Self, TypeAlias

from gateway.access.principals import Caller
from gateway.errors import TooManyRequests

__all__ = ["Exports", "NobodyReads", "Slot"]

_log = logging.getLogger("gateway.exports")

MOST: Final = 4
MOST_EACH: Final = 2
#: For each piece, of some hundred kilobytes.
STALL_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 5

_Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class NobodyReads(ConnectionError):
    """Whoever asked for the export did not take a piece of it in time: it has been ended."""


class Slot:
    """One export's place. Whoever sends the export enters it, and leaving gives it back; so does `give_back`."""

    def __init__(self, give_back: Callable[[], None], stall_seconds: float) -> None:
        self._give_back: Callable[[], None] | None = give_back
        self._stall_seconds = stall_seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def give_back(self) -> None:
        """The place is free; once is enough."""
        if self._give_back is not None:
            self._give_back()
            self._give_back = None

    def bounded(self, send: _Send) -> _Send:
        """*send* that raises `NobodyReads` for a piece that is not taken in time."""

        async def sending(message: MutableMapping[str, Any]) -> None:
            try:
                async with asyncio.timeout(self._stall_seconds):
                    await send(message)
            except TimeoutError:
                _log.warning("an export was ended: a piece of it was not taken in %g s", self._stall_seconds)
                raise NobodyReads("a piece was not taken in time") from None

        return sending


class Exports:
    """
    At most *most* at once in this process, *most_each* of them of one account, whichever edge they leave by.

    Used from one event loop. A reader has *stall_seconds* for each piece.
    """

    def __init__(self, most: int = MOST, most_each: int = MOST_EACH, stall_seconds: float = STALL_SECONDS) -> None:
        self._most = most
        self._most_each = most_each
        self._stall_seconds = stall_seconds
        self._held: Counter[str] = Counter()

    @property
    def under_way(self) -> int:
        """How many there are."""
        return self._held.total()

    @contextmanager
    def slot(self, caller: Caller) -> Iterator[Slot]:
        """
        A place for the export that is prepared within; given back if that fails, else by whoever sends it.

        Raises `TooManyRequests` when *caller*, or everybody together, has as many as may be.
        """
        principal = caller.principal
        account = f"{principal.kind}:{principal.id}"
        if self._held[account] >= self._most_each:
            told = f"{self._most_each} exports of yours are under way; let one come to its end, then try again."
            raise TooManyRequests(told, retry_after_seconds=_RETRY_SECONDS)
        if self.under_way >= self._most:
            told = "Enough exports are under way; try again when one is done."
            raise TooManyRequests(told, retry_after_seconds=_RETRY_SECONDS)
        self._held[account] += 1
        slot = Slot(lambda: self._free(account), self._stall_seconds)
        try:
            yield slot
        except BaseException:
            slot.give_back()
            raise

    def _free(self, account: str) -> None:
        self._held[account] -= 1
        if not self._held[account]:
            del self._held[account]
