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
_LONG_REST: Final = 2.0


class Steps:
    """
    Runs one step after the other. Whoever is cancelled in one waits for its end: nothing goes on unseen.

    *served* blocks, and tells a number that moves when somebody else is served; it is asked after each step.
    """

    def __init__(self, name: str, served: Callable[[], int]) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._served = served
        self._told = -1

    async def run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What *job*, which may block, gives."""
        running = asyncio.get_running_loop().run_in_executor(self._thread, lambda: job(*args, **kwargs))
        return await self.rest_after(running)

    async def rest_after(self, work: Awaitable[T]) -> T:
        """What *work* gives."""
        begun = time.monotonic()
        running = asyncio.ensure_future(work)
        try:
            found = await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise
        took = time.monotonic() - begun
        await asyncio.sleep(took * await self._rest())
        return found

    async def _rest(self) -> float:
        before = self._told
        self._told = await asyncio.get_running_loop().run_in_executor(self._thread, self._served)
        return _REST if self._told == before else _LONG_REST

    def close(self) -> None:
        """Ends the thread, after what it does now."""
        self._thread.shutdown()
