"""Contents: what a project's repositories hold, page by page, told to who may pull it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from gateway.access.policy import Need, Standing, parse_target
from gateway.access.principals import Caller
from gateway.access.scopes import Action
from gateway.access.sealing import Sealer
from gateway.access.secrets import Secrets
from gateway.administration.horizon import beginning
from gateway.administration.manifests import Manifests
from gateway.administration.platforms import Platforms
from gateway.administration.removals import Removals
from gateway.administration.sight import may_pull, standing_of
from gateway.administration.views import (
    Consequences,
    ManifestView,
    RepositoryEntry,
    Shelf,
    TagEntry,
    moment,
    told,
)
from gateway.audit.event import Kind
from gateway.audit.trail import Trail
from gateway.engine.port import Engine
from gateway.errors import Invalid, NameUnknown, Unknown
from gateway.gate import Gate
from gateway.oci.names import REPOSITORY_CHARACTERS, ProjectName, Repository
from gateway.oci.purpose import purpose_of
from gateway.records import browsing, pulls, rules
from gateway.records.accounts import account_names
from gateway.records.database import Database

#: Entries of a page, unless fewer are asked for, and names that are looked through for it.
PAGE: Final = 50
_MOST: Final = 200
_LOOKED_THROUGH: Final = 20_000
_STRIDE: Final = 1000
_TEXT_CHARACTERS: Final = 128
#: What no name begins with.
_SEALED: Final = "~"
_SEALED_SECONDS: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class Contents:
    """
    Looking needs pull on the repository; auditors as such see nothing here.

    Whatever a caller may not see is refused as if it were not there: `Denied` where a right is missing, `Unknown` for
    a project they may not know. Who pulled is told to who may review the project; of pulls from a project that had the
    name before, nobody is told here.
    """

    gate: Gate
    database: Database
    engine: Engine
    trail: Trail
    platforms: Platforms
    secrets: Secrets
    trash_seconds: int = 0

    async def repositories(
        self, caller: Caller, project: str, *, containing: str = "", after: str = "", limit: int = PAGE
    ) -> Shelf[RepositoryEntry]:
        """
        The repositories of *project* that the caller may pull from, by name after *after*.

        With *containing*, those whose names do. Where the list goes on is the name of one of them, or, if what was
        looked through last is not theirs to see, sealed for this caller and a day. Raises `Unknown` for a project that
        the caller may not see, `Invalid` for a place that was not given out so.
        """
        name = ProjectName.parse(project)
        places = Sealer(self.secrets.positions, f"{caller.principal.kind}:{caller.principal.id} {name}")
        after = _opened(places, after)
        review = Need(Action.REVIEW, name, optional=True)
        facts = {"project": name.name}
        async with self.gate.passage(caller, Kind.REPOSITORY_LIST, review, **facts) as passage:
            standing = await standing_of(self.gate, caller)
            beginnings = await self._beginnings(caller, standing, name, reviews=bool(passage.met))
            found, following = await self._places(caller, standing, name, beginnings, containing, after, _page(limit))
            entries = await self._repository_entries(name, found, named=bool(passage.met))
            await passage.seal()
        if following and all(place.name != following for place in found):
            # As long as any name: how long it is would be told otherwise.
            following = _SEALED + places.seal(following.ljust(REPOSITORY_CHARACTERS).encode(), _SEALED_SECONDS)
        return Shelf(entries, following)

    async def tags(
        self, caller: Caller, repository: str, *, containing: str = "", after: str = "", limit: int = PAGE
    ) -> Shelf[TagEntry]:
        """
        The tags of *repository* by name after *after*; with *containing*, those whose names do, in upper or lower case.

        Raises `Unknown` for a repository that holds nothing.
        """
        name = parse_target(repository)
        review, delete = Need(Action.REVIEW, name.project, optional=True), Need(Action.DELETE, name, optional=True)
        async with self.gate.passage(caller, Kind.TAG_LIST, Need(Action.PULL, name), review, delete) as passage:
            try:
                names, following = await self._tag_names(name, containing, after, _page(limit))
            except NameUnknown as refusal:
                raise Unknown(f"There is no repository {name}; list the repositories to see them.") from refusal
            entries = await self._tag_entries(name, names, named=review in passage.met)
            await passage.seal()
        return Shelf(entries, following, delete in passage.met)

    async def manifest(self, caller: Caller, repository: str, reference: str) -> ManifestView:
        """
        The manifest that *reference*, a tag or digest, names, with what is in it and about it.

        Raises `ManifestUnknown`, `TagInvalid` and `DigestInvalid` as the registry does.
        """
        return await Manifests(self.gate, self.database, self.engine, self.trail).show(caller, repository, reference)

    async def removing(self, caller: Caller, repository: str, reference: str = "") -> Consequences:
        """
        What removing a tag, a manifest (by digest) or the whole repository ("") would do besides; changes nothing.

        Needs delete. Raises `ManifestUnknown`, and `Unknown` for a repository that holds nothing.
        """
        removals = Removals(self.gate, self.database, self.engine, self.trail, self.trash_seconds)
        return await removals.foresee(caller, repository, reference)

    # repositories

    async def _beginnings(
        self, caller: Caller, standing: Standing, project: ProjectName, *, reviews: bool
    ) -> list[str] | None:
        """How the names begin that can be seen; None for all. Raises `Unknown` if the project itself cannot."""
        known = await self.gate.directory.project(project)
        within = caller.bound is None or caller.bound.reaches(project)
        now = datetime.now(UTC)
        held = [grant.reach for grant in standing.grants if grant.live(now) and grant.reach.project == project]
        public = known is not None and known.public
        if known is None or not within or not (reviews or held or public or standing.administrator):
            raise Unknown(f"There is no project {project}, or none that you may see; check how it is spelled.")
        if standing.administrator or public or any(not reach.pattern for reach in held):
            return None
        return sorted({f"{project}/{reach.pattern.partition('*')[0]}" for reach in held})

    async def _places(
        self,
        caller: Caller,
        standing: Standing,
        project: ProjectName,
        beginnings: list[str] | None,
        containing: str,
        after: str,
        limit: int,
    ) -> tuple[list[browsing.Place], str]:
        found: list[browsing.Place] = []
        looked = 0
        text = containing.lower()[:_TEXT_CHARACTERS]
        while len(found) <= limit and looked < _LOOKED_THROUGH:
            stride = limit + 1 if beginnings is None else _STRIDE
            query = partial(
                browsing.places,
                project=project,
                after=after,
                limit=stride,
                containing=text,
                beginnings=beginnings,
            )
            some = await self.database.read(query)
            for place in some:
                if await may_pull(self.gate, caller, standing, Repository(place.name)):
                    found.append(place)
            if len(some) < stride:
                return found[:limit], found[limit - 1].name if len(found) > limit else ""
            looked += stride
            after = some[-1].name
        return found[:limit], found[limit - 1].name if len(found) > limit else after

    async def _repository_entries(
        self, project: ProjectName, found: list[browsing.Place], *, named: bool
    ) -> tuple[RepositoryEntry, ...]:
        numbers, names = [place.id for place in found], [place.name for place in found]
        amounts = await self.database.read(lambda connection: browsing.amounts(connection, numbers))
        born = await beginning(self.database, self.trail, project)
        pulled = await self.database.read(lambda connection: pulls.of_repositories(connection, names, born))
        return tuple(
            RepositoryEntry(
                place.name,
                amounts[place.id].tags,
                amounts[place.id].manifests,
                amounts[place.id].blobs,
                amounts[place.id].size_bytes,
                moment(place.created_at),
                moment(pushed) if (pushed := amounts[place.id].pushed_at) is not None else None,
                told(pulled[place.name], named=named),
            )
            for place in found
        )

    # tags

    async def _tag_names(
        self, repository: Repository, containing: str, after: str, limit: int
    ) -> tuple[list[str], str]:
        found: list[str] = []
        text = containing.lower()[:_TEXT_CHARACTERS]
        stride = _STRIDE if text else limit + 1
        for _ in range(0, _LOOKED_THROUGH, stride):
            page = await self.engine.listings.tags(repository, after=after, limit=stride)
            found += [name for name in page.entries if text in name.lower()]
            if len(found) > limit:
                return found[:limit], found[limit - 1]
            if not page.more:
                return found, ""
            after = page.entries[-1]
        return found, after

    async def _tag_entries(self, repository: Repository, names: list[str], *, named: bool) -> tuple[TagEntry, ...]:
        place = await self.database.read(lambda connection: browsing.place_of(connection, repository))
        number = place.id if place is not None else 0
        rows = await self.database.read(lambda connection: browsing.tags_named(connection, number, names))
        sizes = {row.digest: row.size_bytes for row in rows.values()}
        weights = await self.database.read(lambda connection: browsing.weights(connection, number, sizes))
        born = await beginning(self.database, self.trail, repository.project)
        pulled = await self.database.read(lambda connection: pulls.of_digests(connection, repository, sizes, born))
        owners = {row.moved_by for row in rows.values()}
        people = await self.database.read(lambda connection: account_names(connection, owners))
        platforms = await self.platforms.of(self.engine, repository, sizes)
        rule = await self.database.read(lambda connection: rules.read(connection, repository.project))

        def entry(name: str) -> TagEntry:
            row = rows.get(name)
            if row is None:
                return TagEntry(name, known=False, kept_by=rule.holding(name))
            return TagEntry(
                name,
                digest=row.digest,
                media_type=row.media_type,
                purpose=purpose_of(row.media_type, row.artifact_type, {}),
                size_bytes=weights[row.digest].size_bytes,
                least=weights[row.digest].least,
                platforms=platforms[row.digest],
                pushed_at=moment(row.moved_at),
                pushed_by=people.get(row.moved_by, row.moved_by),
                pulled=told(pulled[row.digest], named=named),
                kept_by=rule.holding(name),
            )

        return tuple(entry(name) for name in names)


def _opened(places: Sealer, after: str) -> str:
    if not after.startswith(_SEALED):
        return after
    opened = places.unseal(after.removeprefix(_SEALED))
    if opened is None:
        raise Invalid("Where this page begins is not known any more; begin the list anew.")
    return opened.decode().rstrip()


def _page(limit: int) -> int:
    return max(1, min(limit, _MOST))
