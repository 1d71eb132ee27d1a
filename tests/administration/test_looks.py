"""Looks through the trail: few at once, fewer of one account, and nothing that everybody waits for behind them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.access.keys import KeyRing
from gateway.administration import Proposal, Verb
from gateway.administration.looks import Looks
from gateway.errors import TooManyRequests
from tests.access.keeping import KeptKeys
from tests.administration.rooms import Rooms
from tests.administration.test_exports import caller
from tests.house import OPERATOR

DIGEST = "sha256:" + "a" * 64


@contextmanager
def filled(looks: Looks, *numbers: int) -> Iterator[list[asyncio.Task[None]]]:
    """Looks of these accounts that end when the block does; within a running loop."""
    end = threading.Event()

    def wait() -> None:
        end.wait(10)

    try:
        yield [asyncio.ensure_future(looks.run(caller(number), wait)) for number in numbers]
    finally:
        end.set()


def test_nobody_has_more_looks_than_each_may_and_all_together_no_more_than_there_are() -> None:
    async def trying() -> None:
        looks = Looks(most=4, most_each=2)
        with filled(looks, 1, 1, 2) as running:
            await asyncio.sleep(0)
            with pytest.raises(TooManyRequests, match="2 looks of yours") as refused:
                await looks.run(caller(1), int)
            assert refused.value.retry_after_seconds > 0
            with filled(looks, 3) as more:
                await asyncio.sleep(0)
                with pytest.raises(TooManyRequests, match="Enough looks"):
                    await looks.run(caller(2), int)
        await asyncio.gather(*running, *more)
        assert await looks.run(caller(1), int, "7") == 7

    asyncio.run(trying())


def test_a_look_whose_asker_has_gone_keeps_its_place_until_it_is_done() -> None:
    async def trying() -> None:
        looks = Looks(most_each=1)
        with filled(looks, 1) as (running,):
            await asyncio.sleep(0.05)
            running.cancel()
            await asyncio.sleep(0)
            with pytest.raises(TooManyRequests):
                await looks.run(caller(1), int)
        async with asyncio.timeout(5):
            while looks.under_way:  # noqa: ASYNC110 - the thread has no other sign
                await asyncio.sleep(0.01)

    asyncio.run(trying())


def test_a_look_that_fails_gives_its_place_back() -> None:
    looks = Looks()
    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(looks.run(caller(1), int, "seven"))
    assert looks.under_way == 0


def test_a_review_a_replay_and_a_trace_are_refused_while_enough_are_under_way(rooms: Rooms) -> None:
    rooms.owner("jane", "gallery")
    since, until = datetime.now(UTC) - timedelta(days=1), datetime.now(UTC)
    acts = rooms.acts

    async def trying(act: Coroutine[Any, Any, object]) -> None:
        with filled(acts.looks, 1, 1, 2, 2) as running:
            await asyncio.sleep(0)
            with pytest.raises(TooManyRequests, match="Enough looks"):
                await act
        await asyncio.gather(*running)

    for act in (
        acts.reviews.begin(OPERATOR, since, until),
        acts.replays.replay(OPERATOR, Proposal(Verb.GRANT, "jane", "gallery", "puller")),
        acts.tracing.who_pulled(OPERATOR, DIGEST),
        acts.tracing.who_pulled(OPERATOR, "gallery/ui:v1"),
        acts.tracing.leak(OPERATOR, "jane", since, plan=True),
    ):
        rooms.run(trying(act))
    assert rooms.last("review.begin")["reason"] == "toomanyrequests"


def test_a_leaked_credential_is_revoked_and_its_touches_told_however_many_looks_are_under_way(rooms: Rooms) -> None:
    rooms.user("jane")

    async def trying() -> bool:
        with filled(rooms.acts.looks, 1, 1, 2, 2):
            await asyncio.sleep(0)
            leak = asyncio.ensure_future(rooms.acts.tracing.leak(OPERATOR, "jane", datetime.now(UTC)))
            await asyncio.sleep(0.2)
            assert rooms.last("credential.leak")["outcome"] == "allowed"
        return (await leak).revoked

    assert rooms.run(trying())


def test_the_keys_are_read_while_every_other_thread_is_busy() -> None:
    kept, end = KeptKeys.fresh(), threading.Event()

    async def trying() -> None:
        # More than the executor that everything shares has threads.
        busy = [asyncio.ensure_future(asyncio.to_thread(end.wait, 10)) for _ in range(64)]
        try:
            async with asyncio.timeout(5):
                await kept.ring().refresh()
        finally:
            end.set()
        await asyncio.gather(*busy)

    asyncio.run(trying())
    assert kept.reads == 1


def test_of_many_who_wait_for_the_keys_one_reads_them() -> None:
    kept = KeptKeys.fresh()

    async def trying(ring: KeyRing) -> None:
        await asyncio.gather(*(ring.refresh() for _ in range(50)))

    asyncio.run(trying(kept.ring()))
    assert kept.reads == 1
