"""Walking the chain: each event after the one before, from the table or from the segment that it was sealed into.

Events are read as the driver gives them and decoded once: of every event a few microseconds are asked for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final

from sqlalchemy import Column, Connection, Table, exists, func, select

from gateway.audit.chain import Head, Kept, Sealed, follow, told
from gateway.audit.offline import fault_of
from gateway.records import checkpoints, driver, segments
from gateway.records.database import Database
from gateway.records.evidence_tables import checkpoints as stored_checkpoints
from gateway.records.evidence_tables import segments as stored_segments
from gateway.records.proving import stub_fault
from gateway.records.schema import event_index, events
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
#: What has numbers of events, in which table and column.
_NUMBERED: Final = (
    ("an event", events, "seq"),
    ("a search entry", event_index, "seq"),
    ("a checkpoint of an event", stored_checkpoints, "seq"),
    ("a segment of events", stored_segments, "first_seq"),
)
#: What else has numbers that are whole; SQLite keeps anything in any column but a key.
_WHOLE: Final = (
    ("a checkpoint of an event", stored_checkpoints.c.seq),
    ("a checkpoint of an event", stored_checkpoints.c.made_at),
    ("a segment of events", stored_segments.c.first_seq),
    ("a segment of events", stored_segments.c.file_bytes),
)
#: More than any event's number.
END: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Wrong:
    """
    What is wrong with the event of this number, in words.

    *edited* says that the event tells of an edited end of the trail: that is told before what searches say otherwise.
    """

    text: str
    seq: int
    edited: bool = False

    def before(self, other: Wrong | None) -> Wrong:
        """The one of the two, this being the earlier, that is told."""
        return other if other is not None and other.edited and not self.edited else self


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
        if self.head.seq == 0 and (wrong := self._before_the_first()):
            return wrong
        while self.head.seq < until:
            before = self.head
            wrong = self._step(until)
            if wrong is not None:
                return wrong
            if self.head == before:
                return None
        return None

    def _step(self, until: int) -> Wrong | None:
        """The next events after the head, from the segment that they were sealed into or from the table."""
        segment = self._read(self._next_segment)
        if segment is not None:
            return self._segment(segment)
        searched = self._read(_searched_until)
        rows = self._read(partial(_rows, after=self.head.seq, until=until))
        if not rows or rows[0][0] != self.head.seq + 1:
            # They may have left meanwhile.
            segment = self._read(self._next_segment)
            if segment is not None:
                return self._segment(segment)
        return self._expect(rows[-1][0]) or self._follow(rows, searched) if rows else None

    def _next_segment(self, connection: Connection) -> Segment | None:
        return segments.ending_after(connection, self.head.seq)

    def _before_the_first(self) -> Wrong | None:
        """Nothing has a number below 1, or in place of one something else: what had would be met by no walk."""
        for what, number in _WHOLE:
            if self._read(partial(_has_other, column=number)):
                return Wrong(f"there is {what} with a number that is none", 1)
        for what, table, column in _NUMBERED:
            lowest = self._read(partial(_lowest, column=table.c[column]))
            if lowest is not None and lowest < 1:
                return Wrong(f"there is {what} with the number {lowest}, before the first", 1)
        return None

    def _follow(self, rows: Sequence[Kept], searched: int) -> Wrong | None:
        before = self.head
        found = follow(before, rows, searched)
        if found.unlike:
            self._differs(found.unlike)
        if found.broken:
            self._was_broken(found.broken)
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
        # Where events were sealed behind the walk's back, it may stand inside a segment.
        before, compared, place = self.head, self.compared, self.head.seq + 1
        if segment.first_seq > place or (segment.first_seq == place and segment.previous != before):
            return Wrong(f"the segment of event {segment.first_seq} does not follow event {before.seq}", place)
        try:
            wrong = self._expect(segment.last_seq) or self._unpacked(segment)
        except Unsealed as error:
            now = self._read(partial(segments.ending_after, seq=before.seq))
            if now is not None and now.stub:
                # It was purged meanwhile.
                self.head, self.compared = before, compared
                return self._stub(now)
            return Wrong(f"the segment of event {self.head.seq + 1} is damaged: {error}", self.head.seq + 1)
        self.sealed += segment.last_seq - before.seq if wrong is None else 0
        return wrong

    def _unpacked(self, segment: Segment) -> Wrong | None:
        """Follows the events in the segment's file, and compares with them what the database says of it and has."""
        before, data = self.head.seq, self._database.data
        left = self._read(partial(_any_left, first=segment.first_seq, last=segment.last_seq))
        times: list[str] = []
        # The first event that was edited is told sooner than that the file was.
        for page in _pages(segments.events_of(data, segment, checked=False)):
            rows = [(event.seq, event.body.encode(), event.hash) for event in page if event.seq > before]
            if wrong := self._follow(rows, 0) or (self._beside(page) if left else None):
                return wrong
            times = [*times[:1], *(_time_of(event) for event in (page[0], page[-1]))]
        if self.head != segment.head:
            return Wrong(f"the segment {segment.file} does not end with event {segment.last_seq}", self.head.seq)
        next(segments.lines_of(data, segment), None)
        if (times[0], times[-1]) != segment.period:
            return Wrong(f"the times of the segment of event {segment.last_seq} were edited", segment.first_seq)
        return None

    def _beside(self, page: Sequence[Sealed]) -> Wrong | None:
        """Sealed events that are in the table, before they have left it, are what was sealed."""
        searched = self._read(_searched_until)
        sealed = {event.seq: event for event in page}
        for row in self._read(partial(_rows, after=page[0].seq - 1, until=page[-1].seq)):
            event = sealed.get(row[0])
            if event is None or (row[1], row[2]) != (event.body.encode(), event.hash):
                return Wrong(f"event {row[0]} in the database is not the one that was sealed away", row[0])
            says = told(event.body)
            before = Head(event.seq - 1, bytes.fromhex(says.previous_hash) if says is not None else b"")
            if follow(before, [row], searched).unlike:
                self._differs(row[0])
        self._without_events(page[0].seq, page[-1].seq)
        return None

    def _without_events(self, first: int, last: int) -> None:
        entry = self._read(partial(_entry_alone, first=first, last=last))
        if entry is not None and self.unlike is None:
            self.unlike = Wrong(f"there is a search entry of event {entry}, which was sealed away", entry)

    def _differs(self, seq: int) -> None:
        if self.unlike is None:
            self.unlike = Wrong(f"the search entry of event {seq} was edited or removed", seq)

    def _was_broken(self, seq: int) -> None:
        wrong = Wrong(f"event {seq} tells that the trail's end was edited before it", seq, edited=True)
        self.unlike = self.unlike.before(wrong) if self.unlike is not None else wrong

    def _stub(self, segment: Segment) -> Wrong | None:
        """What was purged is vouched for by the signature on its stub."""
        text = stub_fault(segment, self._keys, self._only)
        if not text and segment.previous != self.head:
            text = f"the stub of event {segment.last_seq} was edited"
        if text:
            return Wrong(text, segment.first_seq)
        if wrong := self._expect(segment.last_seq):
            return wrong
        here = self._read(partial(_first_of, first=segment.first_seq, last=segment.last_seq))
        if here is not None:
            return Wrong(f"event {here} is in the database, though it was purged", here)
        if segment.broken:
            self._was_broken(segment.broken)
        self._without_events(segment.first_seq, segment.last_seq)
        self.head = segment.head
        self.purged += segment.count
        text = self._contradiction(segment.last_seq, segment.last_hash)
        self._own.clear()
        return Wrong(text, segment.last_seq) if text else None

    def _expect(self, until: int) -> Wrong | None:
        """Remembers what the checkpoints kept here say of the events up to *until*, their signatures looked at."""
        after = self.head.seq
        while stored := self._read(partial(checkpoints.between, after=after, until=until)):
            for each in stored:
                try:
                    statement = each.statement
                    wrong = fault_of(statement, self._keys.get(str(statement.get("key")), bytes(32)))
                    named = (statement["seq"], statement["number"], str(statement["hash"]), str(statement["time"]))
                except (ValueError, KeyError, AttributeError, TypeError):
                    wrong = "it cannot be read"
                if wrong or named[:2] != (each.seq, each.number):
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


