"""Rows that no walk of the chain meets by itself are met all the same: beside, below and beyond what was sealed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from gateway.administration import evidence
from gateway.administration.audit import EventPage
from gateway.audit.chain import GENESIS, digest
from gateway.audit.checkpoints import CheckpointKey
from gateway.audit.trail import Search
from gateway.errors import Conflict, Unavailable
from gateway.records import checkpoints, sealing, segments
from gateway.records.evidence_tables import checkpoints as stored
from gateway.records.evidence_tables import segments as rows
from gateway.records.schema import event_index, events
from tests.administration.rooms import Rooms
from tests.administration.test_evidence_acts import APRIL, JUNE, MARCH, Ahead, fill, statement
from tests.administration.test_forged_segments import failures, numbers, row
from tests.administration.test_looks import filled
from tests.house import OPERATOR, House
from tests.records.rows import written

#: What asks nothing of a database that the others do not.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
MAY, DAY = datetime(2025, 5, 1, tzinfo=UTC), timedelta(days=1)
#: Deeper than what reads it by recursion can follow.
DEEP = "[" * 5000
TIME = "2025-03-01T00:06:00.000000Z"


@pytest.fixture
def old(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> Rooms:
    """A trail with two old months and something new; what is sealed may be purged at once."""
    monkeypatch.setattr(evidence, "SETTLED", timedelta(0))
    fill(rooms.house, 30, MARCH)
    fill(rooms.house, 20, APRIL)
    fill(rooms.house, 10)
    return rooms


def forge(house: House, seq: int) -> None:
    """An event that never was, and its search entry, under the number *seq*."""
    body = f'{{"id":{seq},"kind":"account.remove","previous_hash":"{"0" * 64}","repository":"evil","time":"{TIME}"}}'
    values = {"seq": seq, "body": body, "hash": digest(GENESIS, body)}
    written(house, lambda each: each.execute(insert(events).values(values)))
    enter(house, seq)


def enter(house: House, seq: int) -> None:
    said = dict.fromkeys(("outcome", "principal", "project", "digest", "address"), "")
    entry = {"seq": seq, "time": TIME, "kind": "account.remove", "repository": "evil", **said}
    written(house, lambda each: each.execute(insert(event_index).values(entry)))


def seal(rooms: Rooms, purge: datetime | None = None) -> None:
    rooms.run(rooms.acts.evidence.retain(OPERATOR, JUNE, purge))


# events


def test_an_event_that_was_put_under_a_sealed_number_is_found_and_stays(old: Rooms) -> None:
    house, made = old.house, statement(old)
    seal(old)
    forge(house, 7)

    found = house.trail.verify()
    assert (found.whole, found.seq) == (False, 7)
    assert "event 7 in the database is not the one that was sealed away" in found.fault
    assert old.run(old.acts.evidence.verify_against(OPERATOR, [made])).seq == 7
    with pytest.raises(Conflict, match="event 7 in the database is not"):
        seal(old)
    assert 7 in numbers(old)
    assert failures(old)[0]["first"] == 1


def test_an_event_that_was_put_under_a_purged_number_is_found_and_stays(old: Rooms) -> None:
    seal(old)
    seal(old, APRIL)
    forge(old.house, 7)

    found = old.house.trail.verify()
    assert (found.seq, found.fault) == (7, "event 7 is in the database, though it was purged")
    with pytest.raises(Conflict, match="its events are there"):
        seal(old)
    assert 7 in numbers(old)


@pytest.mark.parametrize("number", [0, -3])
def test_an_event_with_a_number_below_the_first_is_found_and_stays(old: Rooms, number: int) -> None:
    forge(old.house, number)

    assert f"an event with the number {number}, before the first" in old.house.trail.verify().fault
    with pytest.raises(Conflict, match=f"event {number} in the database is not"):
        seal(old)
    assert number in numbers(old)


def test_an_event_that_was_edited_while_others_leave_is_found_and_stays(
    old: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = old.house
    monkeypatch.setattr(sealing, "SLICE", 7)
    left_half(old, monkeypatch)
    assert numbers(old)[0] == 15
    honest = house.trail.verify()
    assert (honest.fault, honest.sealed) == ("", 30)
    body = house.trail.event(20)
    assert body is not None
    mine = update(events).where(events.c.seq == 20)
    if house.database.sqlite:
        written(house, lambda each: each.exec_driver_sql("DROP TRIGGER events_keep_update"))
    else:
        written(house, lambda each: each.exec_driver_sql("ALTER TABLE events DISABLE TRIGGER ALL"))
    forged = body.body.replace("192.0.2.7", "192.0.2.8")
    written(house, lambda each: each.execute(mine.values(body=forged)))

    found = house.trail.verify()
    assert (found.seq, "is not the one that was sealed away" in found.fault) == (20, True)
    with pytest.raises(Conflict, match="event 20 in the database is not"):
        seal(old)
    assert 20 in numbers(old)


def left_half(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seals, and is killed when a part of the events has left."""
    real, calls = sealing.leave, iter(range(100))

    def dying(*given: Any) -> Any:
        if next(calls) == 3:
            raise RuntimeError("killed")
        return real(*given)

    with monkeypatch.context() as patched:
        patched.setattr(sealing, "leave", dying)
        with pytest.raises(RuntimeError, match="killed"):
            seal(rooms)


