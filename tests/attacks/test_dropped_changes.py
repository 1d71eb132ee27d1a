"""A change that is refused after it was prepared lets go of what it holds at once, not when memory is next tidied."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.access.policy import Reason, Refused
from gateway.audit.event import Event, Kind
from gateway.change import Change, Notes
from gateway.errors import Denied, Refusal
from gateway.gate import Act
from tests.house import GATEWAY, House, opened


class Held:
    """What a prepared change may hold: a lock, a file."""


def prepared() -> tuple[Act, weakref.ref[Held]]:
    held = Held()

    def apply(connection: Any) -> Notes:
        return Notes(result=id(held))

    event = Event(Kind.UPLOAD_APPEND, GATEWAY)

    def gone(_: Refused) -> Refusal:
        return Denied("The right is gone.")

    return Act(event, Change(apply), -1, lambda _: Refused(Reason.NO_GRANT), gone), weakref.ref(held)


async def refused(house: House) -> weakref.ref[Held]:
    act, held = prepared()
    try:
        await house.ledger.commit(act)
    except Denied:
        del act
    else:
        raise AssertionError("it was to be refused")
    return held


async def soon(condition: Callable[[], bool]) -> bool:
    for _ in range(200):
        if condition():
            return True
        await asyncio.sleep(0.005)
    return False


def test_refused_change_is_gone_without_the_garbage_collector(tmp_path: Path) -> None:
    async def act(house: House) -> bool:
        held = await refused(house)
        return await soon(lambda: held() is None)

    with opened(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path) as house:
        gc.collect()
        gc.disable()
        try:
            assert house.run(act(house))
        finally:
            gc.enable()
