"""What stands between the mark of one host and the chain's head, under the hands of who owns the database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.audit.event import Event, Kind
from gateway.gate import Act
from gateway.records.schema import trail_head
from tests.house import GATEWAY, TRAIL_KEY, House, opened
from tests.records.test_condition import fill, read, tamper
from tests.records.test_trail_end import fault, literal, project, rows


@pytest.fixture
def other(house: House, tmp_path: Path) -> Iterator[House]:
    """Another host on the same database, with a data directory of its own, that committed nothing yet."""
    url = house.database.engine.url.render_as_string(hide_password=False)
    data = tmp_path / "other"
    data.mkdir(mode=0o700)
    with opened(url, data) as second:
        yield second


def go_on(house: House, count: int) -> None:
    """Adds events that are none of those of `fill`."""
    for _ in range(count):
        house.run(house.ledger.commit(Act(Event(Kind.BLOB_PUSH, GATEWAY))))


def span(house: House, last: int, chained: bytes, stub: str = "") -> str:
    """A row of a segment that nobody sealed, from event 7."""
    nothing = literal(house, bytes(32))
    return (
        "INSERT INTO segments (first_seq, last_seq, first_time, last_time, previous_hash, last_hash, file, file_bytes, "
        f"file_sha256, stub) VALUES (7, {last}, '', '', {nothing}, {literal(house, chained)}, '', 0, '', '{stub}')"
    )


def row_of(house: House, seq: int, body: str, chained: bytes) -> str:
    quoted = body.replace("'", "''")
    return f"INSERT INTO events (seq, body, hash) VALUES ({seq}, '{quoted}', {literal(house, chained)})"


TRICKS = ["none", "a segment over the mark", "a segment that ends with it", "a stub", "the old event", "an old pair"]


@pytest.mark.parametrize("trick", TRICKS)
def test_whatever_stands_for_the_mark_while_its_host_commits_an_older_end_put_back_is_told(
    house: House, other: House, trick: str
) -> None:
    fill(house, 4)
    query = select(trail_head.c.seq, trail_head.c.hash, trail_head.c.seal)
    seq, hashed, sealed = house.database.read_now(lambda connection: connection.execute(query).one())
    fill(house, 4)
    project(house)
    eighth = rows(house)[7]
    back = f"seq = {seq}, hash = {literal(house, bytes(hashed))}, seal = {literal(house, bytes(sealed))}"
    tamper(
        house,
        "DELETE FROM event_index WHERE seq > 4",
        "DELETE FROM event_counts",
        "DELETE FROM events WHERE seq > 4",
        f"UPDATE trail_head SET {back}",
    )
    go_on(other, 6)
    project(other)
    new = rows(house)[7:9]
    gone = "DELETE FROM events WHERE seq = 8"
    tricks = {
        "none": ([], []),
        "a segment over the mark": ([gone, span(house, 9, bytes(32))], ["DELETE FROM segments"]),
        "a segment that ends with it": ([gone, span(house, 8, eighth[2])], ["DELETE FROM segments"]),
        "a stub": ([gone, span(house, 9, bytes(32), '{"type":"purge"}')], ["DELETE FROM segments"]),
        "the old event": ([gone, row_of(house, *eighth)], [gone]),
        "an old pair": ([gone, row_of(house, *eighth), "DELETE FROM events WHERE seq = 9"], [gone]),
    }
    before, after = tricks[trick]
    tamper(house, *before)
    go_on(house, 1)
    if after:
        put_back = [row_of(house, *each) for each in (new if trick == "an old pair" else new[:1])]
        tamper(house, *after, *put_back)
    project(house)
    told = [record for record in house.records() if record["kind"] == "audit.break"]
    assert [each["detail"]["reached"] for each in told] == [8]
    assert "edited before it" in fault(house)
    assert "edited before it" in read(house).fault
    assert "edited before it" in fault(other)


def test_a_host_follows_more_events_of_others_than_are_read_at_once(house: House, other: House) -> None:
    fill(house, 2)
    also = tuple(Event(Kind.TAG_DELETE, GATEWAY, reference=f"v{number}") for number in range(2500))
    other.run(other.ledger.commit(Act(Event(Kind.RETENTION_APPLY, GATEWAY), also=also)))
    go_on(house, 1)
    assert house.records(kind="audit.break") == []
    assert fault(house) == ""


def test_the_mark_of_a_host_that_is_idle_follows_what_others_commit(house: House, other: House) -> None:
    fill(house, 2)
    go_on(other, 3)
    end = time.monotonic() + 20
    while (mark := house.database.mark.read(TRAIL_KEY)) is None or mark.seq < 5:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert (mark.seq, mark.hash) == (5, rows(house)[4][2])


def test_the_mark_of_a_host_does_not_follow_what_does_not_come_after_it(house: House, other: House) -> None:
    fill(house, 4)
    content = (house.database.data / "trail-mark").read_bytes()
    go_on(other, 4)
    tamper(house, f"UPDATE events SET body = '{{}}', hash = {literal(house, bytes(32))} WHERE seq = 6")
    (house.database.data / "trail-mark").write_bytes(content)
    time.sleep(1.5)
    mark = house.database.mark.read(TRAIL_KEY)
    assert mark is not None
    assert mark.seq == 4
    go_on(house, 1)
    told = house.records(kind="audit.break")
    assert [each["detail"]["fault"] for each in told] == ["the events after event 4 do not lead to event 8"]
