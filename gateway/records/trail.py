"""The trail as the database keeps it: the chain, a searchable projection that follows it, and the tail not yet in it.

A search reads the unprojected tail itself, newest first, and then the projection: it is never behind. What it shows is
always the sealed event; the projection only finds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from itertools import islice
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection, Integer, Row, Select, bindparam, select

from gateway.audit.chain import UNTIMED, Sealed, as_hash, as_text, is_time, line, told
from gateway.audit.event import VALUE_CHARACTERS
from gateway.audit.trail import SealedPart, Search, Verification
from gateway.errors import Unavailable
from gateway.records import checkpoints, cursors, driver, exporting, sealed_months, segments, tallies
from gateway.records.checkpoints import Stored
from gateway.records.database import Database
from gateway.records.mark import recorded
from gateway.records.matching import (
    FIELDS,
    SPECIFIC,
    Shape,
    coarse,
    counted,
    kinds_like,
    narrowed,
    of_value,
    projected_until,
    those,
    values,
    waiting,
)
from gateway.records.proving import owned_keys
from gateway.records.schema import event_index, events
from gateway.records.segments import Segment
from gateway.records.verifying import Verifier
from gateway.records.walking import END

_PAGE = 5000
_CHUNK = 500
#: Events are projected this many at a time: a slice holds the writers' lock for some milliseconds.
SLICE = 256
#: Where several filters meet, the newest events are looked through first, and then the rarest filter leads.
_WINDOW = 4096
_RARE, _FREQUENT = 512, (16_384, 524_288)
#: Of the rarest, so many are read at once at least.
_LED = 100
#: As JSON has it.
_NUL = "\\u0000"
_UNSEALED = "The record of the trail's end was edited in the database; the next event tells so."


@dataclass(frozen=True, slots=True)
class Following:
    """
    The events that follow some number, one after the other; with *purged*, all up to that number are gone instead.

    With *missing* they are gone and nothing tells why: somebody took them out, or put in what the trail went on behind.
    """

    events: Sequence[Sealed]
    purged: int = 0
    missing: int = 0


class SqlTrail:
    """
    The trail of one database; see `gateway.audit.trail.Trail`.

    *key* seals its head. Checkpoints and stubs are believed under keys that open under the secret *opening* alone.
    """

    def __init__(self, database: Database, key: bytes, opening: bytes = b"") -> None:
        self._database = database
        self._key = key
        self._opening = opening

    def page(self, search: Search, *, before: int | None = None, limit: int = 100) -> Sequence[Sealed]:
        limit = max(1, min(limit, _PAGE))
        return self._database.read_now(lambda connection: _page(connection, search, before, limit))

    def event(self, seq: int) -> Sealed | None:
        query = select(events.c.seq, events.c.body, events.c.hash).where(events.c.seq == seq)
        row = self._database.read_now(lambda connection: connection.execute(query).first())
        if row is not None:
            return _sealed(row)
        segment = self._database.read_now(partial(segments.containing, seq=seq))
        if segment is None or segment.stub:
            return None
        with sealed_months.sound(segment):
            return next(segments.events_of(self._database.data, segment, seq - 1), None)

    def events(self, numbers: Iterable[int]) -> dict[int, Sealed]:
        wanted = sorted(set(numbers))
        found: dict[int, Sealed] = {}
        for start in range(0, len(wanted), _CHUNK):
            some = wanted[start : start + _CHUNK]
            query = select(events.c.seq, events.c.body, events.c.hash).where(events.c.seq.in_(some))
            rows = self._database.read_now(lambda connection, query=query: connection.execute(query).all())  # type: ignore[misc]
            found.update((row[0], _sealed(row)) for row in rows)
        return found | sealed_months.numbered(self._database, (each for each in wanted if each not in found))

    def sealed(self, search: Search, before: int | None = None) -> SealedPart | None:
        return sealed_months.part(self._database, search, before)

    def older(
        self, searches: Sequence[Search], *, before: int | None = None, files: int | None = None
    ) -> Iterator[Sealed | int]:
        return sealed_months.older(self._database, searches, before, files)

    def stretch(self, first: int) -> Iterator[Sealed]:
        for page in exporting.pages(self._database, Search(), first - 1):
            if not isinstance(page, Segment):
                yield from (Sealed(*row) for row in page)

    def export(self, search: Search) -> Iterator[Sealed]:
        for page in exporting.pages(self._database, search):
            if not isinstance(page, Segment):
                yield from (Sealed(*row) for row in page)

    def lines(self, search: Search) -> Iterator[str]:
        for page in exporting.pages(self._database, search):
            if isinstance(page, Segment):
                yield page.stub
            else:
                yield from [line(body, chained) for _, body, chained in page]

    def following(self, after: int, limit: int) -> Following:
        """
        At most *limit* events after the number *after*, from wherever they are, up to the sealed end of the trail.

        Raises `Unavailable` when a segment's file is damaged, when *after* is beyond the end, and as long as the record
        of the end is one that was edited: the next commit tells so, and seals it anew.
        """
        # What is behind the end is no part of the trail, whatever it looks like.
        end = self._database.read_now(partial(cursors.end_of_trail, key=self._key))
        if end is None:
            raise Unavailable(_UNSEALED)
        if after > end:
            raise Unavailable(cursors.beyond(after, end))
        if after == end:
            return Following(())
        found = self._database.read_now(partial(_chain, after=after, limit=limit, until=end))
        if found and found[0].seq == after + 1:
            return Following([event for place, event in enumerate(found, after + 1) if event.seq == place])
        segment = self._database.read_now(partial(segments.ending_after, seq=after))
        if segment is None or segment.last_seq > end or segment.first_seq > after + 1:
            nearest = (end + 1, *(event.seq for event in found[:1]), segment.first_seq if segment is not None else 0)
            return Following((), missing=min(seq for seq in nearest if seq > after + 1) - 1)
        if segment.stub:
            return Following((), segment.last_seq)
        with sealed_months.sound(segment):
            return Following(list(islice(segments.events_of(self._database.data, segment, after), limit)))

    def statements(self, after: int, until: int, limit: int) -> Sequence[Stored]:
        """
        At most *limit* checkpoints made after that with the number *after*, about events up to *until*.

        None has a higher number than the last that the data directory's own key signed: whoever asks for those that
        follow gets every one made later.
        """
        found = self._database.read_now(partial(checkpoints.following, number=after, until=until, most=limit))
        if not found:
            return ()
        keys = self._database.read_now(partial(owned_keys, secret=self._opening))
        last = self._database.read_now(partial(checkpoints.last_number, keys=keys))
        return [each for each in found if each.number <= last]

    def sealed_away(self) -> tuple[int, str]:
        last = self._database.read_now(segments.sealed_until)
        segment = self._database.read_now(partial(segments.containing, seq=last)) if last else None
        return (segment.last_seq, segment.last_time) if segment is not None else (0, "")

    def verify(self, against: Sequence[Mapping[str, Any]] = (), only: str = "") -> Verification:
        return Verifier(self._database, self._key, against, opening=self._opening, only=only).verify()


def project_tail(database: Database, connection: Connection, until: int = END) -> int:
    """
    Projects the next few events up to the number *until*, if there are any; under the lock, outside a transaction.

    Returns how many.
    """
    # As for every commit, to the driver itself, and in one statement: drivers hand the interpreter over for each row of
    # an `executemany`, while requests wait for it.
    with closing(connection.connection.cursor()) as cursor:
        cursor.execute(_TAIL[connection.dialect.name].format(until=int(until)))
        rows = [_sealed(row) for row in cursor.fetchall()]
        if not rows:
            return 0
        entries = [_projected(event) for event in rows]
        values = tuple(value for entry in entries for value in entry.values())
        try:
            for statement in database.beginning:
                cursor.execute(statement)
            if projected_until(connection) >= rows[0].seq:
                # Another host has done it meanwhile.
                cursor.execute("ROLLBACK")
                return len(rows)
            cursor.execute(_projection_of(len(rows), connection.dialect.paramstyle), values)
            tallies.follow(cursor, connection.dialect.paramstyle, entries)
            cursor.execute("COMMIT")
        except BaseException:
            with suppress(Exception):
                cursor.execute("ROLLBACK")
            raise
    return len(rows)


def project_anew(database: Database, connection: Connection, key: bytes) -> None:
    """
    Makes the search entries anew of all events that they had reached; under the lock, outside a transaction.

    None is made beyond the chain's head, if that is sealed with *key*. What is counted of these events stays as it is.
    """
    with closing(connection.connection.cursor()) as cursor:
        for statement in database.beginning:
            cursor.execute(statement)
        record, until = recorded(connection), projected_until(connection)
        until = min(until, record.head.seq) if record.is_sealed(key) else until
        cursor.execute("DELETE FROM event_index")
        after = 0
        while rows := _chain(connection, after, SLICE, until):
            values = tuple(value for event in rows for value in _projected(event).values())
            cursor.execute(_projection_of(len(rows), connection.dialect.paramstyle), values)
            after = rows[-1].seq
        cursor.execute("COMMIT")


_AFTER = (
    "SELECT seq, {body}, hash FROM events WHERE seq > (SELECT COALESCE(MAX(seq), 0) FROM event_index) "  # noqa: S608
    # A row that somebody put in behind the end may have no event after it: what comes would never be found.
    f"AND seq <= (SELECT seq FROM trail_head WHERE id = 1) AND seq <= {{until}} ORDER BY seq LIMIT {SLICE}"
)
#: In bytes: what is no text, which SQLite keeps for one, would stop all that follows.
_TAIL: Final = {
    "sqlite": _AFTER.replace("{body}", "CAST(body AS BLOB)"),
    "postgresql": _AFTER.replace("{body}", "body"),
}
#: As much of each field as its column holds, and an index of PostgreSQL: no event has more.
_WIDTHS: Final = {name: getattr(event_index.c[name].type, "length", None) or VALUE_CHARACTERS for name in FIELDS}


@lru_cache(maxsize=SLICE)
def _projection_of(rows: int, paramstyle: str) -> str:
    columns = ("seq", "time", *FIELDS)
    row = f"({', '.join(['?' if paramstyle == 'qmark' else '%s'] * len(columns))})"
    return f"INSERT INTO event_index ({', '.join(columns)}) VALUES {', '.join([row] * rows)}"  # noqa: S608 - constants


def _projected(event: Sealed) -> dict[str, Any]:
    """The search entry of *event*: whatever somebody wrote in its place, no more than its columns hold."""
    says = told(event.body)
    if says is not None:
        time = says.time if is_time(says.time) else UNTIMED
        found = {name: getattr(says, name)[:most] for name, most in _WIDTHS.items()}
    else:
        record = event.record()
        time = str(record["time"])
        texts = {name: value for name, value in record.items() if isinstance(value, str)}
        found = {name: texts.get(name, "")[:most] for name, most in _WIDTHS.items()}
    if _NUL in event.body:
        found |= {name: found[name].replace("\0", "") for name in FIELDS}
    return {"seq": event.seq, "time": time, **found}


def _page(connection: Connection, search: Search, before: int | None, limit: int) -> list[Sealed]:
    until = projected_until(connection)
    found = list(islice(tail(connection, search, until, before, limit), limit))
    if len(found) < limit:
        upper = until if before is None else min(until, before - 1)
        found += _indexed(connection, search, upper, limit - len(found))
    return found


def tail(connection: Connection, search: Search, until: int, before: int | None, size: int = _PAGE) -> Iterator[Sealed]:
    """The events after *until* that match, newest first, a page of memory at a time, the first one of this *size*."""
    said = coarse(search)
    names = tuple(said)
    while True:
        asked = {**said, "until": until, "before": before, "most": size}
        rows = [_sealed(row) for row in driver.rows(connection, waiting(names, before is not None), asked)]
        yield from those(search, rows)
        if len(rows) < size:
            return
        before, size = rows[-1].seq, _PAGE


def _indexed(connection: Connection, search: Search, upper: int, limit: int) -> list[Sealed]:
    between = after, upper = narrowed(connection, search, 0, upper)
    shape = Shape.of(search)
    if shape.kinds and not shape.names:
        return _of_kinds(connection, search, between, limit)
    equal = [name for name in SPECIFIC if name in shape.names]
    if len(equal) < 2 or shape.paired:
        return _found(connection, search, "", between, limit)
    lead = _rarest(connection, search, equal, upper, max(_RARE, 4 * limit))
    if lead:
        return _led(connection, search, lead, between, limit)
    floor = max(after, upper - _WINDOW)
    found = _found(connection, search, "", (floor, upper), limit)
    if len(found) == limit or floor == after:
        return found
    lead = next(filter(None, (_rarest(connection, search, equal, floor, most) for most in _FREQUENT)), "")
    return found + _found(connection, search, lead, (after, floor), limit - len(found))


def _rarest(connection: Connection, search: Search, names: Sequence[str], upper: int, most: int) -> str:
    """That one of the filters *names* which fewest events up to *upper* meet; "" if each is met by *most* or more."""
    rarest = ""
    for name in names:
        # Of the next ones no more are counted than would make them rarer.
        count = counted(connection, search, name, 0, upper, most)
        if count < most:
            rarest, most = name, count
        if most <= _LED:
            # As many are read at once whichever leads.
            break
    return rarest


def _of_kinds(connection: Connection, search: Search, between: tuple[int, int], limit: int) -> list[Sealed]:
    """The newest events of the kinds of a noun, one kind after the other: none is walked past for another."""
    after, upper = between
    found: list[Sealed] = []
    for kind in kinds_like(connection, search):
        found += _found(connection, replace(search, kind=kind), "", (after, upper), limit)
        found = sorted(found, key=attrgetter("seq"), reverse=True)[:limit]
        if len(found) == limit:
            after = found[-1].seq
    return found


def _led(connection: Connection, search: Search, lead: str, between: tuple[int, int], limit: int) -> list[Sealed]:
    """As `_found`, of the few events that meet the filter *lead*: read at once, without a look at their entries."""
    after, upper = between
    found: list[Sealed] = []
    shape = Shape((lead,), kinds=False, since=False, until=False, paired=False)
    statement = _meeting(shape, connection.dialect.name == "sqlite")
    while len(found) < limit:
        most = max(limit - len(found), _LED)
        asked = {"value": getattr(search, lead), "after": after, "upper": upper, "most": most}
        rows = sorted(driver.rows(connection, statement, asked), reverse=True)
        found += those(search, [_sealed(row) for row in rows])
        if len(rows) < most:
            break
        upper = rows[-1][0] - 1
    return found[:limit]


def _found(connection: Connection, search: Search, lead: str, between: tuple[int, int], limit: int) -> list[Sealed]:
    """The newest of the projected events that match, with numbers after the one and up to the other."""
    shape = Shape.of(search)
    asked = {**values(search), "after": between[0], "upper": between[1], "most": limit}
    if len(shape.names) == 1 and not shape.kinds:
        asked["value"] = asked[shape.names[0]]
        rows = driver.rows(connection, _meeting(shape, connection.dialect.name == "sqlite"), asked)
    else:
        # Which index is best depends on how many events have these values.
        rows = driver.rows(connection, _shaped(shape, lead), asked, anew=len(shape.names) + shape.kinds > 0)
    # In order here: the database would carry every event through its own sorting.
    return those(search, [_sealed(row) for row in sorted(rows, reverse=True)])


@cache
def _meeting(shape: Shape, sqlite: bool) -> Select[Any]:
    """The newest events whose one field of the *shape* has a value, in no order."""
    return _bodies(of_value(shape.names[0], sqlite=sqlite).where(*shape.times()))


@lru_cache(maxsize=256)
def _shaped(shape: Shape, lead: str) -> Select[Any]:
    """The newest projected events that searches of a shape ask for, in no order."""
    number = event_index.c.seq
    within = (number > bindparam("after"), number <= bindparam("upper"))
    return _bodies(select(number).where(*within, *shape.conditions(lead)).order_by(number.desc()))


def _bodies(numbers: Select[Any]) -> Select[Any]:
    found = numbers.limit(bindparam("most", type_=Integer)).subquery()
    return select(events.c.seq, events.c.body, events.c.hash).join(found, found.c.seq == events.c.seq)


def _chain(connection: Connection, after: int, limit: int = _PAGE, until: int = END) -> list[Sealed]:
    query = select(events.c.seq, events.c.body, events.c.hash).where(events.c.seq > after, events.c.seq <= until)
    return [_sealed(row) for row in connection.execute(query.order_by(events.c.seq).limit(limit))]


def _sealed(row: Sequence[Any] | Row[Any, Any, Any]) -> Sealed:
    return Sealed(row[0], as_text(row[1]), as_hash(row[2]))
