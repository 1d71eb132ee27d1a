"""What a check asks the records: which blobs there should be, who holds them, and which uploads are open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, exists, func, insert, select

from gateway.change import Change, Notes
from gateway.oci.digest import Digest
from gateway.oci.names import Repository
from gateway.records import content
from gateway.records.schema import blobs, edges, links, repositories, uploads

_PAGE: Final = 200
#: Of one kind of dangling row; when there are more, what is wrong is known well enough.
_DANGLING: Final = 10_000


@dataclass(frozen=True, slots=True)
class Spooled:
    """An upload's row, as far as its spool is compared with it."""

    offset: int
    prefix_digest: str
    begun_at: int


# blobs


def blob_size(connection: Connection, digest: Digest) -> int | None:
    """The size of the blob that some repository holds or held; None if there is no row."""
    return connection.execute(select(blobs.c.size_bytes).where(blobs.c.digest == digest.text)).scalar()


def is_named(connection: Connection, digest: Digest) -> bool:
    """Whether a repository links the blob, or a manifest names it."""
    if content.has(connection, links, digest=digest.text):
        return True
    # Repository by repository, as edges are in order: there are many more of them.
    there = exists().where(edges.c.repository_id == repositories.c.id, edges.c.target == digest.text)
    wanted = select(repositories.c.id).where(there).limit(1)
    return connection.execute(wanted).first() is not None


def total(connection: Connection) -> tuple[int, int]:
    """How many blobs there are, and their bytes."""
    count, size = connection.execute(select(func.count(), func.sum(blobs.c.size_bytes)).select_from(blobs)).one()
    return count, int(size or 0)


def blobs_under(connection: Connection, prefix: str) -> dict[str, int]:
    """The blobs whose digest begins with *prefix*, which ends in a hexadecimal digit, with their sizes."""
    mine = (blobs.c.digest >= prefix) & (blobs.c.digest < f"{prefix}g")
    statement = select(blobs.c.digest, blobs.c.size_bytes).where(mine)
    return {row.digest: int(row.size_bytes) for row in connection.execute(statement)}


def blobs_after(connection: Connection, digest: str, limit: int) -> list[Digest]:
    """The blobs that follow *digest* in order."""
    statement = select(blobs.c.digest).where(blobs.c.digest > digest).order_by(blobs.c.digest).limit(limit)
    return [Digest(text) for text in connection.execute(statement).scalars()]


def holders(connection: Connection, digest: Digest) -> tuple[Repository, ...]:
    """The repositories that hold the blob, by name."""
    statement = (
        select(repositories.c.name)
        .join(links, links.c.repository_id == repositories.c.id)
        .where(links.c.digest == digest.text)
        .order_by(repositories.c.name)
    )
    return tuple(Repository(name) for name in connection.execute(statement).scalars())


def record_blob(digest: Digest, size_bytes: int, now: int) -> Change:
    """Gives a blob whose bytes are in place its row, if it has none."""

    def apply(connection: Connection) -> Notes:
        if not content.has(connection, blobs, digest=digest.text):
            row = {"digest": digest.text, "size_bytes": size_bytes, "created_at": now}
            connection.execute(insert(blobs).values(row))
        return Notes(digest=digest.text)

    return Change(apply)


def dangling_links(connection: Connection) -> list[tuple[str, Digest]]:
    """Repositories with links to blobs that have no row."""
    statement = (
        select(repositories.c.name, links.c.digest)
        .join(links, links.c.repository_id == repositories.c.id)
        .where(~exists().where(blobs.c.digest == links.c.digest))
        .limit(_DANGLING)
    )
    return [(row.name, Digest(row.digest)) for row in connection.execute(statement)]


# uploads


def spooled(connection: Connection, upload_ids: Sequence[str]) -> dict[str, Spooled]:
    """The rows of those uploads that have one."""
    found: dict[str, Spooled] = {}
    for start in range(0, len(upload_ids), _PAGE):
        wanted = uploads.c.id.in_(upload_ids[start : start + _PAGE])
        for row in connection.execute(select(uploads).where(wanted)):
            found[row.id] = Spooled(row.offset_bytes, row.prefix_digest, row.begun_at)
    return found


def open_uploads(connection: Connection, now: int) -> set[str]:
    """The ids of the uploads that may still be finished."""
    return set(connection.execute(select(uploads.c.id).where(uploads.c.expires_at > now)).scalars())
