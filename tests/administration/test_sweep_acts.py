"""Sweeps as acts: who may, what is recorded before and after, and when the next one is due."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from gateway.administration.sweeping import Amount, Plan, Receipt, Stock, Sweeps, Swept
from gateway.change import Change, Notes
from gateway.errors import Denied
from tests.administration.rooms import Rooms
from tests.house import OPERATOR

GOING = Swept(links=Amount(2, 30), blobs=Amount(1, 20), files=Amount(1, 20))
HOUR = 3600


@dataclass
class FakeSweeper:
    """Goes as it is told, and says so."""

    going: Swept = GOING
    fault: Exception | None = None
    said: list[str] = field(default_factory=list)
    swept: Swept = field(default_factory=Swept)

    @contextmanager
    def alone(self) -> Iterator[None]:
        self.said.append("alone")
        yield
        self.said.append("done")

    async def plan(self) -> Plan:
        return Plan(self.going, Amount(), Stock())

    async def sweep(self, plan: Plan, commit: Callable[[Change], Awaitable[Notes]]) -> Receipt:
        notes = await commit(Change(lambda _: Notes(result="committed")))
        self.said.append(notes.result)
        self.swept = Swept(links=plan.going.links)
        if self.fault is not None:
            raise self.fault
        return Receipt(plan.going, Amount(), 0, Stock(), Stock(), 1.5)

    def close(self) -> None:
        self.said.append("closed")


def sweeps(rooms: Rooms, sweeper: FakeSweeper, now: float = 1_000_000) -> Sweeps:
    return Sweeps(rooms.house.gate, rooms.house.database, lambda _: sweeper, lambda: now)


def recorded(rooms: Rooms) -> list[tuple[str, str]]:
    events = rooms.house.records()
    return [(str(event["kind"]), str(event["outcome"])) for event in events if "storage" in str(event["kind"])]


def test_a_sweep_is_recorded_before_anything_goes_and_with_its_receipt_after(rooms: Rooms) -> None:
    sweeper = FakeSweeper()
    rooms.run(sweeps(rooms, sweeper).sweep(OPERATOR, 60))

    assert recorded(rooms) == [("storage.sweep.begun", "allowed"), ("storage.sweep", "allowed")]
    event = rooms.last("storage.sweep")
    assert event["bytes"] == 20
    assert event["detail"]["links"] == {"count": 2, "bytes": 30}
    assert (event["detail"]["freed_bytes"], event["detail"]["grace_seconds"]) == (20, 60)
    assert sweeper.said == ["alone", "committed", "done", "closed"]


def test_a_sweep_that_finds_nothing_leaves_its_receipt_alone(rooms: Rooms) -> None:
    rooms.run(sweeps(rooms, FakeSweeper(Swept())).sweep(OPERATOR, 60))
    assert recorded(rooms) == [("storage.sweep", "allowed")]


def test_a_plan_is_recorded_as_one(rooms: Rooms) -> None:
    rooms.run(sweeps(rooms, FakeSweeper()).plan(OPERATOR, 60))
    assert recorded(rooms) == [("storage.sweep", "allowed")]
    assert rooms.last("storage.sweep")["detail"]["plan"] is True


def test_a_sweep_that_fails_records_what_has_gone(rooms: Rooms) -> None:
    sweeper = FakeSweeper(fault=OSError(5, "the disk"))
    with pytest.raises(OSError, match="the disk"):
        rooms.run(sweeps(rooms, sweeper).sweep(OPERATOR, 60))
    assert recorded(rooms)[-1] == ("storage.sweep", "failed")
    assert rooms.last("storage.sweep")["detail"]["links"] == {"count": 2, "bytes": 30}
    assert sweeper.said[-1] == "closed"


def test_nobody_but_an_administrator_sweeps(rooms: Rooms) -> None:
    owner = rooms.owner("owner", "gallery")
    sweeper = FakeSweeper()
    with pytest.raises(Denied):
        rooms.run(sweeps(rooms, sweeper).sweep(owner, 60))
    with pytest.raises(Denied):
        rooms.run(sweeps(rooms, sweeper).plan(owner, 60))
    assert sweeper.said == ["closed", "closed"]
    assert recorded(rooms) == [("storage.sweep", "denied")] * 2


def test_the_next_sweep_is_due_when_the_last_one_ended_long_enough_ago(rooms: Rooms) -> None:
    begun = 1_000_000
    assert rooms.run(sweeps(rooms, FakeSweeper()).due(24))
    rooms.run(sweeps(rooms, FakeSweeper(), begun).sweep(OPERATOR, 60))
    assert not rooms.run(sweeps(rooms, FakeSweeper(), begun + 23 * HOUR).due(24))
    assert rooms.run(sweeps(rooms, FakeSweeper(), begun + 24 * HOUR).due(24))
    assert not rooms.run(sweeps(rooms, FakeSweeper(), begun - HOUR).due(24))
