"""The sealed end: how far search entries may follow the chain.

Whoever can write to the database can put a row far behind the end, and raise the record of the head to it. Once there
was a search entry of it, nothing that comes would be found: entries are made of what has a greater number than any.
"""

from __future__ import annotations

import logging
from contextlib import closing, suppress

from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import DBAPICursor

from gateway.audit.chain import Head
from gateway.records.database import Database
from gateway.records.mark import recorded
from gateway.records.matching import projected_until

_log = logging.getLogger("gateway.ledger")


def sealed_end(database: Database, connection: Connection, key: bytes) -> int:
    """
    The number of the chain's last event, or 0 while its record is not sealed with *key*; under the lock.

    Search entries beyond it are removed, outside a transaction.
    """
    record = recorded(connection)
    if not record.is_sealed(key):
        return 0
    if projected_until(connection) > record.head.seq and (count := _drop_beyond(database, connection, key)):
        _log.error("there were search entries beyond the end of the trail: %d were removed", count)
    return record.head.seq


def drop_entries(cursor: DBAPICursor, after: Head) -> None:
    """Removes the search entries of events after *after*, which are not there any more; the writers' transaction."""
    cursor.execute(f"DELETE FROM event_index WHERE seq > {after.seq}")  # noqa: S608 - a number
    if cursor.rowcount > 0:
        _log.error("there were search entries of events that are gone: %d were removed", cursor.rowcount)


def _drop_beyond(database: Database, connection: Connection, key: bytes) -> int:
    with closing(connection.connection.cursor()) as cursor:
        for statement in database.beginning:
            cursor.execute(statement)
        try:
            # Another host may have gone on meanwhile; and where an older end was put back, they tell of what was there.
            record, mark = recorded(connection), database.mark.read(key)
            if not record.is_sealed(key) or (mark is not None and mark.seq > record.head.seq):
                cursor.execute("ROLLBACK")
                return 0
            cursor.execute(f"DELETE FROM event_index WHERE seq > {record.head.seq}")  # noqa: S608 - a number
            count = cursor.rowcount
            cursor.execute("COMMIT")
        except BaseException:
            with suppress(Exception):
                cursor.execute("ROLLBACK")
            raise
    return count
