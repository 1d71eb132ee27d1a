"""Evidence: checkpoints find what the chain alone cannot, and months that are sealed away verify as before."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from gateway import witnessing
from gateway.access.principals import Caller
from gateway.administration import evidence
from gateway.administration.evidence import months_before
from gateway.audit.chain import Head, head_seal
from gateway.audit.checkpoints import CheckpointKey
from gateway.audit.event import Event, Kind
from gateway.audit.offline import Reader, lines_of, read_key
from gateway.audit.trail import Search
from gateway.errors import Conflict, Denied, Unavailable
from gateway.gate import Act
from gateway.records import checkpoints, condition, sealing, segments
from gateway.records.descent import Descent
from gateway.records.trail import project_tail
from tests.administration.rooms import Rooms
from tests.house import GATEWAY, OPERATOR, TRAIL_KEY, House

#: What asks nothing of a database that the others do not.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
MARCH, APRIL, JUNE = (datetime(2025, month, 1, tzinfo=UTC) for month in (3, 4, 6))


def fill(house: House, count: int, time: datetime | None = None) -> None:
    async def all_of_them() -> None:
        begun = time or datetime.now(UTC)
        for number in range(count):
            event = Event(Kind.BLOB_PULL, GATEWAY, repository="gallery/ui", time=begun + timedelta(minutes=number))
            await house.ledger.commit(Act(event))

    house.run(all_of_them())
    project(house)


def project(house: House) -> None:
    with house.database.lock(), house.database.engine.connect() as connection:
        while project_tail(house.database, connection):
            pass


def tamper(house: House, *statements: str) -> None:
    with house.database.engine.connect() as connection:
        if house.database.sqlite:
            for verb in ("update", "delete"):
                connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS events_keep_{verb}")
        else:
            connection.exec_driver_sql("ALTER TABLE events DISABLE TRIGGER ALL")
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.fixture
def old(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> Rooms:
    """A trail with two old months and something new; what is sealed may be purged at once."""
    monkeypatch.setattr(evidence, "SETTLED", timedelta(0))
    fill(rooms.house, 30, MARCH)
    fill(rooms.house, 20, APRIL)
    fill(rooms.house, 10)
    return rooms


def statement(rooms: Rooms) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(rooms.run(rooms.acts.evidence.checkpoint(OPERATOR)).line)
    return made


# checkpoints


def test_a_checkpoint_names_the_newest_event_and_is_found_in_the_trail(rooms: Rooms) -> None:
    fill(rooms.house, 5)

    made = statement(rooms)
    found = rooms.run(rooms.acts.evidence.verify_against(OPERATOR, [made]))

    assert (found.fault, found.compared) == ("", 1)
    assert made["seq"] >= 5


def test_events_cut_off_the_end_are_found_by_a_checkpoint_though_the_head_was_sealed_anew(rooms: Rooms) -> None:
    house = rooms.house
    fill(house, 5)
    made = statement(rooms)
    fill(house, 3)
    # Somebody with root: the end is gone, and the record of the head fits.
    kept = house.trail.event(4)
    assert kept is not None
    seal = head_seal(Head(4, kept.hash), TRAIL_KEY)
    house.database.mark.write(Head(4, kept.hash), seal)
    blob = f"x'{seal.hex()}'" if house.database.sqlite else f"'\\x{seal.hex()}'::bytea"
    hashed = f"x'{kept.hash.hex()}'" if house.database.sqlite else f"'\\x{kept.hash.hex()}'::bytea"
    tamper(
        house,
        "DELETE FROM events WHERE seq > 4",
        "DELETE FROM event_index WHERE seq > 4",
        "DELETE FROM checkpoints",
        f"UPDATE trail_head SET seq = 4, hash = {hashed}, seal = {blob}",
    )

    assert house.trail.verify().fault == ""
    found = rooms.run(rooms.acts.evidence.verify_against(OPERATOR, [made]))
    assert "are gone" in found.fault
    assert found.seq == 5


@ON_SQLITE
def test_a_history_written_anew_is_found_by_a_checkpoint(rooms: Rooms) -> None:
    house = rooms.house
    fill(house, 5)
    made = statement(rooms)
    key = CheckpointKey.new()
    forged = json.loads(key.checkpoint(1, Head(3, b"x" * 32), datetime.now(UTC)))

    found = rooms.run(rooms.acts.evidence.verify_against(OPERATOR, [forged], key.public_pem))
    assert (found.seq, "not the one" in found.fault) == (3, True)
    assert rooms.run(rooms.acts.evidence.verify_against(OPERATOR, [forged])).fault.endswith("by another key")
    assert rooms.run(rooms.acts.evidence.verify_against(OPERATOR, [made], key.public_pem)).fault


@ON_SQLITE
def test_checkpoints_kept_here_are_compared_too(rooms: Rooms) -> None:
    fill(rooms.house, 5)
    statement(rooms)
    with rooms.house.database.engine.connect() as connection:
        connection.exec_driver_sql("UPDATE checkpoints SET line = replace(line, '\"number\":1', '\"number\":2')")

    assert "checkpoint" in rooms.house.trail.verify().fault


@ON_SQLITE
def test_a_checkpoint_is_due_after_a_minute_or_a_thousand_events(rooms: Rooms) -> None:
    house = rooms.house

    def due(after: float = 0) -> bool:
        at = datetime.now(UTC).timestamp() + after
        return house.database.read_now(lambda connection: checkpoints.due(connection, at))

    assert not due()
    fill(house, 1)
    assert due()
    statement(rooms)
    assert not due()
    assert due(after=61)

    async def a_thousand() -> None:
        await asyncio.gather(*(house.ledger.commit(Act(Event(Kind.BLOB_PULL, GATEWAY))) for _ in range(1000)))

    house.run(a_thousand())
    assert due()


@ON_SQLITE
def test_of_idle_minutes_the_newest_checkpoint_is_kept(rooms: Rooms) -> None:
    fill(rooms.house, 1)
    key = rooms.run(rooms.acts.evidence.signing_key(OPERATOR))
    for minute in range(3):
        change = checkpoints.make(key, clock=lambda minute=minute: 2_000_000_000 + 61 * minute)
        rooms.run(rooms.house.ledger.commit(Act(Event(Kind.AUDIT_CHECKPOINT, GATEWAY), change, silent=True)))

    (kept,) = rooms.house.database.read_now(lambda connection: checkpoints.between(connection, 0, 10**9))
    assert (kept.number, kept.statement["number"]) == (3, 3)


@ON_SQLITE
def test_who_may_neither_review_nor_manage_gets_no_evidence(rooms: Rooms) -> None:
    stranger, auditor = rooms.user("stranger"), rooms.user("auditor", auditor=True)
    acts = rooms.acts.evidence

    for act in (acts.public_key, acts.checkpoint, acts.checkpoints, acts.sinks):
        with pytest.raises(Denied):
            rooms.run(act(stranger))
        rooms.run(act(auditor))
    for caller in (stranger, auditor):
        with pytest.raises(Denied):
            rooms.run(acts.retain(caller, JUNE))
        with pytest.raises(Denied):
            rooms.run(acts.plan(caller, JUNE))


# segments


@ON_SQLITE
def test_a_plan_tells_the_months_and_changes_nothing(old: Rooms) -> None:
    plan = old.run(old.acts.evidence.plan(OPERATOR, JUNE))

    assert [(each.month, each.events, each.first, each.last) for each in plan.months] == [
        ("2025-03", 30, 1, 30),
        ("2025-04", 20, 31, 50),
    ]
    assert old.house.database.read_now(segments.every) == []


def test_sealed_months_leave_the_database_and_still_verify_and_export(old: Rooms) -> None:
    before = [event.line() for event in old.house.trail.export(Search())]

    receipt = old.run(old.acts.evidence.retain(OPERATOR, JUNE))

    house = old.house
    assert (receipt.events, [each.count for each in receipt.segments]) == (50, [30, 20])
    left = house.database.read_now(
        lambda connection: connection.exec_driver_sql("SELECT min(seq) FROM events").scalar()
    )
    assert left == 51
    found = house.trail.verify()
    assert (found.fault, found.sealed) == ("", 50)
    assert [event.line() for event in house.trail.export(Search())][: len(before)] == before
    assert [event.seq for event in house.trail.export(Search(repository="gallery/ui"))] == list(range(1, 61))
    assert [event.seq for event in house.trail.export(Search(until=APRIL))] == list(range(1, 31))
    shown = house.trail.event(7)
    assert shown is not None
    assert shown.line() == before[6]
    assert min(event.seq for event in house.trail.page(Search(), limit=1000)) == 51
    assert house.trail.sealed_away()[0] == 50
    mark = house.database.mark.read(TRAIL_KEY)
    wrong = house.database.read_now(lambda connection: condition.condition(connection, TRAIL_KEY, mark, begun_before=0))
    assert wrong.fault == ""


@ON_SQLITE
def test_sealing_again_finds_nothing_and_later_months_follow(old: Rooms) -> None:
    old.run(old.acts.evidence.retain(OPERATOR, APRIL))

    assert old.run(old.acts.evidence.retain(OPERATOR, APRIL)).events == 0
    assert old.run(old.acts.evidence.retain(OPERATOR, JUNE)).events == 20
    assert old.house.trail.verify().fault == ""


@ON_SQLITE
def test_each_segment_is_an_event_with_its_digest(old: Rooms) -> None:
    receipt = old.run(old.acts.evidence.retain(OPERATOR, JUNE))

    told = [record["detail"] for record in old.house.records(kind="audit.retain") if "file" in record["detail"]]
    assert [each["sha256"] for each in told] == [each.file_sha256 for each in receipt.segments]


@ON_SQLITE
def test_the_newest_event_always_stays(rooms: Rooms) -> None:
    fill(rooms.house, 5, MARCH)
    future = datetime.now(UTC) + timedelta(days=400)

    rooms.run(rooms.acts.evidence.retain(OPERATOR, future))
    fill(rooms.house, 1)

    assert rooms.house.trail.verify().fault == ""


@ON_SQLITE
def test_a_segment_verifies_offline_by_itself(old: Rooms) -> None:
    receipt = old.run(old.acts.evidence.retain(OPERATOR, JUNE))
    public = old.run(old.acts.evidence.public_key(OPERATOR))
    reader = Reader(read_key(public.pem))
    for segment in receipt.segments:
        for line in lines_of(old.house.data / "segments" / segment.file):
            reader.take(line)
    found = reader.end()
    assert (found.fault, found.count, found.proven) == ("", 50, 50)


def _edit(file: Path) -> None:
    text = gzip.decompress(file.read_bytes()).decode().replace("192.0.2.7", "192.0.2.8", 1)
    file.write_bytes(gzip.compress(text.encode()))


def _tear(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


@ON_SQLITE
@pytest.mark.parametrize("damage", [_edit, _tear, Path.unlink])
def test_a_segment_that_was_edited_torn_or_removed_is_found(old: Rooms, damage: Callable[[Path], None]) -> None:
    receipt = old.run(old.acts.evidence.retain(OPERATOR, JUNE))
    damage(old.house.data / "segments" / receipt.segments[0].file)

    found = old.house.trail.verify()
    assert found.fault
    assert found.seq <= 30


@ON_SQLITE
def test_a_damaged_trail_is_not_sealed(old: Rooms) -> None:
    tamper(old.house, "UPDATE events SET body = replace(body, '192.0.2.7', '192.0.2.8') WHERE seq = 7")

    with pytest.raises(Conflict, match="event 7 was edited"):
        old.run(old.acts.evidence.retain(OPERATOR, JUNE))
    assert old.house.database.read_now(segments.every) == []


def test_what_a_killed_process_left_is_finished(old: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "SLICE", 7)
    real = sealing.leave
    calls = iter(range(100))

    def dying(proven: int, hashes: Mapping[int, bytes]) -> Any:
        if next(calls) == 3:
            raise RuntimeError("killed")
        return real(proven, hashes)

    with monkeypatch.context() as patched:
        patched.setattr(sealing, "leave", dying)
        with pytest.raises(RuntimeError, match="killed"):
            old.run(old.acts.evidence.retain(OPERATOR, JUNE))
    half = old.house.trail.verify()
    assert half.fault == ""
    assert [event.seq for event in old.house.trail.export(Search())][:60] == list(range(1, 61))

    assert old.run(old.acts.evidence.retain(OPERATOR, JUNE)).events == 20
    assert old.house.trail.verify().fault == ""


@ON_SQLITE
def test_the_newest_checkpoint_stays_when_its_event_is_sealed_away_and_the_numbers_go_on(rooms: Rooms) -> None:
    fill(rooms.house, 5, MARCH)
    key = rooms.run(rooms.acts.evidence.signing_key(OPERATOR))
    for _ in range(3):
        fill(rooms.house, 1, MARCH)
        rooms.run(rooms.acts.evidence.fresh(OPERATOR, key))
    fill(rooms.house, 5)
    thinning = Act(Event(Kind.AUDIT_RETAIN, GATEWAY), checkpoints.thin(10), silent=True)
    assert rooms.run(rooms.house.ledger.commit(thinning)).result == 2

    kept = rooms.house.database.read_now(lambda connection: checkpoints.between(connection, 0, 10**9))
    assert [each.number for each in kept] == [3]
    assert statement(rooms)["number"] == 4
    assert rooms.house.trail.verify().fault == ""


def test_a_purge_leaves_a_stub_by_which_the_rest_verifies(old: Rooms) -> None:
    old.run(old.acts.evidence.retain(OPERATOR, JUNE))
    plan = old.run(old.acts.evidence.plan(OPERATOR, JUNE, APRIL))
    assert [each.count for each in plan.purge] == [30]

    receipt = old.run(old.acts.evidence.retain(OPERATOR, JUNE, APRIL))

    house = old.house
    assert receipt.purged == 30
    assert len(list((house.data / "segments").iterdir())) == 1
    found = house.trail.verify()
    assert (found.fault, found.purged, found.sealed) == ("", 30, 20)
    assert next(house.trail.export(Search())).seq == 31
    assert house.trail.event(7) is None
    reader = Reader(read_key(old.run(old.acts.evidence.public_key(OPERATOR)).pem))
    for line in house.trail.lines(Search()):
        reader.take(line)
    assert (reader.end().fault, reader.report.purged) == ("", 30)


def test_the_stub_of_a_month_in_which_the_end_was_edited_tells_so_for_good(old: Rooms) -> None:
    house = old.house
    fill(house, 10, MARCH)
    tamper(house, "UPDATE trail_head SET seq = 66")
    fill(house, 10, MARCH)
    (told,) = house.records(kind="audit.break")
    later = datetime.now(UTC) + timedelta(days=2)
    wrong = f"event {told['id']} tells that the trail's end was edited before it"
    assert house.trail.verify().fault == wrong

    old.run(old.acts.evidence.retain(OPERATOR, later))
    assert house.trail.verify().fault == wrong
    fill(house, 3)
    old.run(old.acts.evidence.retain(OPERATOR, later, later))
    found = house.trail.verify()
    assert (found.fault, found.seq, found.beside) == (wrong, told["id"], True)
    assert found.purged > told["id"]
    stubs = [json.loads(line) for line in house.trail.lines(Search()) if '"purge"' in line]
    assert [each["broken"] for each in stubs if "broken" in each] == [told["id"]]
    reader = Reader(read_key(old.run(old.acts.evidence.public_key(OPERATOR)).pem))
    for line in house.trail.lines(Search()):
        reader.take(line)
    assert (reader.end().fault, reader.report.seq) == (wrong, told["id"])


def test_a_checkpoint_of_a_purged_event_cannot_be_compared_and_so_the_trail_is_not_told_whole(old: Rooms) -> None:
    house = old.house
    key = old.run(old.acts.evidence.signing_key(OPERATOR))
    heads = [Head(event.seq, event.hash) for event in house.trail.export(Search())]
    within, end, after = (json.loads(key.checkpoint(1, heads[seq - 1], MARCH)) for seq in (10, 30, 40))
    old.run(old.acts.evidence.retain(OPERATOR, JUNE))
    old.run(old.acts.evidence.retain(OPERATOR, JUNE, APRIL))

    met = old.run(old.acts.evidence.verify_against(OPERATOR, [end, after], key.public_pem))
    assert (met.whole, met.compared, met.uncompared) == (True, 2, 0)
    found = old.run(old.acts.evidence.verify_against(OPERATOR, [within, end, after], key.public_pem))
    assert (found.whole, found.fault, found.compared, found.uncompared) == (False, "", 2, 1)
    assert old.last("audit.verify")["detail"]["uncompared"] == 1
    wrong = json.loads(key.checkpoint(1, Head(30, b"x" * 32), MARCH))
    assert "event 30 is not the one" in old.run(old.acts.evidence.verify_against(OPERATOR, [wrong])).fault


@ON_SQLITE
def test_nothing_is_purged_less_than_a_day_after_it_was_sealed(old: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "SETTLED", timedelta(days=1))

    receipt = old.run(old.acts.evidence.retain(OPERATOR, JUNE, APRIL))
    assert (receipt.events, receipt.purged, receipt.waiting) == (50, 0, 1)
    assert old.run(old.acts.evidence.plan(OPERATOR, JUNE, APRIL)).purge == []
    assert old.house.trail.event(7) is not None

    monkeypatch.setattr(evidence, "datetime", Ahead)
    assert len(old.run(old.acts.evidence.plan(OPERATOR, JUNE, APRIL)).purge) == 1
    assert old.run(old.acts.evidence.retain(OPERATOR, JUNE, APRIL)).purged == 30


class Ahead(datetime):
    """A clock that is a little more than a day ahead."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.now(tz) + timedelta(hours=25)


