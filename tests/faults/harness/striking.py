"""How a process of the gateway is struck: a plan in a file that it reads, and a log of what was struck."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

INJECT = Path(__file__).parent / "inject"
_MOMENT_SECONDS = 0.1


class Mode(StrEnum):
    KILL = "kill"
    ERROR = "error"
    TRACE = "trace"
    """Nothing is struck, and every step is told."""


class Part(StrEnum):
    BEFORE = "before"
    AFTER = "after"
    """The step is done, and the process dies or hears of a failure all the same."""
    TORN = "torn"
    """Of what was to be written, a half is."""


#: Steps that change the disk, and those of a writing transaction.
FILES = ("create", "write", "sync", "truncate", "rename", "link", "unlink", "mkdir")
STATEMENTS = ("statement", "commit")
CHANGES = (*FILES, *STATEMENTS)


@dataclass(frozen=True, slots=True)
class Strike:
    """
    What is struck: the step with the number *at*, of those of *kinds* whose path or statement has *about* in it.

    *times* in a row, 0 for every one from there on. *errno* is what a failing step fails with.
    """

    mode: Mode
    at: int = 1
    part: Part = Part.BEFORE
    kinds: Sequence[str] = CHANGES
    times: int = 1
    errno: int = 5
    about: str = ""


@dataclass(slots=True)
class Target:
    """The processes that share one plan."""

    folder: Path
    name: str
    _serial: int = field(default=0)

    @property
    def plan(self) -> Path:
        return self.folder / f"{self.name}.plan"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.struck"

    def environment(self) -> dict[str, str]:
        """What a process needs that is to be struck."""
        path = os.pathsep.join([str(INJECT), *filter(None, [os.environ.get("PYTHONPATH", "")])])
        return {"PYTHONPATH": path, "FAULTS_PLAN": str(self.plan), "FAULTS_LOG": str(self.log)}

    def arm(self, strike: Strike | None = None, *, offset_seconds: float = 0.0, lie: str = "") -> None:
        """Has the process go by this from its next step on; the log begins anew."""
        self.log.unlink(missing_ok=True)
        told: dict[str, object] = {"offset_seconds": offset_seconds, "lie": lie}
        if strike is not None:
            told |= {
                "mode": strike.mode,
                "at": strike.at,
                "part": strike.part,
                "kinds": list(strike.kinds),
                "times": strike.times,
                "errno": strike.errno,
                "about": strike.about,
            }
        self._put(told)

    def settled(self) -> list[tuple[str, str, str]]:
        """As `struck`, once nothing is struck any more: who was just about to strike has had a moment to do so."""
        self._put({})
        time.sleep(_MOMENT_SECONDS)
        return self.struck()

    def _put(self, told: Mapping[str, object]) -> None:
        # The process looks at the time of the file alone: each has another, and counting begins anew.
        self._serial += 1
        fresh = self.plan.with_suffix(".new")
        fresh.write_text(json.dumps(told))
        os.utime(fresh, ns=(self._serial * 1_000_000_000, self._serial * 1_000_000_000))
        fresh.replace(self.plan)

    def struck(self) -> list[tuple[str, str, str]]:
        """What was struck, or traced, since it was armed: kind, path or statement, part."""
        if not self.log.exists():
            return []
        return [tuple(json.loads(line)) for line in self.log.read_text().splitlines()]
