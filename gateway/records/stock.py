"""How much there is: of blobs, uploads and events, counted."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from gateway.records.mark import recorded
from gateway.records.schema import blobs, uploads


@dataclass(frozen=True, slots=True)
class Stock:
    """*events* is the number of the newest one."""

    blobs: int
    blob_bytes: int
    uploads: int
    events: int


def counted(connection: Connection) -> Stock:
    """Everything counted; takes as long as there are blobs, some tenths of a second for a million."""
    count, size = connection.execute(select(func.count(), func.coalesce(func.sum(blobs.c.size_bytes), 0))).one()
    open_uploads = connection.execute(select(func.count()).select_from(uploads)).scalar_one()
    return Stock(int(count), int(size), int(open_uploads), recorded(connection).head.seq)
