"""An export verifies with nothing but itself, a checkpoint and a key; whatever was done to it is found."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit import offline
from gateway.audit.chain import Head, Sealed, seal
from gateway.audit.checkpoints import CheckpointKey, gap
from gateway.audit.event import Event, Kind
from gateway.audit.offline import Reader, Report, Unreadable, is_signed_plainly, main, read_key, statements_in
from tests.house import GATEWAY

BEGUN = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEY = CheckpointKey.new()
PUBLIC = read_key(KEY.public_pem)


def chain(count: int, agent: str = "") -> list[Sealed]:
    head, found = Head(), []
    for number in range(1, count + 1):
        event = Event(Kind.BLOB_PULL, GATEWAY, time=BEGUN + timedelta(seconds=number), reference=agent)
        found.append(seal(head, event.record()))
        head = Head(number, found[-1].hash)
    return found


EVENTS = chain(40)
LINES = [event.line() for event in EVENTS]


def checkpoint(event: Sealed, key: CheckpointKey = KEY) -> str:
    return key.checkpoint(event.seq, Head(event.seq, event.hash), BEGUN)


def verified(lines: Sequence[str], *checkpoints: str, public: bytes | None = PUBLIC, partial: bool = False) -> Report:
    reader = Reader(public, [json.loads(each) for each in checkpoints], partial=partial)
    for line in lines:
        reader.take(line)
    return reader.end()


def test_an_untouched_export_is_whole_and_proven_up_to_its_checkpoint() -> None:
    found = verified(LINES, checkpoint(EVENTS[29]))

    assert (found.fault, found.first, found.last, found.count, found.proven) == ("", 1, 40, 40, 30)


def test_an_export_without_checkpoint_is_whole_and_proves_nothing() -> None:
    found = verified(LINES)

    assert (found.fault, found.proven) == ("", 0)


@pytest.mark.parametrize(
    ("lines", "first_bad"),
    [
        ([LINES[0].replace("blob.pull", "blob.push"), *LINES[1:]], 1),
        ([*LINES[:9], LINES[9].replace("192.0.2.7", "192.0.2.8"), *LINES[10:]], 10),
        ([*LINES[:9], *LINES[10:]], 10),
        ([*LINES[:9], LINES[10], LINES[9], *LINES[11:]], 10),
        (LINES[:30], 31),
        (LINES[1:10] + LINES[11:], 11),
        ([*LINES[:9], gap(10, 19, "purged before delivery"), *LINES[19:]], 10),
    ],
    ids=["edited first", "edited", "removed", "swapped", "cut off", "removed from a later beginning", "told gap"],
)
def test_what_was_done_to_an_export_is_named_by_its_first_bad_event(lines: list[str], first_bad: int) -> None:
    found = verified(lines, checkpoint(EVENTS[39]))

    assert found.fault
    assert found.seq == first_bad


def test_a_history_written_anew_is_whole_by_itself_and_contradicts_the_checkpoint() -> None:
    forged = [event.line() for event in chain(40, agent="forged")]

    assert verified(forged).fault == ""
    assert "not the one that the checkpoint" in verified(forged, checkpoint(EVENTS[20])).fault


def test_a_checkpoint_signed_by_somebody_else_proves_nothing() -> None:
    assert "another key" in verified(LINES, checkpoint(EVENTS[20], CheckpointKey.new())).fault


def test_a_checkpoint_in_the_export_itself_has_to_be_signed_as_well() -> None:
    """Whoever edited the export could have put one after the event that it names."""
    forged = checkpoint(EVENTS[20], CheckpointKey.new())
    redated = checkpoint(EVENTS[20]).replace('"number":21', '"number":22')

    assert verified([*LINES[:21], checkpoint(EVENTS[20]), *LINES[21:]]).proven == 21
    assert "another key" in verified([*LINES[:21], forged, *LINES[21:]]).fault
    assert "signature" in verified([*LINES[:21], redated, *LINES[21:]]).fault
    assert "another key" in verified([*LINES[:30], forged, *LINES[30:]]).fault


def test_a_checkpoint_that_was_edited_is_found() -> None:
    edited = checkpoint(EVENTS[20]).replace('"seq":21', '"seq":22')

    assert "signature" in verified(LINES, edited).fault


def test_what_a_sink_has_got_twice_is_no_fault_unless_it_differs() -> None:
    again = [*LINES[:20], checkpoint(EVENTS[19]), *LINES[10:]]
    assert verified(again).fault == ""
    assert verified(again).proven == 20

    other = chain(40, agent="forged")[15].line()
    assert "comes twice" in verified([*LINES[:20], other, *LINES[20:]]).fault


def test_a_checkpoint_that_comes_late_proves_nothing_of_what_came_in_between() -> None:
    found = verified([*LINES[:30], checkpoint(EVENTS[19]), *LINES[30:]])

    assert (found.fault, found.statements) == ("", 1)
    assert found.proven <= 20


def test_a_later_beginning_is_taken_at_its_word_and_proven_by_what_follows() -> None:
    found = verified(LINES[10:], checkpoint(EVENTS[39]))

    assert (found.fault, found.first, found.proven) == ("", 11, 30)


def test_a_partial_export_tells_its_gaps_and_proves_what_leads_up_to_a_checkpoint() -> None:
    found = verified([*LINES[:5], *LINES[9:15], *LINES[30:]], checkpoint(EVENTS[14]), partial=True)

    assert (found.fault, found.gaps, found.count, found.proven) == ("", [(6, 9), (16, 30)], 21, 6)


def test_a_purged_range_is_bridged_by_its_signed_stub_only() -> None:
    stub = KEY.purge(11, Head(10, EVENTS[9].hash), Head(20, EVENTS[19].hash), BEGUN, "0" * 64)

    found = verified([*LINES[:10], stub, *LINES[20:]], checkpoint(EVENTS[39]))
    assert (found.fault, found.purged, found.proven) == ("", 10, 30)

    forged = CheckpointKey.new().purge(11, Head(10, EVENTS[9].hash), Head(20, EVENTS[19].hash), BEGUN, "0" * 64)
    assert "another key" in verified([*LINES[:10], forged, *LINES[20:]]).fault
    assert "missing" in verified([*LINES[:10], *LINES[20:]]).fault


def test_a_stub_tells_of_an_edited_end_among_what_was_purged() -> None:
    ends = 11, Head(10, EVENTS[9].hash), Head(20, EVENTS[19].hash)
    told = KEY.purge(*ends, BEGUN, "0" * 64, broken=14)

    found = verified([*LINES[:10], told, *LINES[20:]], checkpoint(EVENTS[39]))
    assert (found.fault, found.seq) == ("event 14 tells that the trail's end was edited before it", 14)
    silenced = told.replace('"broken":14,', "")
    assert silenced != told
    assert "signature" in verified([*LINES[:10], silenced, *LINES[20:]]).fault
    assert "broken" not in KEY.purge(*ends, BEGUN, "0" * 64)


def stub(first: int, last: int, hashed: bytes | None = None, key: CheckpointKey = KEY) -> str:
    before = Head(first - 1, EVENTS[first - 2].hash) if first > 1 else Head()
    return key.purge(first, before, Head(last, hashed or EVENTS[last - 1].hash), BEGUN, "0" * 64)


def test_a_checkpoint_of_the_event_that_a_stub_ends_with_is_compared_with_it() -> None:
    assert verified([stub(1, 20), *LINES[20:]], checkpoint(EVENTS[19])).uncompared == []

    other = chain(40, agent="written anew")
    forged = [stub(1, 20, other[19].hash), *(event.line() for event in other[20:])]
    assert verified(forged).fault == ""
    assert "event 20 is not the one that the checkpoint" in verified(forged, checkpoint(EVENTS[19])).fault


@pytest.mark.parametrize("partial", [False, True])
def test_a_checkpoint_of_a_purged_event_cannot_be_compared(partial: bool) -> None:
    given = (checkpoint(EVENTS[9]), checkpoint(EVENTS[39]))

    found = verified([stub(1, 20), *LINES[20:]], *given, partial=partial)
    assert (found.fault, found.uncompared, found.proven) == ("", [10], 20)


def test_a_checkpoint_of_an_event_before_the_first_is_not_compared_unless_events_may_be_missing() -> None:
    assert verified(LINES[20:], checkpoint(EVENTS[9])).uncompared == [10]
    assert verified(LINES[20:], checkpoint(EVENTS[9]), partial=True).uncompared == []
    assert verified([*LINES[:10], checkpoint(EVENTS[9]), *LINES[10:]], checkpoint(EVENTS[9])).uncompared == []


def test_a_purge_from_the_first_event_on_follows_nothing() -> None:
    forged = KEY.purge(1, Head(0, b"x" * 32), Head(20, EVENTS[19].hash), BEGUN, "0" * 64)

    assert "does not follow" in verified([forged, *LINES[20:]]).fault


def test_a_stub_of_events_that_are_there_agrees_with_them() -> None:
    assert verified([*LINES, stub(11, 20)]).fault == ""
    assert "not the one that the purge" in verified([*LINES, stub(11, 20, b"x" * 32)]).fault


def test_the_command_fails_for_a_checkpoint_that_was_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export, key, named = tmp_path / "e", tmp_path / "k", tmp_path / "c"
    export.write_text("\n".join([stub(1, 20), *LINES[20:]]) + "\n")
    key.write_text(KEY.public_pem)
    named.write_text(checkpoint(EVENTS[9]))

    assert main([str(export), "--checkpoint", str(named), "--key", str(key)]) == 1
    said = capsys.readouterr().out
    assert "NOT COMPARED: checkpoints of events that were purged, or are not in the export: 10." in said
    assert main([str(export)]) == 0
    assert "their signatures not looked at" in capsys.readouterr().out


def packed(event: Sealed, **changes: object) -> str:
    return json.dumps({"seq": event.seq, "hash": event.hash.hex(), "body": event.body, **changes})


@pytest.mark.parametrize(
    "forged",
    [
        LINES[4].replace("blob.pull", "project.remove"),
        json.dumps({**EVENTS[4].record(), "kind": "project.remove"}),
        packed(EVENTS[4], body=EVENTS[4].body.replace("blob.pull", "project.remove")),
    ],
    ids=["sealed", "shown", "packed"],
)
def test_an_event_that_comes_again_with_its_hash_and_other_content_is_found(forged: str) -> None:
    found = verified([*LINES[:20], forged, *LINES[20:]], checkpoint(EVENTS[39]))

    assert (found.fault, found.seq) == ("event 5 comes twice, and not the same", 5)


@pytest.mark.parametrize(
    "forged",
    [
        '{"id":6,"kind":"project.remove","outcome":"allowed"}',
        '{"type":"note","seq":41,"text":"all is well"}',
        '{"kind":"project.remove"}',
        packed(EVENTS[20], seq=7),
        packed(EVENTS[20], kind="project.remove"),
    ],
)
def test_a_line_that_is_neither_sealed_nor_signed_is_refused(forged: str) -> None:
    assert "is no event, and no statement" in verified([*LINES[:20], forged, *LINES[20:]]).fault


def test_a_member_that_comes_twice_is_refused() -> None:
    shown = json.dumps(EVENTS[20].record())
    twice = '{"kind": "project.remove", ' + shown[1:]

    assert verified([*LINES[:20], shown, *LINES[21:]]).fault == ""
    with pytest.raises(Unreadable, match="not a line"):
        verified([*LINES[:20], twice, *LINES[21:]])


def test_lines_of_a_pack_verify_too() -> None:
    assert verified([packed(event) for event in EVENTS], checkpoint(EVENTS[39])).proven == 40


def test_events_as_readers_are_shown_them_verify_too() -> None:
    shown = [json.dumps({**dict.fromkeys(("project", "digest", "reason"), ""), **event.record()}) for event in EVENTS]

    assert verified(shown, checkpoint(EVENTS[39])).proven == 40


def test_lines_behind_a_syslog_header_verify_too() -> None:
    logged = [f"<110>1 2026-11-24T12:00:00Z host gateway - blob.pull - {line}" for line in LINES]

    assert verified(logged, checkpoint(EVENTS[39])).proven == 40


@pytest.mark.parametrize(
    "line",
    [
        '{"type":"purge","first":1e400,"seq":3}',
        '{"type":"purge","first":1,"seq":3,"broken":1e400}',
        '{"type":"purge","first":1,"seq":3,"broken":null}',
        '{"type":"checkpoint","seq":-1e400}',
        '{"type":"gap","first":[],"last":2}',
        '{"type":"gap","first":1e400,"last":2}',
        '{"a":' + "[" * 100_000,
    ],
    ids=range(7),
)
def test_a_line_that_says_no_number_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    export = tmp_path / "export.jsonl"
    export.write_text("\n".join([*LINES, line, ""]))
    assert main([str(export)]) in {1, 2}
    told = capsys.readouterr()
    assert (told.out + told.err).count("\n") == 1


@pytest.mark.parametrize("seq", ["1e400", '"3"', "null", "[]"])
def test_what_names_no_event_is_no_checkpoint(seq: str) -> None:
    line = checkpoint(EVENTS[3]).replace('"seq":4', f'"seq":{seq}')
    assert f'"seq":{seq}' in line
    with pytest.raises(Unreadable, match="no checkpoint"):
        statements_in([line])


@settings(deadline=None)
@given(st.text(max_size=80), st.integers(1, 39))
def test_no_other_line_in_the_place_of_an_event_is_whole(text: str, place: int) -> None:
    lines = [*LINES]
    lines[place] = text.replace("\n", " ").replace("\r", " ")
    try:
        found = verified(lines, checkpoint(EVENTS[39]))
    except (Unreadable, ValueError, KeyError, TypeError, AttributeError):
        return
    assert found.fault


@settings(deadline=None, max_examples=20)
@given(st.binary(max_size=200))
def test_the_plain_verification_agrees_with_the_library(message: bytes) -> None:
    private = Ed25519PrivateKey.generate()
    public, signature = private.public_key().public_bytes_raw(), private.sign(message)

    assert is_signed_plainly(public, signature, message)
    assert not is_signed_plainly(public, signature, message + b"!")
    assert not is_signed_plainly(public, signature[:-1] + bytes([signature[-1] ^ 1]), message)
    assert not is_signed_plainly(KEY.private.public_key().public_bytes_raw(), signature, message)
    # RFC 8032 §5.1.7: of one signature no second one is made by adding the group's order to its scalar.
    again = int.from_bytes(signature[32:], "little") + 2**252 + 27742317777372353535851937790883648493
    assert not is_signed_plainly(public, signature[:32] + again.to_bytes(32, "little"), message)


def test_the_module_copied_alone_verifies_with_python_alone(tmp_path: Path) -> None:
    shutil.copy(str(offline.__file__), tmp_path / "offline.py")
    (tmp_path / "key.pem").write_text(KEY.public_pem)
    (tmp_path / "checkpoint.json").write_text(checkpoint(EVENTS[39]) + "\n")
    (tmp_path / "export.jsonl.gz").write_bytes(gzip.compress("".join(f"{line}\n" for line in LINES).encode()))
    command = [sys.executable, "-I", "-S", "offline.py", "export.jsonl.gz", "--checkpoint", "checkpoint.json"]

    ended = subprocess.run([*command, "--key", "key.pem"], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert ended.returncode == 0, ended.stderr
    assert "Whole: 40 events, 1 to 40" in ended.stdout
    assert "Proven by 1 signed statement: 40 events" in ended.stdout


def test_the_command_says_what_is_wrong_and_ends_accordingly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export, key, named = tmp_path / "e", tmp_path / "k", tmp_path / "c"
    export.write_text("\n".join(LINES[:30]) + "\n")
    key.write_text(KEY.public_pem)
    named.write_text(checkpoint(EVENTS[39]))

    assert main([str(export)]) == 0
    assert "Not proven by a signature: 30 events" in capsys.readouterr().out
    assert main([str(export), "--checkpoint", str(named), "--key", str(key)]) == 1
    assert "events 31 to 40 are missing from the end" in capsys.readouterr().out
    assert main([str(export), "--checkpoint", str(named)]) == 2
    assert "--key" in capsys.readouterr().err
    assert main([str(export), "--checkpoint", str(export), "--key", str(key)]) == 2
    assert main([str(tmp_path / "missing")]) == 2
    key.write_text("no key")
    assert main([str(export), "--key", str(key)]) == 2


def test_a_line_of_an_export_is_what_was_sealed() -> None:
    event = chain(1, agent='ü\n"{')[0]

    assert Sealed.of_line(event.line()) == event
    assert json.loads(event.line()) == event.record()
    with pytest.raises(ValueError, match="line"):
        Sealed.of_line("{}")


def test_a_file_without_a_checkpoint_is_refused() -> None:
    with pytest.raises(Unreadable, match="no checkpoint"):
        statements_in(LINES)


def test_a_sealed_key_opens_under_its_secret_only() -> None:
    sealed = KEY.sealed(b"s" * 32)

    assert CheckpointKey.opened(sealed, KEY.kid, b"s" * 32).public_pem == KEY.public_pem
    with pytest.raises(Exception, match="same backup"):
        CheckpointKey.opened(sealed, KEY.kid, b"t" * 32)
    assert "PRIVATE" not in repr(KEY)
