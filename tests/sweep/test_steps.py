"""Work in the background: how long it rests, and what happens when it is stopped."""

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
        steps = Steps("test", lambda: 0)
        running = asyncio.create_task(steps.run(job))
        await asyncio.to_thread(begun.wait)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert ended.is_set()
        steps.close()

    asyncio.run(story())


def test_a_step_rests_longer_after_somebody_was_served_meanwhile() -> None:
    served = 7

    def job() -> None:
        time.sleep(0.1)

    async def story() -> list[float]:
        nonlocal served
        steps = Steps("test", lambda: served)
        await steps.run(job)
        rests = []
        for others in (3, 0, 0, 0):
            served += others
            begun = time.monotonic()
            await steps.run(job)
            rests.append(time.monotonic() - begun)
        steps.close()
        return rests

    beside, *alone = asyncio.run(story())
    assert min(alone) < 0.2 <= beside
