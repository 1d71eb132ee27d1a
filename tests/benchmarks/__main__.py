"""`make bench`: measure, then write docs/benchmarks.json, docs/benchmarks.md and the plots beside them."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import alone, asking, images, memory, scale, transfers
from tests.benchmarks.figures import Book
from tests.benchmarks.sizes import DEFAULT, FULL, SHORT, Sizes
from tests.benchmarks.stand import Stand
from tests.benchmarks.transfers import Field


@dataclass(slots=True)
class Run:
    """One run: targets that stay up for the cases that race, and whatever single cases start for themselves."""

    sizes: Sizes
    stand: Stand
    book: Book
    closing: ExitStack
    _field: Field | None = None

    @property
    def field(self) -> Field:
        if self._field is None:
            self._field = Field.entered(self.stand, self.sizes, self.closing)
        return self._field


GROUPS: dict[str, Callable[[Run], None]] = {
    "rest": lambda run: memory.measure_rest(run.field, run.book),
    "pull": lambda run: transfers.measure_pulls(run.field, run.book),
    "push": lambda run: transfers.measure_pushes(run.field, run.book),
    "requests": lambda run: asking.measure_requests(run.field, run.book),
    "audit-cost": lambda run: asking.measure_audit_cost(run.field, run.stand, run.book),
    "tokens": lambda run: asking.measure_tokens(run.field, run.book),
    "flood": lambda run: asking.measure_flood(run.field, run.book),
    "images": lambda run: images.measure_images(run.field, run.book),
    "memory": lambda run: memory.measure_memory(run.field, run.book),
    "start": lambda run: alone.measure_start(run.stand, run.sizes, run.book),
    "commits": lambda run: alone.measure_commits(run.stand, run.sizes, run.book),
    "tags": lambda run: scale.measure_tags(run.stand, run.sizes, run.book),
    "catalog": lambda run: scale.measure_catalog(run.stand, run.sizes, run.book),
    "referrers": lambda run: scale.measure_referrers(run.stand, run.sizes, run.book),
    "audit": lambda run: scale.measure_audit(run.stand, run.sizes, run.book),
}


def main() -> int:
    arguments = _arguments()
    sizes = SHORT if arguments.short else FULL if arguments.full else DEFAULT
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=arguments.scratch))
    begun = time.monotonic()
    book = Book(say=lambda line: print(f"{time.monotonic() - begun:6.1f} s  {line}", flush=True))
    try:
        with ExitStack() as closing:
            run = Run(sizes, Stand(directory), book, closing)
            for name, measure in GROUPS.items():
                if not arguments.only or name in arguments.only:
                    measure(run)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--short", action="store_true", help="small sizes, at most a minute: does it all work?")
    size.add_argument("--full", action="store_true", help="more rounds, the largest tables: the record")
    parser.add_argument("--only", action="append", choices=list(GROUPS), help="this group; may be repeated")
    parser.add_argument("--scratch", type=Path, default=None, help="where the data goes while it runs")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
