"""Asks whether anything that is locked has a known hole: `python -m tests.supply.advisories [LOCK…]`.

The exit status is 1 only if there is one. An advisory that could not be asked for is told aloud and fails nothing, so
that a network that is down does not look like a hole; `--strict` is for those who will not release without an answer.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-dev.lock")
SECONDS = 180


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of one lock: its holes, the packages nobody answered for, and how many there are in all."""

    holes: tuple[str, ...] = ()
    unasked: tuple[str, ...] = ()
    packages: int = 0
    trouble: str = ""

    @property
    def told(self) -> str:
        if self.trouble:
            return f"NOT CHECKED: {self.trouble}"
        if self.unasked:
            return (
                f"{len(self.unasked)} of {self.packages} NOT CHECKED: the advisories do not know {_few(self.unasked)}"
            )
        return f"{self.packages} packages, {len(self.holes) or 'no'} known holes"


def read(report: str) -> Answer:
    """The answer in a report of pip-audit; one that is garbled is no answer."""
    try:
        entries: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return Answer(trouble="pip-audit gave no report")
    holes = [
        f"{entry['name']} {entry['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'no version'}"
        for entry in entries
        for hole in entry.get("vulns", ())
    ]
    unasked = [entry["name"] for entry in entries if "skip_reason" in entry]
    return Answer(tuple(holes), tuple(unasked), len(entries))


def ask(lock: Path, command: Sequence[str] = ()) -> Answer:
    """Asks for everything in *lock*; nothing is installed or resolved. *command* stands in for pip-audit."""
    program = command or _program()
    if not program:
        return Answer(trouble="pip-audit is not installed; run `make develop`")
    options = ("--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off", "-r", str(lock))
    try:
        ended = subprocess.run([*program, *options], capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return Answer(trouble=f"no answer within {SECONDS} seconds")
    if not ended.stdout.strip():
        last = (ended.stderr.strip().splitlines() or ["no word why"])[-1]
        return Answer(trouble=f"the advisories cannot be reached ({last[:160]})")
    return read(ended.stdout)


def _program() -> Sequence[str]:
    beside = Path(sys.executable).with_name("pip-audit")
    found = str(beside) if beside.exists() else shutil.which("pip-audit")
    return (found,) if found else ()


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def main(argv: Sequence[str], command: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.supply.advisories", description=__doc__)
    parser.add_argument("locks", nargs="*", type=Path, default=[ROOT / name for name in LOCKS])
    parser.add_argument("--strict", action="store_true", help="fail as well when something could not be asked for")
    asked = parser.parse_args(argv)
    status = 0
    for lock in asked.locks:
        answer = ask(lock, command)
        print(f"advisories: {lock.name}: {answer.told}")
        for hole in answer.holes:
            print(f"advisories: {lock.name}: HOLE {hole}")
        if answer.holes or (asked.strict and (answer.trouble or answer.unasked)):
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
