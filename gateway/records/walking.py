"""Walking the chain: each event after the one before, from the table or from the segment that it left for.

Events are read as the driver gives them and decoded once: of every event a few microseconds are asked for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection

from gateway.audit.chain import Head, Kept, Sealed, follow
from gateway.audit.offline import fault_of
from gateway.records import checkpoints, driver, segments
from gateway.records.database import Database
from gateway.records.proving import stub_fault
from gateway.records.schema import event_index
from gateway.records.segments import Segment, Unsealed

_PAGE: Final = 2000
_FIELDS: Final = ("time", "kind", "outcome", "principal", "project", "repository", "digest", "address")
#: A page of the chain, and what searches have of it: of an index that is not told where to end, PostgreSQL reads all.
_ROWS: Final = (
    "SELECT e.seq, {body}, e.hash, {entry} FROM events e "
    "LEFT JOIN event_index i ON i.seq = e.seq AND i.seq > {after} AND i.seq <= {after} + {limit} "
    "WHERE e.seq > {after} AND e.seq <= {until} ORDER BY e.seq LIMIT {limit}"
)
_FOUND: Final = ", ".join(f"i.{name}" for name in _FIELDS)
_TEXTS: Final = ", ".join(f"CASE typeof(i.{name}) WHEN 'text' THEN i.{name} END" for name in _FIELDS)
#: The bytes that were hashed, and the search entry beside them, as each is read fastest.
_READ: Final = {
    "sqlite": {"body": "CAST(e.body AS BLOB)", "entry": f"json_array({_FOUND})"},
    "postgresql": {"body": "convert_to(e.body, 'UTF8')", "entry": _FOUND},
}
_SEARCHED: Final = f"SELECT max(seq) FROM {event_index.name}"  # noqa: S608 - constants
#: More than any event's number.
END: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong with the event of this number, in words."""

    text: str
    seq: int


