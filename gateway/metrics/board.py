"""Where each process posts what it has counted, so that any of them can tell of all.

    DATA/metrics/<seat>-<pid>.json      written by one process, each second; cleared when the gateway starts

What a process that ended has counted stays and counts on: a total never falls while the gateway runs.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = "metrics"


@dataclass(frozen=True, slots=True)
class Posted:
    """What a process counted, and whether that process still runs."""

    seat: int
    alive: bool
    told: Mapping[str, Any]


class Board:
    """The board of a data directory. Nothing on it is worth a sync: it is of this run alone."""

    def __init__(self, data: Path) -> None:
        self._folder = data / FOLDER

    def clear(self) -> None:
        """Forgets earlier runs; for whoever starts the workers, before they are."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for path in self._folder.iterdir():
            path.unlink(missing_ok=True)

    def post(self, seat: int, told: Mapping[str, object]) -> None:
        """Posts what the process in *seat* has counted until now, in place of what it posted before."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=self._folder, prefix=".", delete=False) as file:
            try:
                json.dump(told, file)
                file.close()
                os.replace(file.name, self._folder / f"{seat}-{os.getpid()}.json")
            except BaseException:
                # Tried every second on a disk that is full, what is left each time would add up.
                os.unlink(file.name)
                raise

    def all(self) -> Sequence[Posted]:
        """What every process of this run has posted."""
        found = []
        for path in sorted(self._folder.glob("[0-9]*.json")):
            seat, _, process = path.stem.partition("-")
            try:
                told = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            found.append(Posted(int(seat), Path(f"/proc/{process}").exists(), told))
        return found
