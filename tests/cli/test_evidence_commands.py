"""`gateway audit key`, `checkpoint`, `verify --against`, `sinks` and `retain` as operators use them."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.access.secrets import Secrets
from gateway.app import opened
from gateway.audit.chain import Head
from gateway.audit.event import Event, Kind
from gateway.audit.offline import main
from gateway.backup import taking
from gateway.cli.words import before
from gateway.gate import Act
from gateway.initialisation import initialise
from gateway.records.database import Database
from gateway.records.ledger import SqlLedger
from gateway.records.migration import migrate
from gateway.records.trail import project_tail
from gateway.settings import Settings
from tests.cli.line import Line
from tests.house import GATEWAY, OPERATOR


def project(folder: Path) -> None:
    """Lets the search entries follow the trail."""
    with (
        opened(Settings.for_data(folder, {})) as rooms,
        rooms.database.lock(),
        rooms.database.engine.connect() as connection,
    ):
        while project_tail(rooms.database, connection):
            pass


def test_an_exported_trail_verifies_offline_with_an_exported_key_and_checkpoint(
    furnished: Line, tmp_path: Path
) -> None:
    key, named, export = tmp_path / "key.pem", tmp_path / "checkpoint.json", tmp_path / "export.jsonl"
    furnished.done("audit", "key", "--output", str(key))
    assert furnished.done("audit", "key").out == key.read_text()
    furnished.done("audit", "checkpoint", "--output", str(named))
    furnished.done("audit", "export", "--output", str(export))

    assert main([str(export), "--checkpoint", str(named), "--key", str(key)]) == 0
    said = furnished.done("audit", "verify", "--against", str(named), "--key", str(key))
    assert "holds what 1 of 1 checkpoints name" in said.out

    export.write_text(export.read_text().replace('"outcome":"allowed"', '"outcome":"denied"', 1))
    assert main([str(export), "--checkpoint", str(named), "--key", str(key)]) == 1


def test_a_data_directory_that_was_put_back_contradicts_its_later_checkpoint(furnished: Line, tmp_path: Path) -> None:
    shutil.copytree(furnished.folder, tmp_path / "older")
    furnished.done("user", "list")
    named = tmp_path / "checkpoint.json"
    furnished.done("audit", "checkpoint", "--output", str(named))
    furnished.done("audit", "key", "--output", str(tmp_path / "key.pem"))
    older = Line(tmp_path / "older", furnished.capsys)

    assert older("audit", "verify").status == 0
    said = older("audit", "verify", "--against", str(named), "--key", str(tmp_path / "key.pem"))

    assert said.status == 1
    assert "are gone" in said.err or "not the one" in said.err


def test_all_checkpoints_are_printed_one_a_line(line: Line) -> None:
    line.done("audit", "checkpoint")
    numbers = [json.loads(row)["number"] for row in line.done("audit", "checkpoint", "--all").out.splitlines()]

    assert numbers == [1, 2]


def test_what_is_no_checkpoint_or_key_is_wrong_input(line: Line, tmp_path: Path) -> None:
    (tmp_path / "nothing").write_text("{}\n")
    for words in (
        ("audit", "verify", "--against", str(tmp_path / "missing")),
        ("audit", "verify", "--against", str(tmp_path / "nothing")),
        ("audit", "verify", "--key", str(tmp_path / "nothing")),
        ("audit", "retain", "--older-than", "soon"),
        ("audit", "retain", "--older-than", "13mo", "--purge-older-than", "2mo"),
        ("audit", "key", "--output", "/nowhere/key.pem"),
    ):
        said = line(*words)
        assert (said.status, said.err.count("\n")) == (2, 1), words
    line.done("audit", "checkpoint", "--output", str(tmp_path / "checkpoint"))
    missing = line("audit", "verify", "--against", str(tmp_path / "missing"))
    assert missing.err == f"gateway: {tmp_path}/missing cannot be read: no such file or directory.\n"
    without = line("audit", "verify", "--against", str(tmp_path / "nothing"))
    assert without.err.startswith(f"gateway: There is no checkpoint in {tmp_path}/nothing; make one with: ")
    wrong = line("audit", "verify", "--against", str(tmp_path / "checkpoint"), "--key", str(tmp_path / "nothing"))
    assert (wrong.status, "Ed25519" in wrong.err) == (2, True)


def test_sinks_are_listed_with_their_lag(line: Line) -> None:
    assert line.done("audit", "sinks", "--json").json == []
    with sqlite3.connect(line.folder / "gateway.db") as database:
        row = "INSERT INTO sinks VALUES ('siem', 'syslog', 'logs:6514', 0, 0, NULL, 1790000000, 'refused', 1)"
        database.execute(row)
    database.close()

    (sink,) = line.done("audit", "sinks", "--json").json
    assert (sink["name"], sink["delivered_to"], sink["state"]) == ("siem", 0, "failing: refused")
    assert sink["lag_events"] >= 1
    assert "failing: refused" in line.done("audit", "sinks").out


@pytest.fixture
def aged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Line:
    """A trail whose oldest events are of March 2025."""

    folder = tmp_path / "data"
    folder.mkdir()
    Secrets.create(folder / "keys")
    migrate(f"sqlite:///{folder / 'gateway.db'}", folder)

    database = Database.open(f"sqlite:///{folder / 'gateway.db'}", folder)
    ledger = SqlLedger(database, Secrets.load(folder / "keys").trail)
    ledger.start()

    async def all_of_them() -> None:
        for _ in range(20):
            await ledger.commit(Act(Event(Kind.BLOB_PULL, GATEWAY, time=datetime(2025, 3, 1, tzinfo=UTC))))

    asyncio.run(all_of_them())
    ledger.close()
    database.close()
    initialise(Settings.for_data(folder, {}))
    project(folder)
    return Line(folder, capsys)


def purging(aged: Line, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """What the backup does in *step* is preceded by a purge of the oldest events."""
    real, purged = getattr(taking, step), list[bool]()
    monkeypatch.setattr("gateway.administration.evidence.SETTLED", timedelta(0))

    def late(*arguments: Any) -> Any:
        if not purged:
            purged.append(True)
            aged.done("audit", "retain", "--older-than", "13mo", "--purge-older-than", "14mo")
        return real(*arguments)

    monkeypatch.setattr(taking, step, late)


@pytest.mark.parametrize("step", ["bring_blobs", "copy"])
def test_a_backup_during_which_old_events_are_purged_can_be_restored(
    aged: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    aged.done("audit", "retain", "--older-than", "13mo")
    purging(aged, monkeypatch, step)
    aged.done("backup", str(tmp_path / "backup"))
    assert list((aged.folder / "segments").iterdir()) == []
    there = Line(tmp_path / "there", aged.capsys)
    there.done("restore", str(tmp_path / "backup"))
    purged = "were purged" if step == "bring_blobs" else "20 were purged"
    assert purged in there.done("audit", "verify").out


def test_no_backup_is_made_of_a_trail_that_has_lost_a_segment(aged: Line, tmp_path: Path) -> None:
    aged.done("audit", "retain", "--older-than", "13mo")
    [file] = (aged.folder / "segments").iterdir()
    file.unlink()
    said = aged("backup", str(tmp_path / "backup"))
    assert said.status == 5
    assert f"segments/{file.name} is missing here" in said.err
    assert list((tmp_path / "backup" / "snapshots").iterdir()) == []


def test_old_months_are_planned_sealed_listed_exported_and_verified(
    aged: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = aged.done("audit", "retain", "--older-than", "13mo", "--plan", "--json").json
    assert [(month["month"], month["events"]) for month in plan["months"]] == [("2025-03", 20)]
    assert "2025-03" in aged.done("audit", "retain", "--older-than", "13mo", "--plan").out
    assert not (aged.folder / "segments").exists()

    receipt = aged.done("audit", "retain", "--older-than", "13mo", "--json").json
    assert receipt["events"] == 20

    assert "20 of them are in segments, 0 were purged" in aged.done("audit", "verify").out
    said = aged.done("audit", "list")
    assert "Events up to 20, of 2025-03-01, are sealed away in 1 file" in said.err
    assert "--since 2025-03-01 looks through them" in said.err
    found = aged.done("audit", "list", "--kind", "blob.pull", "--since", "2025-03-01", "--json")
    assert (len(found.json), found.err) == (20, "")
    assert len(aged.done("audit", "export", "--kind", "blob.pull", "--since", "2025-03-01").out.splitlines()) == 20
    traced = aged.done("audit", "who-pulled", f"sha256:{'a' * 64}")
    assert "--sealed looks through them too" in traced.err
    assert "sealed away" not in aged.done("audit", "who-pulled", f"sha256:{'a' * 64}", "--sealed").err
    assert len(aged.done("audit", "export", "--kind", "blob.pull").out.splitlines()) == 20
    assert aged.done("audit", "show", "7").out
    assert aged.done("audit", "retain", "--older-than", "13mo").out.startswith("Sealed 0 events")

    waiting = aged.done("audit", "retain", "--older-than", "13mo", "--purge-older-than", "14mo")
    assert "1 files were sealed less than a day ago" in waiting.out
    monkeypatch.setattr("gateway.administration.evidence.SETTLED", timedelta(0))
    purged = aged.done("audit", "retain", "--older-than", "13mo", "--purge-older-than", "14mo")
    assert "Removed 20 events for good" in purged.out
    assert "files were purged less than a day ago" not in purged.out
    assert "0 of them are in segments, 20 were purged" in aged.done("audit", "verify").out


class Ahead(datetime):
    """A clock that is eight years ahead."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.now(tz) + timedelta(days=8 * 366)


