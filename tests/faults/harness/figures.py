"""What the harness found out, counted: a line for each kind of fault."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Line:
    """One kind of fault: what was acknowledged around it, how often it was injected, and what came of that."""

    fault: str
    operations: int = 0
    injected: int = 0
    lost: int = 0
    wrong: int = 0
    unaudited: int = 0
    recovery_seconds: float = 0.0
    litter: int = 0


@dataclass(slots=True)
class Figures:
    """All lines, and in sentences all that was not as it must be."""

    lines: dict[str, Line] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    points: dict[str, int] = field(default_factory=dict)
    """At how many steps each kind of write was struck, over all loops."""
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def line(self, fault: str) -> Iterator[Line]:
        """The line of that fault, to be added to."""
        with self._guard:
            yield self.lines.setdefault(fault, Line(fault))

    def problem(self, fault: str, text: str) -> None:
        """Something is not as promised."""
        with self._guard:
            self.problems.append(f"{fault}: {text}")

    def points_in(self, operation: str, count: int) -> None:
        """A loop over the steps of a write struck it so often."""
        with self._guard:
            self.points[operation] = self.points.get(operation, 0) + count

    def recovered(self, fault: str, seconds: float) -> None:
        """The gateway was back after so long."""
        with self.line(fault) as line:
            line.recovery_seconds = max(line.recovery_seconds, seconds)

    def add(self, other: Figures) -> None:
        """Those of another run, which has ended, are part of these."""
        for fault, found in other.lines.items():
            with self.line(fault) as line:
                _count(line, found)
        for operation, count in other.points.items():
            self.points_in(operation, count)
        with self._guard:
            self.problems.extend(other.problems)

    def total(self) -> Line:
        """All lines together."""
        total = Line("all")
        for line in self.lines.values():
            _count(total, line)
        return total


def _count(total: Line, line: Line) -> None:
    for name in ("operations", "injected", "lost", "wrong", "unaudited", "litter"):
        setattr(total, name, getattr(total, name) + getattr(line, name))
    total.recovery_seconds = max(total.recovery_seconds, line.recovery_seconds)
