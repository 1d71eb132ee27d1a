"""Whoever writes segments, stubs and keys into the database gets no event removed, and no missing one believed."""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from gateway.audit.chain import Head
from gateway.audit.checkpoints import CheckpointKey
from gateway.audit.trail import Search
from gateway.errors import Conflict, Refusal, Unavailable
from gateway.records import segments
from gateway.records.evidence_tables import checkpoint_keys
from gateway.records.evidence_tables import segments as rows
from gateway.records.segments import Segment, Unsealed
from tests.administration.rooms import Rooms
from tests.administration.test_evidence_acts import APRIL, JUNE, MARCH, fill, statement, tamper
from tests.house import OPERATOR
from tests.records.rows import written

#: What asks nothing of a database that the others do not.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
LONG_AGO = datetime(2011, 1, 1, tzinfo=UTC)


@pytest.fixture
def old(rooms: Rooms) -> Rooms:
    """A trail with two old months and something new."""
    fill(rooms.house, 30, MARCH)
    fill(rooms.house, 20, APRIL)
    fill(rooms.house, 10)
    return rooms


def row(rooms: Rooms, first: int, last: int, **values: Any) -> None:
    """Puts a segment of the events *first* to *last* into the database, as whoever can write to it might."""
    before, end = rooms.house.trail.event(first - 1), rooms.house.trail.event(last)
    assert end is not None
    given = {
        "first_seq": first,
        "last_seq": last,
        "first_time": "2010-01-01T00:00:00.000000Z",
        "last_time": "2010-01-02T00:00:00.000000Z",
        "previous_hash": before.hash if before is not None else bytes(32),
        "last_hash": end.hash,
        "file": f"2010-01-{first:012}-{last:012}.jsonl.gz",
        "file_bytes": 1000,
        "file_sha256": "0" * 64,
        "stub": "",
    }
    written(rooms.house, lambda connection: connection.execute(insert(rows).values({**given, **values})))


def numbers(rooms: Rooms) -> list[int]:
    query = "SELECT seq FROM events ORDER BY seq"
    return [each[0] for each in rooms.house.database.read_now(lambda each: each.exec_driver_sql(query).all())]


def sealed(rooms: Rooms) -> Sequence[Segment]:
    return rooms.run(rooms.acts.evidence.retain(OPERATOR, JUNE)).segments


def failures(rooms: Rooms) -> list[dict[str, Any]]:
    found = [each.record() for each in rooms.house.trail.page(Search(kind="integrity.failure"))]
    return [each["detail"] for each in found if isinstance(each["detail"], dict)]


def stub_of(rooms: Rooms, key: CheckpointKey, first: int, last: int) -> str:
    before, end = rooms.house.trail.event(first - 1), rooms.house.trail.event(last)
    assert end is not None
    previous = Head(first - 1, before.hash) if before is not None else Head()
    return key.purge(first, previous, Head(last, end.hash), datetime.now(UTC), "0" * 64)


# stubs


def test_a_stub_signed_by_a_key_that_was_put_into_the_database_is_no_proof(old: Rooms) -> None:
    house, made, own = old.house, statement(old), old.run(old.acts.evidence.public_key(OPERATOR))
    forged = CheckpointKey.new()
    row(old, 1, 7, stub=stub_of(old, forged, 1, 7))
    values = {"kid": forged.kid, "public": forged.public_pem, "sealed": forged.sealed(b"x" * 32), "created_at": 1}
    written(house, lambda connection: connection.execute(insert(checkpoint_keys).values(values)))
    tamper(house, "DELETE FROM events WHERE seq <= 7", "DELETE FROM event_index WHERE seq <= 7")

    found = house.trail.verify()
    assert (found.seq, found.fault) == (1, "the stub of event 7 was signed by another key")
    for pem in (None, own.pem):
        assert old.run(old.acts.evidence.verify_against(OPERATOR, [made], pem)).fault
    said = old.run(old.acts.evidence.verify_against(OPERATOR, [{**made, "key": forged.kid}]))
    assert "another key" in said.fault


