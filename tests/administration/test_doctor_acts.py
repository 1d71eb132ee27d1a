"""The doctor: for administrators, recorded, and each state of the records is a line that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from gateway.administration import Finding, State
from gateway.administration.doctor import of_records
from gateway.errors import Denied
from gateway.records.condition import Condition
from tests.administration.rooms import Rooms
from tests.house import OPERATOR

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
WELL = Condition(checked=7, fault="", newest=NOW, unprojected=0, unsettled=0, oldest=0)


async def others() -> Sequence[Finding]:
    return (
        Finding("certificate", State.WARN, "It expires in 3 days."),
        Finding("disk space", State.BAD, "It is full."),
        Finding("settings", State.OK, "They are well."),
    )


def test_an_examination_is_recorded_with_what_is_not_well(rooms: Rooms) -> None:
    found = rooms.run(rooms.acts.doctor.examine(OPERATOR, others))
    assert [each.name for each in found[:3]] == ["certificate", "disk space", "settings"]
    # The tests' PostgreSQL is in a hurry.
    hurried = [] if rooms.house.database.sqlite else ["durability"]
    assert [each.name for each in found[3:] if each.state is not State.OK] == hurried
    event = rooms.last("gateway.doctor")
    assert event["outcome"] == "allowed"
    assert event["detail"] == {"warn": ["certificate", *hurried], "bad": ["disk space"]}


def test_only_an_administrator_has_the_gateway_examined(rooms: Rooms) -> None:
    looked = False

    async def looking() -> Sequence[Finding]:
        nonlocal looked
        looked = True
        return ()

    owner, auditor = rooms.owner("jane", "gallery"), rooms.user("joe", auditor=True)
    for caller in (owner, auditor):
        with pytest.raises(Denied):
            rooms.run(rooms.acts.doctor.examine(caller, looking))
    assert not looked
    assert rooms.last("gateway.doctor")["outcome"] == "denied"
    rooms.run(rooms.acts.doctor.examine(rooms.user("root", administrator=True), looking))
    assert looked


@pytest.mark.parametrize(
    ("changed", "name", "state", "says"),
    [
        ({"fault": "event 3 is missing"}, "trail", State.BAD, "event 3 is missing"),
        ({"newest": NOW + timedelta(hours=3)}, "clock", State.BAD, "3:00:00 behind"),
        ({"newest": NOW + timedelta(seconds=30)}, "clock", State.OK, "not behind"),
        ({"newest": None}, "clock", State.OK, "not behind"),
        ({"lossy": ("fsync", "full_page_writes")}, "durability", State.WARN, "fsync = off and full_page_writes = off"),
        ({"lossy": ()}, "durability", State.OK, "survives"),
        ({"unprojected": 10_001}, "search", State.WARN, "10001 events"),
        ({"unprojected": 10_000}, "search", State.OK, "10000 events behind"),
        ({"unsettled": 2, "oldest": 1_000_000_000}, "unsettled acts", State.WARN, "2 acts"),
        ({"unsettled": 2, "oldest": 1_000_000_000}, "unsettled acts", State.WARN, "2001-09-09T01:46:40Z"),
    ],
)
def test_each_state_of_the_records_is_a_finding(changed: dict[str, object], name: str, state: State, says: str) -> None:
    told = {field: getattr(WELL, field) for field in Condition.__slots__} | changed
    found = {each.name: each for each in of_records(Condition(**told), NOW)}
    assert found.pop(name).state is state
    assert {each.state for each in found.values()} == {State.OK}
    finding = next(each for each in of_records(Condition(**told), NOW) if each.name == name)
    assert says in finding.text
    assert bool(finding.mend) is (state is not State.OK)


def test_records_that_are_well_need_nothing() -> None:
    assert {each.state for each in of_records(WELL, NOW)} == {State.OK}
