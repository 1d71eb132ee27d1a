"""What tasks of the harness found, kept in a folder: a run that was broken off goes on where it was."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from tests.faults.harness.figures import Figures, Line


class Kept:
    """The figures of each task that ended, a file each; without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def of(self, task: str) -> tuple[Figures, float] | None:
        """What *task* found and the seconds it took, if it has ended in this run or one before."""
        if self._folder is None or not (path := self._path(self._folder, task)).exists():
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
        lines = {line["fault"]: Line(**line) for line in found["lines"]}
        return Figures(lines, found["problems"], found["points"]), found["seconds"]

    def keep(self, task: str, figures: Figures, seconds: float) -> None:
        """*task* has ended."""
        if self._folder is None:
            return
        lines = [dataclasses.asdict(line) for line in figures.lines.values()]
        found = {"lines": lines, "problems": figures.problems, "points": figures.points, "seconds": seconds}
        path = self._path(self._folder, task)
        path.with_suffix(".part").write_text(json.dumps(found), encoding="utf-8")
        path.with_suffix(".part").rename(path)

    @staticmethod
    def _path(folder: Path, task: str) -> Path:
        return folder / f"{task.replace(' ', '-').replace(':', '')}.json"
