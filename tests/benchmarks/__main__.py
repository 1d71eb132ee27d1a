"""`make bench`: measure, then write docs/benchmarks.json, docs/benchmarks.md and the plots beside them."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import alone, asking, drawing, images, machine, memory, report, scale, transfers, upstream
from tests.benchmarks.figures import Book, Case
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
    "front": lambda run: upstream.measure_front(run.stand, run.sizes, run.book),
    "front-memory": lambda run: upstream.measure_front_memory(run.stand, run.sizes, run.book),
    "adopt": lambda run: upstream.measure_adoption(run.stand, run.sizes, run.book),
    "import": lambda run: upstream.measure_import(run.stand, run.sizes, run.book),
    "tags": lambda run: scale.measure_tags(run.stand, run.sizes, run.book),
    "catalog": lambda run: scale.measure_catalog(run.stand, run.sizes, run.book),
    "referrers": lambda run: scale.measure_referrers(run.stand, run.sizes, run.book),
    "audit": lambda run: scale.measure_audit(run.stand, run.sizes, run.book),
}


def main() -> int:
    arguments = _arguments()
    if machine.missing():
        print(f"Missing here: {', '.join(machine.missing())}. Install them with: make tools", file=sys.stderr)
        return 3
    # Asked to end, it clears away what it made.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sizes = SHORT if arguments.short else FULL if arguments.full else DEFAULT
    # Beside the source, so that a disk is measured and not a file system in memory.
    scratch = arguments.scratch or Path(os.environ.get("TMPDIR", "build"))
    scratch.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=scratch)).absolute()
    print(f"Measuring ({sizes.mode}) in {directory}", flush=True)
    try:
        found = machine.described(directory)
        cases = _measured(sizes, directory, arguments.only)
        # Whoever else was busy meanwhile makes figures worth less: it is told beside them.
        found["load after"] = f"{os.getloadavg()[0]:.2f}"
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    written = report.write(arguments.out, arguments.name, sizes, found, cases)
    print(f"Written: {written} and {written.with_suffix('.md')}")
    if not arguments.no_plots:
        drawing.draw(written)
    broken = [case.name for case in cases if _failed(case)]
    if broken:
        print(f"Not all was answered as it should be in: {'; '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


def _measured(sizes: Sizes, directory: Path, only: list[str] | None) -> list[Case]:
    begun = time.monotonic()
    book = Book(say=lambda line: print(f"{time.monotonic() - begun:6.1f} s  {line}", flush=True))
    with ExitStack() as closing:
        run = Run(sizes, Stand(directory), book, closing)
        for name, measure in GROUPS.items():
            if not only or name in only:
                measure(run)
    return book.cases


def _failed(case: Case) -> bool:
    return any(sample.errors for samples in case.samples.values() for sample in samples)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--short", action="store_true", help="small sizes, at most a minute: does it all work?")
    size.add_argument("--full", action="store_true", help="more rounds, the largest tables: the record")
    parser.add_argument("--only", action="append", choices=list(GROUPS), help="this group; may be repeated")
    parser.add_argument(
        "--scratch", type=Path, default=None, help="where the data goes while it runs: TMPDIR, or build/"
    )
    parser.add_argument("--out", type=Path, default=Path("docs"), help="where the report goes: docs/")
    parser.add_argument("--name", default=None, help="the report's name: benchmarks, or one that tells of the mode")
    parser.add_argument("--no-plots", action="store_true", help="draw nothing")
    arguments = parser.parse_args()
    # A look at a part must not replace the record.
    partly = arguments.short or arguments.only
    arguments.name = arguments.name or ("benchmarks-part" if partly else "benchmarks")
    if partly and arguments.out == Path("docs"):
        arguments.out = Path("build")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