def test_a_search_entry_of_an_event_that_was_sealed_away_is_found(old: Rooms) -> None:
    seal(old)
    enter(old.house, 7)

    assert old.house.trail.verify().fault == "there is a search entry of event 7, which was sealed away"


def test_a_search_entry_that_was_edited_while_events_leave_is_found(
    old: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "SLICE", 7)
    left_half(old, monkeypatch)
    mine = update(event_index).where(event_index.c.seq == 20)
    written(old.house, lambda each: each.execute(mine.values(repository="evil")))

    assert old.house.trail.verify().fault == "the search entry of event 20 was edited or removed"


# segments


@pytest.mark.parametrize("values", [{"first_time": "2025-03-09T00:00:00.000000Z"}, {"last_time": TIME}])
def test_edited_times_of_a_sealed_month_are_found(old: Rooms, values: dict[str, str]) -> None:
    seal(old)
    written(old.house, lambda each: each.execute(update(rows).where(rows.c.last_seq == 30).values(values)))

    assert old.house.trail.verify().fault == "the times of the segment of event 30 were edited"


def test_edited_times_of_a_purged_month_hide_it_from_no_period_and_are_found(old: Rooms) -> None:
    house = old.house
    seal(old, APRIL)
    early = "2010-01-01T00:00:00.000000Z"
    values = {"first_time": early, "last_time": early}
    written(house, lambda each: each.execute(update(rows).where(rows.c.last_seq == 30).values(values)))

    within = Search(since=MARCH, until=APRIL)
    told = house.trail.sealed(within)
    assert told is not None
    assert told.purged == 30
    assert len(list(house.trail.lines(within))) == 1
    assert house.trail.sealed(Search(since=JUNE)) is None
    assert house.trail.verify().fault == "the stub of event 30 was edited"


def purge_without_times(old: Rooms, *numbers: int) -> None:
    """Puts stubs, as older gateways signed them, in the place of the segments that end with these *numbers*."""
    house, key = old.house, old.run(old.acts.evidence.signing_key(OPERATOR))
    for segment in house.database.read_now(segments.every):
        if segment.last_seq in numbers:
            ends = segment.first_seq, segment.previous, segment.head
            stub = key.purge(*ends, datetime.now(UTC), segment.file_sha256)
            mine = update(rows).where(rows.c.last_seq == segment.last_seq).values(stub=stub)
            written(house, lambda each, mine=mine: each.execute(mine))  # type: ignore[misc]


def purged(house: House, **period: datetime) -> int:
    told = house.trail.sealed(Search(**period))  # type: ignore[arg-type]
    stubs = [line for line in house.trail.lines(Search(**period)) if '"type":"purge"' in line]  # type: ignore[arg-type]
    assert bool(stubs) == bool(told is not None and told.purged)
    return told.purged if told is not None else 0


@pytest.fixture
def months(rooms: Rooms) -> Rooms:
    """Three sealed months, and what is newer in the database."""
    for count, time in ((30, MARCH), (20, APRIL), (10, MAY), (5, JUNE), (5, None)):
        fill(rooms.house, count, time)
    seal(rooms)
    return rooms


