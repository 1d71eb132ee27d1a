"""Projects: which there are, whether they are public, what they hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from gateway.access.policy import Need
from gateway.access.principals import Caller
from gateway.access.rules import parse_patterns, parse_quota, parse_reason
from gateway.access.scopes import Action
from gateway.administration.sight import sees_all, standing_of
from gateway.administration.values import MANAGE_SYSTEM, ProjectDetail, RemovedProject
from gateway.audit.event import Kind
from gateway.engine.port import Engine, Feature
from gateway.errors import Invalid
from gateway.gate import Gate
from gateway.oci.names import ProjectName
from gateway.records import projects as rows
from gateway.records.accounts import robots_of
from gateway.records.database import Database
from gateway.records.grants import grants_of
from gateway.records.projects import ProjectRow, Wishes

_EVERYTHING = (Need(Action.MANAGE, optional=True), Need(Action.REVIEW, optional=True))


@dataclass(frozen=True, slots=True)
class Projects:
    """Adding and removing needs an administrator, the rest the owner of the project."""

    gate: Gate
    database: Database
    engine: Engine

    async def add_project(self, caller: Caller, name: str, *, public: bool = False) -> ProjectRow:
        """A new, empty project; a public one may be pulled from by anybody. Raises `Conflict` if it exists."""
        project = ProjectName.parse(name)
        async with self.gate.passage(caller, Kind.PROJECT_ADD, MANAGE_SYSTEM, project=project.name) as passage:
            notes = await passage.commit(rows.add(project, public=public, now=int(time.time())))
        return _row(notes.result)

    async def set_project(
        self,
        caller: Caller,
        name: str,
        *,
        public: bool | None = None,
        quota_bytes: int | None = None,
        unlimited: bool = False,
        immutable: Sequence[str] | None = None,
        read_only: str | None = None,
    ) -> ProjectRow:
        """
        Changes what is given, and nothing else: whether anybody may pull, and the rules.

        *quota_bytes* replaces the quota, *unlimited* removes it: an administrator's to say, the rest the owner's.
        *immutable* replaces all patterns of tags; *read_only* is the reason why, "" makes the project writable again.
        Raises `Unknown`, and `Invalid` for a value outside its grammar or if there is nothing to change.
        """
        project = ProjectName.parse(name)
        wishes = Wishes(
            public,
            parse_quota(quota_bytes) if quota_bytes is not None else None,
            unlimited,
            parse_patterns(immutable) if immutable is not None else None,
            parse_reason(read_only) if read_only else read_only,
        )
        if not wishes.values:
            raise Invalid(f"Say what is to be changed of project {project}.")
        needs = (Need(Action.MANAGE, project), *((MANAGE_SYSTEM,) if "quota_bytes" in wishes.values else ()))
        async with self.gate.passage(caller, Kind.PROJECT_SET, *needs) as passage:
            notes = await passage.commit(rows.set_project(project, wishes))
        return _row(notes.result)

    async def list_projects(self, caller: Caller) -> tuple[ProjectRow, ...]:
        """The projects the caller may see, by name: all for administrators and auditors, else public and granted."""
        return await self.page_projects(caller)

    async def page_projects(
        self, caller: Caller, *, after: str = "", limit: int | None = None
    ) -> tuple[ProjectRow, ...]:
        """The part of `list_projects` that follows the name *after*, at most *limit* of them."""
        async with self.gate.passage(caller, Kind.PROJECT_LIST, *_EVERYTHING) as passage:
            standing = await standing_of(self.gate, caller)
            held = within = None
            if not passage.met and not sees_all(caller, standing):
                now = datetime.now(UTC)
                held = {grant.reach.project.name for grant in standing.grants if grant.live(now)}
            if caller.bound is not None:
                within = caller.bound.projects
            look = partial(rows.visible, held=held, within=within, after=after, limit=limit)
            # Of those passed over there may be many, and all of them are many: others are answered meanwhile.
            found = await asyncio.to_thread(self.database.read_now, look)
            await passage.seal()
        return found

    async def show_project(self, caller: Caller, name: str) -> ProjectDetail:
        """The project with its grants and robots (expired ones included) and what it holds. Raises `Unknown`."""
        project = ProjectName.parse(name)
        async with self.gate.passage(caller, Kind.PROJECT_SHOW, Need(Action.MANAGE, project)) as passage:
            row = await self.database.read(lambda connection: rows.get(connection, project))
            grants = await self.database.read(lambda connection: grants_of(connection, project=row.id))
            robots = await self.database.read(lambda connection: robots_of(connection, row.id))
            count = await self.database.read(lambda connection: rows.repository_count(connection, row.id))
            await passage.seal()
        return ProjectDetail(row, grants, robots, count, row.used_bytes)

    async def remove_project(self, caller: Caller, name: str, *, force: bool = False) -> RemovedProject:
        """
        Removes the project with its repositories, robots and grants; one added again under the name is another.

        Raises `Unknown`, `Conflict` while it holds content unless *force*, and `ReadOnly` if that may not change.
        """
        project = ProjectName.parse(name)
        async with self.gate.passage(caller, Kind.PROJECT_REMOVE, MANAGE_SYSTEM, project=project.name) as passage:
            held = await self.database.read(lambda connection: rows.repository_names(connection, project))
            notes = await passage.commit(rows.remove(project, held, force=force))
        stays = self.engine.emulated.get(Feature.REMOVAL, "") if held else ""
        stays = stays and f"{stays} A project that is added under this name again shows it again."
        gone = {
            noun: int(str((notes.detail or {})[f"{noun}_removed"])) for noun in ("repositories", "robots", "grants")
        }
        return RemovedProject(stays, **gone)


def _row(result: object) -> ProjectRow:
    assert isinstance(result, ProjectRow)
    return result
