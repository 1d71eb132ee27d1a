"""Imports: content of another registry brought into this one, each repository as an event with its counts."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

from gateway.access.principals import Caller
from gateway.administration.values import MANAGE_SYSTEM, owner_of
from gateway.audit.event import Kind
from gateway.engine.source import Left, Outcome, Part, Tally
from gateway.errors import ContentRefusal, NameInvalid
from gateway.gate import Gate
from gateway.oci.names import ProjectName, Repository
from gateway.records.content import project_exists
from gateway.records.database import Database

__all__ = ["Imports", "Left", "ProjectTally", "Report", "Standing", "Tally"]


class Importer(Protocol):
    """What brings content in; the engine that keeps content implements it."""

    def alone(self) -> AbstractContextManager[None]: ...

    async def repositories(self) -> Sequence[str]: ...

    def parts(self, repository: Repository, owner: str, *, copy: bool = True) -> AsyncIterator[Part]: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Standing:
    """How far an import is: *repository* is the one in hand, *done* of *total* manifests of it were looked at."""

    repository: str
    number: int
    repositories: int
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class ProjectTally:
    """What an import did in one project; *new* says that the project was not here before."""

    new: bool
    repositories: int = 0
    tally: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class Report:
    """What an import came to. *broken* stays behind, *kept* are tags that were pushed here since and left alone."""

    projects: dict[str, ProjectTally] = field(default_factory=dict)
    broken: list[Left] = field(default_factory=list)
    kept: list[Left] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def tally(self) -> Tally:
        total = Tally()
        for project in self.projects.values():
            total += project.tally
        # Names that no project could be made of are broken as well.
        return replace(total, broken=len(self.broken))

    @property
    def repositories(self) -> int:
        return sum(project.repositories for project in self.projects.values())


@dataclass(frozen=True, slots=True)
class Imports:
    """
    Importing needs an administrator: it reads what the host can reach, and writes into every project.

    Raises `Invalid` for a project's name outside the grammar, `Conflict` while another import is under way,
    `Unavailable` when the source cannot be read or nothing can be written: what was brought until then stays.
    """

    gate: Gate
    database: Database
    importer: Importer

    async def import_all(
        self,
        caller: Caller,
        *,
        projects: Sequence[str] = (),
        tell: Callable[[Standing], None] = lambda _: None,
    ) -> Report:
        """
        Brings in every repository (of *projects*) that the source has; missing projects are made, not public.

        An event for each repository, or for each part of a big one, is committed with what it brought.
        """
        with self.importer.alone():
            return await self._through(caller, projects, tell, copy=True)

    async def plan(
        self,
        caller: Caller,
        *,
        projects: Sequence[str] = (),
        tell: Callable[[Standing], None] = lambda _: None,
    ) -> Report:
        """What `import_all` would do, as far as can be seen without reading blobs; one event, and nothing changes."""
        async with self.gate.passage(caller, Kind.REPOSITORY_IMPORT, MANAGE_SYSTEM) as passage:
            report = await self._through(caller, projects, tell, copy=False)
            passage.note(detail={"plan": True, "repositories": report.repositories, **asdict(report.tally)})
            await passage.seal()
        return report

    async def _through(
        self, caller: Caller, projects: Sequence[str], tell: Callable[[Standing], None], *, copy: bool
    ) -> Report:
        begun = time.monotonic()
        report = Report()
        try:
            names = await self._names(report, [ProjectName.parse(name) for name in projects])
            for number, name in enumerate(names):
                tell(Standing(name.name, number, len(names), 0, 0))
                await self._begin(report, name.project)
                parts = self._commits(caller, name) if copy else self._looks(name)
                async with aclosing(parts):
                    async for part, outcome in parts:
                        _count(report, name, part, outcome)
                        tell(Standing(name.name, number, len(names), part.done, part.total))
                project = report.projects[name.project.name]
                report.projects[name.project.name] = replace(project, repositories=project.repositories + 1)
        finally:
            await self.importer.close()
        report.seconds = time.monotonic() - begun
        return report

    async def _names(self, report: Report, wanted: Sequence[ProjectName]) -> list[Repository]:
        names: list[Repository] = []
        asked = {project.name for project in wanted}
        for text in await self.importer.repositories():
            if asked and text.partition("/")[0] not in asked:
                continue
            try:
                names.append(Repository.parse(text))
            except NameInvalid as refusal:
                report.broken.append(Left(text, "", refusal.message))
        found = {name.project.name for name in names}
        for missing in sorted(asked - found):
            report.broken.append(Left(missing, "", "the source has no repository of this project"))
        return names

    async def _begin(self, report: Report, project: ProjectName) -> None:
        if project.name not in report.projects:
            there = await self.database.read(lambda connection: project_exists(connection, project))
            report.projects[project.name] = ProjectTally(new=not there)

    async def _looks(self, repository: Repository) -> AsyncGenerator[tuple[Part, Outcome]]:
        async for part in self.importer.parts(repository, "", copy=False):
            yield part, Outcome(part.tally)

    async def _commits(self, caller: Caller, repository: Repository) -> AsyncGenerator[tuple[Part, Outcome]]:
        owner = owner_of(caller)
        facts = {"project": repository.project.name, "repository": repository.name}
        parts = self.importer.parts(repository, owner)
        part: Part | None = None
        while part is None or not part.last:
            part = None
            try:
                async with self.gate.passage(caller, Kind.REPOSITORY_IMPORT, MANAGE_SYSTEM, **facts) as passage:
                    part = await anext(parts)
                    passage.note(bytes=part.tally.bytes)
                    notes = await passage.commit(part.change)
            except ContentRefusal as refusal:
                if part is None:
                    raise
                # Somebody deleted here, meanwhile, what was counted on; another import goes on from there.
                lost = Left(repository.name, "", refusal.message)
                yield replace(part, broken=(*part.broken, lost)), Outcome(Tally(broken=1 + len(part.broken)))
                continue
            assert isinstance(notes.result, Outcome)
            yield part, notes.result


def _count(report: Report, name: Repository, part: Part, outcome: Outcome) -> None:
    project = report.projects[name.project.name]
    report.projects[name.project.name] = replace(project, tally=project.tally + outcome.tally)
    report.broken += part.broken
    report.kept += [Left(name.name, tag, "somebody has pushed this tag here") for tag in outcome.kept]
