"""Looks through the trail that take seconds, and the memory of all that they find: so many at once, in their threads.

What everybody waits for, such as the keys that tokens are believed by, is read in other threads, and never behind them.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

from gateway.access.principals import Caller
from gateway.errors import TooManyRequests

__all__ = ["Looks"]

P = ParamSpec("P")
R = TypeVar("R")

MOST: Final = 4
MOST_EACH: Final = 2
THREADS: Final = 2
_RETRY_SECONDS: Final = 5


class Looks:
    """
    At most *most* under way or waiting in this process, *most_each* of them of one account; as many as there are
    *threads* really look.

    A look keeps its place until its thread is done with it, also when whoever asked has gone.
    """

    def __init__(self, most: int = MOST, most_each: int = MOST_EACH, threads: int = THREADS) -> None:
        self._most = most
        self._most_each = most_each
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="look")

    @property
    def under_way(self) -> int:
        """How many places are taken."""
        return self._held.total()

    async def run(self, caller: Caller, look: Callable[P, R], /, *args: P.args, **named: P.kwargs) -> R:
        """
        What *look* answers, from a thread.

        Raises `TooManyRequests` when *caller*, or everybody together, has as many as may be.
        """
        account = f"{caller.principal.kind}:{caller.principal.id}"
        self._take(account)
        try:
            future = self._submitted(partial(look, *args, **named))
        except BaseException:
            self._free(account)
            raise
        future.add_done_callback(lambda _: self._free(account))
        return await asyncio.wrap_future(future)

    async def queue(self, look: Callable[P, R], /, *args: P.args, **named: P.kwargs) -> R:
        """As `run`, but refuses nobody: for what belongs to an act that is done already. It waits for its turn."""
        return await asyncio.wrap_future(self._submitted(partial(look, *args, **named)))

    def _submitted(self, look: Callable[[], R]) -> Future[R]:
        return self._threads.submit(contextvars.copy_context().run, look)

    def _take(self, account: str) -> None:
        with self._lock:
            if self._held[account] >= self._most_each:
                told = f"{self._most_each} looks of yours through the trail are under way; try again when one is done."
                raise TooManyRequests(told, retry_after_seconds=_RETRY_SECONDS)
            if self.under_way >= self._most:
                told = "Enough looks through the trail are under way; try again when one is done."
                raise TooManyRequests(told, retry_after_seconds=_RETRY_SECONDS)
            self._held[account] += 1

    def _free(self, account: str) -> None:
        with self._lock:
            self._held[account] -= 1
            if self._held[account] <= 0:
                del self._held[account]
