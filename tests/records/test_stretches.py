"""A trail that is read in stretches, by several runners, is judged as one that is walked from end to end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import delete, insert, select

from gateway.audit.chain import Head, Sealed, seal
from gateway.audit.event import Event, Kind
from gateway.audit.trail import Search, Verification
from gateway.gate import Act
from gateway.records import runners, sealing, segments
from gateway.records.runners import Answer, Statements, Stretch
from gateway.records.schema import event_index, events
from gateway.records.trail import project_tail
from gateway.records.verifying import Verifier
from tests.house import GATEWAY, TRAIL_KEY, House

STRETCH = 5
COUNT = 23
NAMED = (1, 5, 6, 10, 22)


class RunnerHere:
    """A runner that needs no process; those of *failing* stretches answer nothing."""

    failing: frozenset[int] = frozenset()

    def __init__(self, greeting: Mapping[str, Any], house: House) -> None:
        self._house = house
        self._keys = {kid: bytes.fromhex(key) for kid, key in greeting["keys"].items()}
        self._asked: list[tuple[Stretch, Statements]] = []

    def ask(self, stretch: Stretch, against: Statements) -> None:
        self._asked.append((stretch, against))

    def answer(self) -> Answer | None:
        stretch, against = self._asked.pop(0)
        if stretch.until in self.failing:
            return None
        return runners.walked(self._house.database, self._keys, stretch, against)

    def close(self) -> None:
        pass


@pytest.fixture
def filled(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """A trail of some stretches and a rest, its triggers gone, each stretch walked by a runner of this process."""
    monkeypatch.setattr(runners, "STRETCH", STRETCH)
    monkeypatch.setattr(runners, "WORTH", COUNT)
    monkeypatch.setattr(runners, "start", lambda greeting: RunnerHere(greeting, house))
    monkeypatch.setattr(runners, "cores", lambda: 3)
    fill(house)
    return house


def fill(house: House) -> None:
    async def all_of_them() -> None:
        for number in range(1, COUNT + 1):
            await house.ledger.commit(Act(Event(Kind.BLOB_PULL, GATEWAY, project=f"project{number}")))

    house.run(all_of_them())
    with house.database.lock(), house.database.engine.connect() as connection:
        while project_tail(house.database, connection):
            pass
        if house.database.sqlite:
            connection.exec_driver_sql("DROP TRIGGER IF EXISTS events_keep_update")
            connection.exec_driver_sql("DROP TRIGGER IF EXISTS events_keep_delete")
        else:
            connection.exec_driver_sql("ALTER TABLE events DISABLE TRIGGER ALL")


def run(house: House, *statements: str) -> None:
    with house.database.lock(), house.database.engine.connect() as connection:
        for statement in ("BEGIN", *statements, "COMMIT"):
            connection.exec_driver_sql(statement)


def restore(house: House, rows: Mapping[Any, Any]) -> None:
    with house.database.lock(), house.database.engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        for table, kept in rows.items():
            connection.execute(delete(table))
            connection.execute(insert(table), kept)
        connection.exec_driver_sql("COMMIT")


def in_one_walk(house: House, against: tuple[Mapping[str, Any], ...] = ()) -> Verification:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runners, "WORTH", 10**9)
        return Verifier(house.database, TRAIL_KEY, against).verify()


def tamperings(seq: int) -> dict[str, tuple[str, ...]]:
    return {
        "edited": (f"UPDATE events SET body = replace(body, 'blob', 'blub') WHERE seq = {seq}",),
        "its hash edited": (f"UPDATE events SET hash = (SELECT hash FROM events WHERE seq = 3) WHERE seq = {seq}",),
        "removed": (f"DELETE FROM events WHERE seq = {seq}",),
        "removed with the next": (f"DELETE FROM events WHERE seq IN ({seq}, {seq + 1})",),
        "all from it on removed": (f"DELETE FROM events WHERE seq >= {seq}",),
        "moved": (
            f"UPDATE events SET seq = 1000 WHERE seq = {seq}",
            f"UPDATE events SET seq = {seq} WHERE seq = {seq + 1}",
            f"UPDATE events SET seq = {seq + 1} WHERE seq = 1000",
        ),
        "put in": (
            *(f"UPDATE events SET seq = {each + 1} WHERE seq = {each}" for each in range(COUNT, seq - 1, -1)),
            f"INSERT INTO events SELECT {seq}, body, hash FROM events WHERE seq = {COUNT + 1}",
        ),
        "found by what it is not": (f"UPDATE event_index SET project = 'p' WHERE seq = {seq}",),
        "found no more": (f"DELETE FROM event_index WHERE seq = {seq}",),
    }


@pytest.mark.parametrize("ends", [(5,), pytest.param((1, 4, 6, 10, 11, 15, 19, 20, 21), marks=pytest.mark.long)])
def test_whatever_is_done_to_a_trail_at_the_ends_of_stretches_is_named_as_by_one_walk(
    filled: House, ends: tuple[int, ...]
) -> None:
    with filled.database.engine.connect() as connection:
        rows = {
            table: [dict(row._mapping) for row in connection.execute(select(table))] for table in (events, event_index)
        }
    assert filled.trail.verify() == in_one_walk(filled)
    assert filled.trail.verify().fault == ""
    for seq in ends:
        for what, statements in tamperings(seq).items():
            run(filled, *statements)
            found = filled.trail.verify()
            assert found == in_one_walk(filled), (what, seq)
            first_bad = seq + (1 if what == "removed" else 2 if what == "removed with the next" else 0)
            assert found.fault, (what, seq)
            if first_bad <= COUNT:
                assert found.seq == first_bad, (what, seq)
            restore(filled, rows)


def test_an_event_that_is_sealed_anew_is_found_by_the_stretch_after_it(filled: House) -> None:
    kept = {row["id"]: row for row in filled.records()}
    for seq in (STRETCH, 2 * STRETCH):
        forged = seal(Head(seq - 1, bytes.fromhex(kept[seq - 1]["hash"])), {**kept[seq], "project": "another"})
        with filled.database.engine.connect() as connection:
            mine = events.c.seq == seq
            (was,) = connection.execute(select(events).where(mine)).all()
            connection.execute(events.update().where(mine).values(body=forged.body, hash=forged.hash))
        found = filled.trail.verify()
        assert (found, found.seq) == (in_one_walk(filled), seq + 1)
        with filled.database.engine.connect() as connection:
            connection.execute(events.update().where(mine).values(body=was.body, hash=was.hash))


def test_stretches_whose_runners_fail_are_walked_here(filled: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunnerHere, "failing", frozenset({5, 15, 20}))

    assert filled.trail.verify() == in_one_walk(filled)

    run(filled, "UPDATE events SET body = replace(body, 'blob', 'blub') WHERE seq = 14")
    assert filled.trail.verify().seq == 14


def test_a_stretch_that_begins_elsewhere_than_the_last_one_ended_is_no_proof(
    filled: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies before a border was written anew after the trail was cut, and the rest follows what was there."""

    class Sure(RunnerHere):
        def answer(self) -> Answer | None:
            stretch, _ = self._asked.pop(0)
            head = Head(stretch.until, _hash(filled, stretch.until))
            return Answer(head, wrong=False, sealed=0, purged=0, compared=0, unlike=None)

    cut = [Stretch(Head(), 5), Stretch(Head(5, b"x" * 32), 10), Stretch(Head(10, _hash(filled, 10)), 20)]
    monkeypatch.setattr(runners, "cut", lambda _: cut)
    monkeypatch.setattr(runners, "start", lambda greeting: Sure(greeting, filled))
    assert filled.trail.verify().fault == ""
    run(filled, "UPDATE events SET body = replace(body, 'blob', 'blub') WHERE seq = 7")
    assert filled.trail.verify().seq == 7


