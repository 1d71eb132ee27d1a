"""Descent: whether the chain's head comes after the mark, event by event.

The head is sealed, and the mark is not in the database. What stands between them is whatever somebody wrote there, if
only for the length of a commit: it is believed as far as each event carries the hash of the one before it, in the table
or in the file that it was sealed into. Of purged events, a stub that a key of this data directory signed is believed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from sqlalchemy import Connection

from gateway.audit.chain import Head, follow, head_seal
from gateway.errors import Unavailable
from gateway.records import driver, segments
from gateway.records.database import Database
from gateway.records.mark import fault_at, fault_of_end, kept_hash, recorded
from gateway.records.proving import owned_keys, stub_fault
from gateway.records.segments import Unsealed

_log = logging.getLogger("gateway.ledger")
_PAGE: Final = 1000
_ROWS: Final = (
    "SELECT seq, {body}, hash FROM events WHERE seq > {after} AND seq <= {until} "  # noqa: S608 - numbers
    f"ORDER BY seq LIMIT {_PAGE}"
)
#: The bytes that were hashed.
_BODY: Final = {"sqlite": "CAST(body AS BLOB)", "postgresql": "convert_to(body, 'UTF8')"}


class Descent:
    """
    The way from the mark of one data directory to the chain's head.

    *key* seals both; *opening* is the secret under which the keys that sign stubs open.
    """

    def __init__(self, database: Database, key: bytes, opening: bytes) -> None:
        self._database = database
        self._key = key
        self._opening = opening
        self._stray: Head | None = None

    def between(self, connection: Connection) -> Callable[[Head, Head], str]:
        """What `fault_of_end` asks, answered over *connection*."""
        return partial(self._fault, connection)

    def keep_up(self) -> None:
        """
        Moves the mark on to the chain's head, if that comes after it; not under the lock.

        Commits then have little to read in between, however many events others have added.
        """
        try:
            self._database.read_now(self._move)
        except Unavailable:
            # It is read by the next commit.
            return
        except Exception:
            _log.exception("what others added to the trail cannot be read")

    def _move(self, connection: Connection) -> None:
        mark = self._database.mark.read(self._key)
        if mark is None or mark == self._stray:
            return
        record = recorded(connection)
        if record.head.seq <= mark.seq:
            return
        if fault_of_end(record.head, record.seal, self._key, mark, self.between(connection)):
            # The next commit tells of it; until then it is not read again and again.
            self._stray = mark
            return
        with self._database.lock():
            now = self._database.mark.read(self._key)
            if now is not None and now.seq < record.head.seq:
                self._database.mark.write(record.head, head_seal(record.head, self._key))

    def _fault(self, connection: Connection, mark: Head, head: Head) -> str:
        place = mark
        while place.seq < head.seq:
            # The table first: what leaves it meanwhile is in a segment by then.
            after = self._in_table(connection, place, head.seq)
            after = self._in_segment(connection, place) if after == place else after
            if after == place:
                break
            place = after
        if place == head:
            return ""
        kept = kept_hash(partial(driver.rows_of, connection), mark.seq)
        return fault_at(mark, kept) or f"the events after event {mark.seq} do not lead to event {head.seq}"

    def _in_table(self, connection: Connection, place: Head, until: int) -> Head:
        """The last of the next events in the table that follow one another, or *place*."""
        body = _BODY[connection.dialect.name]
        rows = driver.rows_of(connection, _ROWS.format(body=body, after=place.seq, until=until))
        return follow(place, rows, 0).head

    def _in_segment(self, connection: Connection, place: Head) -> Head:
        """The last of the next events that were sealed together, or *place*."""
        segment = segments.containing(connection, place.seq + 1)
        if segment is None:
            return place
        if segment.stub:
            # What was purged in the midst of them nobody can compare any more.
            follows = segment.first_seq <= place.seq or segment.previous == place
            whole = follows and not stub_fault(segment, owned_keys(connection, self._opening))
            return segment.head if whole else place
        kept = segments.events_of(self._database.data, segment, place.seq, checked=False)
        try:
            return follow(place, ((each.seq, each.body.encode(), each.hash) for each in kept), 0).head
        except Unsealed:
            return place
