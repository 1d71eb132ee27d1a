"""What else goes, or is left in pieces, when a manifest goes from a repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, exists, func, select

from gateway.errors import AgainstRule
from gateway.oci.digest import Digest
from gateway.oci.names import Repository, Tag
from gateway.records import rules
from gateway.records.schema import blobs, edges, links, manifests, tags

_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class Loose:
    """
    Blobs that nothing else in the repository names: how many, and their bytes.

    *alone* and *alone_bytes* are of those that no other repository holds either: a sweep frees them.
    """

    blobs: int = 0
    size_bytes: int = 0
    alone: int = 0
    alone_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Going:
    """
    What hangs on a manifest; of each list the first hundred, with the number of all.

    *tags* go with it; *indexes* list it and stay, in pieces; *referrers* are about it and stay, about nothing.
    *hindrance* says which rule forbids to remove it, "" if none does.
    """

    tags: tuple[str, ...]
    tag_count: int
    indexes: tuple[str, ...]
    index_count: int
    referrers: tuple[tuple[str, str], ...]
    referrer_count: int
    loose: Loose
    hindrance: str


def of_manifest(connection: Connection, place: int, repository: Repository, digest: Digest) -> Going:
    """What hangs on the manifest *digest*, which the repository holds."""
    named = (tags.c.repository_id == place) & (tags.c.digest == digest.text)
    listed = (edges.c.repository_id == place) & (edges.c.target == digest.text)
    about = (manifests.c.repository_id == place) & (manifests.c.subject == digest.text)
    shown_tags = select(tags.c.name).where(named).order_by(tags.c.name).limit(_SHOWN)
    shown_indexes = select(edges.c.source).where(listed).order_by(edges.c.source).limit(_SHOWN)
    kind = func.coalesce(manifests.c.artifact_type, manifests.c.media_type)
    shown_about = select(manifests.c.digest, kind).where(about).order_by(manifests.c.digest).limit(_SHOWN)

    def count(condition: object) -> int:
        return int(connection.execute(select(func.count()).where(condition)).scalar_one())  # type: ignore[arg-type]

    return Going(
        tuple(connection.execute(shown_tags).scalars()),
        count(named),
        tuple(connection.execute(shown_indexes).scalars()),
        count(listed),
        tuple((row[0], row[1]) for row in connection.execute(shown_about)),
        count(about),
        _loose(connection, place, digest),
        _manifest_hindrance(connection, place, repository, digest),
    )


def tag_hindrance(connection: Connection, repository: Repository, tag: Tag) -> str:
    """Which rule forbids to remove the tag; "" if none does."""
    try:
        rules.require_unheld(rules.require_writable(connection, repository.project), repository, tag)
    except AgainstRule as refusal:
        return refusal.message
    return ""


def repository_hindrance(connection: Connection, place: int, repository: Repository) -> str:
    """Which rule forbids to remove the repository; "" if none does."""
    try:
        rules.require_removable(connection, rules.require_writable(connection, repository.project), place, repository)
    except AgainstRule as refusal:
        return refusal.message
    return ""


def _manifest_hindrance(connection: Connection, place: int, repository: Repository, digest: Digest) -> str:
    try:
        found = rules.require_writable(connection, repository.project)
        rules.require_removable(connection, found, place, repository, digest)
    except AgainstRule as refusal:
        return refusal.message
    return ""


def _loose(connection: Connection, place: int, digest: Digest) -> Loose:
    others = edges.alias("others")
    named_again = exists().where(
        others.c.repository_id == place, others.c.target == edges.c.target, others.c.source != digest.text
    )
    elsewhere = links.alias("elsewhere")
    held = exists().where(elsewhere.c.digest == links.c.digest, elsewhere.c.repository_id != place)
    found = (
        select(links.c.digest, blobs.c.size_bytes, held.label("held"))
        .select_from(edges.join(links, links.c.digest == edges.c.target).join(blobs, blobs.c.digest == links.c.digest))
        .where(
            edges.c.repository_id == place,
            edges.c.source == digest.text,
            links.c.repository_id == place,
            ~named_again,
        )
    )
    rows = connection.execute(found).all()
    alone = [row for row in rows if not row.held]
    return Loose(len(rows), sum(row.size_bytes for row in rows), len(alone), sum(row.size_bytes for row in alone))
