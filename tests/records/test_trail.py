"""The trail: found by every field, never behind, and no edit, deletion, insertion or reordering goes unseen."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import DBAPIError

from gateway.audit.chain import Head, seal
from gateway.audit.event import Event, Kind, Outcome
from gateway.audit.trail import Search
from gateway.gate import Act
from gateway.records import walking
from gateway.records.matching import index_conditions
from gateway.records.migration import migrate
from gateway.records.schema import event_index, events
from gateway.records.trail import project_tail
from tests.house import GATEWAY, House, opened

BEGUN = datetime(2026, 11, 24, 12, tzinfo=UTC)


def an_event(number: int) -> Event:
    return Event(
        Kind.MANIFEST_PUSH if number % 2 else Kind.BLOB_PULL,
        GATEWAY,
        Outcome.DENIED if number % 5 == 0 else Outcome.ALLOWED,
        BEGUN + timedelta(seconds=number),
        project=f"project{number % 3}",
        repository=f"project{number % 3}/ui",
        digest=f"sha256:{number % 7:064x}",
    )


def fill(house: House, count: int) -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*(house.ledger.commit(Act(an_event(number))) for number in range(1, count + 1)))

    house.run(all_of_them())


def project(house: House, most: int = 10**6) -> None:
    """Lets the projection follow, so far."""
    done = 0
    with house.database.lock(), house.database.engine.connect() as connection:
        while done < most and (step := project_tail(house.database, connection)):
            done += step


def tamper(house: House, *statements: str) -> None:
    """Changes the chain as somebody would who owns the database and has removed what protects it."""
    with house.database.engine.connect() as connection:
        if house.database.sqlite:
            connection.exec_driver_sql("DROP TRIGGER IF EXISTS events_keep_update")
            connection.exec_driver_sql("DROP TRIGGER IF EXISTS events_keep_delete")
        else:
            connection.exec_driver_sql("ALTER TABLE events DISABLE TRIGGER ALL")
        for statement in statements:
            connection.exec_driver_sql(statement)


SEARCHES: list[dict[str, Any]] = [
    {},
    {"project": "project1"},
    {"repository": "project2/ui"},
    {"principal": "gateway"},
    {"principal": "nobody"},
    {"kind": "blob.pull"},
    {"kind": "manifest.*"},
    {"outcome": "denied"},
    {"digest": f"sha256:{3:064x}"},
    {"address": "192.0.2.7"},
    {"since": BEGUN + timedelta(seconds=100)},
    {"until": BEGUN + timedelta(seconds=100)},
    {"since": BEGUN + timedelta(seconds=50), "until": BEGUN + timedelta(seconds=60), "outcome": "allowed"},
    {"project": "project1", "outcome": "denied", "kind": "manifest.push"},
]


def wanted(search: dict[str, Any], record: dict[str, Any]) -> bool:
    """The same question asked the slow and obvious way."""
    time = datetime.fromisoformat(record["time"])
    if time < search.get("since", time) or time >= search.get("until", time + timedelta(1)):
        return False
    fields = {name: value for name, value in search.items() if name not in {"since", "until"}}
    kind = fields.pop("kind", record["kind"])
    if kind.endswith(".*"):
        kind = record["kind"] if record["kind"].startswith(kind[:-1]) else None
    return kind == record["kind"] and all(record.get(name) == value for name, value in fields.items())


@pytest.mark.parametrize("projected", ["nothing", "half", "everything"])
def test_a_search_finds_exactly_what_matches_however_far_the_projection_is(house: House, projected: str) -> None:
    fill(house, 600)
    if projected != "nothing":
        project(house, 256 if projected == "half" else 10**6)
    every = [event.record() for event in house.trail.export(Search())]
    assert len(every) == 600

    for search in SEARCHES:
        expected = [record["id"] for record in every if wanted(search, record)]
        assert [event.seq for event in house.trail.export(Search(**search))] == expected
        paged: list[int] = []
        while page := house.trail.page(Search(**search), before=paged[-1] if paged else None, limit=97):
            paged += [event.seq for event in page]
        assert paged == expected[::-1]


@pytest.mark.parametrize(("window", "rare", "frequent"), [(4, 1, (5, 40)), (1, 3, (9,)), (1000, 1, (2,)), (6, 1, ())])
def test_filters_that_meet_find_the_same_whichever_of_them_leads(
    house: House, monkeypatch: pytest.MonkeyPatch, window: int, rare: int, frequent: tuple[int, ...]
) -> None:
    monkeypatch.setattr("gateway.records.trail._WINDOW", window)
    monkeypatch.setattr("gateway.records.trail._RARE", rare)
    monkeypatch.setattr("gateway.records.trail._FREQUENT", frequent)
    monkeypatch.setattr("gateway.records.trail._LED", window)
    fill(house, 60)
    project(house)
    kept = [event.record() for event in house.trail.export(Search())]
    for search in (
        {"project": "project1", "outcome": "denied"},
        {"project": "project1", "outcome": "failed"},
        {"project": "project2", "repository": "project1/ui"},
        {"project": "project0", "repository": "project0/ui", "digest": f"sha256:{3:064x}"},
        {"kind": "blob.pull", "outcome": "allowed", "principal": "gateway", "since": BEGUN + timedelta(seconds=9)},
        {"kind": "manifest.*", "outcome": "denied", "project": "project2", "until": BEGUN + timedelta(seconds=50)},
    ):
        expected = [record["id"] for record in reversed(kept) if wanted(search, record)]
        for limit in (1, 3, 100):
            assert [event.seq for event in house.trail.page(Search(**search), limit=limit)] == expected[:limit]
        below = [seq for seq in expected if seq < 31]
        assert [event.seq for event in house.trail.page(Search(**search), before=31)] == below


def test_an_event_is_found_at_once(house: House) -> None:
    fill(house, 5)
    project(house)
    house.run(house.ledger.commit(Act(Event(Kind.TAG_DELETE, GATEWAY, repository="gallery/ui"))))

    assert house.trail.page(Search(repository="gallery/ui"))[0].record()["kind"] == "tag.delete"


def test_a_value_that_looks_like_another_field_is_not_taken_for_it(house: House) -> None:
    event = Event(Kind.BLOB_PULL, GATEWAY, reference='","repository":"gallery/ui', detail={"repository": "gallery/ui"})
    house.run(house.ledger.commit(Act(event)))

    assert house.trail.page(Search(repository="gallery/ui")) == []


def test_an_untouched_trail_verifies(house: House) -> None:
    fill(house, 300)
    project(house, 256)

    verification = house.trail.verify()

    assert (verification.count, verification.fault) == (300, "")


def test_an_empty_trail_verifies(house: House) -> None:
    assert house.trail.verify().fault == ""


@pytest.mark.parametrize(
    ("statements", "first_bad"),
    [
        (["UPDATE events SET body = replace(body, 'allowed', 'denied') WHERE seq = 7"], 7),
        (["UPDATE events SET body = replace(body, '192.0.2.7', '192.0.2.8') WHERE seq = 20"], 20),
        (["DELETE FROM events WHERE seq = 7"], 8),
        (["DELETE FROM events WHERE seq > 15"], 16),
        (["DELETE FROM events"], 1),
        (["UPDATE events SET seq = 1000 WHERE seq = 7", "UPDATE events SET seq = 7 WHERE seq = 8",
          "UPDATE events SET seq = 8 WHERE seq = 1000"], 7),
        (["UPDATE trail_head SET seq = 15"], 20),
        (["DELETE FROM trail_head"], 20),
        (["DELETE FROM event_index WHERE seq = 7"], 7),
        (["UPDATE event_index SET principal = 'somebody' WHERE seq = 9"], 9),
    ],
)  # fmt: skip
def test_tampering_is_named_by_its_first_bad_event(house: House, statements: list[str], first_bad: int) -> None:
    fill(house, 20)
    project(house)

    tamper(house, *statements)

    verification = house.trail.verify()
    assert verification.fault
    assert verification.seq == first_bad


def test_an_inserted_event_is_found_even_if_it_is_well_formed(house: House) -> None:
    fill(house, 20)
    row = house.database.read_now(lambda connection: connection.execute(select(events).where(events.c.seq == 20)).one())
    forged = seal(Head(row.seq, bytes(row.hash)), an_event(21).record())
    with house.database.engine.connect() as connection:
        connection.execute(events.insert().values(seq=forged.seq, body=forged.body, hash=forged.hash))

    verification = house.trail.verify()

    assert (verification.seq, "added" in verification.fault) == (21, True)


@pytest.mark.parametrize("text", ['a"b', "a\\b", '","', '\\","', "a\nb\x1f", "ä\u2028", ""])
def test_what_searches_find_is_compared_whatever_is_in_it(house: House, text: str) -> None:
    house.run(house.ledger.commit(Act(an_event(1).but(project=text, repository="x"))))
    house.run(house.ledger.commit(Act(an_event(2).but(project="x", repository=text))))
    project(house)
    assert house.trail.verify().fault == ""

    shifted = "project = project || '\",\"' || repository, repository = ''"
    for changed in ("project = repository, repository = project", "project = project || 'x'", shifted):
        with house.database.engine.connect() as connection:
            before = connection.execute(select(event_index).where(event_index.c.seq == 2)).one()
            connection.exec_driver_sql(f"UPDATE event_index SET {changed} WHERE seq = 2")
        found = house.trail.verify()
        assert (found.seq, "search entry" in found.fault) == (2, True)
        with house.database.engine.connect() as connection:
            connection.execute(update(event_index).where(event_index.c.seq == 2).values(**before._mapping))


@pytest.mark.parametrize("value", ["CAST(principal AS BLOB)", "CAST(x'61ff62' AS TEXT)", "NULLIF(5, principal)"])
def test_a_search_entry_that_is_no_text_is_named_and_no_other(tmp_path: Path, value: str) -> None:
    url = f"sqlite:///{tmp_path / 'gateway.db'}"
    migrate(url, tmp_path)
    with opened(url, tmp_path) as house:
        fill(house, 5)
        project(house)
        tamper(house, f"UPDATE event_index SET principal = {value} WHERE seq = 3")
        found = house.trail.verify()
    assert (found.seq, "search entry" in found.fault) == (3, True)


def test_what_was_refused_in_a_project_is_found_by_an_index_of_its_own(house: House) -> None:
    fill(house, 60)
    project(house)
    conditions = index_conditions(Search(project="project1", outcome="denied"))
    query = select(event_index.c.seq).where(event_index.c.seq <= 50, *conditions).order_by(event_index.c.seq.desc())
    text = str(query.limit(5).compile(house.database.engine, compile_kwargs={"literal_binds": True}))
    with house.database.engine.connect() as connection:
        explain = "EXPLAIN QUERY PLAN " if house.database.sqlite else "EXPLAIN "
        if not house.database.sqlite:
            connection.exec_driver_sql("SET enable_seqscan = off")
        plan = "\n".join(str(row) for row in connection.exec_driver_sql(explain + text))
    assert "ix_event_index_project_outcome_seq" in plan


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # SQLite looks each entry up
def test_a_page_of_the_chain_reads_no_more_of_the_entries_than_it_has(house: House) -> None:
    fill(house, 300)
    project(house)
    with house.database.engine.connect() as connection:
        asked = {**walking._READ["postgresql"], "after": 280, "until": 290, "limit": 10}
        connection.exec_driver_sql("ANALYZE")
        connection.exec_driver_sql("SET enable_nestloop = off")
        connection.exec_driver_sql("SET enable_hashjoin = off")
        explained = connection.exec_driver_sql("EXPLAIN ANALYZE " + walking._ROWS.format(**asked).replace("%", "%%"))
        plan = [str(row[0]) for row in explained]
    of_entries = [line for line in plan if "event_index" in line]
    assert of_entries
    assert all("rows=10 loops=1" in line or "rows=11 loops=1" in line for line in of_entries), plan


def test_a_search_entry_for_no_event_is_found(house: House) -> None:
    fill(house, 3)
    project(house)
    tamper(house, "UPDATE event_index SET seq = 99 WHERE seq = 3")

    assert house.trail.verify().fault


def test_the_database_itself_refuses_to_change_an_event(house: House) -> None:
    fill(house, 3)

    for statement in ("UPDATE events SET body = '{}'", "DELETE FROM events"):
        with house.database.engine.connect() as connection, pytest.raises(DBAPIError, match="only ever appended"):
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize("limit", [1, 7, 50])
def test_the_kinds_of_a_noun_are_found_one_among_the_other(house: House, limit: int) -> None:
    for kind in (Kind.MANIFEST_DELETE, Kind.MANIFEST_SHOW, Kind.MANIFEST_DELETE):
        fill(house, 20)
        house.run(house.ledger.commit(Act(Event(kind, GATEWAY, repository="gallery/ui"))))
    project(house)
    every = [event.seq for event in house.trail.page(Search(), limit=1000) if '"kind":"manifest.' in event.body]
    assert len({event.record()["kind"] for event in house.trail.page(Search(kind="manifest.*"))}) == 3
    found, before = [], None
    while page := house.trail.page(Search(kind="manifest.*"), before=before, limit=limit):
        found += [event.seq for event in page]
        before = page[-1].seq
    assert found == every
