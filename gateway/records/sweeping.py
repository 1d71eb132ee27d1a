"""What nothing references, as the records know it; and what keeps a link from being taken for that.

A link goes when no manifest of its repository names the blob and its `created_at` is older than the grace period,
unless its project or the gateway is read-only. That moment is when it was made, and moves when the blob is pushed or
mounted again, asked for while no manifest names it, or let go by a manifest that was removed: whoever was told that the
blob is there has that long to push a manifest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, TypeVar

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import Unavailable
from gateway.oci.digest import Digest
from gateway.oci.names import Repository
from gateway.records import driver, facts, rules, usage
from gateway.records.content import repository_id
from gateway.records.database import Database
from gateway.records.mark import recorded
from gateway.records.schema import blobs, edges, links, repositories, trash_targets, uploads
from gateway.records.schema import facts as facts_table

R = TypeVar("R")

_log = logging.getLogger("gateway.sweep")

#: The fact that says when the last sweep ended, in UNIX seconds.
SWEPT: Final = "swept"
#: Sorts after every hexadecimal digit.
_AFTER: Final = "g"

_NAMED_NOW: Final = exists().where(edges.c.repository_id == links.c.repository_id, edges.c.target == links.c.digest)
_NAMED: Final = or_(
    _NAMED_NOW,
    # What is in the trash can be brought back, with all that it names.
    exists().where(trash_targets.c.repository_id == links.c.repository_id, trash_targets.c.target == links.c.digest),
)
_RELEASE: Final = (
    update(links)
    .where(
        links.c.repository_id == bindparam("place"),
        links.c.digest.in_(
            select(edges.c.target).where(
                edges.c.repository_id == bindparam("place"), edges.c.source == bindparam("manifest")
            )
        ),
    )
    .values(created_at=bindparam("now"))
)
#: Nothing leaves what is read-only, whatever its age.
_KEPT: Final = rules.keeping(links.c.repository_id)
_STANDING: Final = (
    # The trash may be emptied any moment: who is told of a blob that only it names has his grace all the same.
    select(blobs.c.size_bytes, links.c.created_at, _NAMED_NOW.label("named"))
    .join(links, links.c.digest == blobs.c.digest)
    .join(repositories, repositories.c.id == links.c.repository_id)
    .where(repositories.c.name == bindparam("repository"), links.c.digest == bindparam("digest"))
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a blob stands in a repository: *since* counts its grace (UNIX seconds) while it is not *named*."""

    size_bytes: int
    since: int
    named: bool


@dataclass(frozen=True, slots=True)
class Link:
    """One of a repository's links, and the size of its blob."""

    place: int
    repository: str
    digest: str
    size_bytes: int


class Reader:
    """A connection to read with, for one thread that does not last."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None

    def read(self, query: Callable[[Connection], R]) -> R:
        """*query*'s answer from committed rows; blocks."""
        if self._connection is None:
            self._connection = self._database.writer()
        return query(self._connection)

    def close(self) -> None:
        if self._connection is not None:
            # Whoever closes SQLite's last connection copies its log back, and nobody may commit meanwhile.
            with self._database.lock():
                self._connection.close()


# a link is kept


def standing(connection: Connection, repository: Repository, digest: Digest) -> Standing | None:
    """The blob as *repository* holds it; None if it does not."""
    row = connection.execute(_STANDING, {"repository": repository.name, "digest": digest.text}).first()
    return None if row is None else Standing(int(row.size_bytes), int(row.created_at), bool(row.named))


def spare(database: Database, repository: Repository, digest: Digest, now: int) -> bool:
    """Begins the link's grace anew, at once and without an event; False if it is gone. Blocks."""
    place = select(repositories.c.id).where(repositories.c.name == repository.name).scalar_subquery()
    mine = (links.c.repository_id == place) & (links.c.digest == digest.text)
    try:
        with database.lock(), database.writer() as connection:
            database.begin(connection)
            found = connection.execute(update(links).where(mine).values(created_at=now)).rowcount
            connection.exec_driver_sql("COMMIT")
        return bool(found)
    except (SQLAlchemyError, Unavailable) as error:
        # While nothing can be written, nothing can be swept either.
        known = isinstance(error, Unavailable)
        _log.error("the grace of %s in %s could not be renewed", digest, repository, exc_info=not known)
        return True


def release(connection: Connection, repository: Repository, manifest: Digest, now: int) -> None:
    """Begins the grace of all links anew that *manifest* names: it is about to be removed."""
    place = repository_id(connection, repository)
    connection.execute(_RELEASE, {"place": place, "manifest": manifest.text, "now": now})


# links that go


def _loose(cutoff: int | BindParameter[int]) -> ColumnElement[bool]:
    # A time that is still to come, from before a clock was put back, is never older than anything.
    return (links.c.created_at <= cutoff) & ~_NAMED & ~_KEPT


_CUTOFF: Final[BindParameter[int]] = bindparam("cutoff")
_PLACE: Final[BindParameter[int]] = bindparam("place")
_FIRST: Final[BindParameter[str]] = bindparam("first")
_LAST: Final[BindParameter[str]] = bindparam("last")
_LOOSE_LINKS: Final = (
    select(links.c.repository_id, repositories.c.name, links.c.digest, blobs.c.size_bytes)
    .join(repositories, repositories.c.id == links.c.repository_id)
    .join(blobs, blobs.c.digest == links.c.digest)
    # Compared as one, so that each page begins where the one before ended instead of at the beginning.
    .where(_loose(_CUTOFF), tuple_(links.c.repository_id, links.c.digest) > tuple_(_PLACE, _LAST))
    .order_by(links.c.repository_id, links.c.digest)
    .limit(bindparam("most"))
)
_UNLINK: Final = (
    delete(links)
    .where(links.c.repository_id == _PLACE, driver.among(links.c.digest, "some"), _loose(_CUTOFF))
    .returning(links.c.digest)
)


