"""The rows of uploads: whose they are, how far they durably stand, and when they are forgotten."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, bindparam, case, delete, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from gateway.change import Change, Notes
from gateway.errors import BlobUploadUnknown, RangeInvalid, TooManyRequests, Unavailable
from gateway.oci.names import Repository
from gateway.records import content, rules
from gateway.records.acts import Acts
from gateway.records.content import Act
from gateway.records.database import Database
from gateway.records.schema import uploads

_log = logging.getLogger("gateway.uploads")

#: SHA-256 of nothing: where every upload begins.
EMPTY: Final = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_RETRY_SECONDS: Final = 60
#: So long, and so many, owners are remembered who were refused an upload.
_REMEMBERED_SECONDS: Final = 10.0
_REMEMBERED: Final = 4096
#: Clients that died leave their uploads behind, and theirs is the only hand that could cancel them: what nothing has
#: come to for so long counts no more, up to so many times the limit, that others of the account can go on.
QUIET_SECONDS: Final = 3600
QUIET_TIMES: Final = 10
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)

_FIND: Final = select(uploads).where(
    uploads.c.id == bindparam("id"),
    uploads.c.repository == bindparam("repository"),
    uploads.c.owner == bindparam("owner"),
    uploads.c.expires_at > bindparam("now"),
)
#: All that are open, and of them those that nothing has come to for a while.
_OPEN: Final = select(
    func.count(), func.coalesce(func.sum(case((uploads.c.expires_at <= bindparam("quiet"), 1), else_=0)), 0)
).where(uploads.c.owner == bindparam("owner"), uploads.c.expires_at > bindparam("now"))
_NEW: Final = insert(uploads)
_GONE: Final = delete(uploads).where(uploads.c.id == bindparam("gone"))


@dataclass(frozen=True, slots=True)
class UploadRow:
    """
    An upload as it durably stands; *prefix_digest* is the SHA-256 of its first *offset* bytes, "" if nobody knows it.

    *state* is the engine's own.
    """

    id: str
    offset: int
    prefix_digest: str
    begun_at: int
    expires_at: int
    state: str = ""


class Limit:
    """
    How many uploads an owner may have open, each good for so many *seconds*.

    Who was refused one a moment ago is looked at before the next is written: a flood of refusals changes nothing, and
    is not to hold up those who do.
    """

    def __init__(self, per_owner: int, seconds: int) -> None:
        self.per_owner = per_owner
        self.seconds = seconds
        self._refused: dict[str, float] = {}

    async def look(self, database: Database, owner: str, now: int) -> None:
        """As `require`, for an owner who was refused of late; looks at nothing for others."""
        refused = self._refused.get(owner)
        if refused is None:
            return
        if time.monotonic() - refused > _REMEMBERED_SECONDS:
            self._refused.pop(owner, None)
            return
        await database.read(lambda connection: self.require(connection, owner, now))

    def require(self, connection: Connection, owner: str, now: int) -> None:
        """
        Raises `TooManyRequests` when *owner* has so many uploads open to which something came in the last hour.

        Of those together with the others, which their clients may have left for good, ten times as many may be open.
        """
        quiet = now + self.seconds - QUIET_SECONDS
        every, left = connection.execute(_OPEN, {"owner": owner, "now": now, "quiet": quiet}).one()
        if every - left < self.per_owner and every < QUIET_TIMES * self.per_owner:
            return
        if len(self._refused) >= _REMEMBERED:
            self._refused.clear()
        self._refused[owner] = time.monotonic()
        raise TooManyRequests(
            f"Finish or cancel some of your {every} open uploads first; those left for an hour hardly count.",
            retry_after_seconds=_RETRY_SECONDS,
        )


def beginning(
    acts: Acts, repository: Repository, owner: str, *, pruned: Sequence[str], limit: Limit
) -> tuple[UploadRow, Change]:
    """
    An upload, and the change that begins it; expired ones that are *pruned* go.

    It refuses what *limit* does not admit, and with `ReadOnly`.
    """
    now = acts.now()
    row = UploadRow(str(uuid.uuid4()), 0, EMPTY, now, now + limit.seconds)

    def apply(connection: Any, act: Act) -> Notes:
        rules.require_writable(connection, repository.project)
        _, also = content.ensure_project(connection, repository.project, act)
        remove_expired(connection, pruned, now)
        limit.require(connection, owner, now)
        begin(connection, repository, owner, row)
        return Notes(also=also)

    # An upload shows nobody anything: what is remembered of the repository stays true.
    return row, replace(acts.change(repository, apply, owner), repositories=())


def is_id(text: str) -> bool:
    """Whether *text* is spelled as the ids of uploads are: a random UUID in lower case."""
    return _ID.fullmatch(text) is not None


def find(connection: Connection, repository: Repository, owner: str, upload_id: str, now: int) -> UploadRow | None:
    """The upload *owner* began in *repository*, unless it has expired."""
    key = {"id": upload_id, "repository": repository.name, "owner": owner, "now": now}
    row = connection.execute(_FIND, key).first()
    if row is None:
        return None
    return UploadRow(row.id, row.offset_bytes, row.prefix_digest, row.begun_at, row.expires_at, row.state)


def begin(connection: Connection, repository: Repository, owner: str, row: UploadRow) -> None:
    connection.execute(
        _NEW,
        {
            "id": row.id,
            "repository": repository.name,
            "owner": owner,
            "offset_bytes": row.offset,
            "prefix_digest": row.prefix_digest,
            "begun_at": row.begun_at,
            "expires_at": row.expires_at,
            "state": row.state,
        },
    )


def advance(connection: Connection, old: UploadRow, new: UploadRow) -> None:
    """Moves the upload from where *old* stood; raises `RangeInvalid` if it stands elsewhere, `BlobUploadUnknown`."""
    moved = connection.execute(
        update(uploads)
        .where(uploads.c.id == old.id, uploads.c.offset_bytes == old.offset)
        .values(
            offset_bytes=new.offset,
            prefix_digest=new.prefix_digest,
            expires_at=new.expires_at,
            state=new.state,
        )
    )
    if moved.rowcount:
        return
    row = connection.execute(select(uploads.c.offset_bytes).where(uploads.c.id == old.id)).first()
    if row is None:
        raise BlobUploadUnknown("This upload is gone; begin a new one.")
    raise RangeInvalid(f"Continue the upload at byte {row.offset_bytes}.", offset=row.offset_bytes)


def remove(connection: Connection, upload_id: str) -> bool:
    """False if it was gone already."""
    return bool(connection.execute(_GONE, {"gone": upload_id}).rowcount)


def expired(connection: Connection, now: int, limit: int) -> list[str]:
    """Some uploads nobody can continue any more, the oldest first."""
    statement = select(uploads.c.id).where(uploads.c.expires_at <= now).order_by(uploads.c.expires_at).limit(limit)
    return list(connection.execute(statement).scalars())


def states(connection: Connection, upload_ids: Sequence[str]) -> dict[str, tuple[Repository, str]]:
    """Where each of these uploads goes, and its engine's own."""
    columns = select(uploads.c.id, uploads.c.repository, uploads.c.state)
    found = connection.execute(columns.where(uploads.c.id.in_(upload_ids)))
    return {row.id: (Repository(row.repository), row.state) for row in found}


def remove_expired(connection: Connection, upload_ids: Sequence[str], now: int) -> int:
    """Removes those that have expired; how many those were."""
    if not upload_ids:
        return 0
    gone = delete(uploads).where(uploads.c.id.in_(upload_ids), uploads.c.expires_at <= now)
    return connection.execute(gone).rowcount


def forget(database: Database, upload_id: str) -> None:
    """
    Removes the row of an upload whose bytes were discarded, at once and without an event of its own; blocks.

    If that fails, the row stays until it expires and lets nobody do anything: its bytes are gone.
    """
    try:
        with database.lock(), database.writer() as connection:
            database.begin(connection)
            remove(connection, upload_id)
            connection.exec_driver_sql("COMMIT")
    except (SQLAlchemyError, Unavailable) as error:
        known = isinstance(error, Unavailable)
        _log.error("the row of upload %s stays until it expires", upload_id, exc_info=not known)
