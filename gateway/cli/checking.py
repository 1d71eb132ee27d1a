"""`gateway check`: whether all that is kept is whole: a line for what is not, an exit status for cron."""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from gateway.administration import checking
from gateway.administration.checking import Fate, Report
from gateway.cli.importing import size_text
from gateway.cli.output import counted, printable, say, show_json
from gateway.cli.session import operator, rooms
from gateway.cli.words import Json
from gateway.errors import DatabaseDamaged

_SHOWN = 200


def check(
    ctx: typer.Context,
    deep: Annotated[bool, typer.Option("--deep", help="Read every blob and compare it with its digest.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended; put damaged files aside, in DATA/quarantine.")
    ] = False,
    as_json: Json = False,
) -> None:
    """
    Look whether all that is kept is whole: files, records, manifests with all they name, and the audit trail.

    Safe at any time, whether or not the gateway runs. The exit status is 1 if anything is wrong that was not mended;
    what users may leave behind is remarked, no more. A damaged blob is healed by pushing it again.
    """
    from gateway.app import checking as joined_checks

    try:
        with rooms(ctx) as joined, _Shown(quiet=as_json) as shown:
            checks = joined_checks(joined)
            try:
                report = asyncio.run(checks.check(operator(), deep=deep, repair=repair, tell=shown))
            except KeyboardInterrupt:
                say("gateway: stopped; what was mended stays so.", error=True)
                raise
    except DatabaseDamaged as refusal:
        # Not even what every command asks of the records can be read.
        report = Report.of_damage(refusal, deep=deep)
    if as_json:
        show_json(_told(report, repair=repair))
    else:
        _show(report)
    raise typer.Exit(0 if report.well else 1)


def _told(report: Report, *, repair: bool) -> dict[str, object]:
    """The report as programs see it."""
    return {
        "well": report.well,
        "content": report.content,
        "deep": report.deep,
        "repair": repair,
        "blobs": report.counts.get("blobs", 0),
        "bytes": report.counts.get("bytes", 0),
        "manifests": report.counts.get("manifests", 0),
        "events": report.counts.get("events", 0),
        "seconds": round(report.seconds, 3),
        "flaws": [_fate(each) for each in report.fates],
    }


def _fate(fate: Fate) -> dict[str, object]:
    flaw = fate.flaw
    return {
        "kind": flaw.kind,
        "what": flaw.what,
        "repository": flaw.repository,
        "text": flaw.text,
        "remark": fate.remark,
        "mended": fate.mended,
        "done": fate.done,
    }


def _show(report: Report) -> None:
    for fate in report.fates[:_SHOWN]:
        word = "mended" if fate.mended else "remark" if fate.remark else "bad"
        place = f"{fate.flaw.repository}: " if fate.flaw.repository else ""
        done = f" ({fate.done})" if fate.done else ""
        say(printable(f"{word:<6}  {fate.flaw.kind}: {place}{fate.flaw.text}{done}"))
    if len(report.fates) > _SHOWN:
        say(f"… and {len(report.fates) - _SHOWN} more; --json lists them all.")
    counts = report.counts
    if report.content:
        size = counts.get("bytes", 0)
        speed = f" ({size_text(int(size / report.seconds))}/s)" if report.seconds and size else ""
        read = f", {size_text(size)} of them read{speed}" if report.deep else ", their bytes unread"
        looked = f"{counted(counts.get('blobs', 0), 'blob')}{read}, {counted(counts.get('manifests', 0), 'manifest')}"
    else:
        looked = "the records (the registry behind keeps the content, which is its own to check)"
    bad = sum(not fate.mended and not fate.remark for fate in report.fates)
    mended = sum(fate.mended for fate in report.fates)
    outcome = "all is well" if not bad else f"{bad} bad"
    outcome += f", {mended} mended" if mended else ""
    say(f"Looked at {looked} and {counted(counts.get('events', 0), 'event')} in {report.seconds:.1f} s: {outcome}.")


class _Shown:
    """How far it is: a bar on standard error, if that is a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._bar = _bar() if sys.stderr.isatty() and not quiet else None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: checking.Progress) -> None:
        """Called from the threads that read."""
        if self._bar is None:
            return
        done, total = progress.done, progress.total
        text = f"{size_text(done)} of {size_text(total)}" if progress.part == "bytes" else f"{done} of {total}"
        task = self._tasks.get(progress.part)
        if task is None:
            task = self._tasks[progress.part] = self._bar.add_task(progress.part, total=total, text=text)
        self._bar.update(task, completed=done, total=max(1, total), text=text)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
