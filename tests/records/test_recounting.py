"""Counters that are not what the events add up to are found, told of by their day, and counted anew."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from gateway.audit.chain import Head
from gateway.audit.event import Event, Kind, Outcome
from gateway.audit.trail import Search
from gateway.errors import Conflict
from gateway.flaws import Flaw, FlawKind
from gateway.gate import Act
from gateway.records import recounting, sealing
from gateway.records.recounting import counter_flaws
from gateway.records.review_tables import event_counts
from gateway.records.trail import project_tail
from tests.house import GATEWAY, House

BEGUN = datetime(2026, 11, 10, 22, 30, tzinfo=UTC)


def fill(house: House, count: int, begun: datetime = BEGUN) -> None:
    async def all_of_them() -> None:
        for number in range(count):
            outcome = (Outcome.ALLOWED, Outcome.DENIED, Outcome.FAILED)[number % 3]
            time = begun + timedelta(hours=number)
            event = Event(Kind.BLOB_PULL, GATEWAY, outcome, time, project=f"p{number % 2}" if number % 4 else "")
            await house.ledger.commit(Act(event))

    house.run(all_of_them())
    project(house)


def project(house: House) -> None:
    with house.database.lock(), house.database.engine.connect() as connection:
        while project_tail(house.database, connection):
            pass


def run(house: House, statement: str) -> None:
    with house.database.engine.connect() as connection:
        connection.exec_driver_sql(statement)


def counters(house: House) -> Sequence[Any]:
    return house.database.read_now(lambda connection: sorted(map(tuple, connection.execute(select(event_counts)))))


def flaws(house: House) -> list[Flaw]:
    return list(counter_flaws(house.database, lambda _: None))


def test_counters_that_follow_the_trail_are_what_its_events_add_up_to(house: House) -> None:
    assert flaws(house) == []
    fill(house, 30)
    house.run(house.ledger.commit(Act(Event(Kind.TAG_DELETE, GATEWAY, time=BEGUN + timedelta(days=9)))))
    assert flaws(house) == []


CHANGES = {
    "UPDATE event_counts SET denied = denied + 1 WHERE field = 'project' AND value = 'p1'": ["10", "11", "12"],
    "UPDATE event_counts SET failed = 0 WHERE span = 3600": ["11", "12"],
    "DELETE FROM event_counts WHERE field = 'kind'": ["10", "11", "12"],
    "INSERT INTO event_counts VALUES (86400, 'address', 1793404800, '192.0.2.9', 1, 0, 0)": ["31"],
    "INSERT INTO event_counts VALUES (3600, '', 1794312000, '', 1, 0, 0)": ["10"],
}


def test_counters_that_were_changed_are_found_by_their_day_and_mended(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only this test has the counters follow: the events of the mending count once they are looked at.
    monkeypatch.setattr(house.ledger, "_follow", lambda: None)
    fill(house, 30)
    for statement, days in CHANGES.items():
        right = counters(house)
        run(house, statement)

        found = flaws(house)

        assert [flaw.kind for flaw in found] == [FlawKind.COUNTERS] * len(days)
        assert [flaw.what[-2:] for flaw in found] == days
        for flaw in found:
            mend = flaw.mend()
            assert mend is not None
            house.run(house.ledger.commit(Act(Event(Kind.CHECK_REPAIR, GATEWAY, time=BEGUN), mend.change)))
        assert counters(house) == right
        project(house)
        assert flaws(house) == []


def test_counters_are_not_set_to_search_entries_that_are_not_what_events_say(house: House) -> None:
    fill(house, 3)
    run(house, "UPDATE event_index SET project = 'another' WHERE seq = 2")

    [flaw] = flaws(house)

    assert flaw.mend() is None
    change = recounting.recount(int(BEGUN.timestamp()) // 86400 * 86400)
    with pytest.raises(Conflict, match="verify"):
        house.run(house.ledger.commit(Act(Event(Kind.CHECK_REPAIR, GATEWAY), change)))


LAST_DAY = 253402214400


@pytest.mark.parametrize("begins", [LAST_DAY, LAST_DAY + 86400, 1 << 62])
def test_what_is_said_to_have_happened_at_the_end_of_the_calendar_ends_no_look_at_the_counters(
    house: House, begins: int
) -> None:
    fill(house, 3)
    run(house, "UPDATE event_index SET time = '9999-12-31T23:59:59.999999Z' WHERE seq = 2")
    run(house, f"INSERT INTO event_counts VALUES (3600, '', {begins}, '', 1, 0, 0)")

    assert [flaw.what for flaw in flaws(house)] == ["2026-11-10", *(["9999-12-31"] if begins == LAST_DAY else [])]


def test_days_that_were_sealed_away_are_not_recounted(house: House) -> None:
    fill(house, 5)
    sealed = list(house.trail.export(Search()))
    segment = sealing.write(house.data, sealed, Head(), '{"type":"segment"}')
    house.run(house.ledger.commit(Act(Event(Kind.AUDIT_RETAIN, GATEWAY), sealing.record(house.data, segment))))
    hashes = {0: Head().hash, **{event.seq: event.hash for event in sealed}}
    house.run(house.ledger.commit(Act(Event(Kind.AUDIT_RETAIN, GATEWAY), sealing.leave(5, hashes))))
    project(house)
    assert flaws(house) == []

    fill(house, 2, BEGUN + timedelta(days=4))
    run(house, "UPDATE event_counts SET allowed = 7 WHERE begins >= 1794614400 AND span = 3600")
    assert [flaw.what for flaw in flaws(house)] != []
