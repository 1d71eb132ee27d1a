"""What `gateway adopt` shows: a bar or lines while it reads, then what became of each repository and user."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.administration import Adopted, Adoption, Arrival, Fate, Newcomer
from gateway.cli.output import counted, plural, printable, say
from gateway.cli.session import Place

_SHOWN = 5


class Looking:
    """Looks on while a registry is read: a bar on a terminal, else a line for each repository that is done."""

    def __init__(self, *, quiet: bool) -> None:
        self.lines = not quiet and not sys.stderr.isatty()
        """Whether it tells of each repository as soon as it is done."""
        self._bar = Progress(
            TextColumn("Reading"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("repositories, {task.fields[manifests]} new manifests, {task.fields[tags]} tags"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=quiet or self.lines,
        )
        self._task = self._bar.add_task("", total=None, manifests=0, tags=0)
        self._manifests = self._tags = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def began(self, repositories: int) -> None:
        self._bar.update(self._task, total=repositories)
        if self.lines:
            say(f"Reading {repositories} {plural('repository', repositories)}.")

    def read(self, manifests: int, tags: int) -> None:
        self._manifests += manifests
        self._tags += tags
        self._bar.update(self._task, manifests=self._manifests, tags=self._tags)

    def ended(self, adopted: Adopted) -> None:
        self._bar.advance(self._task)
        if self.lines:
            _show(adopted)


def show_adoption(adoption: Adoption, where: Place, *, plan: bool, told: bool) -> None:
    """What became of each repository, or would, unless it was *told* already; then the sums, and what to do next."""
    for each in () if told else adoption.repositories:
        _show(each)
    if adoption.fault:
        say(_sentence(printable(adoption.fault)))
    say(_sums(adoption, plan=plan))
    if not adoption.whole:
        say("Nothing that is on record was removed. Run it again when the registry is well; what was read is kept.")
    elif not plan:
        command = shlex.join(("gateway", *where.options(), "up"))
        say(f"Serve it with: {command}")


def show_newcomers(newcomers: Sequence[Newcomer], where: Place, *, plan: bool) -> None:
    """What became of each user of the htpasswd file, or would."""
    for each in newcomers:
        more = f": {_sentence(printable(each.why))}" if each.why else ""
        say(f"user {printable(each.name)}  {each.arrival}{more}")
        if each.arrival is Arrival.NEEDS_PASSWORD:
            say(f"           {shlex.join(('gateway', *where.options(), 'user', 'password', each.name))}")
    if newcomers:
        added = sum(each.arrival in {Arrival.ADDED, Arrival.NEEDS_PASSWORD} for each in newcomers)
        would = "would be" if plan else "were"
        say(f"{added} of {len(newcomers)} users {would} added, without any right; grant them what they need.")


def as_json_value(url: str, plan: bool, adoption: Adoption, newcomers: Sequence[Newcomer]) -> dict[str, object]:
    """All of it, for programs."""
    return {
        "url": url,
        "plan": plan,
        "whole": adoption.whole,
        "fault": adoption.fault,
        "counts": adoption.counted(),
        "repositories": [asdict(each) for each in adoption.repositories],
        "users": [asdict(each) for each in newcomers],
    }


def _show(each: Adopted) -> None:
    say(_line(each))
    for remark in each.left[:_SHOWN]:
        say(f"           {printable(remark.reference)}: {_sentence(printable(remark.why))}")
    if each.left_count > min(len(each.left), _SHOWN):
        say(f"           and {each.left_count - min(len(each.left), _SHOWN)} more that cannot be taken over")


def _line(each: Adopted) -> str:
    name = printable(each.repository)
    if each.fate is Fate.LEFT_OUT:
        return f"{each.fate:<9}  {name}: {_sentence(printable(each.fault))}"
    project = f"project {each.project}{' (new)' if each.new_project else ''}"
    counts = ", ".join(
        f"{counted(count, noun)}{more}"
        for count, noun, more in (
            (each.tags, "tag", f" ({each.tags_moved} moved)" if each.tags_moved else ""),
            (each.manifests, "new manifest", f" ({each.referrers} about others)" if each.referrers else ""),
        )
    )
    absent = f", {each.absent} that manifests name and the registry lacks" if each.absent else ""
    lost = f", {each.by_sha512} that lose layers named by sha512 when it collects garbage" if each.by_sha512 else ""
    fault = f"; {_sentence(printable(each.fault))}" if each.fault else ""
    return f"{each.fate:<9}  {name}  {project}: {counts}{absent}{lost}{fault}"


def _sums(adoption: Adoption, *, plan: bool) -> str:
    count = adoption.counted()
    projects = {each.project for each in adoption.repositories if each.project}
    new = {each.project for each in adoption.repositories if each.new_project}
    return (
        f"{'Would take' if plan else 'Took'} over {count['manifests']} manifests, {count['tags_added']} new tags and "
        f"{count['tags_moved']} moved ones: of {count['repositories']} repositories in {len(projects)} projects "
        f"({len(new)} new), {count[Fate.UNCHANGED]} unchanged, {count[Fate.EMPTY]} empty, "
        f"{count[Fate.LEFT_OUT]} left out, {count[Fate.FAILED]} failed."
    )


def _sentence(text: str) -> str:
    return text.rstrip(".")
