"""Of those that seal at the same moment one does, and the file of every row is the one that the row describes."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from gateway import witnessing
from gateway.access.principals import Caller
from gateway.administration.evidence import Receipt
from gateway.audit.chain import Head
from gateway.audit.event import Event, Kind
from gateway.audit.trail import Search
from gateway.errors import Conflict, Occupied, Unavailable
from gateway.gate import Act
from gateway.records import sealing, segments
from gateway.records.database import Database
from tests.administration.rooms import Rooms
from tests.administration.test_evidence_acts import APRIL, JUNE, MARCH, fill
from tests.house import GATEWAY, OPERATOR

#: What asks nothing of a database that the others do not.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def old(rooms: Rooms) -> Rooms:
    """A trail with two old months and something new."""
    fill(rooms.house, 30, MARCH)
    fill(rooms.house, 20, APRIL)
    fill(rooms.house, 10)
    return rooms


def both_at_once(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What two have that seal at once, of whom the later one writes when the other has ended."""
    real, calls = sealing.write, list[int]()

    def write(*given: Any) -> Any:
        calls.append(1)
        time.sleep(0.2 if len(calls) == 1 else 0.8)
        return real(*given)

    async def both() -> list[Any]:
        acts = (rooms.acts.evidence.retain(OPERATOR, APRIL) for _ in range(2))
        return await asyncio.gather(*acts, return_exceptions=True)

    with monkeypatch.context() as patched:
        patched.setattr(sealing, "write", write)
        return rooms.run(both())


def is_whole(rooms: Rooms) -> None:
    assert rooms.house.trail.verify().fault == ""
    assert [event.seq for event in rooms.house.trail.export(Search())][:60] == list(range(1, 61))
    assert rooms.run(rooms.acts.evidence.retain(OPERATOR, JUNE)).events == 20
    assert rooms.house.trail.verify().fault == ""
    there = {file.name for file in (rooms.house.data / segments.FOLDER).iterdir()}
    assert there == {each.file for each in rooms.house.database.read_now(segments.every)}


def test_of_two_that_seal_at_once_one_is_told_so_and_the_trail_stays_whole(
    old: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, refused = sorted(both_at_once(old, monkeypatch), key=lambda each: isinstance(each, Exception))

    assert isinstance(done, Receipt)
    assert done.events == 30
    assert isinstance(refused, Occupied)
    is_whole(old)


def test_a_file_that_a_row_names_is_not_replaced_by_who_seals_at_once_without_the_lock(
    old: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sealing, "alone", lambda _: ExitStack())
        found = both_at_once(old, monkeypatch)

    assert sorted(type(each).__name__ for each in found) == ["Conflict", "Receipt"]
    is_whole(old)


def test_nobody_else_seals_on_the_same_data_or_database_until_who_does_has_ended(
    old: Rooms, database_url: str, tmp_path: Path
) -> None:
    house = old.house
    data = house.data
    if not house.database.sqlite:
        data = tmp_path / "another-host"
        data.mkdir()
    others = Database.open(database_url, data)
    try:
        with sealing.alone(others):
            with pytest.raises(Occupied, match="Others are sealing"):
                old.run(old.acts.evidence.retain(OPERATOR, JUNE))
            told = old.last("audit.retain")
            assert told["outcome"] == "failed"
        assert old.run(old.acts.evidence.retain(OPERATOR, JUNE)).events == 50
        with sealing.alone(others):
            pass
    finally:
        others.close()


@ON_SQLITE
def test_what_was_written_and_never_recorded_is_cleared_away(old: Rooms) -> None:
    house = old.house
    found = house.database.read_now(lambda connection: segments.next_events(connection, APRIL))
    sealing.write(house.data, found, Head(), "{}")
    assert list((house.data / segments.FOLDER).iterdir())

    old.run(old.acts.evidence.retain(OPERATOR, APRIL))
    is_whole(old)


@ON_SQLITE
def test_nothing_is_recorded_whose_draft_is_gone(old: Rooms) -> None:
    house = old.house
    found = house.database.read_now(lambda connection: segments.next_events(connection, APRIL))
    segment = sealing.write(house.data, found, Head(), "{}")
    sealing.draft_of(house.data, segment).unlink()

    with pytest.raises(Unavailable, match="Nothing was sealed"):
        house.run(house.ledger.commit(Act(Event(Kind.AUDIT_RETAIN, GATEWAY), sealing.record(house.data, segment))))
    assert house.database.read_now(segments.every) == []


@ON_SQLITE
def test_a_draft_that_lacks_its_last_event_is_not_recorded(old: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = sealing._pack

    def short(file: IO[bytes], lines: Iterable[bytes]) -> None:
        *before, _, statement = lines
        pack(file, [*before, statement])

    with monkeypatch.context() as patched:
        patched.setattr(sealing, "_pack", short)
        with pytest.raises(Unavailable, match="was not written as it should be"):
            old.run(old.acts.evidence.retain(OPERATOR, APRIL))
    assert old.house.database.read_now(segments.every) == []
    old.run(old.acts.evidence.retain(OPERATOR, APRIL))
    is_whole(old)


@ON_SQLITE
def test_a_segment_is_durable_with_its_name_before_events_leave(old: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """From then on it is the only copy."""
    house = old.house
    folder = house.data / segments.FOLDER
    steps: list[tuple[str, Path]] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        steps.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def renamed(source: str | Path, target: str | Path) -> None:
        steps.append(("name", Path(target)))
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", synced)
        patched.setattr("os.replace", renamed)
        found = house.database.read_now(lambda connection: segments.next_events(connection, APRIL))
        segment = sealing.write(house.data, found, Head(), "{}")
        house.run(house.ledger.commit(Act(Event(Kind.AUDIT_RETAIN, GATEWAY), sealing.record(house.data, segment))))

    seen = [(what, path) for what, path in steps if path.is_relative_to(folder)]
    first, draft = seen[0]
    assert (first, draft.parent) == ("sync", folder)
    assert draft.name.startswith(".draft-")
    assert seen[-2:] == [("name", folder / segment.file), ("sync", folder)]


@ON_SQLITE
def test_a_purged_file_is_gone_from_the_disk_when_that_is_told(old: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    house = old.house
    old.run(old.acts.evidence.retain(OPERATOR, APRIL))
    [segment] = house.database.read_now(segments.every)
    file = house.data / segments.FOLDER / segment.file
    synced: list[tuple[str, bool]] = []
    fsync = os.fsync

    def told(descriptor: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), file.exists()))
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", told)
    sealing.remove_file(house.data, segment)

    assert synced == [(str(file.parent), False)]


@ON_SQLITE
def test_the_hourly_look_passes_over_a_sealing_under_way(
    old: Rooms, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(witnessing, "_RETAIN_SECONDS", 0.0)
    calls = list[int]()

    async def retain(caller: Caller, cut: datetime, purge: datetime | None) -> None:
        calls.append(1)
        raise Occupied("others") if len(calls) == 1 else asyncio.CancelledError

    settings = SimpleNamespace(audit=SimpleNamespace(retain_months=13, purge_months=0))
    acts = SimpleNamespace(newest_time=old.acts.evidence.newest_time, retain=retain)
    rooms: Any = SimpleNamespace(settings=settings, administration=SimpleNamespace(evidence=acts))
    with caplog.at_level(logging.INFO), pytest.raises(asyncio.CancelledError):
        old.run(witnessing._retain(rooms, lambda: OPERATOR))

    assert [record.levelname for record in caplog.records if "others are sealing" in record.message] == ["INFO"]
    assert issubclass(Occupied, Conflict)
