"""What `make check` says of advisories: a hole fails, a network that is down does not, and neither is silent."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.supply.advisories import LOCKS, ROOT, main, read

CLEAN = {"name": "sound", "version": "1.0", "vulns": []}
HOLE = {"name": "holed", "version": "0.9", "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["1.0"], "aliases": []}]}
UNKNOWN = {"name": "odd", "skip_reason": "Dependency not found on PyPI and could not be audited: odd (1.0)"}


def auditor(tmp_path: Path, *, says: str = "", complains: str = "", status: int = 0) -> Sequence[str]:
    """A program in pip-audit's place."""
    script = tmp_path / "auditor.py"
    script.write_text(
        f"import sys\nprint({says!r}, end='')\nprint({complains!r}, file=sys.stderr)\nsys.exit({status})\n"
    )
    return (sys.executable, str(script))


def report(*entries: object) -> str:
    return json.dumps({"dependencies": entries, "fixes": []})


@pytest.mark.parametrize("strict", [[], ["--strict"]])
def test_what_is_sound_passes(tmp_path: Path, strict: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*strict, "a.lock"], auditor(tmp_path, says=report(CLEAN, CLEAN))) == 0
    assert "2 packages, no known holes" in capsys.readouterr().out


def test_a_hole_fails_and_says_what_mends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["a.lock"], auditor(tmp_path, says=report(CLEAN, HOLE), status=1)) == 1
    assert "HOLE holed 0.9: PYSEC-2026-1, mended in 1.0" in capsys.readouterr().out


@pytest.mark.parametrize(("strict", "status"), [([], 0), (["--strict"], 1)])
@pytest.mark.parametrize(
    ("says", "complains", "told"),
    [
        ("", "requests.exceptions.ConnectionError: no such host", "cannot be reached (requests"),
        ("<html>a portal</html>", "", "gave no report"),
        (report(CLEAN, UNKNOWN), "", "1 of 2 NOT CHECKED: the advisories do not know odd"),
    ],
)
def test_an_advisory_that_cannot_be_asked_for_is_told_and_fails_only_the_strict(
    tmp_path: Path,
    strict: list[str],
    status: int,
    says: str,
    complains: str,
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*strict, "a.lock"], auditor(tmp_path, says=says, complains=complains, status=1)) == status
    said = capsys.readouterr().out
    assert "NOT CHECKED" in said
    assert told in said


def test_a_hole_counts_whatever_else_could_not_be_asked() -> None:
    answer = read(report(UNKNOWN, HOLE))
    assert (len(answer.holes), answer.unasked) == (1, ("odd",))


def test_every_lock_is_asked_about() -> None:
    assert {path.name for path in ROOT.glob("*.lock")} == set(LOCKS)
