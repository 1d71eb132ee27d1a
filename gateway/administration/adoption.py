"""Adopting an existing registry: what it holds enters the records, its users become accounts, and nothing is forgotten.

source (a registry, read) ─▶ project and repository ─▶ manifests, tags, referrers     one event a commit
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from gateway.access.principals import Caller
from gateway.administration.fates import Adopted, Fate, Reading
from gateway.administration.values import MANAGE_SYSTEM, owner_of
from gateway.audit.event import Kind
from gateway.change import Change, Notes
from gateway.errors import NameInvalid, Unavailable, UpstreamFailed, UpstreamUnavailable
from gateway.gate import Gate
from gateway.oci.names import Repository
from gateway.records import adoption as rows
from gateway.records.adoption import Found, Known, Remark
from gateway.records.content import Act
from gateway.records.database import Database

#: Repositories read at once; the source itself says how many requests that makes.
_TOGETHER: Final = 8
#: So often a part is read while others delete or move through the gateway what is in it, and so long after each time.
_TRIES: Final = 10
_PAUSE_SECONDS: Final = 0.05


class _Changed(Unavailable):
    """What was read of the repository is not so any more since it was looked up what is known of it."""

    def __init__(self) -> None:
        super().__init__("The repository has changed while it was read; it is read again.")


@dataclass(frozen=True, slots=True)
class _Outset:
    """What was *known* of a repository, and the number of the newest event before."""

    known: Known
    moment: int


class Source(Protocol):
    """An existing registry, read; nothing is changed there."""

    async def greet(self) -> None:
        """Returns when it answers as a registry does, and takes our credential; raises `UpstreamUnavailable`."""
        ...

    async def repositories(self) -> Sequence[str]:
        """The names in its catalog, as it spells them; raises `UpstreamUnavailable`."""
        ...

    def read(self, repository: Repository, known: Known) -> AsyncIterator[Found]:
        """What it holds of *repository* beyond what is *known*, in parts; raises `UpstreamUnavailable`."""
        ...

    async def again(self, repository: Repository, names: Sequence[str], known: Known) -> Found:
        """The part whose tags were *names*, read anew: what is *known* has changed; raises `UpstreamUnavailable`."""
        ...

    async def close(self) -> None:
        """Lets go of its connections."""
        ...


class Watch(Protocol):
    """Whoever looks on."""

    def began(self, repositories: int) -> None:
        """So many repositories are to be read."""
        ...

    def read(self, manifests: int, tags: int) -> None:
        """So many more were."""
        ...

    def ended(self, adopted: Adopted) -> None:
        """One repository is done."""
        ...


@dataclass(frozen=True, slots=True)
class Adoption:
    """What a run came to: each repository by name, and why the registry could not tell all of their names."""

    repositories: tuple[Adopted, ...]
    fault: str = ""

    @property
    def whole(self) -> bool:
        """Whether everything that the registry may hold was read."""
        return not self.fault and all(each.fate is not Fate.FAILED for each in self.repositories)

    def counted(self) -> dict[str, int]:
        """The sums, as the event and the last line on the screen tell them."""
        fates = {fate.value: sum(each.fate is fate for each in self.repositories) for fate in Fate}
        names = ("tags", "manifests", "referrers", "tags_added", "tags_moved")
        sums = {name: sum(getattr(each, name) for each in self.repositories) for name in names}
        return {"repositories": len(self.repositories), **fates, **sums}


@dataclass(frozen=True, slots=True)
class Adoptions:
    """Needs an administrator; each commit is an event, and so is the whole run, whatever comes of it."""

    gate: Gate
    database: Database

    async def adopt(self, caller: Caller, source: Source, url: str, watch: Watch) -> Adoption:
        """
        Enters what *source*, the registry at *url*, holds into the records: projects, repositories, manifests, tags.

        Run again it enters what is new and moves the tags that moved. What cannot be read is reported as failed, and
        nothing is ever removed: neither for an error nor for an answer with nothing in it.
        """
        async with self.gate.passage(caller, Kind.REPOSITORY_ADOPT, MANAGE_SYSTEM) as passage:
            adoption = await _Run(source, watch, self.database, self.gate, caller).all()
            fault = {"fault": adoption.fault} if adoption.fault else {}
            passage.note(detail={"from": url, **adoption.counted(), **fault})
            await passage.seal()
        return adoption

    async def plan(self, source: Source, watch: Watch) -> Adoption:
        """What `adopt` would do now; nothing is written, so it is no event."""
        return await planned(source, watch, self.database)

    async def anything_kept(self) -> bool:
        """Whether any content is on record, whichever engine keeps it."""
        return await self.database.read(rows.holds_content)


async def planned(source: Source, watch: Watch, database: Database | None = None) -> Adoption:
    """What `adopt` would do now; without a *database*, in a directory that is still to be made."""
    return await _Run(source, watch, database).all()


@dataclass(frozen=True, slots=True)
class _Run:
    """One run; without a *gate* and a *caller* nothing is written."""

    source: Source
    watch: Watch
    database: Database | None
    gate: Gate | None = None
    caller: Caller | None = None

    async def all(self) -> Adoption:
        known = await self.database.read(rows.known_repositories) if self.database is not None else ()
        names: Sequence[str] = ()
        fault = ""
        try:
            names = await self.source.repositories()
        except UpstreamUnavailable as error:
            fault = error.message
        if not names and not fault:
            fault = "The registry lists no repositories; if it holds some, look whether it was started on their volume."
        legal, refused = _legal(names)
        # What is on record already is asked for by name, whether or not the registry lists it.
        wanted = sorted({*legal, *known})
        self.watch.began(len(wanted) + len(refused))
        for each in refused:
            self.watch.ended(each)
        adopted = await _at_once(self, wanted)
        return Adoption(tuple(sorted((*adopted, *refused), key=lambda each: each.repository)), fault)

    async def repository(self, repository: Repository) -> Adopted:
        outset = await self._outset(repository)
        reading = Reading(repository, outset.known)
        try:
            async for each in self.source.read(repository, outset.known):
                found, outset = await self._enter(repository, each, outset)
                reading.add(found)
                self.watch.read(len(found.manifests), found.read)
            fault = reading.fault
        except UpstreamUnavailable as error:
            fault = error.message
        adopted = reading.outcome(fault)
        if fault:
            await self._record_fault(adopted)
        self.watch.ended(adopted)
        return adopted

    async def _outset(self, repository: Repository) -> _Outset:
        if self.database is None:
            return _Outset(Known(), 0)
        return await self.database.read(lambda connection: _outset(connection, repository))

    async def _enter(self, repository: Repository, found: Found, outset: _Outset) -> tuple[Found, _Outset]:
        """
        Enters what was *found* beyond the *outset*; answers what has entered, and the outset of the next part.

        What was deleted or moved through the gateway since is not undone: the part is read again then, a few times at
        most.
        """
        if self.gate is None or self.caller is None or self.database is None:
            return found, outset
        for number in range(_TRIES):
            if not (found.manifests or found.tags):
                return found, outset
            with suppress(_Changed):
                moment = await self._commit(repository, found, outset, self.database, self.gate, self.caller)
                return found, _Outset(replace(outset.known, project=True), moment)
            await asyncio.sleep(number * _PAUSE_SECONDS)
            outset = await self._outset(repository)
            found = await self.source.again(repository, found.names, outset.known)
        changing = Remark(found.names[0], "what is in it changes all the time while it is read; adopt it again")
        return replace(found, manifests=(), tags={}, lost=(*found.lost, changing)), outset

    async def _commit(
        self, repository: Repository, found: Found, outset: _Outset, database: Database, gate: Gate, caller: Caller
    ) -> int:
        """Enters what was *found*, unless something has overtaken it; answers up to which event that was looked at."""
        known = outset.known
        # Under the lock only what has happened since is looked through.
        moment = await database.read(lambda connection: _still_so(connection, repository, found, known, outset.moment))
        owner = owner_of(caller)
        act = Act(int(time.time()), owner, makes_project=not known.project)
        moments: list[int] = []

        def apply(connection: Any) -> Notes:
            moments.append(_still_so(connection, repository, found, known, moment))
            return rows.index(connection, repository, found, known, act)

        detail = {
            "manifests": len(found.manifests),
            "referrers": sum(manifest.subject is not None for manifest in found.manifests),
            "tags": len(found.tags),
            "tags_moved": sum(name in known.tags for name in found.tags),
        }
        facts = {"project": repository.project.name, "repository": repository.name, "detail": detail}
        async with gate.passage(caller, Kind.REPOSITORY_ADOPT, MANAGE_SYSTEM, **facts) as passage:
            await passage.commit(Change(apply, policy=act.makes_project, repositories=(repository,)))
        return moments[-1]

    async def _record_fault(self, adopted: Adopted) -> None:
        if self.gate is None or self.caller is None:
            return
        facts = {"project": adopted.project, "repository": adopted.repository, "detail": {"fault": adopted.fault}}
        try:
            async with self.gate.passage(self.caller, Kind.REPOSITORY_ADOPT, MANAGE_SYSTEM, **facts):
                raise UpstreamFailed(adopted.fault)
        except UpstreamFailed:
            return


def _outset(connection: Any, repository: Repository) -> _Outset:
    # In this order: what changes in between is noticed.
    moment = rows.moment(connection)
    return _Outset(rows.known(connection, repository), moment)


def _still_so(connection: Any, repository: Repository, found: Found, known: Known, since: int) -> int:
    """The number of the newest event; raises `_Changed` if what was *found* is overtaken by one after *since*."""
    moment = rows.moment(connection)
    if rows.is_overtaken(connection, repository, found, known, since):
        raise _Changed
    return moment


async def _at_once(run: _Run, wanted: Sequence[Repository]) -> list[Adopted]:
    remaining: Iterator[Repository] = iter(wanted)
    adopted: list[Adopted] = []

    async def work() -> None:
        for repository in remaining:
            adopted.append(await run.repository(repository))

    workers = [asyncio.ensure_future(work()) for _ in range(min(_TOGETHER, len(wanted)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return adopted


def _legal(names: Iterable[str]) -> tuple[list[Repository], list[Adopted]]:
    legal: list[Repository] = []
    refused: list[Adopted] = []
    for name in names:
        try:
            legal.append(Repository.parse(name))
        except NameInvalid as refusal:
            refused.append(Adopted(name, "", Fate.LEFT_OUT, fault=refusal.message))
    return legal, refused
