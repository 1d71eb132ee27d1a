"""The searchable projection under the hands of who owns the database: whatever is put in, it goes on, and acts do."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gateway.audit.chain import UNTIMED
from gateway.audit.trail import Search
from gateway.records import trail as rooms_trail
from gateway.records.ledger import SqlLedger
from gateway.records.matching import projected_until
from gateway.records.review_tables import event_counts, origins
from gateway.records.schema import event_index
from gateway.records.sealed_end import sealed_end
from gateway.records.trail import project_anew, project_tail
from gateway.records.verifying import Verifier
from tests.house import TRAIL_KEY, House, opened
from tests.records.test_condition import fill, tamper

TIME = "2026-11-30T10:00:00.000000Z"
PULL = {"id": 9, "time": TIME, "kind": "blob.pull", "outcome": "allowed", "principal": "ann"}
#: More than an index of PostgreSQL takes, however well it is packed.
LONG = "".join(chr(0x4E00 + number * 37 % 20_000) for number in range(5000))
BODIES: dict[str, dict[str, Any] | str] = {
    "no_date": {**PULL, "time": "gestern"},
    "empty_time": {**PULL, "time": ""},
    "number_for_time": {**PULL, "time": 5},
    "year_0": {**PULL, "time": "0000-01-01T00:00:00.000000Z"},
    "no_time_zone": {**PULL, "time": "2026-11-30T10:00:00.0000000"},
    "long_time": {**PULL, "time": TIME + "Z"},
    "long_kind": {**PULL, "kind": "k" * 60},
    "long_outcome": {**PULL, "outcome": "allowed and more"},
    "long_digest": {**PULL, "digest": "d" * 400},
    "long_principal": {**PULL, "principal": LONG},
    "long_repository": {**PULL, "repository": LONG},
    "nul": {**PULL, "principal": "a\0b", "address": "\0"},
    "list_for_kind": {**PULL, "kind": ["x"], "principal": [1]},
    "deep": f'{{"id":9,"time":"{TIME}","kind":"blob.pull","outcome":"allowed","detail":{"[" * 50_000}',
    "deep_kind": f'{{"id":9,"kind":{"[" * 150}{"]" * 150}}}',
    "surrogate": f'{{"id":9,"time":"{TIME}","kind":"blob.pull","outcome":"allowed","repository":"\\ud800"}}',
}


def put_in(house: House, body: dict[str, Any] | str) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    tamper(house, f"INSERT INTO events (seq, body, hash) SELECT 9, '{text}', hash FROM events WHERE seq = 8")


def project(house: House) -> None:
    with house.database.lock(), house.database.engine.connect() as connection:
        while project_tail(house.database, connection):
            pass


def reached(house: House) -> int:
    return house.database.read_now(projected_until)


def counted(house: House) -> list[tuple[int, str]]:
    """The beginnings of what is counted, and the networks that are known."""
    begins = select(event_counts.c.begins).order_by(event_counts.c.begins)
    networks = select(origins.c.network)
    read = house.database.read_now
    first = read(lambda connection: connection.execute(begins).scalars().first())
    return [(first or 0, network) for network in read(lambda connection: connection.execute(networks).scalars().all())]


@pytest.mark.parametrize("name", BODIES)
def test_whatever_is_put_in_after_the_last_event_the_projection_goes_on(house: House, name: str) -> None:
    fill(house, 8)
    put_in(house, BODIES[name])
    fill(house, 3)
    project(house)
    assert reached(house) == 13  # the break is the tenth
    assert not house.ledger.broken
    assert len(house.trail.page(Search(), limit=50)) == 13
    assert Verifier(house.database, TRAIL_KEY).verify().fault.startswith("event 9 ")
    with house.database.lock(), house.database.engine.connect() as connection:
        project_anew(house.database, connection, TRAIL_KEY)
    assert reached(house) == 13


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_projection_goes_on_after_what_is_no_text(house: House) -> None:
    fill(house, 8)
    for body in ("CAST(X'FF' AS TEXT)", "X'00FF'", "NULL || 12"):
        told = "12" if "NULL" in body else body
        tamper(
            house,
            "INSERT INTO events (seq, body, hash) "
            f"SELECT max(seq) + 1, {told}, (SELECT hash FROM events WHERE seq = 8) FROM events",
        )
        fill(house, 1)
    project(house)
    assert reached(house) == 8 + 3 * 3


@pytest.mark.parametrize("told", ["gestern", "0000-01-01T00:00:00.000000Z"])
def test_what_has_no_time_is_found_by_its_other_fields_and_counted_nowhere(house: House, told: str) -> None:
    fill(house, 8)
    project(house)
    before = counted(house)
    put_in(house, {**PULL, "time": told, "address": "203.0.113.9"})
    fill(house, 1)
    project(house)
    assert [event.seq for event in house.trail.page(Search(principal="ann"))] == [9]
    row = select(event_index.c.time).where(event_index.c.seq == 9)
    assert house.database.read_now(lambda connection: connection.execute(row).scalar()) == UNTIMED
    assert counted(house) == before


def test_a_projection_that_cannot_follow_stops_no_act_and_is_told_once(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    fill(house, 3)
    project(house)
    full = (
        "CREATE TRIGGER no_entry BEFORE INSERT ON event_index BEGIN SELECT RAISE(ABORT, 'no entry'); END"
        if house.database.sqlite
        else "ALTER TABLE event_index ADD CONSTRAINT no_entry CHECK (seq < 0) NOT VALID"
    )
    tamper(house, full)
    with caplog.at_level(logging.ERROR, "gateway.ledger"):
        fill(house, 2)
        time.sleep(1.7)  # it has been tried three times
        fill(house, 1)
    assert not house.ledger.broken
    assert [record.message for record in caplog.records] == [
        "the searchable projection of the trail did not follow; it is tried again"
    ]
    assert (reached(house), len(house.records())) == (3, 6)
    undone = "DROP TRIGGER no_entry" if house.database.sqlite else "ALTER TABLE event_index DROP CONSTRAINT no_entry"
    tamper(house, undone)
    project(house)
    assert reached(house) == 6


FAR_OFF = 1 << 62


@pytest.mark.parametrize("raised", [True, False])
def test_searches_go_on_though_a_row_far_off_is_named_by_the_record_of_the_head(house: House, raised: bool) -> None:
    fill(house, 8)
    head = "UPDATE trail_head SET seq = {seq}" if raised else "UPDATE events SET seq = {seq} WHERE seq = {seq}"
    copied = "INSERT INTO events (seq, body, hash) SELECT {seq}, body, hash FROM events WHERE seq = 8"
    tamper(house, copied.format(seq=FAR_OFF), head.format(seq=FAR_OFF))
    # Meanwhile the idle ledger projects what there is.
    time.sleep(1.5)
    assert reached(house) <= 8
    fill(house, 3)
    until(house, 12 if raised else 11)
    assert [event.seq for event in house.trail.page(Search(kind="audit.break"))] == ([9] if raised else [])
    later = range(12, 9, -1) if raised else range(11, 8, -1)
    assert pulls(house) == [FAR_OFF, *later, *range(8, 0, -1)]


def test_search_entries_beyond_the_end_are_removed_and_what_comes_is_found(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    fill(house, 8)
    until(house, 8)
    copied = "INSERT INTO events (seq, body, hash) SELECT {seq}, body, hash FROM events WHERE seq = 8"
    columns = "time, kind, outcome, principal, project, repository, digest, address"
    entry = f"INSERT INTO event_index (seq, {columns}) SELECT {{seq}}, {columns} FROM event_index WHERE seq = 8"
    with caplog.at_level(logging.ERROR, "gateway.ledger"):
        tamper(house, copied.format(seq=FAR_OFF), entry.format(seq=FAR_OFF))
        fill(house, 3)
        until(house, 11)
    assert "beyond the end" in caplog.text
    assert pulls(house) == [FAR_OFF, *range(11, 0, -1)]


def test_entries_beyond_an_end_that_is_not_the_last_one_stay(house: House) -> None:
    fill(house, 8)
    until(house, 8)
    columns = "time, kind, outcome, principal, project, repository, digest, address"
    tamper(house, f"INSERT INTO event_index (seq, {columns}) SELECT 20, {columns} FROM event_index WHERE seq = 8")
    tamper(house, "UPDATE trail_head SET seq = 6")
    with house.database.lock(), house.database.engine.connect() as connection:
        assert sealed_end(house.database, connection, TRAIL_KEY) == 0


def test_entries_are_made_anew_up_to_the_end_and_no_further(house: House) -> None:
    fill(house, 8)
    until(house, 8)
    house.ledger.close()
    copied = "INSERT INTO events (seq, body, hash) SELECT {seq}, body, hash FROM events WHERE seq = 8"
    columns = "time, kind, outcome, principal, project, repository, digest, address"
    entry = f"INSERT INTO event_index (seq, {columns}) SELECT {{seq}}, {columns} FROM event_index WHERE seq = 8"
    tamper(house, copied.format(seq=FAR_OFF), entry.format(seq=FAR_OFF))
    with house.database.lock(), house.database.engine.connect() as connection:
        project_anew(house.database, connection, TRAIL_KEY)
    assert reached(house) == 8


def pulls(house: House) -> list[int]:
    return [event.seq for event in house.trail.page(Search(kind="blob.pull"), limit=50)]


def until(house: House, seq: int) -> None:
    """Waits until searches have the event of this number, and none after it."""
    end = time.monotonic() + 20
    while reached(house) != seq:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_two_hosts_that_follow_at_once_make_each_entry_once(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "second"
    data.mkdir(mode=0o700)
    url = house.database.engine.url.render_as_string(hide_password=False)
    monkeypatch.setattr(SqlLedger, "_follow", lambda _: None)
    made = rooms_trail._projected
    with opened(url, data) as second:
        fill(house, 5)
        left = [second]

        def meanwhile(event: Any) -> Any:
            if left:
                project(left.pop())
            return made(event)

        monkeypatch.setattr(rooms_trail, "_projected", meanwhile)
        project(house)
    assert not left
    assert len(house.records(kind="blob.pull")) == 5
    assert house.trail.verify().fault == ""
