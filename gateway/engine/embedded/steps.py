"""Work in the background, a step at a time in a thread of its own, with a rest after each: longer beside others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

#: How long the rest is, as part of the time the step took: others may want the processor and the disk.
_REST: Final = 0.5
#: And while somebody is served, who has so much of them to himself.
_LONG_REST: Final = 1.0


class Steps:
    """
    Runs one step after the other. Whoever is cancelled in one waits for its end: nothing goes on unseen.

    *served* blocks, and tells a number that moves when somebody else is served; it is asked after each `run`.
    """

    def __init__(self, name: str, served: Callable[[], int]) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._served = served
        self._told = -1
        self._beside = False

    async def run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What *job*, which may block, gives."""

        def step() -> tuple[T, float, int]:
            begun = time.monotonic()
            found = job(*args, **kwargs)
            return found, time.monotonic() - begun, self._served()

        found, took, served = await _ended(asyncio.get_running_loop().run_in_executor(self._thread, step))
        self._beside, self._told = served != self._told, served
        await self._rest(took)
        return found

    async def rest_after(self, work: Awaitable[T]) -> T:
        """What *work* gives, which is done elsewhere; the rest is as long as it was after the `run` before."""
        begun = time.monotonic()
        found = await _ended(asyncio.ensure_future(work))
        await self._rest(time.monotonic() - begun)
        return found

    async def _rest(self, took: float) -> None:
        await asyncio.sleep(took * (_LONG_REST if self._beside else _REST))

    def close(self) -> None:
        """Ends the thread, after what it does now."""
        self._thread.shutdown()


async def _ended(running: asyncio.Future[T]) -> T:
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
