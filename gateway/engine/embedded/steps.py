"""Work in the background, one step after the other in a thread of its own, with a rest after each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

#: How long the rest is, as part of the time the step took: others want the processor and the disk.
_REST: Final = 0.5


class Steps:
    """Runs one step after the other. Whoever is cancelled in one waits for its end: nothing goes on unseen."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

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
        await asyncio.sleep((time.monotonic() - begun) * _REST)
        return found

    def close(self) -> None:
        """Ends the thread, after what it does now."""
        self._thread.shutdown()
