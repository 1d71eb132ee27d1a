"""An older schema is never changed without a word, and the trail says who had it changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from gateway.initialisation import initialise
from gateway.records.migration import REVISIONS
from gateway.settings import Settings
from tests.cli.line import Line
from tests.cli.older import FIRST, make_older

NEWEST = REVISIONS[-1]
TOLD = f"The schema ({FIRST}) is older than this program; it is brought up to {NEWEST}."


@pytest.fixture
def older(line: Line) -> Line:
    """A gateway with an account, as an older program left it."""
    line.done("user", "add", "writer")
    make_older(line.folder / "gateway.db")
    return line


def test_an_older_schema_is_told_of_before_it_is_changed(older: Line) -> None:
    refused = older("user", "list")
    assert refused.status == 4
    assert "older than this program" in refused.err
    assert older.done("migrate").out.splitlines() == [TOLD, "The schema was brought up to date."]
    (event,) = older.events("--kind", "gateway.migrate")
    assert event["principal"].startswith("operator:")
    assert event["detail"] == {"from": FIRST, "to": NEWEST}
    older.done("user", "show", "writer")
    older.done("audit", "verify")
    assert older.done("migrate").out == "The schema is up to date already.\n"


def test_what_starts_on_an_older_schema_says_so_too(older: Line) -> None:
    said: list[str] = []
    assert initialise(Settings.for_data(older.folder, {}), said.append).first is False
    assert said == [TOLD]
    (event,) = older.events("--kind", "gateway.migrate")
    assert event["principal_kind"] == "system"
    older.done("audit", "verify")


def test_a_first_run_has_nothing_to_tell(tmp_path: Path) -> None:
    said: list[str] = []
    assert initialise(Settings.for_data(tmp_path / "new", {}), said.append).first
    assert said == []


def test_a_backup_that_an_older_program_made_is_brought_up(line: Line, tmp_path: Path) -> None:
    line.done("user", "add", "writer")
    taken = line.done("backup", str(tmp_path / "backups"), "--json").json
    snapshot = Path(taken["snapshot"])
    make_older(snapshot / "gateway.db")
    inventory = json.loads((snapshot / "inventory.json").read_text())
    inventory["schema"] = FIRST
    inventory["files"]["gateway.db"] = hashlib.sha256((snapshot / "gateway.db").read_bytes()).hexdigest()
    (snapshot / "inventory.json").write_text(json.dumps(inventory))
    there = Line(tmp_path / "there", line.capsys)
    restored = line.done("restore", str(snapshot), "--data", str(there.folder), "--json").json
    assert (restored["schema"], restored["migrated"]) == (FIRST, True)
    there.done("user", "show", "writer")
    there.done("audit", "verify")
