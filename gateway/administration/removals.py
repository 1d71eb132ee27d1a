"""Removals foreseen: what else goes with a tag, a manifest or a repository, before anything does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.access.policy import Need, parse_target
from gateway.access.principals import Caller
from gateway.access.scopes import Action
from gateway.administration.horizon import beginning
from gateway.administration.views import Consequences, Referrer, told
from gateway.audit.event import Kind
from gateway.audit.trail import Trail
from gateway.engine.port import Engine, Feature
from gateway.errors import Unknown
from gateway.gate import Gate
from gateway.oci.digest import Digest
from gateway.oci.names import Repository, Tag, parse_reference
from gateway.oci.purpose import purpose_of
from gateway.records import browsing, consequences, pulls
from gateway.records.database import Database


@dataclass(frozen=True, slots=True)
class Removals:
    """Looks ahead, and changes nothing; see `contents.Contents.removing`."""

    gate: Gate
    database: Database
    engine: Engine
    trail: Trail
    trash_seconds: int = 0

    @property
    def _until(self) -> datetime | None:
        """Until when a tag or manifest that is removed now can be had back."""
        if not self.trash_seconds or Feature.TRASH in self.engine.emulated:
            return None
        return datetime.now(UTC) + timedelta(seconds=self.trash_seconds)

    async def foresee(self, caller: Caller, repository: str, reference: str) -> Consequences:
        name = parse_target(repository)
        wanted = parse_reference(reference) if reference else None
        needs = (Need(Action.DELETE, name), Need(Action.REVIEW, name.project, optional=True))
        kind = Kind.MANIFEST_SHOW if wanted is not None else Kind.REPOSITORY_SHOW
        facts: dict[str, object] = {"detail": {"asked": "what a removal would do"}}
        if wanted is not None:
            facts |= {"digest": wanted.text} if isinstance(wanted, Digest) else {"reference": wanted.name}
        async with self.gate.passage(caller, kind, *needs, **facts) as passage:
            named = bool(passage.met)
            match wanted:
                case None:
                    found = await self._repository(name)
                case Tag():
                    found = await self._tag(name, wanted, named=named)
                case Digest():
                    found = await self._manifest(name, wanted, named=named)
            await passage.seal()
        return found

    async def _repository(self, name: Repository) -> Consequences:
        place, amounts = await self.database.read(lambda connection: _held(connection, name))
        hindrance = await self.database.read(
            lambda connection: consequences.repository_hindrance(connection, place, name)
        )
        return Consequences(
            name.name,
            tag_count=amounts.tags,
            manifest_count=amounts.manifests,
            loose_bytes=amounts.size_bytes,
            hindrance=hindrance or self.engine.emulated.get(Feature.REMOVAL, ""),
        )

    async def _tag(self, name: Repository, tag: Tag, *, named: bool) -> Consequences:
        stored = await self.engine.manifests.find(name, tag)
        digest = stored.digest.text
        others = await self.database.read(lambda connection: _others(connection, name, digest, tag))
        pulled = await self._pulled(name, digest)
        hindrance = await self.database.read(lambda connection: consequences.tag_hindrance(connection, name, tag))
        return Consequences(
            name.name,
            digest=digest,
            tag=tag.name,
            left_untagged=not others,
            pulled=told(pulled, named=named),
            hindrance=hindrance,
            differs=self.engine.emulated.get(Feature.UNTAG, ""),
            until=self._until,
        )

    async def _manifest(self, name: Repository, digest: Digest, *, named: bool) -> Consequences:
        await self.engine.manifests.find(name, digest)
        going = await self.database.read(lambda connection: _going(connection, name, digest))
        last = told(await self._pulled(name, digest.text), named=named)
        if going is None:
            return Consequences(name.name, digest=digest.text, pulled=last)
        referrers = tuple(Referrer(purpose_of("", kind, {}), kind, about, 0, {}) for about, kind in going.referrers)
        return Consequences(
            name.name,
            digest=digest.text,
            tags=going.tags,
            tag_count=going.tag_count,
            manifest_count=1,
            indexes=going.indexes,
            index_count=going.index_count,
            referrers=referrers,
            referrer_count=going.referrer_count,
            loose_bytes=going.loose.size_bytes,
            freed_bytes=going.loose.alone_bytes,
            pulled=last,
            hindrance=going.hindrance,
            until=self._until,
        )

    async def _pulled(self, name: Repository, digest: str) -> pulls.LastPull:
        born = await beginning(self.database, self.trail, name.project)
        found = await self.database.read(lambda connection: pulls.of_digests(connection, name, [digest], born))
        return found[digest]


def _held(connection: Any, name: Repository) -> tuple[int, browsing.Amounts]:
    """The repository's number and what it holds; raises `Unknown`."""
    place = browsing.place_of(connection, name)
    amounts = browsing.amounts(connection, [place.id])[place.id] if place is not None else browsing.Amounts()
    if place is None or not (amounts.manifests or amounts.blobs):
        raise Unknown(f"There is no repository {name}; list the repositories to see how they are spelled.")
    return place.id, amounts


def _others(connection: Any, name: Repository, digest: str, tag: Tag) -> bool:
    """Whether another tag names the same manifest."""
    place = browsing.place_of(connection, name)
    names = browsing.tags_of(connection, place.id, [digest], 2) if place is not None else []
    return any(other != tag.name for other, _ in names)


def _going(connection: Any, name: Repository, digest: Digest) -> consequences.Going | None:
    """What hangs on the manifest; None where the records know no such repository."""
    place = browsing.place_of(connection, name)
    return consequences.of_manifest(connection, place.id, name, digest) if place is not None else None
