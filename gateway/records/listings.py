"""What is where, in bytewise order: tags, repositories, referrers, and the summaries administrators read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, func, literal, or_, select

from gateway.oci.descriptor import Descriptor
from gateway.oci.digest import Digest
from gateway.oci.names import ProjectName, Repository
from gateway.records.annotating import OF_MANIFEST
from gateway.records.content import repository_id
from gateway.records.database import Database
from gateway.records.schema import blobs, links, manifest_annotations, manifests, projects, repositories, tags

_NAMES: Final = 500
#: Entries judged in one go while those that may not be seen, or are not wanted, are passed over.
_STRIDE: Final = 256
_REFERRERS_BYTES: Final = 4 * 1024 * 1024
_INLINE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Holding:
    """A repository in a list: how many tags, manifests and blobs it holds."""

    name: str
    tags: int
    manifests: int
    blobs: int


@dataclass(frozen=True, slots=True)
class TagSummary:
    """A tag: the manifest it points at and its size, when it was moved there (UNIX seconds) and by whom (`kind:id`)."""

    name: str
    digest: str
    size_bytes: int
    media_type: str
    moved_at: int
    moved_by: str


@dataclass(frozen=True, slots=True)
class Summary:
    """A repository in detail; *bytes* counts each of its blobs and manifests once, shared elsewhere or not."""

    name: str
    created_at: int
    tags: tuple[TagSummary, ...]
    manifests: int
    blobs: int
    bytes: int


def held() -> ColumnElement[bool]:
    """Whether a repository holds a manifest or a blob; looked up for each one that is read."""
    # As EXISTS, PostgreSQL would read the whole table into memory first, for one page of repositories.
    one = (
        select(literal(1)).where(table.c.repository_id == repositories.c.id).limit(1) for table in (manifests, links)
    )
    return or_(*(each.scalar_subquery().is_not(None) for each in one))


def repository_exists(connection: Connection, repository: Repository) -> bool:
    """Whether *repository* holds a manifest or a blob; one that holds neither does not exist for anybody."""
    statement = select(repositories.c.id).where(repositories.c.name == repository.name, held())
    return connection.execute(statement).first() is not None


def tag_names(connection: Connection, repository: Repository, after: str, limit: int) -> list[str] | None:
    """Up to *limit* tags after *after*; None if the repository does not exist."""
    if not repository_exists(connection, repository):
        return None
    statement = (
        select(tags.c.name)
        .join(repositories, repositories.c.id == tags.c.repository_id)
        .where(repositories.c.name == repository.name, tags.c.name > after)
        .order_by(tags.c.name)
        .limit(limit)
    )
    return list(connection.execute(statement).scalars())


def repository_names(connection: Connection, after: str, limit: int, within: Sequence[ProjectName] | None) -> list[str]:
    """Up to *limit* repositories after *after*, of the projects *within* (None: of all)."""
    statement = select(repositories.c.name).where(repositories.c.name > after, held())
    if within is None:
        return list(connection.execute(statement.order_by(repositories.c.name).limit(limit)).scalars())
    found: list[str] = []
    names = [project.name for project in within]
    for start in range(0, len(names), _NAMES):
        chosen = statement.join(projects, projects.c.id == repositories.c.project_id).where(
            projects.c.name.in_(names[start : start + _NAMES])
        )
        found.extend(connection.execute(chosen.order_by(repositories.c.name).limit(limit)).scalars())
    return sorted(found)[:limit]


async def admitted_names(
    database: Database,
    after: str,
    limit: int,
    within: Sequence[ProjectName] | None,
    admits: Callable[[Repository], bool],
) -> list[str]:
    """Up to *limit* repositories after *after* that *admits* lets pass, of the projects *within* (None: of all)."""
    stride = max(_STRIDE, limit)
    admitted: list[str] = []
    while len(admitted) < limit:
        names = await database.read(partial(repository_names, after=after, limit=stride, within=within))
        for start in range(0, len(names), _STRIDE):
            # Of however many that may not be seen, only so many at a time keep others waiting.
            await asyncio.sleep(0)
            admitted.extend(name for name in names[start : start + _STRIDE] if admits(Repository(name)))
        if len(names) < stride:
            break
        after = names[-1]
    return admitted[:limit]


async def referrers(
    database: Database,
    repository: Repository,
    subject: Digest,
    after: str,
    limit: int,
    types: Collection[str] = (),
) -> tuple[list[Descriptor], bool]:
    """
    Up to *limit* manifests of *repository* about *subject*, by digest after *after*; and whether more follow.

    With *types* only those of one of these artifact types. Fewer, but one at least, when they are large: together they
    may be 4 MiB, since their annotations are told. However many there are and however large, others have their turn.
    """
    while True:
        weighed, more = await _weighed(
            database, partial(_about, repository=repository, subject=subject), after, limit, types
        )
        chosen = weighed[: fitting([row.size_bytes for row in weighed[:limit]], _REFERRERS_BYTES)]
        if not chosen:
            return [], False
        more = more or len(weighed) > len(chosen)
        describe = partial(_described, repository=repository, digests=[row.digest for row in chosen])
        if sum(row.size_bytes for row in chosen) <= _INLINE_BYTES:
            found = await database.read(describe)
        else:
            found = await asyncio.get_running_loop().run_in_executor(_reader(), database.read_now, describe)
        # All that was chosen may have been deleted since.
        if found or not more:
            return found, more
        after = chosen[-1].digest


@lru_cache
def _reader() -> ThreadPoolExecutor:
    # One thread: what pushers wrote takes a while to read, and several would leave the event loop few turns.
    return ThreadPoolExecutor(1, "referrers")


async def _weighed(
    database: Database, query: Callable[..., list[Row[Any]]], after: str, limit: int, types: Collection[str]
) -> tuple[list[Row[Any]], bool]:
    """The rows of *query* after *after* that are of *types*, more than *limit* if there are; and if others follow."""
    weighed: list[Row[Any]] = []
    while len(weighed) <= limit:
        rows = await database.read(partial(query, after=after))
        weighed += [row for row in rows if not types or row.artifact_type in types]
        if len(rows) < _STRIDE:
            return weighed, False
        after = rows[-1].digest
        # Of however many that are not wanted, only so many at a time keep others waiting.
        await asyncio.sleep(0)
    return weighed, True


def _about(connection: Connection, repository: Repository, subject: Digest, after: str) -> list[Row[Any]]:
    """The next manifests about *subject*, by digest: digest, size and artifact type."""
    place = select(repositories.c.id).where(repositories.c.name == repository.name).scalar_subquery()
    mine = (manifests.c.repository_id == place) & (manifests.c.subject == subject.text) & (manifests.c.digest > after)
    wanted = select(manifests.c.digest, manifests.c.size_bytes, manifests.c.artifact_type).where(mine)
    return list(connection.execute(wanted.order_by(manifests.c.digest).limit(_STRIDE)))


def _described(connection: Connection, repository: Repository, digests: Sequence[str]) -> list[Descriptor]:
    """Those of the manifests *digests* that *repository* holds, with their annotations, by digest."""
    statement = (
        select(manifests, manifest_annotations.c.content)
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .outerjoin(manifest_annotations, OF_MANIFEST)
        .where(repositories.c.name == repository.name)
        .order_by(manifests.c.digest)
    )
    return [
        Descriptor(
            row.media_type, Digest(row.digest), row.size_bytes, row.artifact_type, json.loads(row.content or "{}")
        )
        for start in range(0, len(digests), _NAMES)
        for row in connection.execute(statement.where(manifests.c.digest.in_(digests[start : start + _NAMES])))
    ]


def fitting(sizes: Sequence[int], limit_bytes: int) -> int:
    """How many of *sizes*, from the first, are together at most *limit_bytes*; one at least, if there is any."""
    return max(sum(1 for total in accumulate(sizes) if total <= limit_bytes), min(1, len(sizes)))


# for administrators


def repositories_of(connection: Connection, project: ProjectName | None) -> list[Holding]:
    """The repositories of *project* (None: of all) that hold anything, with counts."""
    counts = [
        select(func.count()).where(table.c.repository_id == repositories.c.id).scalar_subquery()
        for table in (tags, manifests, links)
    ]
    statement = select(repositories.c.name, *counts).where(held()).order_by(repositories.c.name)
    if project is not None:
        statement = statement.join(projects, projects.c.id == repositories.c.project_id).where(
            projects.c.name == project.name
        )
    return [Holding(*row) for row in connection.execute(statement)]


def repository_summary(connection: Connection, repository: Repository) -> Summary | None:
    """The repository in detail; None if it does not exist."""
    place = repository_id(connection, repository)
    if place is None or not repository_exists(connection, repository):
        return None
    created = connection.execute(select(repositories.c.created_at).where(repositories.c.id == place)).scalar_one()
    kept = connection.execute(
        select(func.count(), func.coalesce(func.sum(manifests.c.size_bytes), 0)).where(
            manifests.c.repository_id == place
        )
    ).one()
    linked = connection.execute(
        select(func.count(), func.coalesce(func.sum(blobs.c.size_bytes), 0))
        .join_from(links, blobs, links.c.digest == blobs.c.digest)
        .where(links.c.repository_id == place)
    ).one()
    return Summary(
        name=repository.name,
        created_at=created,
        tags=tuple(tag_summaries(connection, repository)),
        manifests=kept[0],
        blobs=linked[0],
        bytes=int(kept[1]) + int(linked[1]),
    )


def tag_summaries(
    connection: Connection, repository: Repository, after: str = "", limit: int | None = None
) -> list[TagSummary]:
    """The tags of *repository* by name, with the manifest's own size; at most *limit* of those after *after*."""
    statement = (
        select(
            tags.c.name,
            tags.c.digest,
            manifests.c.size_bytes,
            manifests.c.media_type,
            tags.c.moved_at,
            tags.c.moved_by,
        )
        .join(repositories, repositories.c.id == tags.c.repository_id)
        .join(
            manifests,
            (manifests.c.repository_id == tags.c.repository_id) & (manifests.c.digest == tags.c.digest),
        )
        .where(repositories.c.name == repository.name, tags.c.name > after)
        .order_by(tags.c.name)
        .limit(limit)
    )
    return [TagSummary(*row) for row in connection.execute(statement)]
