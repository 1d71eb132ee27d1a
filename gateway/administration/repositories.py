"""Repositories and tags, as administrators and owners look after them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from gateway.access.policy import Need, Standing, parse_target
from gateway.access.principals import Caller
from gateway.access.scopes import Action
from gateway.administration.sight import may_know, may_pull, sees_all, standing_of
from gateway.administration.values import TagRow, owner_of
from gateway.audit.event import Kind
from gateway.change import Change, Notes
from gateway.engine.port import Engine, Feature
from gateway.errors import Conflict, Unknown, Unsupported
from gateway.gate import Gate
from gateway.oci.digest import Digest
from gateway.oci.names import ProjectName, Repository, Tag
from gateway.records import content
from gateway.records import repositories as rows
from gateway.records.accounts import account_names
from gateway.records.browsing import place_of, tags_named
from gateway.records.database import Database
from gateway.records.listings import TagSummary, tag_summaries
from gateway.records.projects import get, public_names
from gateway.records.repositories import RepositoryRow

#: Names looked at together, and projects named in one query.
_LOOK, _TOLD = 100, 500


@dataclass(frozen=True, slots=True)
class Repositories:
    """
    Looking needs pull on the repository, removing needs delete.

    Raises `Invalid` for a name outside the grammar, `Unknown` for a repository that holds nothing or is not there.
    """

    gate: Gate
    database: Database
    engine: Engine

    async def list_repositories(self, caller: Caller, project: str | None = None) -> tuple[RepositoryRow, ...]:
        """
        The repositories (of *project*) that the caller may pull from, by name, with what they hold.

        Raises `Unknown` for a project that is not there, to those who may know.
        """
        name = ProjectName.parse(project) if project is not None else None
        facts = {"project": name.name} if name is not None else {}
        async with self.gate.passage(caller, Kind.REPOSITORY_LIST, **facts) as passage:
            standing = await standing_of(self.gate, caller)
            await self._require_project(caller, name)
            found = await self.database.read(lambda connection: rows.rows_of(connection, project=name))
            seen = [row for row in found if await may_pull(self.gate, caller, standing, Repository(row.name))]
            await passage.seal()
        return tuple(seen)

    async def page_repositories(
        self, caller: Caller, project: str | None = None, *, after: str = "", limit: int = 100
    ) -> tuple[RepositoryRow, ...]:
        """
        The part of `list_repositories` that follows the name *after*, at most *limit* (1 to 1,000) of them.

        What it costs grows with the page, and with the repositories that are passed over because the caller may pull
        from others of their project only; not with what there is.
        """
        name = ProjectName.parse(project) if project is not None else None
        facts = {"project": name.name} if name is not None else {}
        async with self.gate.passage(caller, Kind.REPOSITORY_LIST, **facts) as passage:
            standing = await standing_of(self.gate, caller)
            await self._require_project(caller, name)
            within = await self._within(caller, standing, name)
            found: list[RepositoryRow] = []
            while len(found) < limit:
                look = partial(rows.names_after, after=after, limit=max(_LOOK, limit - len(found)), within=within)
                names = await self.database.read(look)
                if not names:
                    break
                after = names[-1]
                # However many are passed over, others are answered meanwhile.
                await asyncio.sleep(0)
                seen = [each for each in names if await may_pull(self.gate, caller, standing, Repository(each))]
                found += await self.database.read(partial(rows.rows_of, names=seen))
            await passage.seal()
        return tuple(found[:limit])

    async def show_repository(self, caller: Caller, repository: str) -> RepositoryRow:
        """One repository with what it holds."""
        name = parse_target(repository)
        async with self.gate.passage(caller, Kind.REPOSITORY_SHOW, Need(Action.PULL, name)) as passage:
            row = await self._row(name)
            await passage.seal()
        return row

    async def remove_repository(self, caller: Caller, repository: str) -> None:
        """
        Removes the repository with its tags and manifests; the bytes are freed by the next sweep.

        Raises `Unsupported` where the engine cannot: forgotten here alone, it would go on to be pulled.
        """
        name = parse_target(repository)

        def apply(connection: Any) -> Notes:
            notes = content.remove_repository(connection, name)
            if notes is None:
                raise _no_repository(name)
            return notes

        async with self.gate.passage(caller, Kind.REPOSITORY_REMOVE, Need(Action.DELETE, name)) as passage:
            if Feature.REMOVAL in self.engine.emulated:
                raise Unsupported(f"{self.engine.emulated[Feature.REMOVAL]} Delete the manifests of {name} by digest.")
            await passage.commit(Change(apply, repositories=(name,)))

    async def list_tags(self, caller: Caller, repository: str) -> tuple[TagRow, ...]:
        """Every tag by name, with its digest, and when and by whom it was moved; who is gone is told as `kind:id`."""
        name = parse_target(repository)
        async with self.gate.passage(caller, Kind.TAG_LIST, Need(Action.PULL, name)) as passage:
            await self._row(name)
            found = await self.database.read(lambda connection: tag_summaries(connection, name))
            tags = await self._named(found)
            await passage.seal()
        return tags

    async def page_tags(
        self, caller: Caller, repository: str, *, after: str = "", limit: int = 100
    ) -> tuple[TagRow, ...]:
        """The part of `list_tags` that follows the name *after*, at most *limit* of them: it costs what they cost."""
        name = parse_target(repository)
        async with self.gate.passage(caller, Kind.TAG_LIST, Need(Action.PULL, name)) as passage:
            found = await self.database.read(lambda connection: tag_summaries(connection, name, after, limit))
            if not found:
                await self._row(name)
            tags = await self._named(found)
            await passage.seal()
        return tags

    async def remove_tag(self, caller: Caller, repository: str, tag: str, *, expected: str = "") -> str:
        """
        Removes the tag alone; the manifest stays reachable by its digest.

        Answers how that differs from a removal, in a sentence, where the engine only stands in for it; "" elsewhere.
        Raises `TagInvalid` and `ManifestUnknown` as the registry does, and `Conflict` if the tag is known to point
        elsewhere than at the digest that was *expected*.
        """
        name, wanted = parse_target(repository), Tag.parse(tag)
        need = Need(Action.DELETE, name)
        async with self.gate.passage(caller, Kind.TAG_DELETE, need, reference=wanted.name) as passage:
            change = self.engine.manifests.untag(name, wanted, owner_of(caller))
            await passage.commit(_expecting(change, name, wanted, expected) if expected else change)
        return self.engine.emulated.get(Feature.UNTAG, "")

    async def remove_manifest(self, caller: Caller, repository: str, digest: str) -> None:
        """
        Removes the manifest with all its tags; what refers to it or lists it stays.

        Raises `DigestInvalid`, `ManifestUnknown` and `ContentReferenced` as the registry does, and what rules say
        against it.
        """
        name, wanted = parse_target(repository), Digest.parse(digest)
        needs = Need(Action.DELETE, name)
        async with self.gate.passage(caller, Kind.MANIFEST_DELETE, needs, digest=wanted.text) as passage:
            await passage.commit(self.engine.manifests.delete(name, wanted, owner_of(caller)))

    async def _require_project(self, caller: Caller, name: ProjectName | None) -> None:
        """Raises `Unknown` for a project that is not there; to others than who may know, it is one that is empty."""
        if name is not None and await may_know(self.gate, caller, name):
            await self.database.read(lambda connection: get(connection, name))

    async def _within(self, caller: Caller, standing: Standing, name: ProjectName | None) -> list[str] | None:
        """The projects in which the caller may see anything, where they can be told beforehand; None: any."""
        if name is not None:
            return [name.name]
        bound = caller.bound.projects if caller.bound is not None else None
        if bound is not None:
            return sorted(bound)
        if sees_all(caller, standing):
            return None
        now = datetime.now(UTC)
        held = {grant.reach.project.name for grant in standing.grants if grant.live(now)}
        # One more than can be named tells that there are too many.
        public = set(await self.database.read(lambda connection: public_names(connection, _TOLD + 1)))
        return sorted(held | public) if len(held | public) <= _TOLD else None

    async def _row(self, name: Repository) -> RepositoryRow:
        found = await self.database.read(lambda connection: rows.rows_of(connection, repository=name))
        if not found:
            raise _no_repository(name)
        return found[0]

    async def _named(self, tags: Sequence[TagSummary]) -> tuple[TagRow, ...]:
        names = await self.database.read(lambda connection: account_names(connection, {tag.moved_by for tag in tags}))
        return tuple(_tag(tag, names.get(tag.moved_by, tag.moved_by)) for tag in tags)


def _tag(tag: TagSummary, moved_by: str) -> TagRow:
    moved_at = datetime.fromtimestamp(tag.moved_at, UTC)
    return TagRow(tag.name, tag.digest, tag.media_type, tag.size_bytes, moved_at, moved_by)


def _expecting(change: Change, name: Repository, tag: Tag, expected: str) -> Change:
    """*change*, if the tag still points where who asked for it saw it point."""

    def apply(connection: Any) -> Notes:
        place = place_of(connection, name)
        row = tags_named(connection, place.id, [tag.name]).get(tag.name) if place is not None else None
        if row is not None and row.digest != expected:
            raise Conflict(f"Tag {tag} was moved to {row.digest} meanwhile; look at it again before it is removed.")
        return change.apply(connection)

    return replace(change, apply=apply)


def _no_repository(name: Repository) -> Unknown:
    return Unknown(f"There is no repository {name}; list the repositories to see how they are spelled.")
