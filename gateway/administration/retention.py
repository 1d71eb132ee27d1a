"""Retention: what of its tags a project keeps; planned before it is done, and done through the trash."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from gateway.access.policy import Need
from gateway.access.principals import Caller
from gateway.access.retention import Decision, Retention, TagState, decide, subject_of
from gateway.access.scopes import Action
from gateway.administration.horizon import beginning
from gateway.administration.values import owner_of
from gateway.audit.chain import Sealed
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

#: Tags that go in one transaction, at one to three milliseconds each.
_SLICE: Final = 100

#: A repository's name, and a digest there.
_Place: TypeAlias = tuple[str, str]
#: Repositories planned together.
_PART = 100

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
    """
    Needs manage on the project. Raises `Unknown`, and `Unsupported` where another registry keeps the content.

    What is removed can be had back for *trash_seconds*; what was pushed again lately, and has lost only the index that
    named it, is not removed in the *grace_seconds* after.
    """

    gate: Gate
    database: Database
    engine: Engine
    trail: Trail
    trash_seconds: int = 0
    grace_seconds: int = 86_400
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
        """
        Removes what the project does not keep, into the trash: one transaction and one event for a hundred tags or so.

        What has gone when something is raised has gone; the rest is for the next time.
        """
        name = ProjectName.parse(project)
        done: list[Applied] = []
        for plan in await self.plan(caller, project):
            if plan.going:
                done.append(await self._apply(caller, name, plan))
        return tuple(done)

    async def due(self) -> tuple[str, ...]:
        """The projects that do not keep everything, and are not read-only."""
        return tuple(each.name for each in await self.database.read(rows.active))

    async def _apply(self, caller: Caller, project: ProjectName, plan: RetentionPlan) -> Applied:
        repository = Repository(plan.repository)
        tags: list[str] = []
        manifests: list[str] = []
        for some in _slices(plan.going):
            done = await self._apply_some(caller, project, repository, some)
            tags += done.tags
            manifests += done.manifests
        return Applied(repository.name, tuple(sorted(tags)), tuple(manifests))

    async def _apply_some(
        self, caller: Caller, project: ProjectName, repository: Repository, going: Sequence[TagState]
    ) -> Applied:
        bin = Bin(int(self.clock()), owner_of(caller), self.trash_seconds)

        def apply(connection: Any) -> Notes:
            return rows.remove(connection, repository, going, bin, grace_seconds=self.grace_seconds)

        facts = {"project": project.name, "repository": repository.name}
        need = Need(Action.MANAGE, project)
        async with self.gate.passage(caller, Kind.RETENTION_APPLY, need, **facts) as passage:
            notes = await passage.commit(Change(apply, repositories=(repository,)))
        tags, manifests = notes.result
        return Applied(repository.name, tags, manifests)

    async def _planned(self, project: ProjectName) -> tuple[RetentionPlan, ...]:
        retention, rules = await self.database.read(lambda connection: rows.of_project(connection, project))
        names = await asyncio.to_thread(
            self.database.read_now, lambda connection: repository_names(connection, project)
        )
        now = int(self.clock())
        states: dict[str, list[TagState]] = {}
        # In threads, and a part at a time: others are answered meanwhile, and have their turn of the threads.
        for start in range(0, len(names), _PART):
            states |= await asyncio.to_thread(self._tags, names[start : start + _PART])
        pulled: dict[_Place, int] = {}
        if retention.pulled_days is not None:
            since = datetime.fromtimestamp(now, UTC) - timedelta(days=retention.pulled_days)
            places = {(name, tag.digest) for name, tags in states.items() for tag in tags}
            born = await beginning(self.database, self.trail, project)
            pulled = await asyncio.to_thread(self._pulled, project, places, max(since, born))

        def decided(part: Sequence[Repository]) -> list[RetentionPlan]:
            found = []
            for name in (each.name for each in part):
                seen = states[name]
                if pulled:
                    seen = [replace(tag, pulled_at=pulled.get((name, tag.digest))) for tag in seen]
                found.append(RetentionPlan(name, decide(retention, rules, seen, now)))
            return found

        plans: list[RetentionPlan] = []
        for start in range(0, len(names), _PART):
            plans += await asyncio.to_thread(decided, names[start : start + _PART])
        return tuple(plans)

    def _tags(self, names: Sequence[Repository]) -> dict[str, list[TagState]]:
        return self.database.read_now(lambda connection: rows.tag_states(connection, names))

    def _pulled(self, project: ProjectName, places: Iterable[_Place], since: datetime) -> dict[_Place, int]:
        """When the digest of each of *places* was pulled last since then, in UNIX seconds, if it was."""
        asked = Search(kind=Kind.MANIFEST_PULL.value, outcome="allowed", since=since)
        found: dict[_Place, int] = {}
        missing: set[_Place] = set()
        for place in places:
            newest = self.trail.page(replace(asked, repository=place[0], digest=place[1]), limit=1)
            if newest:
                found[place] = _second(newest[0])
            else:
                missing.add(place)
        # Sealed months are read once for all of them, the newest first.
        for older in self.trail.older([replace(asked, project=project.name)]) if missing else ():
            assert isinstance(older, Sealed)
            record = older.record()
            place = str(record.get("repository", "")), str(record.get("digest", ""))
            if place in missing:
                found.setdefault(place, _second(older))
        return found

    def _require(self) -> None:
        if Feature.TRASH in self.engine.emulated:
            raise Unsupported(
                "The content is kept by the registry behind the gateway, which cannot remove a tag alone; retention is "
                'for kind = "embedded" in [engine].'
            )


def _slices(going: Sequence[TagState]) -> Iterator[list[TagState]]:
    """*going* in transactions that keep nobody waiting for long; a tag about another goes with the last of its own."""

    def order(tag: TagState) -> tuple[str, bool]:
        subject = subject_of(tag.name)
        return subject or tag.digest, bool(subject)

    some: list[TagState] = []
    for tag in sorted(going, key=order):
        if len(some) >= _SLICE and not subject_of(tag.name):
            yield some
            some = []
        some.append(tag)
    if some:
        yield some


def _second(event: Sealed) -> int:
    return int(datetime.fromisoformat(str(event.record()["time"])).astimezone(UTC).timestamp())
