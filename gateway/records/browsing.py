"""What people look through: a page of a project's repositories, of a repository's tags, and what a manifest is among.

Every query is of one page: it touches the rows of what it answers, found by an index, and never a whole table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, or_, select

from gateway.oci.names import ProjectName, Repository
from gateway.records.listings import held
from gateway.records.schema import blobs, edges, links, manifests, projects, repositories, tags

#: Sorts after every character that a repository's name may have.
_LAST: Final = "~"
#: Edges that are weighed for one page; what has more is said to weigh at least so much.
_EDGES: Final = 20_000
_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Place:
    """A repository: its number, and when it was made, in UNIX seconds."""

    id: int
    name: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Amounts:
    """
    What a repository holds, each digest once; *size_bytes* is that of its blobs and manifests.

    *pushed_at* is when a manifest was pushed last, in UNIX seconds; None if it holds none.
    """

    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    size_bytes: int = 0
    pushed_at: int | None = None


@dataclass(frozen=True, slots=True)
class TagRow:
    """Where a tag points, as far as is known here; times are UNIX seconds, people `kind:id`."""

    name: str
    digest: str
    media_type: str
    artifact_type: str | None
    size_bytes: int
    moved_at: int
    moved_by: str


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """What the records say of a manifest; as above."""

    digest: str
    media_type: str
    artifact_type: str | None
    size_bytes: int
    subject: str | None
    pushed_at: int
    pushed_by: str


@dataclass(frozen=True, slots=True)
class Weight:
    """The bytes of a manifest and of all it names, each digest once; *least* says that there are more still."""

    size_bytes: int
    least: bool = False


# repositories


def places(
    connection: Connection,
    project: ProjectName,
    *,
    after: str,
    limit: int,
    containing: str = "",
    beginnings: Sequence[str] | None = None,
) -> list[Place]:
    """
    Up to *limit* repositories of the project that hold anything, by name after *after*.

    With *containing* only those whose names do; with *beginnings* only those whose names begin with one of them.
    """
    number = connection.execute(select(projects.c.id).where(projects.c.name == project.name)).scalar()
    if number is None or beginnings == []:
        return []
    name = repositories.c.name
    wanted = select(repositories.c.id, name, repositories.c.created_at).where(
        repositories.c.project_id == number, name > after
    )
    if containing:
        wanted = wanted.where(name.contains(containing, autoescape=True))
    if beginnings is not None:
        wanted = wanted.where(or_(*((name >= text) & (name < text + _LAST) for text in beginnings)))
    return [Place(*row) for row in connection.execute(wanted.where(held()).order_by(name).limit(limit))]


def amounts(connection: Connection, numbers: Sequence[int]) -> dict[int, Amounts]:
    """What each of the repositories *numbers* holds; one page of them."""
    here = manifests.c.repository_id
    kept = select(here, func.count(), func.sum(manifests.c.size_bytes), func.max(manifests.c.pushed_at))
    linked = select(links.c.repository_id, func.count(), func.sum(blobs.c.size_bytes)).join_from(links, blobs)
    tagged = select(tags.c.repository_id, func.count())
    kept_by = {row[0]: row[1:] for row in connection.execute(kept.where(here.in_(numbers)).group_by(here))}
    linked = linked.where(links.c.repository_id.in_(numbers)).group_by(links.c.repository_id)
    linked_by = {row[0]: row[1:] for row in connection.execute(linked)}
    tagged = tagged.where(tags.c.repository_id.in_(numbers)).group_by(tags.c.repository_id)
    tagged_by = {row[0]: row[1] for row in connection.execute(tagged)}
    found = {}
    for number in numbers:
        count, size, pushed = kept_by.get(number, (0, 0, None))
        blob_count, blob_size = linked_by.get(number, (0, 0))
        found[number] = Amounts(tagged_by.get(number, 0), count, blob_count, int(size) + int(blob_size), pushed)
    return found


# tags and manifests


def place_of(connection: Connection, repository: Repository) -> Place | None:
    """The repository, if it was ever made; it may hold nothing."""
    columns = (repositories.c.id, repositories.c.name, repositories.c.created_at)
    row = connection.execute(select(*columns).where(repositories.c.name == repository.name)).first()
    return None if row is None else Place(*row)


def tags_named(connection: Connection, place: int, names: Sequence[str]) -> dict[str, TagRow]:
    """What is known of the tags *names*."""
    columns = (tags.c.name, tags.c.digest, manifests.c.media_type, manifests.c.artifact_type, manifests.c.size_bytes)
    wanted = select(*columns, tags.c.moved_at, tags.c.moved_by).join(
        manifests, (manifests.c.repository_id == tags.c.repository_id) & (manifests.c.digest == tags.c.digest)
    )
    found: dict[str, TagRow] = {}
    for some in _chunks(names):
        rows = connection.execute(wanted.where(tags.c.repository_id == place, tags.c.name.in_(some)))
        found.update({row.name: TagRow(*row) for row in rows})
    return found


def tags_of(connection: Connection, place: int, digests: Sequence[str], limit: int) -> list[tuple[str, str]]:
    """Up to *limit* tags that name one of *digests*, each with its digest, by name."""
    found: list[tuple[str, str]] = []
    for some in _chunks(digests):
        wanted = select(tags.c.name, tags.c.digest).where(tags.c.repository_id == place, tags.c.digest.in_(some))
        found += [(row.name, row.digest) for row in connection.execute(wanted.order_by(tags.c.name).limit(limit))]
    return sorted(found)[:limit]


def manifest_rows(connection: Connection, place: int, digests: Sequence[str]) -> dict[str, ManifestRow]:
    """What is known of the manifests *digests*."""
    found: dict[str, ManifestRow] = {}
    for some in _chunks(digests):
        wanted = select(manifests).where(manifests.c.repository_id == place, manifests.c.digest.in_(some))
        for row in connection.execute(wanted):
            found[row.digest] = ManifestRow(
                row.digest,
                row.media_type,
                row.artifact_type,
                row.size_bytes,
                row.subject,
                row.pushed_at,
                row.pushed_by,
            )
    return found


def listing(connection: Connection, place: int, digest: str, limit: int) -> list[str]:
    """Up to *limit* manifests of the repository that name the manifest *digest*: the indexes it is in."""
    wanted = select(edges.c.source).where(edges.c.repository_id == place, edges.c.target == digest)
    return list(connection.execute(wanted.order_by(edges.c.source).limit(limit)).scalars())


def manifests_known(connection: Connection, place: int, digests: Sequence[str]) -> frozenset[str]:
    """Which of the manifests *digests* the repository is known to hold."""
    found: set[str] = set()
    for some in _chunks(digests):
        wanted = select(manifests.c.digest).where(manifests.c.repository_id == place, manifests.c.digest.in_(some))
        found.update(connection.execute(wanted).scalars())
    return frozenset(found)


def weights(connection: Connection, place: int, sizes: Mapping[str, int]) -> dict[str, Weight]:
    """What the manifests of *sizes* (their own, by digest) weigh with all they name, and what that names."""
    named, least = _named(connection, place, list(sizes))
    children = {target for targets in named.values() for target, size in targets.items() if size is None}
    below: dict[str, dict[str, int | None]] = {}
    own: dict[str, int] = {}
    if children:
        below, more = _named(connection, place, sorted(children))
        least = least or more
        own = {digest: row.size_bytes for digest, row in manifest_rows(connection, place, sorted(children)).items()}
    found = {}
    for digest, size in sizes.items():
        weighed: dict[str, int] = {digest: size}
        for target, bytes_ in named.get(digest, {}).items():
            weighed[target] = own.get(target, 0) if bytes_ is None else bytes_
            weighed.update({inner: inner_bytes or 0 for inner, inner_bytes in below.get(target, {}).items()})
        found[digest] = Weight(sum(weighed.values()), least)
    return found


def _named(connection: Connection, place: int, sources: Sequence[str]) -> tuple[dict[str, dict[str, int | None]], bool]:
    """What each of *sources* names, with the sizes of blobs and None for manifests; whether there was too much."""
    found: dict[str, dict[str, int | None]] = {}
    count = 0
    for some in _chunks(sources):
        wanted = (
            select(edges.c.source, edges.c.target, blobs.c.size_bytes)
            .select_from(edges.outerjoin(blobs, blobs.c.digest == edges.c.target))
            .where(edges.c.repository_id == place, edges.c.source.in_(some))
            .limit(_EDGES - count)
        )
        for source, target, size in connection.execute(wanted):
            found.setdefault(source, {})[target] = size
            count += 1
        if count >= _EDGES:
            return found, True
    return found, False


def _chunks(values: Iterable[str]) -> Iterable[list[str]]:
    some = list(values)
    return (some[start : start + _CHUNK] for start in range(0, len(some), _CHUNK))