def test_ages_are_not_counted_from_a_clock_that_is_far_ahead_of_the_newest_event(
    aged: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.cli.evidence.datetime", Ahead)
    monkeypatch.setattr("gateway.administration.evidence.datetime", Ahead)
    words = ("audit", "retain", "--older-than", "13mo", "--purge-older-than", "7y")
    for more in (("--plan",), (), ()):
        said = aged.done(*words, *more)
        assert "ages were counted from" in said.err
        assert "--by-clock" in said.err
    assert "20 of them are in segments, 0 were purged" in aged.done("audit", "verify").out
    planned = aged.done(*words, "--plan", "--by-clock")
    assert planned.err == f"There is nothing to seal from before {before('13mo', Ahead.now(UTC)):%Y-%m-%d}.\n"


def test_a_checkpoint_whose_event_was_purged_fails_the_verification(
    aged: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.administration.evidence.SETTLED", timedelta(0))
    with opened(Settings.for_data(aged.folder, {})) as rooms:
        key = asyncio.run(rooms.administration.evidence.signing_key(OPERATOR))
        event = rooms.trail.event(7)
    assert event is not None
    named, pem = tmp_path / "checkpoint.json", tmp_path / "key.pem"
    named.write_text(key.checkpoint(1, Head(7, event.hash), datetime(2025, 3, 1, tzinfo=UTC)) + "\n")
    pem.write_text(key.public_pem)
    words = ("audit", "verify", "--against", str(named), "--key", str(pem))
    assert "holds what 1 of 1 checkpoints name" in aged.done(*words).out
    aged.done("audit", "retain", "--older-than", "13mo")
    aged.done("audit", "retain", "--older-than", "13mo", "--purge-older-than", "14mo")

    said = aged(*words)
    assert (said.status, "1 checkpoint cannot be compared" in said.err) == (1, True)
    told = aged(*words, "--json").json
    assert (told["whole"], told["fault"], told["checkpoints"], told["uncompared"]) == (False, None, 0, 1)


def test_a_backup_takes_the_segments_along(aged: Line, tmp_path: Path) -> None:
    aged.done("audit", "retain", "--older-than", "13mo")
    aged.done("backup", str(tmp_path / "backup"))

    aged.done("restore", str(tmp_path / "backup"), "--data", str(tmp_path / "restored"))

    restored = Line(tmp_path / "restored", aged.capsys)
    assert "20 of them are in segments" in restored.done("audit", "verify").out