def test_a_stub_without_times_as_older_gateways_signed_it_is_of_the_time_between_its_neighbours(months: Rooms) -> None:
    house = months.house
    purge_without_times(months, 50)

    assert house.trail.verify().fault == ""
    assert purged(house, since=MARCH) == 20
    assert purged(house, until=MARCH - DAY) == 0
    assert purged(house, since=MARCH + DAY, until=MARCH + 2 * DAY) == 20
    assert purged(house, since=MAY + DAY) == 0


@pytest.mark.parametrize("numbers", [(30, 50), (30, 50, 60), (50, 60)])
def test_several_stubs_without_times_are_of_the_time_between_what_is_around_them(
    months: Rooms, numbers: tuple[int, ...]
) -> None:
    house = months.house
    purge_without_times(months, *numbers)
    begins = MARCH if 30 not in numbers else datetime(2001, 1, 1, tzinfo=UTC)
    ends = JUNE if 60 in numbers else MAY
    gone = {(30, 50): 50, (30, 50, 60): 60, (50, 60): 30}[numbers]

    assert house.trail.verify().fault == ""
    assert purged(house, since=begins + DAY, until=begins + 2 * DAY) == gone
    assert purged(house, since=ends - DAY) == gone
    assert purged(house, since=ends + DAY) == 0
    assert 30 in numbers or purged(house, until=MARCH - DAY) == 0


@ON_SQLITE
def test_who_asks_for_what_is_newer_than_an_old_purge_is_told_of_none(months: Rooms) -> None:
    purge_without_times(months, 30)
    reviews, audit = months.acts.reviews, months.acts.audit

    assert months.run(audit.find_events(OPERATOR, Search(since=MAY + DAY))).sealed is None
    begun = months.run(reviews.begin(OPERATOR, MAY + DAY, JUNE)).review
    assert [run.rule for run in begun.runs if not run.whole] == []


@ON_SQLITE
def test_a_search_of_which_all_was_purged_takes_no_place_among_the_looks(months: Rooms) -> None:
    purge_without_times(months, 30, 50, 60)

    async def asked() -> EventPage:
        with filled(months.acts.looks, 1, 1, 2, 2):
            await asyncio.sleep(0)
            return await months.acts.audit.find_events(OPERATOR, Search(since=MARCH))

    found = months.run(asked())
    assert found.sealed is not None
    assert (found.sealed.files, found.sealed.purged) == (0, 60)


def test_a_segment_beyond_the_last_event_is_found_and_holds_up_no_export(old: Rooms) -> None:
    far = 10**9
    row(old, 2, 3, first_seq=far, last_seq=far, file=f"2010-01-{far:012}-{far:012}.jsonl.gz")

    assert "does not follow event 0" in old.house.trail.verify().fault
    with pytest.raises(Unavailable, match="record of sealed months is damaged"):
        list(old.house.trail.export(Search()))


def test_a_segment_over_living_events_is_found(old: Rooms) -> None:
    row(old, 1, 7)

    found = old.house.trail.verify()
    assert (found.seq, "is missing" in found.fault) == (1, True)


@pytest.mark.parametrize(("first", "last"), [(5, 20), (31, 40), (25, 40), (60, 60)])
def test_a_segment_that_is_not_in_its_place_is_found(old: Rooms, first: int, last: int) -> None:
    seal(old)
    row(old, first, last)

    assert old.house.trail.verify().fault


def test_a_missing_row_of_a_segment_is_found(old: Rooms) -> None:
    seal(old)
    written(old.house, lambda each: each.execute(delete(rows).where(rows.c.last_seq == 30)))

    assert "does not follow event 0" in old.house.trail.verify().fault


# a purge while the trail is read


@pytest.mark.parametrize("checked", [False, True])
def test_a_purge_between_its_looks_is_no_damage_to_who_verifies(
    old: Rooms, monkeypatch: pytest.MonkeyPatch, checked: bool
) -> None:
    seal(old)
    real, purged = segments.lines_of, list[int]()

    def late(*given: Any, **more: Any) -> Any:
        if not purged and more.get("checked", True) is checked:
            purged.append(1)
            with monkeypatch.context() as patched:
                patched.setattr(segments, "lines_of", real)
                seal(old, APRIL)
        return real(*given, **more)

    monkeypatch.setattr(segments, "lines_of", late)
    found = old.house.trail.verify()

    assert (found.fault, found.purged, found.sealed) == ("", 30, 20)


