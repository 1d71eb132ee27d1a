"""What an import finds here of a repository, and what it adds: many links, manifests and tags in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Table, insert, select, update

from gateway.access.principals import PrincipalKind
from gateway.access.rules import Rules
from gateway.oci.digest import Digest
from gateway.oci.manifest import Manifest
from gateway.oci.names import Repository, Tag
from gateway.records import content, rules, usage
from gateway.records.content import Act, Also
from gateway.records.schema import blobs, links, manifests, tags

T = TypeVar("T")

_CHUNK: Final = 500
#: Nobody pushes as an operator: what one has tagged came by an import, and the next import may move it.
_IMPORTED: Final = f"{PrincipalKind.OPERATOR.value}:"


@dataclass(frozen=True, slots=True)
class Known:
    """What a repository holds here: digests of manifests and linked blobs, and where each tag points."""

    manifests: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What one transaction adds: *blobs* with their sizes, whose bytes are in place, and *tags* with their digests."""

    blobs: dict[Digest, int] = field(default_factory=dict)
    manifests: Sequence[Manifest] = ()
    tags: Sequence[tuple[Tag, Digest]] = ()


def known(connection: Connection, repository: Repository) -> Known:
    """What *repository* holds here; nothing if there is no such repository."""
    place = content.repository_id(connection, repository)
    if place is None:
        return Known()

    def digests(table: Table) -> frozenset[str]:
        return frozenset(connection.execute(select(table.c.digest).where(table.c.repository_id == place)).scalars())

    pointing = select(tags.c.name, tags.c.digest).where(tags.c.repository_id == place)
    return Known(digests(manifests), digests(links), {row.name: row.digest for row in connection.execute(pointing)})


def blob_sizes(connection: Connection, wanted: Iterable[Digest]) -> dict[Digest, int]:
    """The sizes of those blobs that any repository holds."""
    found: dict[Digest, int] = {}
    for chunk in _chunks([digest.text for digest in wanted]):
        statement = select(blobs.c.digest, blobs.c.size_bytes).where(blobs.c.digest.in_(chunk))
        found |= {Digest(row.digest): int(row.size_bytes) for row in connection.execute(statement)}
    return found


def keep(connection: Connection, repository: Repository, bundle: Bundle, act: Act) -> tuple[tuple[str, ...], Also]:
    """
    Links the blobs, keeps the manifests in their order, moves the tags; the project and the repository are made.

    Returns the tags that were left alone, because somebody has pushed them here or they are immutable. Raises
    `ManifestBlobUnknown` if a manifest that one of these lists was deleted meanwhile, `AgainstRule`.
    """
    held_tags = rules.require_writable(connection, repository.project, act)
    place, also = content.ensure_repository(connection, repository, act)
    _link(connection, place, bundle.blobs, act)
    for manifest in bundle.manifests:
        content.put_manifest(connection, repository, manifest, (), act)
    return _move(connection, place, bundle.tags, held_tags, act), also


def _link(connection: Connection, place: int, added: dict[Digest, int], act: Act) -> None:
    for chunk in _chunks(list(added.items())):
        texts = [digest.text for digest, _ in chunk]
        stored = set(connection.execute(select(blobs.c.digest).where(blobs.c.digest.in_(texts))).scalars())
        mine = select(links.c.digest).where(links.c.repository_id == place, links.c.digest.in_(texts))
        linked = set(connection.execute(mine).scalars())
        new = [
            {"digest": digest.text, "size_bytes": size, "created_at": act.now}
            for digest, size in chunk
            if digest.text not in stored
        ]
        joined: list[dict[str, Any]] = [
            {"repository_id": place, "digest": text, "created_at": act.now} for text in texts if text not in linked
        ]
        for table, rows in ((blobs, new), (links, joined)):
            if rows:
                connection.execute(insert(table), rows)
        usage.charge(connection, place, links, [row["digest"] for row in joined], bound=not act.done)


def _move(
    connection: Connection, place: int, moves: Sequence[tuple[Tag, Digest]], held_tags: Rules, act: Act
) -> tuple[str, ...]:
    kept: list[str] = []
    for chunk in _chunks(moves):
        standing = _rows(connection, place, [tag.name for tag, _ in chunk])
        held = select(manifests.c.digest).where(
            manifests.c.repository_id == place, manifests.c.digest.in_([digest.text for _, digest in chunk])
        )
        there = set(connection.execute(held).scalars())
        for tag, digest in chunk:
            row = standing.get(tag.name)
            moved = {"digest": digest.text, "moved_at": act.now, "moved_by": act.owner}
            if digest.text not in there or (row is not None and row.digest == digest.text):
                continue
            if row is None:
                connection.execute(insert(tags).values(repository_id=place, name=tag.name, **moved))
            elif row.moved_by.startswith(_IMPORTED) and not held_tags.holding(tag.name):
                mine = (tags.c.repository_id == place) & (tags.c.name == tag.name)
                connection.execute(update(tags).where(mine).values(moved))
            else:
                kept.append(tag.name)
    return tuple(kept)


def _rows(connection: Connection, place: int, names: Sequence[str]) -> dict[str, Any]:
    statement = select(tags).where(tags.c.repository_id == place, tags.c.name.in_(names))
    return {row.name: row for row in connection.execute(statement)}


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