@ON_SQLITE
def test_a_stub_is_believed_only_under_the_key_that_was_given(old: Rooms) -> None:
    house = old.house
    own = old.run(old.acts.evidence.signing_key(OPERATOR))
    other = CheckpointKey.new()
    values = {"kid": other.kid, "public": other.public_pem, "created_at": int(time.time()) - 1000}
    values["sealed"] = other.sealed(old.acts.evidence.secrets.checkpoints)
    written(house, lambda connection: connection.execute(insert(checkpoint_keys).values(values)))
    made = statement(old)
    row(old, 1, 7, stub=stub_of(old, other, 1, 7))
    tamper(house, "DELETE FROM events WHERE seq <= 7", "DELETE FROM event_index WHERE seq <= 7")

    assert old.run(old.acts.evidence.verify_against(OPERATOR, [made])).fault == ""
    found = old.run(old.acts.evidence.verify_against(OPERATOR, [made], own.public_pem))
    assert (found.seq, found.fault) == (1, "the stub of event 7 was signed by another key")


@ON_SQLITE
def test_the_statement_of_a_segment_is_no_stub(old: Rooms) -> None:
    segment = sealed(old)[0]
    packed = (old.house.data / segments.FOLDER / segment.file).read_bytes()
    line = gzip.decompress(packed).decode().splitlines()[-1]
    written(old.house, lambda each: each.execute(update(rows).where(rows.c.last_seq == 30).values(stub=line)))

    assert old.house.trail.verify().seq == 1


# what is removed


@pytest.mark.parametrize("purge", [None, LONG_AGO])
def test_events_stay_that_a_segment_without_a_file_covers(old: Rooms, purge: datetime | None) -> None:
    before = numbers(old)
    row(old, 1, 7)

    with pytest.raises(Conflict, match="2010-01-000000000001-000000000007"):
        old.run(old.acts.evidence.retain(OPERATOR, JUNE, purge))

    assert numbers(old)[: len(before)] == before
    (told,) = failures(old)
    assert (told["first"], told["last"]) == (1, 7)
    assert "is missing" in str(told["fault"])


@ON_SQLITE
def test_events_stay_that_a_stub_is_said_to_stand_for(old: Rooms) -> None:
    before = numbers(old)
    row(old, 1, 7, stub="{}")

    with pytest.raises(Conflict, match="its events are there"):
        sealed(old)
    assert numbers(old)[: len(before)] == before


@ON_SQLITE
@pytest.mark.parametrize(
    "values",
    [
        {"last_time": "2010-01-02T00:00:00.000000Z"},
        {"file_sha256": "0" * 64},
        {"previous_hash": b"x" * 32},
        {"last_hash": b"x" * 32},
        {"first_time": "2025-03-09T00:00:00.000000Z"},
    ],
    ids=lambda values: next(iter(values)),
)
def test_nothing_is_purged_whose_file_is_not_what_its_row_says(old: Rooms, values: dict[str, Any]) -> None:
    segment = sealed(old)[0]
    written(old.house, lambda each: each.execute(update(rows).where(rows.c.last_seq == 30).values(values)))

    with pytest.raises(Conflict, match="is not as it was sealed"):
        old.run(old.acts.evidence.retain(OPERATOR, JUNE, APRIL))

    assert (old.house.data / segments.FOLDER / segment.file).exists()
    assert all(not each.stub for each in old.house.database.read_now(segments.every))
    assert failures(old)


@ON_SQLITE
def test_nothing_is_purged_whose_file_has_no_statement_of_this_gateway(old: Rooms) -> None:
    segment = sealed(old)[0]
    path = old.house.data / segments.FOLDER / segment.file
    events = gzip.decompress(path.read_bytes()).splitlines(keepends=True)[:-1]
    signed = CheckpointKey.new().segment(1, segment.previous, segment.head, datetime.now(UTC)).encode()
    for last in (b"", signed):
        packed = gzip.compress(b"".join([*events, last]))
        path.write_bytes(packed)
        values = {"file_sha256": hashlib.sha256(packed).hexdigest(), "stub": ""}
        change = update(rows).where(rows.c.last_seq == 30).values(values)
        written(old.house, lambda each, change=change: each.execute(change))  # type: ignore[misc]
        with pytest.raises(Conflict, match=r"statement|another key"):
            old.run(old.acts.evidence.retain(OPERATOR, JUNE, APRIL))
        assert path.exists()


