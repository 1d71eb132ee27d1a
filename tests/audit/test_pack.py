"""The evidence pack: verified with Python alone, and nothing that is in it runs."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gateway.audit.chain import Head, Sealed, canonical, seal
from gateway.audit.checkpoints import CheckpointKey
from gateway.audit.pack import Pack, Told

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(1)> \" ' &amp; javascript:"


def a_pack(*, chained: bool = True, checkpoint: bool = False, text: str = HOSTILE) -> Pack:
    finding = {"number": 1, "rule": "moved_tags", "subject": text, "summary": text, "events": [1, 2]}
    said = {"mark": "fine", "note": text, "marked_by": text, "count": 2}
    review = canonical(
        {
            "review": 4,
            "project": "" if chained else "gallery",
            "since": "2026-11-01T00:00:00+00:00",
            "until": "2026-12-01T00:00:00+00:00",
            "begun_by": text,
            "note": text,
            "runs": [{"rule": "moved_tags", "found": 1, "whole": True}],
            "findings": [{**finding, **said}],
        }
    )
    content = hashlib.sha256(review.encode()).hexdigest()
    chain = [seal(Head(), {"time": "t", "kind": "manifest.push", "outcome": "allowed", "agent": text})]
    chain.append(seal(Head(1, chain[0].hash), {"time": "t", "kind": "tag.delete", "outcome": "allowed"}))
    signed = {"kind": "review.sign_off", "outcome": "allowed", "detail": {"review": 4}, "after": {"content": content}}
    chain.append(seal(Head(2, chain[1].hash), signed))
    exported = {"kind": "review.export", "outcome": "allowed", "detail": {"review": 4, "first": 1}}
    chain.append(seal(Head(3, chain[2].hash), exported))
    by_number = {event.seq: event for event in chain}
    said_of_head: Mapping[str, object] | None = {"seq": 4, "hash": chain[3].hash.hex()} if checkpoint else None
    told = Told("Review 4", "every project", review, content, "2026-12-02", text, {"moved_tags": ("Moved", "Why.")})
    return Pack(told, lambda: iter(chain), by_number.get, said_of_head, chained)


def unpacked(pack: Pack, folder: Path) -> Path:
    stream = io.BytesIO()
    pack.zipped(stream)
    with zipfile.ZipFile(stream) as archive:
        archive.extractall(folder)
    return folder


def verified(folder: Path) -> subprocess.CompletedProcess[str]:
    # No gateway and nothing of it is within reach of the verifier.
    command = [sys.executable, "-I", "-S", "verify.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("chained", [True, False])
@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_pack_verifies_by_itself(tmp_path: Path, chained: bool, checkpoint: bool) -> None:
    folder = unpacked(a_pack(chained=chained, checkpoint=checkpoint), tmp_path)
    said = verified(folder)
    assert (said.returncode, said.stderr) == (0, "")
    assert "4 events are as they were sealed" in said.stdout
    assert ("one chain without gaps" in said.stdout) == chained
    readme = (folder / "README.txt").read_text()
    assert ("No event is missing" in readme) == chained
    assert ("checkpoint.json" in readme) == checkpoint == (folder / "checkpoint.json").exists()
    assert "|" not in readme


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("review.json", '"mark":"fine"', '"mark":"none"'),
        ("events.jsonl", "tag.delete", "tag.remove"),
        ("checkpoint.json", '"hash": "', '"hash": "00'),
    ],
)
def test_whatever_is_changed_is_found(tmp_path: Path, file: str, old: str, new: str) -> None:
    folder = unpacked(a_pack(checkpoint=True), tmp_path)
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    said = verified(folder)
    assert said.returncode == 1
    assert said.stdout.startswith("NOT VERIFIED")


def test_an_event_that_is_missing_is_found(tmp_path: Path) -> None:
    folder = unpacked(a_pack(), tmp_path)
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    (folder / "events.jsonl").write_text(lines[0] + lines[2])
    assert "an event is missing" in verified(folder).stdout


@pytest.mark.parametrize("checkpoint", [True, False])
def test_events_cut_off_the_front_of_a_pack_are_found(tmp_path: Path, checkpoint: bool) -> None:
    folder = unpacked(a_pack(checkpoint=checkpoint), tmp_path)
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    (folder / "events.jsonl").write_text("".join(lines[1:]))
    said = verified(folder)
    assert (said.returncode, said.stdout) == (1, "NOT VERIFIED: the events begin with event 2, and not with event 1\n")


def test_events_cut_off_the_end_of_a_pack_are_found_by_its_checkpoint(tmp_path: Path) -> None:
    folder = unpacked(a_pack(checkpoint=True), tmp_path)
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    (folder / "events.jsonl").write_text("".join(lines[:-1]))
    said = verified(folder)
    assert said.returncode == 1
    assert "the events end before event 4, which checkpoint.json names" in said.stdout


def test_a_pack_that_no_event_says_the_beginning_of_is_not_verified(tmp_path: Path) -> None:
    folder = unpacked(a_pack(), tmp_path)
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    (folder / "events.jsonl").write_text("".join(lines[:-1]))
    assert "no event of an export says" in verified(folder).stdout


def test_a_packs_checkpoint_is_verified_with_nothing_but_the_public_key(tmp_path: Path) -> None:
    pack, key, other = a_pack(), CheckpointKey.new(), CheckpointKey.new()
    last = list(pack.events())[-1]
    statement = json.loads(key.checkpoint(1, Head(last.seq, last.hash), datetime(2026, 12, 2, tzinfo=UTC)))
    folder = unpacked(replace(pack, checkpoint=statement), tmp_path)
    (folder / "key.pem").write_text(key.public_pem)
    (folder / "other.pem").write_text(other.public_pem)
    assert "offline.py events.jsonl --checkpoint checkpoint.json --key key.pem" in (folder / "README.txt").read_text()
    said = signature_verified(folder, "key.pem")
    assert (said.returncode, said.stderr) == (0, "")
    assert "Proven by 1 signed statement: 4 events" in said.stdout
    assert "another key" in signature_verified(folder, "other.pem").stdout
    (folder / "checkpoint.json").write_text(json.dumps({**statement, "number": 2}))
    assert "is not right" in signature_verified(folder, "key.pem").stdout
    (folder / "checkpoint.json").write_text(json.dumps(statement))
    text = (folder / "events.jsonl").read_text()
    (folder / "events.jsonl").write_text(text.replace("tag.delete", "tag.remove"))
    assert signature_verified(folder, "key.pem").returncode == 1
    (folder / "events.jsonl").write_text("".join(text.splitlines(keepends=True)[:-1]))
    assert "missing from the end" in signature_verified(folder, "key.pem").stdout


def signature_verified(folder: Path, key: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-I",
        "-S",
        "offline.py",
        "events.jsonl",
        "--checkpoint",
        "checkpoint.json",
        "--key",
        key,
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        assert not any(name.startswith("on") or name in {"src", "href"} for name, _ in attrs)


def test_the_page_holds_no_script_whatever_clients_wrote(tmp_path: Path) -> None:
    page = (unpacked(a_pack(), tmp_path) / "review.html").read_text()
    tags = _Tags()
    tags.feed(page)
    assert not {"script", "img", "iframe", "link"} & set(tags.found)
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page


def test_a_line_is_the_sealed_text_unchanged(tmp_path: Path) -> None:
    folder = unpacked(a_pack(text="ünï \u2028 code"), tmp_path)
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    pack = a_pack(text="ünï \u2028 code")
    assert [Sealed(line["seq"], line["body"], bytes.fromhex(line["hash"])) for line in lines] == list(pack.events())
