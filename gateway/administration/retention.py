"""Retention: what of its tags a project keeps; planned before it is done, and done through the trash."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from gateway.access.policy import Need
from gateway.access.principals import Caller
from gateway.access.retention import Decision, Retention, TagState, decide
from gateway.access.scopes import Action
from gateway.administration.values import owner_of
from gateway.audit.event import Kind
from gateway.audit.trail import Search, Trail
from gateway.change import Change, Notes
from gateway.engine.port import Engine, Feature
from gateway.errors import Unsupported
from gateway.gate import Gate
from gateway.oci.names import ProjectName, Repository
from gateway.records import retention as rows
from gateway.records.database import Database
from gateway.records.projects import repository_names
from gateway.records.trash import Bin

__all__ = ["Applied", "Decision", "Retention", "RetentionPlan", "Retentions", "TagState"]


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What would become of each tag of a repository."""

    repository: str
    decisions: tuple[Decision, ...]

    @property
    def going(self) -> tuple[TagState, ...]:
        return tuple(each.tag for each in self.decisions if not each.stays)


@dataclass(frozen=True, slots=True)
class Applied:
    """What went from a repository: tags by name, and the manifests that nothing named any more."""

    repository: str
    tags: tuple[str, ...]
    manifests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Retentions:
    """Needs manage on the project. Raises `Unknown`, and `Unsupported` where another registry keeps the content."""

    gate: Gate
    database: Database
    engine: Engine
    trail: Trail
    trash_seconds: int = 0
    clock: Callable[[], float] = time.time

    async def show(self, caller: Caller, project: str) -> Retention:
        """What the project keeps."""
        name = ProjectName.parse(project)
        async with self.gate.passage(caller, Kind.RETENTION_PLAN, Need(Action.MANAGE, name)) as passage:
            found, _ = await self.database.read(lambda connection: rows.of_project(connection, name))
            await passage.seal()
        return found

    async def set(
        self,
        caller: Caller,
        project: str,
        *,
        last: int | None = None,
        matching: Sequence[str] = (),
        pulled_days: int | None = None,
    ) -> Retention:
        """What the project keeps from now on, in place of what it kept; nothing given: everything. Raises `Invalid`."""
        name = ProjectName.parse(project)
        wanted = Retention.parse(last, matching, pulled_days)
        async with self.gate.passage(caller, Kind.RETENTION_SET, Need(Action.MANAGE, name)) as passage:
            self._require()
            await passage.commit(rows.keep(name, wanted))
        return wanted

    async def plan(self, caller: Caller, project: str) -> tuple[RetentionPlan, ...]:
        """What `apply` would do now, repository by repository; nothing changes."""
        name = ProjectName.parse(project)
        async with self.gate.passage(caller, Kind.RETENTION_PLAN, Need(Action.MANAGE, name)) as passage:
            self._require()
            plans = await self._planned(name)
            await passage.seal()
        return plans

    async def apply(self, caller: Caller, project: str) -> tuple[Applied, ...]:
        """Removes what the project does not keep, into the trash; one transaction and one event for each repository."""
        name = ProjectName.parse(project)
        done: list[Applied] = []
        for plan in await self.plan(caller, project):
            if plan.going:
                done.append(await self._apply(caller, name, plan))
        return tuple(done)

    async def due(self) -> tuple[str, ...]:
        """The projects that do not keep everything."""
        return tuple(each.name for each in await self.database.read(rows.active))

    async def _apply(self, caller: Caller, project: ProjectName, plan: RetentionPlan) -> Applied:
        repository = Repository(plan.repository)
        bin = Bin(int(self.clock()), owner_of(caller), self.trash_seconds)

        def apply(connection: Any) -> Notes:
            return rows.remove(connection, repository, plan.going, bin)

        facts = {"project": project.name, "repository": repository.name}
        need = Need(Action.MANAGE, project)
        async with self.gate.passage(caller, Kind.RETENTION_APPLY, need, **facts) as passage:
            notes = await passage.commit(Change(apply, repositories=(repository,)))
        tags, manifests = notes.result
        return Applied(repository.name, tags, manifests)

    async def _planned(self, project: ProjectName) -> tuple[RetentionPlan, ...]:
        retention, rules = await self.database.read(lambda connection: rows.of_project(connection, project))
        names = await self.database.read(lambda connection: repository_names(connection, project))
        plans = []
        for repository in names:
            tags = await self._states(repository, pulls=retention.pulled_days is not None)
            plans.append(RetentionPlan(repository.name, decide(retention, rules, tags, int(self.clock()))))
        return tuple(plans)

    async def _states(self, repository: Repository, *, pulls: bool) -> list[TagState]:
        tags = await self.database.read(lambda connection: rows.tag_states(connection, repository))
        if not pulls:
            return tags
        digests = dict.fromkeys(tag.digest for tag in tags)
        pulled = {digest: await asyncio.to_thread(self._pulled_at, repository, digest) for digest in digests}
        return [replace(tag, pulled_at=pulled[tag.digest]) for tag in tags]

    def _pulled_at(self, repository: Repository, digest: str) -> int | None:
        search = Search(repository=repository.name, kind=Kind.MANIFEST_PULL.value, outcome="allowed", digest=digest)
        found = self.trail.page(search, before=None, limit=1)
        if not found:
            return None
        return int(datetime.fromisoformat(str(found[0].record()["time"])).astimezone(UTC).timestamp())

    def _require(self) -> None:
        if Feature.TRASH in self.engine.emulated:
            raise Unsupported(
                "The content is kept by the registry behind the gateway, which cannot remove a tag alone; retention is "
                'for kind = "embedded" in [engine].'
            )
