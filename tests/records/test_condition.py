"""What the doctor reads of the records: the trail's end, what lags behind it, and acts whose outcome nobody knows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert

from gateway.audit.chain import Head, seal
from gateway.audit.event import Event, Kind
from gateway.gate import Act
from gateway.records.condition import Condition, condition
from gateway.records.schema import events, intents
from gateway.records.trail import project_tail
from tests.house import GATEWAY, TRAIL_KEY, House

BEGUN = datetime(2026, 11, 24, 12, tzinfo=UTC)


def fill(house: House, count: int) -> None:
    for number in range(1, count + 1):
        event = Event(Kind.BLOB_PULL, GATEWAY, time=BEGUN + timedelta(seconds=number))
        house.run(house.ledger.commit(Act(event)))


def tamper(house: House, *statements: str) -> None:
    """Changes the records as somebody would who owns the database and has removed what protects it."""
    with house.database.engine.connect() as connection:
        if house.database.sqlite:
            connection.exec_driver_sql("DROP TRIGGER IF EXISTS events_keep_update")
            connection.exec_driver_sql("DROP TRIGGER IF EXISTS events_keep_delete")
        else:
            connection.exec_driver_sql("ALTER TABLE events DISABLE TRIGGER ALL")
        for statement in statements:
            connection.exec_driver_sql(statement)


def read(house: House, *, newest: int = 1000, begun_before: int = 0) -> Condition:
    mark = house.database.mark.read(TRAIL_KEY)
    return house.database.read_now(
        lambda connection: condition(connection, TRAIL_KEY, mark, begun_before=begun_before, newest=newest)
    )


def test_an_empty_trail_is_whole(house: House) -> None:
    found = read(house)
    assert (found.checked, found.fault, found.newest, found.unprojected) == (0, "", None, 0)


def test_the_newest_events_are_read_and_no_more(house: House) -> None:
    fill(house, 8)
    assert (read(house, newest=5).checked, read(house).checked) == (5, 8)
    assert read(house, newest=5).newest == BEGUN + timedelta(seconds=8)
    tamper(house, "UPDATE events SET body = '{}' WHERE seq = 3")
    assert read(house, newest=5).fault == ""
    assert read(house, newest=6).fault.startswith("event 3 was edited")
    assert read(house, newest=6).newest is None


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE events SET body = 'x' WHERE seq = 7", "event 7 was edited"),
        ("DELETE FROM events WHERE seq = 7", "event 7 is missing"),
        ("DELETE FROM events WHERE seq = 1", "event 1 is missing"),
        ("DELETE FROM events WHERE seq > 6", "events 7 to 8 were cut off the end"),
        ("DELETE FROM events", "events 1 to 8 were cut off the end"),
        ("UPDATE trail_head SET seq = 6", "head was edited"),
        ("DELETE FROM trail_head", "head is missing"),
    ],
)
def test_damage_at_the_end_of_the_trail_is_told(house: House, statement: str, says: str) -> None:
    fill(house, 8)
    assert read(house).fault == ""
    tamper(house, statement)
    assert says in read(house).fault


def test_an_event_added_after_the_head_is_told(house: House) -> None:
    fill(house, 3)
    head = Head(3, bytes.fromhex(house.records()[-1]["hash"]))
    added = seal(head, {"time": "2026-11-24T12:00:04.000000Z"})
    with house.database.engine.connect() as connection:
        connection.execute(insert(events).values(seq=added.seq, body=added.body, hash=added.hash))
    assert read(house).fault == "event 4 was added after the chain's head"


def test_what_search_does_not_have_yet_is_counted(house: House) -> None:
    fill(house, 3)
    house.ledger.close()
    tamper(house, "DELETE FROM event_index")
    assert read(house).unprojected == 3


def test_acts_begun_elsewhere_count_once_they_are_old(house: House) -> None:
    row = {"kind": "manifest.push", "repository": "gallery/ui", "act": "{}", "event": "{}"}
    with house.database.engine.connect() as connection:
        for number, begun in enumerate((100, 200, 300)):
            connection.execute(insert(intents).values(id=str(number), begun_at=begun, **row))
    found = [read(house, begun_before=before) for before in (100, 250, 1000)]
    assert [(each.unsettled, each.oldest) for each in found] == [(0, 0), (2, 100), (3, 100)]


def projected(house: House) -> None:
    with house.database.lock(), house.database.engine.connect() as connection:
        while project_tail(house.database, connection):
            pass


@pytest.mark.parametrize("searched", [True, False])
def test_an_edited_end_is_told_however_many_events_came_after_it(house: House, searched: bool) -> None:
    fill(house, 4)
    tamper(house, "UPDATE trail_head SET seq = 2")
    fill(house, 8)
    projected(house)
    if not searched:
        house.ledger.close()
        tamper(house, "DELETE FROM event_index", "DELETE FROM event_counts")
    told = "event 5 tells that the trail's end was edited before it"
    assert (read(house, newest=5).checked, read(house, newest=5).fault) == (5, told)
    assert read(house).fault == told


def test_an_edited_end_is_told_though_the_event_that_tells_it_was_sealed_away(house: House) -> None:
    fill(house, 4)
    tamper(house, "UPDATE trail_head SET seq = 2")
    fill(house, 8)
    projected(house)
    house.ledger.close()
    tamper(house, "DELETE FROM event_index WHERE seq < 6")
    day = datetime.now(UTC).date().isoformat()
    told = f"an event of {day}, which was sealed away, tells that the trail's end was edited before it"
    assert read(house, newest=5).fault == told