def test_a_database_that_takes_over_without_a_purge_still_has_the_file(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = rooms.house
    fill(house, 30, MARCH)
    fill(house, 20, APRIL)
    fill(house, 10)
    seal(rooms)
    monkeypatch.setattr(evidence, "datetime", Ahead)
    receipt = rooms.run(rooms.acts.evidence.retain(OPERATOR, JUNE, APRIL))
    assert (receipt.purged, receipt.lingering) == (30, 1)
    assert house.trail.verify().purged == 30
    written(house, lambda each: each.execute(update(rows).where(rows.c.last_seq == 30).values(stub="")))

    assert house.trail.verify().fault == ""
    again = rooms.run(rooms.acts.evidence.retain(OPERATOR, JUNE, APRIL))
    assert (again.purged, again.lingering) == (30, 1)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=50)

    monkeypatch.setattr(evidence, "datetime", Later)
    assert rooms.run(rooms.acts.evidence.retain(OPERATOR, JUNE, APRIL)).lingering == 0
    assert len(list((house.data / segments.FOLDER).iterdir())) == 1
    assert house.trail.verify().purged == 30


# checkpoints


def checkpoint_row(house: House, number: int, seq: int, line: str = "{}") -> None:
    values = {"number": number, "seq": seq, "made_at": 1, "line": line}
    written(house, lambda each: each.execute(insert(stored).values(values)))


def test_a_checkpoint_of_no_event_is_found_and_stops_no_other(old: Rooms) -> None:
    checkpoint_row(old.house, 2**63 - 1, 0)

    assert "a checkpoint of an event with the number 0" in old.house.trail.verify().fault
    assert statement(old)["number"] == 1
    assert statement(old)["number"] == 2


@ON_SQLITE
def test_checkpoints_that_were_put_there_take_no_number_and_no_turn_of_the_gateways_own(old: Rooms) -> None:
    house = old.house
    first = statement(old)
    other = CheckpointKey.new()
    head = house.trail.event(5)
    assert head is not None
    checkpoint_row(house, 2, 10**12)
    checkpoint_row(house, 2**63 - 1, 10**12, other.checkpoint(3, segments.Head(5, head.hash), datetime.now(UTC)))

    assert (first["number"], statement(old)["number"]) == (1, 3)
    assert old.house.trail.verify().fault


def test_a_checkpoint_that_nests_deeply_is_found_and_stops_no_other(old: Rooms) -> None:
    statement(old)
    written(old.house, lambda each: each.execute(update(stored).values(line=DEEP)))
    assert "was edited: it cannot be read" in old.house.trail.verify().fault

    checkpoint_row(old.house, 2**40, 10**12, DEEP)
    assert [statement(old)["number"] for _ in range(2)] == [2, 3]


def test_a_stub_that_nests_deeply_is_found_and_nothing_leaves_on_its_word(old: Rooms) -> None:
    seal(old, APRIL)
    written(old.house, lambda each: each.execute(update(rows).where(rows.c.last_seq == 30).values(stub=DEEP)))

    assert old.house.trail.verify().fault == "the stub of event 30 is damaged"
    assert old.house.trail.sealed(Search(since=MARCH)) is not None
    with pytest.raises(Conflict, match="the stub of event 30 is damaged"):
        seal(old)


@ON_SQLITE
@pytest.mark.parametrize("forged", ["'abc'", "x'ff00'", "1.5"])
@pytest.mark.parametrize("column", ["first_seq", "file_bytes"])
def test_a_segment_with_a_number_that_is_none_is_found_and_nothing_leaves_on_its_word(
    old: Rooms, monkeypatch: pytest.MonkeyPatch, column: str, forged: str
) -> None:
    monkeypatch.setattr(sealing, "SLICE", 7)
    left_half(old, monkeypatch)
    assert old.house.trail.verify().fault == ""
    written(old.house, lambda each: each.exec_driver_sql(f"UPDATE segments SET {column} = {forged}"))

    found = old.house.trail.verify()
    assert (found.fault, found.holds) == ("there is a segment of events with a number that is none", False)
    assert old.run(old.acts.audit.find_events(OPERATOR, Search())).events
    assert old.run(old.acts.evidence.kept(OPERATOR)).segments
    if column == "first_seq":
        with pytest.raises(Conflict, match="does not follow the segment before it"):
            seal(old)
    assert statement(old)["number"] == 1


