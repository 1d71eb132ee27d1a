"""What is to go wrong in this process, read from a file that the harness replaces while the process runs.

Every step that changes the disk or the database is counted from the moment a plan is there. The steps that the plan
names are struck: the process is killed, or the step fails.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_stat, _write, _open, _close = os.stat, os.write, os.open, os.close
_FOREVER = 0


class Plan:
    """The plan of this process; its fields are documented where it is written."""

    def __init__(self, path: str, log: str) -> None:
        self._path = path
        self._log = log
        self._guard = threading.Lock()
        self._seen = 0
        self._plan: dict[str, Any] = {}
        self._count = 0

    def _look(self) -> dict[str, Any]:
        try:
            changed = _stat(self._path).st_mtime_ns
            if changed != self._seen:
                with open(self._path, encoding="utf-8") as file:
                    self._plan = json.load(file)
                self._seen, self._count = changed, 0
        except FileNotFoundError:
            self._plan = {}
        return self._plan

    @property
    def offset_seconds(self) -> float:
        """How far the clock is wrong."""
        with self._guard:
            return float(self._look().get("offset_seconds", 0.0))

    @property
    def lie(self) -> str:
        """What is said to be on the disk and is not: `files`, `directories`, or nothing."""
        with self._guard:
            return str(self._look().get("lie", ""))

    def struck(self, kind: str, what: str) -> dict[str, Any] | None:
        """The plan, if it wants this step to be struck; a `trace` only tells of it."""
        with self._guard:
            plan = self._look()
            if kind not in plan.get("kinds", ()) or plan.get("about", "") not in what:
                return None
            self._count += 1
            if plan["mode"] == "trace":
                self.tell(kind, what, "trace")
                return None
            first, times = plan["at"], plan.get("times", 1)
            if self._count < first or (times != _FOREVER and self._count >= first + times):
                return None
            return plan

    def tell(self, kind: str, what: str, part: str) -> None:
        """A line for the harness; what was written is there whatever becomes of this process."""
        log = _open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write(log, json.dumps([kind, what, part]).encode() + b"\n")
        finally:
            _close(log)


PLAN = Plan(os.environ.get("FAULTS_PLAN", ""), os.environ.get("FAULTS_LOG", os.devnull))


def step(
    kind: str,
    what: str,
    act: Callable[[], T],
    error: Callable[[int], Exception],
    torn: Callable[[], object] = lambda: None,
) -> T:
    """
    Does *act*, unless the plan strikes it: before it, when it is done, or (`torn`) with a part of it done.

    *error* makes what it raises then, of an error number of the system.
    """
    plan = PLAN.struck(kind, what)
    if plan is None:
        return act()
    match plan["part"]:
        case "after":
            act()
        case "torn":
            torn()
    PLAN.tell(kind, what, plan["part"])
    if plan["mode"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise error(plan["errno"])