class Walk:
    """
    Follows the chain from *head*; then `head` is the last event that is as it was written.

    *keys* are the raw public keys of checkpoints and stubs by their ids, *against* statements from elsewhere, rightly
    signed, by the event that they name; stubs must be signed by the key with the id *only*, if it is given. `sealed`
    events were read from segments, `purged` ones are gone, and `compared` of the statements were met. `unlike` is the
    first event that searches find by other fields than it has, or that tells of an edited end.
    """

    def __init__(
        self,
        database: Database,
        keys: Mapping[str, bytes],
        against: Mapping[int, Sequence[Mapping[str, Any]]],
        head: Head,
        only: str = "",
    ) -> None:
        self.head = head
        self.sealed = self.purged = self.compared = 0
        self.unlike: Wrong | None = None
        self._database = database
        self._keys = keys
        self._only = only
        self._against = against
        self._own: dict[int, Mapping[str, Any]] = {}

    def through(self, until: int = END) -> Wrong | None:
        """Goes on until the event of that number or the last there is, and ends before the first that is wrong."""
        while self.head.seq < until:
            before = self.head
            wrong = self._step(until)
            if wrong is not None:
                return wrong
            if self.head == before:
                return None
        return None

    def _step(self, until: int) -> Wrong | None:
        """The next events after the head, from the table or from the segment that they left for."""
        searched = self._read(_searched_until)
        rows = self._read(partial(_rows, after=self.head.seq, until=until))
        if not rows or rows[0][0] != self.head.seq + 1:
            segment = self._read(partial(segments.containing, seq=self.head.seq + 1))
            if segment is not None:
                return self._segment(segment)
        return self._expect(rows[-1][0]) or self._follow(rows, searched) if rows else None

    def _follow(self, rows: Sequence[Kept], searched: int) -> Wrong | None:
        before = self.head
        found = follow(before, rows, searched)
        if found.unlike and self.unlike is None:
            self.unlike = Wrong(f"the search entry of event {found.unlike} was edited or removed", found.unlike)
        if found.broken and self.unlike is None:
            self.unlike = Wrong(f"event {found.broken} tells that the trail's end was edited before it", found.broken)
        for seq in self._named(before.seq, found.head.seq):
            chained = rows[seq - before.seq - 1][2]
            if wrong := self._contradiction(seq, chained):
                self.head = Head(seq, chained)
                return Wrong(wrong, seq)
        self.head = found.head
        return Wrong(found.fault, rows[found.head.seq - before.seq][0]) if found.fault else None

    def _named(self, after: int, until: int) -> list[int]:
        """The events in between that statements name."""
        named = {seq for statements in (self._own, self._against) for seq in statements if after < seq <= until}
        return sorted(named)

    def _segment(self, segment: Segment) -> Wrong | None:
        if segment.stub:
            return self._stub(segment)
        before = self.head
        if wrong := self._expect(segment.last_seq):
            return wrong
        try:
            # The first event that was edited is told sooner than that the file was.
            for page in _pages(segments.events_of(self._database.data, segment, before.seq, checked=False)):
                if wrong := self._follow([(event.seq, event.body.encode(), event.hash) for event in page], 0):
                    return wrong
            if self.head == segment.head:
                next(segments.lines_of(self._database.data, segment), None)
        except Unsealed as error:
            return Wrong(f"the segment of event {self.head.seq + 1} is damaged: {error}", self.head.seq + 1)
        if self.head != segment.head:
            return Wrong(f"the segment {segment.file} does not end with event {segment.last_seq}", self.head.seq)
        self.sealed += segment.last_seq - before.seq
        return None

    def _stub(self, segment: Segment) -> Wrong | None:
        """What was purged is vouched for by the signature on its stub."""
        wrong = stub_fault(segment, self._keys, self._only)
        if not wrong and segment.previous != self.head:
            wrong = f"the stub of event {segment.last_seq} was edited"
        if wrong:
            return Wrong(wrong, segment.first_seq)
        self.head = segment.head
        self.purged += segment.count
        self._own.clear()
        wrong = self._contradiction(segment.last_seq, segment.last_hash)
        return Wrong(wrong, segment.last_seq) if wrong else None

    def _expect(self, until: int) -> Wrong | None:
        """Remembers what the checkpoints kept here say of the events up to *until*, their signatures looked at."""
        after = self.head.seq
        while stored := self._read(partial(checkpoints.between, after=after, until=until)):
            for each in stored:
                try:
                    statement = each.statement
                    wrong = fault_of(statement, self._keys.get(str(statement.get("key")), bytes(32)))
                    named = (int(statement["seq"]), str(statement["hash"]), str(statement["time"]))
                except (ValueError, KeyError, AttributeError, TypeError):
                    wrong = "it cannot be read"
                if wrong or named[0] != each.seq:
                    return Wrong(f"the checkpoint of event {each.seq} was edited: {wrong}", each.seq)
                self._own[each.seq] = statement
            after = stored[-1].seq
        return None

    def _contradiction(self, seq: int, chained: bytes) -> str:
        against = self._against.get(seq, ())
        self.compared += len(against)
        own = self._own.pop(seq, None)
        for statement in (*against, *([own] if own is not None else [])):
            if statement["hash"] != chained.hex():
                return f"event {seq} is not the one that the {statement['type']} of {statement['time']} names"
        return ""

    def _read(self, query: Any) -> Any:
        return self._database.read_now(query)


def _rows(connection: Connection, after: int, until: int) -> Sequence[Any]:
    asked = {**_READ[connection.dialect.name], "after": int(after), "until": int(until), "limit": _PAGE}
    try:
        return driver.rows_of(connection, _ROWS.format(**asked))
    except sqlite3.OperationalError:
        # There is no JSON of bytes, and no text of what is not UTF-8: an entry that was edited to hold any has none of
        # it, or cannot be read, and so is unlike its event.
        return driver.rows_of(connection, _ROWS.format(**{**asked, "entry": f"CAST(json_array({_TEXTS}) AS BLOB)"}))


def _pages(found: Iterable[Sealed]) -> Iterator[list[Sealed]]:
    remaining = iter(found)
    while page := list(islice(remaining, _PAGE)):
        yield page


def _searched_until(connection: Connection) -> int:
    return int(driver.rows_of(connection, _SEARCHED)[0][0] or 0)