def _hash(house: House, seq: int) -> bytes:
    found = house.trail.event(seq)
    assert found is not None
    return found.hash


def test_statements_from_elsewhere_are_met_in_every_stretch(filled: House) -> None:
    named = tuple(
        {"seq": seq, "hash": _hash(filled, seq).hex(), "type": "checkpoint", "time": "then"}
        for seq in (1, 5, 6, 10, 22)
    )
    found = Verifier(filled.database, TRAIL_KEY, named).verify()
    assert (found.fault, found.compared) == ("", len(named))
    for place, seq in enumerate(NAMED):
        wrong = (*named[:place], {**named[place], "hash": "0" * 64}, *named[place + 1 :])
        found = Verifier(filled.database, TRAIL_KEY, wrong).verify()
        assert (found, found.seq) == (in_one_walk(filled, wrong), seq)


def test_segments_are_stretches_of_their_own(filled: House) -> None:
    kept: list[Sealed] = list(filled.trail.export(Search()))
    before = Head()
    for first in (0, 6):
        found = kept[first : first + 6]
        segment = sealing.write(filled.data, found, before, '{"type":"segment"}')
        change = sealing.record(filled.data, segment)
        filled.run(filled.ledger.commit(Act(Event(Kind.AUDIT_RETAIN, GATEWAY), change)))
        before = segment.head
    hashes = {0: Head().hash, **{event.seq: event.hash for event in kept}}
    filled.run(filled.ledger.commit(Act(Event(Kind.AUDIT_RETAIN, GATEWAY), sealing.leave(12, hashes))))
    lines = list(filled.trail.lines(Search()))

    found_whole = filled.trail.verify()
    assert (found_whole, found_whole.fault, found_whole.sealed) == (in_one_walk(filled), "", 12)
    assert lines[: len(kept)] == [event.line() for event in kept]

    file = filled.data / segments.FOLDER / segment.file
    packed = file.read_bytes()
    file.unlink()
    damaged = filled.trail.verify()
    assert (damaged, damaged.seq) == (in_one_walk(filled), 7)
    file.write_bytes(packed)
    for seq in (14, 13):
        run(filled, f"UPDATE events SET body = replace(body, 'blob', 'blub') WHERE seq = {seq}")
        assert filled.trail.verify().seq == seq


def test_runners_are_processes_of_their_own(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "STRETCH", 10)
    monkeypatch.setattr(runners, "WORTH", COUNT)
    monkeypatch.setattr(runners, "cores", lambda: 2)
    fill(house)
    run(house, "UPDATE events SET body = replace(body, 'blob', 'blub') WHERE seq = 13")
    with runners.running(house.database, {}, {}) as answers:
        found = [(stretch.head.seq, answer.head if answer else None) for stretch, answer in answers]
    assert found == [(0, Head(10, _hash(house, 10))), (10, Head(12, _hash(house, 12)))]
