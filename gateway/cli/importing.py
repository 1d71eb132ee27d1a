"""`gateway import`: another registry's content brought into this one, from its volume or through its API."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.administration.importing import Left, ProjectTally, Report, Standing
from gateway.cli.elsewhere import Elsewhere
from gateway.cli.output import printable, say, show_json, show_table
from gateway.cli.session import operator, rooms, stdin_password
from gateway.cli.words import Json
from gateway.errors import Invalid

_NOUNS = ("manifests", "tags", "blobs")
_LINE_SECONDS = 10.0
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_SHOWN = 200


def import_(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The folder of a registry's volume, or the URL of a registry.")
    ],
    project: Annotated[
        list[str] | None, typer.Option("--project", metavar="NAME", help="Only this project; may be repeated.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be done; change nothing.")] = False,
    link: Annotated[
        bool,
        typer.Option("--link", help="Share files with the volume where that is safe (see above), instead of copying."),
    ] = False,
    username: Annotated[str, typer.Option("--username", metavar="NAME", help="Who signs in to the registry.")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the registry's password from standard input.")
    ] = False,
    ca_file: Annotated[
        Path | None, typer.Option("--ca-file", metavar="FILE", help="The CA that issued the registry's certificate.")
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Bring in the repositories of another registry, whether or not the gateway runs. SOURCE is only read.

    Each digest is verified; what is missing or damaged is listed and stays behind with the tags that need it, and the
    exit status is 1 then. What is here already is not read again: run it again to go on, or to follow. A tag that
    somebody has pushed here is left alone.

    Files are copied by the system, which shares their blocks where the file system can. With --link they get a second
    name instead, if nobody but the owner of the data may write to them; they then stay open to the old registry.
    """
    if bool(username) != password_stdin:
        raise Invalid("Give --username and --password-stdin together, or neither.")
    if link and source.startswith(("http://", "https://")):
        raise Invalid("--link is for the folder of a volume; leave it away for a URL.")
    peer = (username, stdin_password() if password_stdin else "", ca_file)
    words = Elsewhere(source.rstrip("/"), "--password-stdin").words
    from gateway.app import importing

    with rooms(ctx) as joined, _Shown(quiet=as_json) as shown:
        imports = importing(joined, source, link=link, peer=peer, words=words, tell=shown.bytes)
        act = imports.plan if plan else imports.import_all
        try:
            report = asyncio.run(act(operator(), projects=project or (), tell=shown))
        except KeyboardInterrupt:
            say("gateway: stopped; what was brought in stays. Run the same command again to go on.", error=True)
            raise
    if as_json:
        show_json(told(report, source, plan=plan))
    else:
        _show(report, plan=plan)
    raise typer.Exit(1 if report.broken else 0)


def told(report: Report, source: str, *, plan: bool) -> dict[str, object]:
    """The report as programs see it."""
    count = report.tally
    return {
        "source": source,
        "plan": plan,
        "repositories": report.repositories,
        "copied": {"manifests": count.manifests, "tags": count.tags, "blobs": count.blobs, "linked": count.linked},
        "already_there": {
            "manifests": count.manifests_there,
            "tags": count.tags_there,
            "blobs": count.blobs_there,
        },
        "bytes": count.bytes,
        "seconds": round(report.seconds, 3),
        "projects": [_project(name, each) for name, each in sorted(report.projects.items())],
        "kept": [asdict(left) for left in report.kept],
        "broken": [asdict(left) for left in report.broken],
    }


def _project(name: str, found: ProjectTally) -> dict[str, object]:
    count = found.tally
    return {
        "project": name,
        "new": found.new,
        "repositories": found.repositories,
        "manifests": count.manifests,
        "tags": count.tags,
        "blobs": count.blobs,
        "bytes": count.bytes,
        "already_there": count.manifests_there,
        "broken": count.broken,
    }


def _show(report: Report, *, plan: bool) -> None:
    count = report.tally
    if plan:
        columns = ("project", "new", "repositories", "manifests", "tags", "blobs", "bytes", "already_there", "broken")
        rows = [_project(name, each) for name, each in sorted(report.projects.items())]
        show_table(rows, columns, as_json=False, empty="There is nothing to import.")
    else:
        values: dict[str, Any] = asdict(count)
        rows = [{"": noun, "copied": values[noun], "already_there": values[f"{noun}_there"]} for noun in _NOUNS]
        show_table(rows, ("", "copied", "already_there"), as_json=False, empty="")
    _show_left("Left alone, because somebody has pushed the tag here:", report.kept, reasons=False)
    _show_left("Broken, and left behind:", report.broken, reasons=True)
    speed = size_text(int(count.bytes / report.seconds) if report.seconds else 0)
    linked = f", {count.linked} of the blobs as links" if count.linked else ""
    would = "would come" if plan else f"came in {report.seconds:.1f} s ({speed}/s){linked}"
    say(f"{report.repositories} repositories, {size_text(count.bytes)} {would}; {len(report.broken)} broken.")


def _show_left(heading: str, left: Sequence[Left], *, reasons: bool) -> None:
    if not left:
        return
    say(heading)
    for each in left[:_SHOWN]:
        reason = f": {each.reason.rstrip('.')}" if reasons else ""
        say(printable(f"  {each.repository} {each.what}".rstrip() + reason))
    if len(left) > _SHOWN:
        say(f"  … and {len(left) - _SHOWN} more; --json lists them all.")


def size_text(size_bytes: int) -> str:
    """The size in the unit that fits: `512 bytes`, `1.5 GiB`."""
    size, place = float(size_bytes), 0
    while size >= 1024 and place < len(_UNITS) - 1:
        size, place = size / 1024, place + 1
    return f"{size:.1f} {_UNITS[place]}" if place else f"{size_bytes} bytes"


class _Shown:
    """How far it is, on standard error: a bar on a terminal, else a line for each repository and now and then one."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bytes = 0
        self._bar = _bar() if sys.stderr.isatty() and not quiet else None
        self._task = self._bar.add_task("", total=None, repository="", size="") if self._bar is not None else None
        self._said = ("", 0.0)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def bytes(self, count: int) -> None:
        """Called from the threads that copy: a display need not count every byte."""
        self._bytes += count

    def __call__(self, standing: Standing) -> None:
        repository = printable(standing.repository)
        if self._bar is not None and self._task is not None:
            part = standing.done / standing.total if standing.total else 0.0
            completed = standing.number + part
            size = size_text(self._bytes)
            self._bar.update(
                self._task, total=standing.repositories, completed=completed, repository=repository, size=size
            )
            return
        name, moment = self._said
        if self._quiet or (name == repository and time.monotonic() - moment < _LINE_SECONDS):
            return
        of = f", {standing.done} of {standing.total} manifests, {size_text(self._bytes)}" if name == repository else ""
        say(f"[{standing.number + 1}/{standing.repositories}] {repository}{of}", error=True)
        self._said = repository, time.monotonic()


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.fields[repository]}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[size]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