def loose(connection: Connection, cutoff: int) -> tuple[int, int]:
    """How many links would go that were last needed at *cutoff* or before, and their blobs' bytes."""
    return _summed(connection, _loose(cutoff))


def waiting(connection: Connection, cutoff: int) -> tuple[int, int]:
    """How many links no manifest names that were needed after *cutoff*, and their blobs' bytes."""
    return _summed(connection, (links.c.created_at > cutoff) & ~_NAMED)


def _summed(connection: Connection, which: ColumnElement[bool]) -> tuple[int, int]:
    summed = select(func.count(), func.coalesce(func.sum(blobs.c.size_bytes), 0))
    count, size = connection.execute(summed.select_from(links.join(blobs)).where(which)).one()
    return int(count), int(size)


def loose_links(connection: Connection, cutoff: int, after: tuple[int, str], limit: int) -> list[Link]:
    """Up to *limit* of those links, in the order of repository and digest, after the one of *after*."""
    place, last = after
    asked = {"cutoff": cutoff, "place": place, "last": last, "most": limit}
    return [Link(*row) for row in driver.rows(connection, _LOOSE_LINKS, asked)]


def unlink(connection: Connection, found: Sequence[Link], cutoff: int) -> list[Link]:
    """Removes those of *found*, a page of `loose_links`, that are still to go; which ones."""
    gone: list[Link] = []
    for place, group in groupby(found, key=lambda link: link.place):
        mine = {link.digest: link for link in group}
        asked = {"place": place, "some": driver.listed(connection, mine), "cutoff": cutoff}
        left = [mine[digest] for (digest,) in driver.rows(connection, _UNLINK, asked)]
        if left:
            project = Repository(left[0].repository).project
            usage.gone(connection, project, {link.digest: link.size_bytes for link in left})
        gone += left
    return gone


# blobs that go


def _shelf(*held_by: ColumnElement[bool]) -> Select[Any]:
    holding = exists().where(links.c.digest == blobs.c.digest, *held_by)
    return select(blobs.c.digest, blobs.c.size_bytes, holding).where(blobs.c.digest > _FIRST, blobs.c.digest < _LAST)


_SHELF: Final = _shelf()
_SHELF_AFTER_SWEEP: Final = _shelf(~_loose(_CUTOFF))
_LINKED: Final = select(links.c.digest).where(driver.among(links.c.digest, "some")).distinct()
_DROP: Final = delete(blobs).where(driver.among(blobs.c.digest, "some")).returning(blobs.c.digest, blobs.c.size_bytes)


def shelf(connection: Connection, prefix: str, cutoff: int | None) -> dict[str, tuple[int, bool]]:
    """
    The blobs whose digest begins with *prefix*: the size of each, and whether it stays.

    It stays while any repository links it; with a *cutoff*, by a link that is not to go itself.
    """
    statement = _SHELF if cutoff is None else _SHELF_AFTER_SWEEP
    asked = {"first": prefix, "last": prefix + _AFTER, **({} if cutoff is None else {"cutoff": cutoff})}
    return {digest: (size, bool(stays)) for digest, size, stays in driver.rows(connection, statement, asked)}


def has_any(connection: Connection, prefix: str) -> bool:
    """Whether there is a blob whose digest begins with *prefix*."""
    beginning = (blobs.c.digest > prefix) & (blobs.c.digest < prefix + _AFTER)
    return connection.execute(select(blobs.c.digest).where(beginning).limit(1)).first() is not None


def unlinked(connection: Connection, digests: Sequence[str]) -> set[str]:
    """Which of *digests* no repository links, recorded or not."""
    linked = driver.rows(connection, _LINKED, {"some": driver.listed(connection, digests)})
    return set(digests).difference(digest for (digest,) in linked)


def drop(connection: Connection, digests: Sequence[str]) -> dict[str, int]:
    """Forgets the blobs *digests*, which nothing links; the sizes of those that were recorded."""
    return dict(driver.rows(connection, _DROP, {"some": driver.listed(connection, digests)}))


# uploads that go


def living(connection: Connection, upload_ids: Iterable[str], now: int) -> set[str]:
    """Which of these uploads can still be continued."""
    statement = select(uploads.c.id).where(uploads.c.id.in_(list(upload_ids)), uploads.c.expires_at > now)
    return set(connection.execute(statement).scalars())


def expired(connection: Connection, now: int, after: str, limit: int) -> list[str]:
    """Up to *limit* uploads nobody can continue, by id after *after*."""
    statement = select(uploads.c.id).where(uploads.c.expires_at <= now, uploads.c.id > after)
    return list(connection.execute(statement.order_by(uploads.c.id).limit(limit)).scalars())


def expired_count(connection: Connection, now: int) -> int:
    return int(connection.execute(select(func.count()).where(uploads.c.expires_at <= now)).scalar_one())


# when


def acts(connection: Connection) -> int:
    """How many events there have been: it moves whenever anybody is served."""
    return recorded(connection).head.seq


def last_sweep(connection: Connection) -> int | None:
    """When the last sweep ended, in UNIX seconds."""
    found = connection.execute(select(facts_table.c.value).where(facts_table.c.name == SWEPT)).scalar()
    return None if found is None else int(found)


def keep_time(connection: Connection, now: int) -> None:
    """Notes that a sweep ended *now*."""
    facts.keep(connection, SWEPT, str(now))
