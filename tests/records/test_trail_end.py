"""The end of the trail under the hands of who owns the database, but neither the keys nor the data directory."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from gateway.access.secrets import Secrets
from gateway.audit.chain import Head, digest, head_seal
from gateway.audit.event import Event, Kind
from gateway.audit.offline import Reader
from gateway.audit.trail import Search
from gateway.gate import Act
from gateway.records import checkpoints
from gateway.records.appending import trial
from gateway.records.descent import Descent
from gateway.records.mark import FAR, Mark, fault_of_end
from gateway.records.matching import projected_until
from gateway.records.schema import events, trail_head
from gateway.records.trail import project_tail
from gateway.records.verifying import Verifier
from tests.house import GATEWAY, TRAIL_KEY, House, opened
from tests.records.test_condition import fill, read, tamper


def literal(house: House, content: bytes) -> str:
    return f"X'{content.hex()}'" if house.database.sqlite else f"'\\x{content.hex()}'"


def fault(house: House) -> str:
    return Verifier(house.database, TRAIL_KEY).verify().fault


def project(house: House) -> None:
    with house.database.lock(), house.database.engine.connect() as connection:
        while project_tail(house.database, connection):
            pass


def rows(house: House) -> list[tuple[int, str, bytes]]:
    query = select(events.c.seq, events.c.body, events.c.hash).order_by(events.c.seq)
    return [
        (seq, body, bytes(hashed)) for seq, body, hashed in house.database.read_now(lambda c: c.execute(query).all())
    ]


def cut_off(house: House) -> None:
    _, _, hashed = rows(house)[5]
    tamper(house, "DELETE FROM events WHERE seq > 6", f"UPDATE trail_head SET seq = 6, hash = {literal(house, hashed)}")


def written_anew(house: House) -> None:
    head = Head()
    statements = []
    for seq, body, _ in rows(house):
        told = body.replace("blob.pull", "blob.push") if seq == 3 else body
        told = told.replace(f'"previous_hash":"{_previous(body)}"', f'"previous_hash":"{head.hash.hex()}"')
        head = Head(seq, digest(head.hash, told))
        quoted = told.replace("'", "''")
        statements.append(f"UPDATE events SET body = '{quoted}', hash = {literal(house, head.hash)} WHERE seq = {seq}")
    tamper(house, *statements, f"UPDATE trail_head SET hash = {literal(house, head.hash)}")


def _previous(body: str) -> str:
    return body.partition('"previous_hash":"')[2][:64]


def emptied(house: House) -> None:
    nothing = literal(house, bytes(32))
    tamper(house, "DELETE FROM events", f"UPDATE trail_head SET seq = 0, hash = {nothing}, seal = {nothing}")


def lowered(house: House) -> None:
    tamper(house, "UPDATE trail_head SET seq = 6")


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("edit", [cut_off, written_anew, emptied, lowered])
def test_an_edited_end_is_found_before_and_after_the_next_event_and_for_good(
    house: House,
    monkeypatch: pytest.MonkeyPatch,
    edit: Callable[[House], None],
    projected: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(house.ledger, "_follow", lambda: None)
    fill(house, 8)
    if projected:
        project(house)
    assert fault(house) == ""
    edit(house)
    assert fault(house) != ""
    with caplog.at_level(logging.ERROR, "gateway.ledger"):
        fill(house, 3)
    assert "edited" in caplog.text
    assert "edited before it" in fault(house)
    assert "edited before it" in read(house).fault
    reader = Reader(None)
    for event in house.trail.export(Search()):
        reader.take(event.line())
    assert "edited before it" in reader.end().fault
    for _ in range(2):
        # Those who search for it find it, though searches had entries of what was there before.
        told = house.records(kind="audit.break")
        assert [(each["outcome"], each["reason"]) for each in told] == [("failed", "trail_edited")]
        assert told[0]["detail"]["reached"] == 8
        project(house)
    assert "edited before it" in fault(house)


COPY = "INSERT INTO events (seq, body, hash) SELECT {seq}, body, hash FROM events WHERE seq = 8"
FORGED = (
    "INSERT INTO events (seq, body, hash) SELECT {seq}, replace(body, 'pull', 'push'), hash FROM events WHERE seq = 8"
)
NONE = "INSERT INTO events (seq, body, hash) SELECT {seq}, 'none', hash FROM events WHERE seq = 8"


@pytest.mark.parametrize("statement", [COPY, FORGED, NONE], ids=["copy", "forged", "none"])
@pytest.mark.parametrize("seq", [9, 1000])
def test_what_is_put_in_after_the_last_event_stops_no_act_and_is_found_for_good(
    house: House, statement: str, seq: int
) -> None:
    fill(house, 8)
    tamper(house, statement.format(seq=seq))
    assert fault(house).startswith("event 9 ")
    with house.database.lock(), house.database.engine.connect() as connection:
        trial(house.database, connection)
    fill(house, 3)
    assert fault(house).startswith("event 9 ")
    told = [json.loads(body) for _, body, _ in rows(house) if '"kind":"audit.break"' in body]
    assert [(each["id"], each["reason"]) for each in told] == [(seq + 1, "trail_edited")]
    assert f"event {seq} was put in" in told[0]["detail"]["fault"]
    project(house)
    assert fault(house).startswith("event 9 ")


def test_what_is_put_in_under_the_greatest_number_stops_no_act_and_is_found(house: House) -> None:
    fill(house, 8)
    tamper(house, COPY.format(seq=(1 << 63) - 1))
    fill(house, 3)
    with house.database.lock(), house.database.engine.connect() as connection:
        trial(house.database, connection)
    project(house)
    assert fault(house) != ""


#: The numbers of rows that were put in together after event 8, and that of the next event, which tells of them.
FAR_AWAY = {
    "near": ([9 + FAR // 2], 10 + FAR // 2),
    "at the border": ([8 + FAR], 9 + FAR),
    "far": ([100 + FAR], None),
    "far, and one near": ([9, 100 + FAR], 10),
    "side by side across the border": ([8 + FAR, 9 + FAR, 10 + FAR], 11 + FAR),
    "far, and reached": ([12 + FAR], 13 + FAR),
    "just below 2**62": ([(1 << 62) - 1], None),
    "at 2**62": ([1 << 62], None),
    "the greatest": ([(1 << 63) - 2, (1 << 63) - 1], None),
}


@pytest.mark.parametrize("name", FAR_AWAY)
def test_however_far_behind_the_end_rows_are_put_in_the_trail_goes_on_and_so_do_searches(
    house: House, name: str
) -> None:
    numbers, told = FAR_AWAY[name]
    fill(house, 8)
    tamper(house, *(COPY.format(seq=seq) for seq in numbers))
    for _ in range(2):
        with house.database.lock(), house.database.engine.connect() as connection:
            trial(house.database, connection)
        fill(house, 3)
        project(house)
    breaks = [seq for seq, body, _ in rows(house) if '"kind":"audit.break"' in body]
    assert breaks == ([] if told is None else [told])
    last = 14 if told is None else told + (2 if name == "far, and reached" else 6)
    head = select(trail_head.c.seq)
    assert house.database.read_now(lambda connection: connection.execute(head).scalar()) == last
    assert house.database.read_now(projected_until) == last
    assert fault(house) != ""
    # Whatever is put in then is noticed as well.
    tamper(house, COPY.format(seq=last + 1))
    fill(house, 2)
    assert [seq for seq, body, _ in rows(house) if '"kind":"audit.break"' in body][-1] == last + 2
    assert not house.ledger.broken


@pytest.mark.parametrize("seq", [-5, 1 << 41, (1 << 63) - 1])
def test_a_record_of_the_head_with_a_number_far_off_is_not_gone_on_after(house: House, seq: int) -> None:
    fill(house, 8)
    tamper(house, f"UPDATE trail_head SET seq = {seq}")
    with house.database.lock(), house.database.engine.connect() as connection:
        trial(house.database, connection)
    fill(house, 2)
    project(house)
    assert [each for each, _, _ in rows(house)] == list(range(1, 12))
    assert house.database.read_now(projected_until) == 11
    assert "edited before it" in fault(house)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("seq", [4, 9])
@pytest.mark.parametrize(
    ("body", "hashed"),
    [
        ("body", "'abc'"),
        ("body", "1.5"),
        ("body", "1000000000000000"),
        ("body", "substr(hash, 1, 3)"),
        ("X'00FF'", "hash"),
        ("CAST(body AS BLOB)", "7"),
    ],
)
def test_what_is_no_hash_or_no_text_stops_nothing_and_is_found(house: House, seq: int, body: str, hashed: str) -> None:
    fill(house, 8)
    if seq == 9:
        tamper(house, f"INSERT INTO events (seq, body, hash) SELECT 9, {body}, {hashed} FROM events WHERE seq = 8")
    else:
        tamper(house, f"UPDATE events SET body = {body}, hash = {hashed} WHERE seq = {seq}")
    assert fault(house).startswith(f"event {seq} ")
    fill(house, 2)
    project(house)
    assert fault(house).startswith(f"event {seq} ")
    assert read(house).fault.startswith(f"event {seq} ")
    assert len(house.trail.page(Search())) == len(list(house.trail.lines(Search()))) == len(rows(house))
    assert [event.seq for event in house.trail.following(0, 100).events] == [each[0] for each in rows(house)]
    assert house.trail.event(seq) is not None


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("edit", ["hash = 'abc'", "seal = 1000000000000000", "hash = 1.5, seal = 'abc'"])
def test_a_record_of_the_head_that_holds_no_hash_is_one_that_was_edited(house: House, edit: str) -> None:
    fill(house, 8)
    tamper(house, f"UPDATE trail_head SET {edit}")
    assert "head was edited" in fault(house)
    assert "head was edited" in read(house).fault
    fill(house, 2)
    assert "edited before it" in fault(house)


@pytest.mark.parametrize("projected", [False, True])
def test_an_end_that_is_put_back_with_its_seal_is_found(
    house: House, monkeypatch: pytest.MonkeyPatch, projected: bool
) -> None:
    monkeypatch.setattr(house.ledger, "_follow", lambda: None)
    fill(house, 6)
    query = select(trail_head.c.seq, trail_head.c.hash, trail_head.c.seal)
    seq, hashed, sealed = house.database.read_now(lambda connection: connection.execute(query).one())
    fill(house, 2)
    if projected:
        project(house)
    back = f"seq = {seq}, hash = {literal(house, bytes(hashed))}, seal = {literal(house, bytes(sealed))}"
    tamper(house, "DELETE FROM events WHERE seq > 6", f"UPDATE trail_head SET {back}")
    assert fault(house) == "events 7 to 8 were cut off the end"
    fill(house, 1)
    project(house)
    assert "edited before it" in fault(house)
    assert [record["id"] for record in house.records(kind="audit.break")] == [7]


def test_no_checkpoint_is_made_of_an_edited_end_before_that_is_told(house: House) -> None:
    made = checkpoints.make_key(Secrets(b"s" * 32))
    key = house.run(house.ledger.commit(Act(Event(Kind.AUDIT_KEY, GATEWAY), made))).result
    fill(house, 8)
    cut_off(house)
    asked = Act(Event(Kind.AUDIT_CHECKPOINT, GATEWAY), checkpoints.make(key, always=True))
    stored = house.run(house.ledger.commit(asked)).result
    told = next(record["id"] for record in house.records() if record["kind"] == "audit.break")
    assert (told, stored.seq) == (7, 7)


def test_the_mark_follows_every_commit_and_one_that_is_not_whole_says_nothing(house: House) -> None:
    assert house.database.mark.read(TRAIL_KEY) is None
    fill(house, 2)
    assert house.database.mark.read(TRAIL_KEY) == Head(2, rows(house)[-1][2])
    path = house.database.data / "trail-mark"
    content = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    for other in (b"", content[:40], content[:8] + bytes(64), b"\xff" * 72, content + b"x"):
        path.write_bytes(other)
        assert Mark(path).read(TRAIL_KEY) is None
        assert fault(house) == ""


def test_a_mark_older_than_the_trail_is_what_a_crash_leaves(house: House) -> None:
    fill(house, 2)
    content = (house.database.data / "trail-mark").read_bytes()
    fill(house, 2)
    (house.database.data / "trail-mark").write_bytes(content)
    assert fault(house) == ""
    fill(house, 1)
    assert (fault(house), house.database.mark.read(TRAIL_KEY)) == ("", Head(5, rows(house)[-1][2]))


def test_another_end_of_the_same_length_is_found_by_the_mark_however_well_it_was_sealed() -> None:
    here, other = Head(5, b"a" * 32), Head(5, b"b" * 32)
    sealed = head_seal(here, TRAIL_KEY)

    assert fault_of_end(here, sealed, TRAIL_KEY, here, lambda *_: "") == ""
    assert fault_of_end(here, sealed, TRAIL_KEY, other, lambda *_: "") == "event 5 is not the one sealed last"


def test_the_seal_of_a_mark_is_that_of_the_head(house: House) -> None:
    fill(house, 1)
    head = Head(1, rows(house)[-1][2])
    assert (house.database.data / "trail-mark").read_bytes() == b"\0" * 7 + b"\1" + head.hash + head_seal(
        head, TRAIL_KEY
    )


def test_more_events_than_a_statement_takes_are_committed_together(house: House) -> None:
    also = tuple(Event(Kind.TAG_DELETE, GATEWAY, reference=f"v{number}") for number in range(12_000))
    house.run(house.ledger.commit(Act(Event(Kind.RETENTION_APPLY, GATEWAY), also=also)))
    assert (len(rows(house)), fault(house)) == (12_001, "")


def put_back(house: House, events_kept: int) -> None:
    """Puts back the end of the trail as it was when it had so many events, which is now."""
    query = select(trail_head.c.seq, trail_head.c.hash, trail_head.c.seal)
    seq, hashed, sealed = house.database.read_now(lambda connection: connection.execute(query).one())
    assert seq == events_kept
    for reference in ("v1", "v2", "v3"):
        house.run(house.ledger.commit(Act(Event(Kind.MANIFEST_PUSH, GATEWAY, reference=reference))))
    back = f"seq = {seq}, hash = {literal(house, bytes(hashed))}, seal = {literal(house, bytes(sealed))}"
    tamper(
        house,
        f"DELETE FROM event_index WHERE seq > {seq}",
        f"DELETE FROM events WHERE seq > {seq}",
        f"UPDATE trail_head SET {back}",
    )


def test_an_end_put_back_is_found_by_the_host_that_knows_it_though_another_has_gone_on_since(
    house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The other host has not looked at the trail meanwhile.
    monkeypatch.setattr(Descent, "keep_up", lambda _: None)
    url = house.database.engine.url.render_as_string(hide_password=False)
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    with opened(url, other) as second:
        fill(house, 5)
        fill(second, 1)
        put_back(house, 6)
        fill(second, 6)
        told = "event 9 is not the one sealed there: an older end was put back, and the trail went on"
        assert fault(house) == read(house).fault == told
        fill(house, 1)
    assert [record["detail"]["fault"] for record in house.records(kind="audit.break")] == [told]
    assert "edited before it" in fault(house)


def test_a_host_that_others_have_overtaken_goes_on_as_before(house: House, tmp_path: Path) -> None:
    url = house.database.engine.url.render_as_string(hide_password=False)
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    with opened(url, other) as second:
        for _ in range(3):
            fill(house, 2)
            fill(second, 2)
            assert fault(house) == fault(second) == read(house).fault == ""
    assert house.records(kind="audit.break") == []


def test_an_event_and_its_search_entry_that_come_while_it_is_verified_are_no_fault(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(house, 3)
    # Nobody else reads: the committer cannot wait for commits.
    monkeypatch.setattr(Descent, "keep_up", lambda _: None)
    read_now = house.database.read_now
    # Not for ever: whoever reads would never come to an end.
    left = iter(range(5))
    busy = False

    def meanwhile(query: Callable[[Connection], Any]) -> Any:
        nonlocal busy
        found = read_now(query)
        if not busy and next(left, None) is not None:
            busy = True
            fill(house, 1)
            project(house)
            busy = False
        return found

    monkeypatch.setattr(house.database, "read_now", meanwhile)
    assert fault(house) == ""
    assert next(left, None) is None
