"""Recounting: whether the counters of each day are what its events add up to, and what they are set to if not.

A day is counted by its search entries, which verifying compares with the events; counters and entries are read at one
moment. Days whose events were sealed away are not recounted: what purges took cannot be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select

from gateway.audit.chain import UNTIMED, is_time, told
from gateway.audit.event import time_text
from gateway.change import Change, Notes
from gateway.errors import Conflict
from gateway.flaws import Flaw, FlawKind, Mend, Progress
from gateway.records import driver, sealed_months
from gateway.records.database import Database
from gateway.records.review_tables import event_counts
from gateway.records.schema import event_index, events
from gateway.records.tallies import COUNTED, DAY, HOUR, OUTCOMES

_SPANS: Final = ((HOUR, ""), (DAY, ""), *((DAY, field) for field in COUNTED))
_COLUMNS: Final = ("outcome", *COUNTED)
#: Around the end of what is sealed events may be out of the order of their times.
_MARGIN: Final = timedelta(days=2)
_ROWS: Final = 500
#: The first second after the calendar, and what is later than all times in it.
_END: Final = 253_402_300_800
_AFTER_ALL: Final = "9999-12-31T24:00:00.000000Z"
#: What is counted.
_timed: Final = event_index.c.time > UNTIMED

#: Allowed, denied and failed, by span, field, beginning and value.
_Counts = dict[tuple[int, str, int, str], list[int]]


def counter_flaws(database: Database, tell: Callable[[Progress], None]) -> Iterator[Flaw]:
    """The days whose counters are not what their events add up to; blocks."""
    days = database.read_now(_days)
    for number, day in enumerate(days, start=1):
        wrong = database.read_now(partial(_differing, day=day))
        if wrong:
            text = f"Of the counters of {_date(day)}, {wrong} are not what its events add up to."
            yield Flaw(FlawKind.COUNTERS, _date(day), text, mend=partial(_mend, database, day))
        tell(Progress("days", number, len(days)))


def recount(day: int) -> Change:
    """
    Sets the counters of the day that begins at that UNIX second to what its events add up to.

    On commit raises `Conflict` if a search entry of that day is not what its event says: then the trail is damaged.
    Of a day with very many events it takes some seconds, in which nothing else is committed.
    """

    def apply(connection: Connection) -> Notes:
        if not _agree(connection, day):
            raise Conflict("The audit trail is damaged; verify and restore it before its events are counted anew.")
        counts = _counted(connection, day)
        for span, field in _SPANS:
            connection.execute(delete(event_counts).where(*_mine(span, field, day)))
        rows = [
            {"span": span, "field": field, "begins": begins, "value": value}
            | dict(zip(OUTCOMES, outcomes, strict=True))
            for (span, field, begins, value), outcomes in counts.items()
        ]
        for start in range(0, len(rows), _ROWS):
            connection.execute(insert(event_counts), rows[start : start + _ROWS])
        return Notes()

    return Change(apply)


def _mend(database: Database, day: int) -> Mend | None:
    if not database.read_now(partial(_agree, day=day)):
        return None
    return Mend("counted anew", recount(day))


def _date(day: int) -> str:
    return datetime.fromtimestamp(day, UTC).date().isoformat()


def _days(connection: Connection) -> Sequence[int]:
    """The beginnings of the days that have events or counters and that no segment reaches."""
    sealed = sealed_months.sealed_before(connection)
    first = int((sealed + _MARGIN).timestamp()) // DAY * DAY if sealed is not None else 0
    begins = select(event_counts.c.begins).where(event_counts.c.begins.between(first, _END - 1)).distinct()
    found = {each // DAY * DAY for each in connection.execute(begins).scalars()}
    after = first
    while True:
        later = select(func.min(event_index.c.time)).where(event_index.c.time >= _text(after), _timed)
        time = connection.execute(later).scalar()
        if time is None or not is_time(time):
            return sorted(found)
        day = int(datetime.fromisoformat(time).timestamp()) // DAY * DAY
        found.add(day)
        after = day + DAY


def _differing(connection: Connection, day: int) -> int:
    """How many of the day's counters are wrong, missing or too many."""
    with driver.one_moment(connection):
        counts, kept = _counted(connection, day), _kept(connection, day)
    return sum(counts.get(key) != kept.get(key) for key in counts.keys() | kept.keys())


def _counted(connection: Connection, day: int) -> _Counts:
    """What the day's events add up to, an hour of them in memory."""
    found: _Counts = {}
    for hour in range(day, day + DAY, HOUR):
        columns = [event_index.c[name] for name in _COLUMNS]
        rows = driver.rows_once(connection, select(*columns).where(*_within(hour)))
        if not rows:
            continue
        outcomes, *fields = zip(*rows, strict=True)
        for outcome, count in Counter(outcomes).items():
            _add(found, (HOUR, "", hour, ""), outcome, count)
            _add(found, (DAY, "", day, ""), outcome, count)
        for field, values in zip(COUNTED, fields, strict=True):
            for (outcome, value), count in Counter(zip(outcomes, values, strict=True)).items():
                if value:
                    _add(found, (DAY, field, day, value), outcome, count)
    return found


def _add(found: _Counts, key: tuple[int, str, int, str], outcome: str, count: int) -> None:
    place = OUTCOMES.get(outcome)
    if place is not None:
        found.setdefault(key, [0, 0, 0])[place] += count


def _kept(connection: Connection, day: int) -> _Counts:
    found: _Counts = {}
    for span, field in _SPANS:
        rows = driver.rows_once(connection, select(event_counts).where(*_mine(span, field, day)))
        found |= {(row[0], row[1], row[2], row[3]): list(row[4:]) for row in rows}
    return found


def _agree(connection: Connection, day: int) -> bool:
    """Whether the day's search entries are what its events say."""
    for hour in range(day, day + DAY, HOUR):
        wanted = select(events.c.body, event_index.c.time, *(event_index.c[name] for name in _COLUMNS))
        joined = wanted.join(events, events.c.seq == event_index.c.seq).where(*_within(hour))
        for body, *entry in driver.rows_once(connection, joined):
            says = told(body)
            if says is None or entry != [getattr(says, name) for name in ("time", *_COLUMNS)]:
                return False
    return True


def _within(hour: int) -> tuple[Any, ...]:
    return event_index.c.time >= _text(hour), event_index.c.time < _text(hour + HOUR), _timed


def _mine(span: int, field: str, day: int) -> tuple[Any, ...]:
    mine = event_counts.c.begins.between(day, day + DAY - 1)
    return event_counts.c.span == span, event_counts.c.field == field, mine


def _text(moment: int) -> str:
    return time_text(datetime.fromtimestamp(moment, UTC)) if moment < _END else _AFTER_ALL