def _has_other(connection: Connection, column: Column[Any]) -> bool:
    """Whether *column* has anything that is no whole number."""
    other = select(column).where(func.typeof(column) != "integer").limit(1)
    return connection.dialect.name == "sqlite" and connection.execute(other).first() is not None


def _lowest(connection: Connection, column: Column[Any]) -> int | None:
    lowest = connection.execute(select(func.min(column))).scalar()
    return int(lowest) if lowest is not None else None


def _first_of(connection: Connection, first: int, last: int, table: Table = events) -> int | None:
    """The first event in between that *table* has."""
    mine = select(table.c.seq).where(table.c.seq >= first, table.c.seq <= last)
    return connection.execute(mine.order_by(table.c.seq).limit(1)).scalar()


def _any_left(connection: Connection, first: int, last: int) -> bool:
    """Whether the database has any of these events, or searches do."""
    return any(_first_of(connection, first, last, table) is not None for table in (events, event_index))


def _entry_alone(connection: Connection, first: int, last: int) -> int | None:
    """The first search entry in between without its event; both leave in one transaction."""
    alone = ~exists().where(events.c.seq == event_index.c.seq)
    mine = select(event_index.c.seq).where(event_index.c.seq >= first, event_index.c.seq <= last, alone)
    return connection.execute(mine.order_by(event_index.c.seq).limit(1)).scalar()


def _time_of(event: Sealed) -> str:
    says = told(event.body)
    return says.time if says is not None else ""
