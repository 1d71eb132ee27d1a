"""What an operator should know of the records: whether the trail's end is whole, what lags behind, what is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from sqlalchemy import Column, Connection, func, select

from gateway.audit.chain import BREAK, Head, Sealed, fault, told
from gateway.records import driver
from gateway.records.mark import fault_at, fault_of_end, kept_hash, recorded
from gateway.records.review_tables import event_counts
from gateway.records.schema import event_index, events, intents
from gateway.records.segments import end_of
from gateway.records.tallies import DAY

_BROKEN: Final = "tells that the trail's end was edited before it"
#: How many of the newest events are looked at.
NEWEST = 1000
#: What of PostgreSQL a transaction cannot ask for itself.
_LOSSY = "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name"


@dataclass(frozen=True, slots=True)
class Condition:
    """
    *checked* events, the newest, were read; *fault* says in words what is wrong with the first bad one, or is empty.

    *newest* is when the last one happened, in UTC, None without any. *unprojected* events are not in the search's
    entries yet; *unsettled* acts were begun elsewhere a while ago, the oldest at *oldest* (UNIX seconds). With the
    database server's settings *lossy*, which are off, a crash may take what it said to be on disk.
    """

    checked: int
    fault: str
    newest: datetime | None
    unprojected: int
    unsettled: int
    oldest: int
    lossy: tuple[str, ...] = ()


def condition(
    connection: Connection, key: bytes, mark: Head | None, *, begun_before: int, newest: int = NEWEST
) -> Condition:
    """
    The records' condition; *key* seals the chain's head, acts begun after *begun_before* are not old enough.

    *mark*, read before, is how far the trail is known to have reached.
    """
    last = _highest(connection, events.c.seq)
    found, wrong = _end(connection, key, mark, last, newest)
    old = select(func.count(), func.min(intents.c.begun_at)).where(intents.c.begun_at < begun_before)
    unsettled, oldest = connection.execute(old).one()
    return Condition(
        checked=len(found),
        fault=wrong,
        newest=datetime.fromisoformat(str(found[-1].record()["time"])) if found and not wrong else None,
        unprojected=max(0, last - _highest(connection, event_index.c.seq)),
        unsettled=unsettled,
        oldest=oldest or 0,
        lossy=() if connection.dialect.name == "sqlite" else _lossy(connection),
    )


def _lossy(connection: Connection) -> tuple[str, ...]:
    return tuple(name for (name,) in driver.rows_of(connection, _LOSSY))


def _end(connection: Connection, key: bytes, mark: Head | None, last: int, newest: int) -> tuple[Sequence[Sealed], str]:
    """The newest events up to the chain's head, which was read after *last*, and what is wrong with them."""
    record = recorded(connection)
    if record.fault:
        return (), record.fault
    head = record.head
    # One more than is judged: the event before the first of them, if there is one.
    query = select(events.c.seq, events.c.body, events.c.hash).where(events.c.seq <= head.seq)
    rows = connection.execute(query.order_by(events.c.seq.desc()).limit(newest + 1))
    found = [Sealed(each.seq, each.body, each.hash) for each in rows][::-1]
    # Older ones may have left for segments.
    previous = end_of(connection) if found and found[0].seq > 1 else Head()
    if len(found) > newest:
        previous = Head(found[0].seq, found[0].hash)
        del found[0]
    for event in found:
        wrong = fault(previous, event)
        if wrong:
            return found, wrong
        previous = Head(event.seq, event.hash)
        if event.record().get("kind") == BREAK:
            return found, f"event {event.seq} {_BROKEN}"

    def between(mark: Head, _: Head) -> str:
        return fault_at(mark, kept_hash(partial(driver.rows_of, connection), mark.seq))

    wrong = fault_of_end(head, record.seal, key, mark, between) or _fault_of_head(head, previous, last)
    return found, wrong or _told_before(connection, found[0].seq if found else 0)


def _told_before(connection: Connection, first: int) -> str:
    """What events before the one with the number *first* tell of an end that was edited, in words, or ""."""
    searched = _highest(connection, event_index.c.seq)
    newest = select(func.max(event_index.c.seq)).where(event_index.c.kind == BREAK)
    seq = connection.execute(newest).scalar()
    lagging = select(events.c.seq, events.c.body).where(events.c.seq > searched, events.c.seq < first)
    for row in connection.execute(lagging.where(events.c.body.contains(f'"{BREAK}"'))):
        says = told(row.body)
        seq = row.seq if says is not None and says.kind == BREAK else seq
    if seq is not None:
        return f"event {seq} {_BROKEN}"
    # Searches do not have what was sealed away; that it was counted stays.
    by_day = select(func.max(event_counts.c.begins)).where(event_counts.c.span == DAY, event_counts.c.field == "kind")
    begun = connection.execute(by_day.where(event_counts.c.value == BREAK)).scalar()
    return f"an event of {_day(begun)}, which was sealed away, {_BROKEN}" if begun is not None else ""


def _day(begins: object) -> str:
    """The day of a counter, whatever somebody wrote in place of when it begins."""
    try:
        return f"{datetime.fromtimestamp(int(str(begins)), UTC):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        return "a day that is none"


def _fault_of_head(head: Head, found: Head, last: int) -> str:
    if last > head.seq:
        return f"event {head.seq + 1} was added after the chain's head"
    if found.seq < head.seq:
        return f"events {found.seq + 1} to {head.seq} were cut off the end"
    return "" if found.hash == head.hash else f"event {head.seq} is not the one sealed last"


def _highest(connection: Connection, column: Column[int]) -> int:
    return int(connection.execute(select(func.max(column))).scalar() or 0)
