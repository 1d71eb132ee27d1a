"""Appending to the chain: the statements of every commit, said to the driver itself, for they are said so often."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Final

from sqlalchemy import Connection, insert, update
from sqlalchemy.engine.interfaces import DBAPICursor

from gateway.audit.chain import Head, Sealed, head_seal
from gateway.records import driver
from gateway.records.database import Database
from gateway.records.mark import last_after, recorded
from gateway.records.schema import events, trail_head

#: Events put into one statement: SQLite as it mostly comes takes 32,766 values in one, and each event has three.
_ROWS: Final = 5000


def append(cursor: DBAPICursor, paramstyle: str, sealed: Sequence[Sealed], key: bytes) -> None:
    """Puts the events, of which there are some, at the end of the chain, and seals the new end with *key*."""
    # One statement for many: the drivers hand the interpreter over for every row of an `executemany`.
    for first in range(0, len(sealed), _ROWS):
        part = sealed[first : first + _ROWS]
        values = tuple(value for event in part for value in (event.seq, event.body, event.hash))
        cursor.execute(_insertion(len(part), paramstyle), values)
    head = Head(sealed[-1].seq, sealed[-1].hash)
    record = (head.seq, head.hash, head_seal(head, key))
    cursor.execute(_moving_head(paramstyle), record)
    if cursor.rowcount == 0:
        # Somebody took the record away, and what comes would not be sealed.
        cursor.execute(_putting_head(paramstyle), record)


def trial(database: Database, connection: Connection) -> None:
    """Raises if the trail takes no event now, and adds none; under the lock, outside a transaction."""
    database.begin(connection)
    try:
        # Whatever somebody put in after the last event does not stop the next one.
        near = recorded(connection).head.seq
        last = last_after(partial(driver.rows_of, connection), 0, near) or Head()
        connection.exec_driver_sql("SAVEPOINT trial")
        connection.execute(insert(events).values(seq=last.seq + 1, body="", hash=b""))
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT trial")
        # Written as it is: whether there is room on the disk, only a commit tells.
        connection.execute(update(trail_head).values(seq=trail_head.c.seq))
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        with contextlib.suppress(Exception):
            connection.exec_driver_sql("ROLLBACK")
        raise


@lru_cache(maxsize=1024)
def _insertion(rows: int, paramstyle: str) -> str:
    mark = "?" if paramstyle == "qmark" else "%s"
    row = f"({mark}, {mark}, {mark})"
    return f"INSERT INTO events (seq, body, hash) VALUES {', '.join([row] * rows)}"  # noqa: S608 - nothing but marks


@lru_cache(maxsize=4)
def _moving_head(paramstyle: str) -> str:
    mark = "?" if paramstyle == "qmark" else "%s"
    return f"UPDATE trail_head SET seq = {mark}, hash = {mark}, seal = {mark} WHERE id = 1"  # noqa: S608 - marks


@lru_cache(maxsize=4)
def _putting_head(paramstyle: str) -> str:
    mark = "?" if paramstyle == "qmark" else "%s"
    return f"INSERT INTO trail_head (id, seq, hash, seal) VALUES (1, {mark}, {mark}, {mark})"  # noqa: S608 - marks