@ON_SQLITE
@pytest.mark.parametrize("purged", [False, True])
@pytest.mark.parametrize("forged", ["x'ff00'", "x''", "x'323032352d3033'"])
@pytest.mark.parametrize("column", ["first_time", "last_time", "file", "file_sha256", "stub"])
def test_a_segment_with_a_text_that_is_none_is_found_and_hides_no_event_that_can_be_read(
    old: Rooms, column: str, forged: str, purged: bool
) -> None:
    seal(old, APRIL if purged else None)
    written(
        old.house, lambda each: each.exec_driver_sql(f"UPDATE segments SET {column} = {forged} WHERE last_seq = 30")
    )
    house, newer = old.house, Search(since=APRIL, until=MAY)

    # Where a file was is nothing that anybody asks of a purged one.
    assert house.trail.verify().fault or (purged and column == "file")
    assert [line for line in house.trail.lines(newer) if '"id":' not in line] == ["{}"][: column == "stub"]
    assert sum('"id":' in line for line in house.trail.lines(newer)) == 20
    assert old.run(old.acts.audit.find_events(OPERATOR, newer)).events
    assert house.trail.sealed(Search(since=MARCH, until=MARCH + DAY)) is not None
    assert house.trail.following(30, 5).events or house.trail.following(30, 5).purged
    assert old.run(old.acts.evidence.kept(OPERATOR)).segments
    with pytest.raises(Conflict):
        seal(old, APRIL)
    if column == "last_time" and not purged:
        assert len(list(house.trail.lines(Search(until=APRIL)))) == 30


@pytest.mark.parametrize("column", ["first_time", "last_time"])
def test_a_segment_that_tells_no_time_hides_no_event_of_its_own(old: Rooms, column: str) -> None:
    seal(old)
    written(old.house, lambda each: each.execute(update(rows).where(rows.c.last_seq == 30).values({column: ""})))

    assert old.house.trail.verify().fault
    if column == "last_time":
        assert len(list(old.house.trail.lines(Search(since=MARCH, until=APRIL)))) == 30
        return
    with pytest.raises(Unavailable, match="is not the name of its file"):
        list(old.house.trail.lines(Search(since=MARCH, until=APRIL)))


@ON_SQLITE
@pytest.mark.parametrize("forged", ["'abc'", "x'ff00'", "1.5"])
@pytest.mark.parametrize("column", ["seq", "made_at"])
def test_a_checkpoint_with_a_number_that_is_none_is_found_and_stops_no_other(
    old: Rooms, column: str, forged: str
) -> None:
    statement(old)
    written(old.house, lambda each: each.exec_driver_sql(f"UPDATE checkpoints SET {column} = {forged}"))
    house, acts = old.house, old.acts.evidence

    assert house.trail.verify().fault == "there is a checkpoint of an event with a number that is none"
    assert house.database.read_now(lambda each: checkpoints.due(each, 2**40))
    assert statement(old)["number"] == 2
    assert old.run(acts.kept(OPERATOR)).newest is not None
    assert [each.number for each in old.run(acts.checkpoints(OPERATOR))] == [2]
    seal(old)


@ON_SQLITE
def test_a_checkpoint_that_was_moved_to_another_number_is_found(old: Rooms) -> None:
    statement(old)
    written(old.house, lambda each: each.execute(update(stored).values(number=2**40)))

    assert "was edited" in old.house.trail.verify().fault


@ON_SQLITE
def test_a_checkpoint_that_was_edited_is_found_though_its_event_was_purged(old: Rooms) -> None:
    seal(old, APRIL)
    checkpoint_row(old.house, 1000, 7)

    assert "the checkpoint of event 7" in old.house.trail.verify().fault


@ON_SQLITE
def test_thinning_keeps_the_checkpoint_of_the_newest_event_whatever_numbers_others_have(old: Rooms) -> None:
    made = statement(old)
    checkpoint_row(old.house, 2**62, 3)

    written(old.house, lambda each: checkpoints.thin(made["seq"] + 1).apply(each))

    kept = old.house.database.read_now(lambda each: each.execute(select(stored.c.number)).scalars().all())
    assert kept == [made["number"]]