@ON_SQLITE
def test_no_file_goes_for_a_stub_that_was_not_signed(old: Rooms) -> None:
    segment = sealed(old)[0]
    written(old.house, lambda each: each.execute(update(rows).where(rows.c.last_seq == 30).values(stub="{}")))

    with pytest.raises(Conflict, match="stub of event 30 is damaged"):
        sealed(old)
    assert (old.house.data / segments.FOLDER / segment.file).exists()


# names of files


@ON_SQLITE
@pytest.mark.parametrize("absolute", [False, True])
def test_no_other_file_is_read_or_removed_for_what_a_row_calls_it(old: Rooms, absolute: bool) -> None:
    own = old.run(old.acts.evidence.signing_key(OPERATOR))
    sealed(old)
    secret = old.house.data / "keys" / "secret"
    secret.parent.mkdir()
    secret.write_bytes(b"s" * 32)
    name = str(secret) if absolute else "../keys/secret"
    mine = update(rows).where(rows.c.last_seq == 30)
    written(old.house, lambda each: each.execute(mine.values(file=name)))

    with pytest.raises(Unavailable, match="is not the name of its file"):
        list(old.house.trail.export(Search()))
    segment = old.house.database.read_now(segments.every)[0]
    stub = own.purge(1, segment.previous, segment.head, datetime.now(UTC), segment.file_sha256)
    written(old.house, lambda each: each.execute(mine.values(stub=stub)))
    with pytest.raises(Conflict, match="is not the name of its file"):
        sealed(old)
    assert secret.exists()


@ON_SQLITE
@pytest.mark.parametrize(
    ("file", "month"),
    [
        ("2025-04-000000000001-000000000030.jsonl.gz", "2025-03"),
        ("2025-03-000000000001-000000000031.jsonl.gz", "2025-03"),
        ("2025-03-000000000001-000000000030.jsonl.gz\n", "2025-03"),
        ("../key-000000000001-000000000030.jsonl.gz", "../key-"),
        ("", "2025-03"),
    ],
)
def test_a_segments_file_has_the_one_name_that_the_gateway_gives(old: Rooms, file: str, month: str) -> None:
    segment = sealed(old)[0]
    changed = {name: getattr(segment, name) for name in Segment.__slots__} | {"file": file, "first_time": month}

    with pytest.raises(Unsealed, match="not the name"):
        segments.path_of(Path("data"), Segment(**changed))
    assert segments.path_of(Path("data"), segment).name == segment.file


# what is shown


@ON_SQLITE
def test_what_was_written_into_a_segments_file_is_never_shown(old: Rooms) -> None:
    segment = sealed(old)[1]
    path = old.house.data / segments.FOLDER / segment.file
    text = gzip.decompress(path.read_bytes()).decode()
    shorter = "".join(text.splitlines(keepends=True)[2:])
    audit = old.acts.audit
    for forged in (text.replace("192.0.2.7", "192.0.2.8", 1), shorter):
        path.write_bytes(gzip.compress(forged.encode()))
        shown: list[Any] = [
            lambda: old.run(audit.find_events(OPERATOR, Search(since=MARCH), limit=1000)),
            lambda: old.run(audit.locate_event(OPERATOR, 40)),
            lambda: list(old.house.trail.export(Search())),
            lambda: old.house.trail.events([40]),
            lambda: old.house.trail.following(39, 5),
        ]
        for each in shown:
            with pytest.raises(Refusal, match="is not the one that was sealed"):
                each()
        assert old.house.trail.verify().fault


@ON_SQLITE
def test_a_file_that_holds_the_events_in_other_bytes_than_were_sealed_is_found(old: Rooms) -> None:
    segment = sealed(old)[0]
    path = old.house.data / segments.FOLDER / segment.file
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1))

    assert "is not the one that was sealed" in old.house.trail.verify().fault