class FarAhead(datetime):
    """A clock that is years ahead."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.now(tz) + timedelta(days=4000)


@ON_SQLITE
def test_the_hourly_look_does_not_believe_a_clock_far_ahead_of_the_newest_event(
    old: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnessing, "datetime", FarAhead)
    monkeypatch.setattr(witnessing, "_RETAIN_SECONDS", 0.0)
    asked: list[tuple[datetime, datetime]] = []

    async def retain(caller: Caller, cut: datetime, purge: datetime) -> None:
        asked.append((cut, purge))
        raise asyncio.CancelledError

    settings = SimpleNamespace(audit=SimpleNamespace(retain_months=13, purge_months=84))
    acts = SimpleNamespace(newest_time=old.acts.evidence.newest_time, retain=retain)
    rooms: Any = SimpleNamespace(settings=settings, administration=SimpleNamespace(evidence=acts))
    with pytest.raises(asyncio.CancelledError):
        old.run(witnessing._retain(rooms, lambda: OPERATOR))

    latest = datetime.now(UTC) + timedelta(days=1, hours=1)
    ((cut, purge),) = asked
    assert cut <= months_before(latest, 13)
    assert purge <= months_before(latest, 84)


def test_the_moment_that_ages_are_counted_from_does_not_believe_what_sealing_itself_left(
    old: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "datetime", FarAhead)
    far = datetime.now(UTC) + timedelta(days=4000)

    async def sealed() -> None:
        await old.house.ledger.commit(Act(Event(Kind.AUDIT_RETAIN, OPERATOR, time=far)))

    old.run(sealed())
    assert old.run(old.acts.evidence.moment()) < datetime.now(UTC) + timedelta(days=2)
    monkeypatch.undo()
    assert old.run(old.acts.evidence.moment()) <= datetime.now(UTC)


def all_but_what_sealing_left(rooms: Rooms) -> datetime:
    """Seals everything else, as on a gateway where nothing happens any more; when the last sealed event was."""
    for _ in range(2):
        project(rooms.house)
        rooms.run(rooms.acts.evidence.retain(OPERATOR, datetime.now(UTC) + timedelta(days=1)))
    project(rooms.house)
    kinds = {event.record()["kind"] for event in rooms.house.trail.page(Search(), limit=100)}
    assert kinds == {"audit.retain"}
    return datetime.fromisoformat(rooms.house.trail.sealed_away()[1])


def test_the_moment_is_counted_from_the_last_sealed_event_where_only_sealing_left_events(
    old: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = all_but_what_sealing_left(old)
    monkeypatch.setattr(evidence, "datetime", FarAhead)
    acts, day = old.acts.evidence, timedelta(days=1)
    assert old.run(acts.moment()) == last + day

    # What a run leaves that is dated by that clock does not vouch for it either.
    for _ in range(2):
        moment = old.run(acts.moment())
        assert moment == last + day
        receipt = old.run(acts.retain(OPERATOR, months_before(moment, 13), months_before(moment, 84)))
        assert (receipt.purged, receipt.waiting) == (0, 0)
        happened = Event(Kind.AUDIT_RETAIN, OPERATOR, time=FarAhead.now(UTC))
        old.run(old.house.ledger.commit(Act(happened)))


def test_the_moment_is_counted_from_what_a_file_or_a_stub_proves_and_not_from_a_row(
    old: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts, day = old.acts.evidence, timedelta(days=1)
    last = all_but_what_sealing_left(old)
    purged = old.run(acts.retain(OPERATOR, JUNE, datetime.now(UTC) + day)).purged
    assert purged == old.house.trail.sealed_away()[0]
    monkeypatch.setattr(evidence, "datetime", FarAhead)
    assert old.run(acts.moment()) == last + day

    tamper(old.house, "UPDATE segments SET last_time = '2036-01-01T00:00:00.000000Z'")
    oldest = old.house.trail.event(purged + 1)
    assert oldest is not None
    assert old.run(acts.moment()) == datetime.fromisoformat(str(oldest.record()["time"])) + day


@ON_SQLITE
def test_the_moment_is_counted_from_the_month_before_one_whose_file_is_gone(
    old: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_but_what_sealing_left(old)
    monkeypatch.setattr(evidence, "datetime", FarAhead)
    *_, before, newest = old.house.database.read_now(segments.every)
    segments.path_of(old.house.data, newest).unlink()

    assert old.run(old.acts.evidence.moment()) == datetime.fromisoformat(before.last_time) + timedelta(days=1)


@ON_SQLITE
def test_a_stub_that_was_edited_is_found(old: Rooms) -> None:
    old.run(old.acts.evidence.retain(OPERATOR, JUNE, APRIL))
    with old.house.database.engine.connect() as connection:
        connection.exec_driver_sql(
            "UPDATE segments SET stub = replace(stub, '2025', '2024'), file = 'x' WHERE stub <> ''"
        )
        connection.exec_driver_sql("UPDATE segments SET stub = replace(stub, '\"first\":1', '\"first\":2')")

    assert old.house.trail.verify().fault


def test_the_database_lets_only_what_is_sealed_leave(old: Rooms) -> None:
    old.run(old.acts.evidence.retain(OPERATOR, APRIL))

    for statement_ in ("DELETE FROM events WHERE seq > 30", "UPDATE events SET body = '{}' WHERE seq = 40"):
        with old.house.database.engine.connect() as connection, pytest.raises(DBAPIError, match="only ever appended"):
            connection.exec_driver_sql(statement_)


@ON_SQLITE
def test_two_that_seal_at_once_are_told(old: Rooms) -> None:
    found = old.house.database.read_now(lambda connection: segments.next_events(connection, APRIL))
    segment = sealing.write(old.house.data, found, Head(), "{}")

    async def both() -> None:
        for _ in range(2):
            event = Event(Kind.AUDIT_RETAIN, GATEWAY)
            await old.house.ledger.commit(Act(event, sealing.record(old.house.data, segment), silent=True))

    with pytest.raises(Conflict, match="Another process"):
        old.run(both())


@ON_SQLITE
def test_a_folder_that_cannot_be_written_is_told(old: Rooms) -> None:
    (old.house.data / "segments").write_text("in the way")

    with pytest.raises(Unavailable, match="cannot be written"):
        old.run(old.acts.evidence.retain(OPERATOR, JUNE))
    assert old.house.trail.verify().fault == ""


def test_an_export_under_way_loses_nothing_to_a_sealing(old: Rooms) -> None:
    exported = old.house.trail.export(Search(repository="gallery/ui"))
    first = [next(exported).seq for _ in range(5)]

    old.run(old.acts.evidence.retain(OPERATOR, JUNE))

    assert [*first, *(event.seq for event in exported)] == list(range(1, 61))


def test_months_are_counted_back_to_their_beginning() -> None:
    now = datetime(2026, 11, 24, 15, tzinfo=UTC)

    assert months_before(now, 13) == datetime(2025, 10, 1, tzinfo=UTC)
    assert months_before(now, 11) == datetime(2025, 12, 1, tzinfo=UTC)
    assert months_before(now, 10) == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_mark_that_names_a_sealed_event_is_compared_with_the_file(
    old: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Descent, "keep_up", lambda _: None)
    house = old.house
    old.run(old.acts.evidence.retain(OPERATOR, JUNE))
    for seq in (17, 30):
        sealed = house.trail.event(seq)
        assert sealed is not None
        for hashed, told in ((sealed.hash, ""), (b"x" * 32, f"event {seq} is not the one sealed there")):
            head = Head(seq, hashed)
            house.database.mark.write(head, head_seal(head, TRAIL_KEY))
            assert house.trail.verify().fault.startswith(told)
            assert bool(house.trail.verify().fault) is bool(told)


@pytest.mark.parametrize("purged", [False, True])
@pytest.mark.parametrize("seq", [7, 30, 31, 45])
def test_a_host_that_was_away_while_months_were_sealed_or_purged_goes_on(
    old: Rooms, monkeypatch: pytest.MonkeyPatch, seq: int, purged: bool
) -> None:
    # The next commit is the first to look.
    monkeypatch.setattr(Descent, "keep_up", lambda _: None)
    event = old.house.trail.event(seq)
    assert event is not None
    old.run(old.acts.evidence.retain(OPERATOR, JUNE))
    if purged:
        assert old.run(old.acts.evidence.retain(OPERATOR, JUNE, JUNE)).purged == 50
    come_back(old.house, Head(seq, event.hash))
    assert old.house.records(kind="audit.break") == []
    assert old.house.trail.verify().fault == ""


def test_a_host_that_was_away_believes_no_file_and_no_stub_that_does_not_follow_its_mark(
    old: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Descent, "keep_up", lambda _: None)
    house = old.house
    event = house.trail.event(7)
    assert event is not None
    last = old.run(old.acts.evidence.retain(OPERATOR, JUNE)) and house.trail.page(Search(), limit=1)[0].seq
    come_back(house, Head(7, bytes(32)))
    assert told(house) == [f"the events after event 7 do not lead to event {last}"]
    tamper(house, """UPDATE segments SET stub = '{"type":"purge"}' WHERE first_seq = 1""")
    come_back(house, Head(7, event.hash))
    assert told(house)[1:] == [f"the events after event 7 do not lead to event {last + 2}"]


def told(house: House) -> list[Any]:
    return [event.record()["detail"]["fault"] for event in house.trail.page(Search(kind="audit.break"))][::-1]  # type: ignore[index]


def come_back(house: House, mark: Head) -> None:
    """Has the house commit an event as if it had seen none of those after the *mark*."""
    house.database.mark.write(mark, head_seal(mark, TRAIL_KEY))
    fill(house, 1)
