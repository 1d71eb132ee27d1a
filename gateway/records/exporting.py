"""Exporting the trail: every event that matches, the oldest first, from wherever it is, a page of memory at a time.

What leaves is what was sealed: rows pass as the driver gives them, looked into only where a search asks what they say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, func, literal, select

from gateway.audit.chain import as_hash, as_text
from gateway.audit.trail import Search
from gateway.errors import Unavailable
from gateway.records import driver, segments
from gateway.records.database import Database
from gateway.records.matching import index_conditions, matches, narrowed, projected_until
from gateway.records.schema import event_index, events
from gateway.records.sealed_months import outside, sound
from gateway.records.segments import Segment

_PAGE: Final = 1000
_CHAIN: Final = "SELECT seq, body, hash FROM events WHERE seq > {after} AND seq <= {last} ORDER BY seq LIMIT {limit}"

#: An event as it is stored: its number, canonical form and hash.
Row = tuple[int, str, bytes]


@dataclass(frozen=True, slots=True)
class _Page:
    """The events that match among those after some number, and the number up to which that is all."""

    matching: Sequence[Row]
    end: int


def pages(database: Database, search: Search, after: int = 0) -> Iterator[Sequence[Row] | Segment]:
    """The events after a number that match, many at a time, and what of the period was purged, in their order."""
    read = database.read_now
    last = max(read(_last), read(segments.sealed_until))
    spans = read(lambda connection: segments.spans(connection, segments.every(connection)))
    while after < last:
        segment = read(partial(segments.containing, seq=after + 1))
        if segment is not None:
            if segment.stub and not outside(segment, spans, [search]):
                yield segment
            elif not segment.stub and not outside(segment, spans, [search]):
                yield from _matching(_unpacked(database, segment, after), search)
            after = segment.last_seq
            continue
        page = read(partial(_following, search=search, after=after, last=last))
        # What left for a segment meanwhile is read there.
        if read(segments.sealed_until) <= after:
            yield page.matching
            after = page.end
        elif read(partial(segments.containing, seq=after + 1)) is None:
            told = f"The record of sealed months is damaged: event {after + 1} is in none, though later ones are."
            raise Unavailable(f"{told} Run: gateway audit verify")


def _unpacked(database: Database, segment: Segment, after: int) -> Iterator[Row]:
    with sound(segment):
        for event in segments.events_of(database.data, segment, after):
            yield event.seq, event.body, event.hash


def _matching(found: Iterable[Row], search: Search) -> Iterator[Sequence[Row]]:
    remaining = iter(found)
    while page := list(islice(remaining, _PAGE)):
        yield _those(page, search)


def _those(rows: Sequence[Row], search: Search) -> Sequence[Row]:
    return rows if search == Search() else [row for row in rows if matches(search, row[1])]


def _following(connection: Connection, search: Search, after: int, last: int) -> _Page:
    until = projected_until(connection) if search != Search() else 0
    rows: Sequence[Row]
    if after < until:
        lower, upper = narrowed(connection, search, after, until)
        conditions = [event_index.c.seq > lower, event_index.c.seq <= upper, *index_conditions(search)]
        numbers = select(event_index.c.seq).where(*conditions).order_by(event_index.c.seq).limit(_PAGE).subquery()
        query = select(events.c.seq, events.c.body, events.c.hash).join(numbers, numbers.c.seq == events.c.seq)
        rows = _kept(driver.rows_once(connection, query.order_by(events.c.seq)))
        end = rows[-1][0] if len(rows) == _PAGE else until
        rows = [row for row in rows if row[0] <= last]
    else:
        rows = _kept(driver.rows_of(connection, _CHAIN.format(after=int(after), last=int(last), limit=_PAGE)))
        end = rows[-1][0] if rows else last
    return _Page(_those(rows, search), end)


def _kept(rows: Sequence[Any]) -> list[Row]:
    return [(seq, as_text(body), as_hash(hashed)) for seq, body, hashed in rows]


def _last(connection: Connection) -> int:
    return int(connection.execute(select(func.coalesce(func.max(events.c.seq), literal(0)))).scalar_one())
