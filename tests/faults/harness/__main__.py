"""Runs the whole harness and writes its table into docs/reliability.md: `make faults`."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.harness.figures import Figures
from tests.faults.harness.kept import Kept
from tests.faults.harness.report import text, write
from tests.faults.harness.runs import Task, tasks


def main() -> int:
    """The exit status is 1 if anything is not as promised."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.harness", description=__doc__)
    parser.add_argument("--only", default="", help="those whose name has this in it; nothing is written")
    parser.add_argument("--list", action="store_true", help="say what there is to run")
    parser.add_argument("--lanes", type=int, default=2, help="how many run beside each other")
    parser.add_argument(
        "--keep", type=Path, help="a folder for what was found; a run that was broken off goes on there"
    )
    chosen = parser.parse_args()
    wanted = [task for task in tasks() if chosen.only in task.name]
    if chosen.list:
        print("\n".join(task.name for task in wanted))
        return 0
    kept, figures = Kept(chosen.keep), Figures()
    with ThreadPoolExecutor(chosen.lanes) as lanes:
        seconds = sum(lanes.map(lambda task: _run(task, figures, kept), wanted)) / chosen.lanes
    print(text(figures, seconds))
    if not chosen.only:
        write(figures, seconds)
    return 1 if figures.problems else 0


def _run(task: Task, figures: Figures, kept: Kept) -> float:
    """The seconds it took, or once took."""
    if before := kept.of(task.name):
        figures.add(before[0])
        return before[1]
    own, begun = Figures(), time.monotonic()
    try:
        task.run(own)
    except Exception as error:
        # One that breaks off does not keep the others from running, and is a problem of its own.
        traceback.print_exc()
        own.problem(task.name, f"broke off: {error!r}"[:500])
    seconds = time.monotonic() - begun
    kept.keep(task.name, own, seconds)
    figures.add(own)
    found = f", {len(own.problems)} problems" if own.problems else ""
    print(f"{seconds:6.1f} s  {task.name}{found}", flush=True)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
