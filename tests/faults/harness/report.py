"""The figures as the table of docs/reliability.md, written between its two marks."""

from __future__ import annotations

import platform
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.harness.figures import Figures, Line

DOCUMENT = Path(__file__).parents[3] / "docs" / "reliability.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
_HEAD = (
    "| fault | injected | operations acknowledged | acknowledged writes lost | wrong bytes served | unaudited acts "
    "| longest recovery |\n|---|---:|---:|---:|---:|---:|---:|"
)


def table(figures: Figures) -> str:
    """A row for each kind of fault, and one for all of them."""
    rows = [_row(line) for line in sorted(figures.lines.values(), key=lambda line: line.fault)]
    return "\n".join((_HEAD, *rows, _row(figures.total(), bold=True)))


def _row(line: Line, *, bold: bool = False) -> str:
    mark = "**" if bold else ""
    numbers = (line.injected, line.operations, line.lost, line.wrong, line.unaudited)
    cells = [line.fault, *map(str, numbers), f"{line.recovery_seconds:.1f} s"]
    return "| " + " | ".join(f"{mark}{cell}{mark}" for cell in cells) + " |"


def text(figures: Figures, seconds: float) -> str:
    """What stands between the marks."""
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    points = sum(figures.points.values())
    said = (
        f"Written by `make faults` on {when}, in {seconds / 60:.0f} minutes: {points} failpoints in "
        f"{len(figures.points)} kinds of writes and other scenes; Python {platform.python_version()}, SQLite "
        f"{sqlite3.sqlite_version}, Linux {platform.release()}."
    )
    problems = "\n".join(f"- {problem}" for problem in figures.problems[:100])
    found = f"\n\n**{len(figures.problems)} things were not as promised:**\n\n{problems}" if figures.problems else ""
    return f"{said}\n\n{table(figures)}{found}"


def write(figures: Figures, seconds: float, document: Path = DOCUMENT) -> None:
    """Puts the figures into the document, in the place of those that were there."""
    whole = document.read_text(encoding="utf-8")
    before, _, rest = whole.partition(BEGIN)
    _, _, after = rest.partition(END)
    document.write_text(f"{before}{BEGIN}\n{text(figures, seconds)}\n{END}{after}", encoding="utf-8")
