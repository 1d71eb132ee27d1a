"""Work in the background, when it is stopped."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from gateway.engine.embedded.steps import Steps


def test_whoever_is_cancelled_waits_for_the_end_of_the_step() -> None:
    begun, ended = threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        time.sleep(0.2)
        ended.set()

    async def story() -> None:
        steps = Steps("test")
        running = asyncio.create_task(steps.run(job))
        await asyncio.to_thread(begun.wait)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert ended.is_set()
        steps.close()

    asyncio.run(story())
