"""A stretch of the chain: its events by their numbers, without gaps, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from sqlalchemy import Connection, func, select

from gateway.audit.chain import Sealed
from gateway.records.database import Database
from gateway.records.schema import events

_PAGE: Final = 1000


def stretch(database: Database, first: int) -> Iterator[Sealed]:
    """The events from the one numbered *first* to the last one there is now, in order."""
    last = database.read_now(lambda connection: connection.execute(select(func.max(events.c.seq))).scalar()) or 0
    after = first - 1
    while after < last:
        page = database.read_now(partial(_page, after=after, last=last))
        if not page:
            return
        yield from page
        after = page[-1].seq


def _page(connection: Connection, after: int, last: int) -> list[Sealed]:
    wanted = select(events.c.seq, events.c.body, events.c.hash).where(events.c.seq > after, events.c.seq <= last)
    rows = connection.execute(wanted.order_by(events.c.seq).limit(_PAGE))
    return [Sealed(row.seq, row.body, bytes(row.hash)) for row in rows]
