"""The trash, as people look into it and take things out of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from gateway.access.policy import Need, parse_target
from gateway.access.principals import Caller
from gateway.access.scopes import Action
from gateway.administration.emptying import Emptying
from gateway.administration.values import MANAGE_SYSTEM, owner_of
from gateway.audit.event import Kind
from gateway.change import Change, Notes
from gateway.engine.port import Engine, Feature
from gateway.errors import Invalid, Unknown, Unsupported
from gateway.gate import Gate
from gateway.oci.digest import Digest
from gateway.oci.names import ProjectName, Repository, Tag
from gateway.records import restoring, trash
from gateway.records.accounts import account_names
from gateway.records.content import Act, repository_id
from gateway.records.database import Database
from gateway.records.projects import get
from gateway.records.trash import Going, Trashed

LIMIT: Final = 1000


@dataclass(frozen=True, slots=True)
class TrashRow:
    """One thing in the trash: a tag, or a manifest (*tag* is ""). Times in UTC; *deleted_by* as people read it."""

    repository: str
    tag: str
    digest: str
    size_bytes: int
    deleted_at: datetime
    deleted_by: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Trash:
    """
    Looking into the trash of a repository needs delete there, of a project manage, of all of them an administrator;
    restoring needs push, for it is one.
    """

    gate: Gate
    database: Database
    engine: Engine

    async def list_trash(
        self, caller: Caller, repository: str | None = None, project: str | None = None
    ) -> tuple[TrashRow, ...]:
        """What can be restored, the newest first, at most 1,000. Raises `Unknown` for a place that is not there."""
        name = parse_target(repository) if repository else None
        within = ProjectName.parse(project) if project else None
        if name is not None:
            need = Need(Action.DELETE, name)
        else:
            need = Need(Action.MANAGE, within) if within is not None else MANAGE_SYSTEM
        place = name.project if name is not None else within
        async with self.gate.passage(caller, Kind.TRASH_LIST, need) as passage:
            if place is not None:
                # What a project had in the trash left with it.
                await self.database.read(partial(get, name=place))
            if name is not None:
                await self._known(name)
            # SQLite goes through all the bytes of what it lists.
            found = await asyncio.to_thread(
                self.database.read_now, partial(trash.listed, repository=name, project=within, limit=LIMIT)
            )
            names = await self.database.read(lambda each: account_names(each, {row.deleted_by for row in found}))
            await passage.seal()
        return tuple(_row(each, names) for each in found)

    @property
    def hindrance(self) -> str:
        """Why nothing that is deleted can be had back here, "" if it can."""
        return self.engine.emulated.get(Feature.TRASH, "")

    async def restore_tag(
        self,
        caller: Caller,
        repository: str,
        tag: str,
        *,
        to: str = "",
        force: bool = False,
        seen: str | None = None,
    ) -> str:
        """
        Points the tag at what it named when it was removed last, or at the digest *to*; answers which digest that is.

        Raises `Unknown`, `Conflict` while it names something else unless *to* or *force*, `AgainstRule`, `Unsupported`.
        With *seen*, what the tag was seen to name ("" for nothing), `Conflict` if that is not so any more.
        """
        name, wanted = parse_target(repository), Tag.parse(tag)
        digest = Digest.parse(to) if to else None

        def apply(connection: Any) -> Notes:
            act = Act(int(time.time()), owner_of(caller))
            return restoring.restore_tag(connection, name, wanted, digest, act, force=force, seen=seen)

        need = Need(Action.PUSH, name)
        async with self.gate.passage(caller, Kind.TAG_RESTORE, need, reference=wanted.name) as passage:
            self._require()
            notes = await passage.commit(Change(apply, repositories=(name,)))
        return notes.digest

    async def restore_manifest(self, caller: Caller, repository: str, digest: str) -> tuple[str, ...]:
        """Brings a deleted manifest back, with those of its tags that name nothing else now: their names."""
        name, wanted = parse_target(repository), Digest.parse(digest)

        def apply(connection: Any) -> Notes:
            return restoring.restore_manifest(connection, name, wanted, Act(int(time.time()), owner_of(caller)))

        need = Need(Action.PUSH, name)
        async with self.gate.passage(caller, Kind.MANIFEST_RESTORE, need, digest=wanted.text) as passage:
            self._require()
            notes = await passage.commit(Change(apply, repositories=(name,)))
        restored: tuple[str, ...] = notes.result
        return restored

    async def empty_trash(self, caller: Caller, repository: str | None = None) -> int:
        """
        Drops everything there (of the repository): how many things. They cannot be restored any more.

        Raises `Unknown`, and `ReadOnly` while a project that something would be dropped of keeps its content as it is.
        Much of it goes in several commits: what has gone when something is raised has gone, and the event tells how
        much that is.
        """
        name = parse_target(repository) if repository else None
        need = Need(Action.DELETE, name) if name is not None else MANAGE_SYSTEM
        async with self.gate.passage(caller, Kind.TRASH_EMPTY, need) as passage:
            if name is not None:
                await self._known(name)
            return await Emptying(passage, self.database, Going(name)).run()

    async def _known(self, name: Repository) -> None:
        """Raises `Unknown` unless there is the repository."""
        if await self.database.read(partial(repository_id, repository=name)) is None:
            raise Unknown(f"There is no repository {name}; list the repositories to see how they are spelled.")

    def _require(self) -> None:
        if Feature.TRASH in self.engine.emulated:
            raise Unsupported(self.engine.emulated[Feature.TRASH])


def _row(found: Trashed, names: dict[str, str]) -> TrashRow:
    return TrashRow(
        found.repository,
        found.tag,
        found.digest,
        found.size_bytes,
        datetime.fromtimestamp(found.deleted_at, UTC),
        names.get(found.deleted_by, found.deleted_by),
        datetime.fromtimestamp(found.until, UTC),
    )


def parse_place(text: str) -> tuple[str, str]:
    """The repository and the tag, or digest, that `REPOSITORY:TAG` or `REPOSITORY@DIGEST` spell; raises `Invalid`."""
    place, at, digest = text.partition("@")
    if at:
        return place, digest
    place, colon, tag = text.rpartition(":")
    if not colon or not place or "/" in tag:
        raise Invalid("Name a tag or a manifest, as in gallery/ui:v1 or gallery/ui@sha256:…")
    return place, tag
