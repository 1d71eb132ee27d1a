"""Work in the background: a fault is told of and costs half a minute, never the work; a drain ends it at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import pytest

from gateway import supervision
from gateway.errors import Unavailable
from gateway.supervision import Beginning, supervised


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "REST_SECONDS", 0.01)


def failing(*faults: BaseException) -> tuple[list[int], Beginning]:
    """Work that ends with each of the *faults* in turn, and then by itself; and how often it began."""
    begun: list[int] = []

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) <= len(faults):
            raise faults[len(begun) - 1]

    return begun, work


@pytest.mark.usefixtures("_at_once")
def test_work_that_fails_begins_again_until_it_comes_to_its_end(caplog: pytest.LogCaptureFixture) -> None:
    begun, work = failing(OSError(28, "No space left on device"), RuntimeError("one\ntwo"), asyncio.CancelledError())

    asyncio.run(supervised("the work", work))

    assert len(begun) == 4
    told = [record.getMessage() for record in caplog.records]
    assert all(line.startswith("the work ended, it begins again in ") for line in told)
    assert [line.partition(" s: ")[2] for line in told] == [
        "OSError: [Errno 28] No space left on device",
        "RuntimeError: one",
        "something it waited for was cancelled",
    ]
    assert [bool(record.exc_info) for record in caplog.records] == [True, True, False]


@pytest.mark.usefixtures("_at_once")
def test_a_refusal_that_ends_work_is_one_sentence_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    begun, work = failing(Unavailable("The trail is full."))

    asyncio.run(supervised("the work", work))

    (record,) = caplog.records
    assert (len(begun), record.levelno, bool(record.exc_info)) == (2, logging.WARNING, False)
    assert record.getMessage().endswith("Unavailable: The trail is full.")


def test_a_drain_ends_work_that_rests_after_a_fault_at_once() -> None:
    begun, work = failing(RuntimeError())

    async def story() -> None:
        task = asyncio.ensure_future(supervised("the work", work))
        await asyncio.sleep(0.05)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    since = time.monotonic()
    asyncio.run(story())
    assert len(begun) == 1
    assert time.monotonic() - since < 5


@pytest.mark.usefixtures("_at_once")
def test_work_that_fails_while_it_is_ended_does_not_begin_again() -> None:
    begun = []

    async def work() -> None:
        begun.append(1)
        try:
            await asyncio.sleep(60)
        finally:
            raise RuntimeError("on the way out")

    async def story() -> None:
        task = asyncio.ensure_future(supervised("the work", work))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(RuntimeError):
            await asyncio.wait_for(task, 5)

    asyncio.run(story())
    assert len(begun) == 1
