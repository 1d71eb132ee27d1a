"""Counters of what was projected, as overviews read them: which answer a search, of which period, and what they say."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Double, Integer, Label, Select, bindparam, cast, func, literal, or_, select

from gateway.audit.event import Kind, Outcome
from gateway.audit.trail import Search
from gateway.records import driver
from gateway.records.review_tables import event_counts
from gateway.records.tallies import COUNTED, DAY

#: Days looked up one by one for a value; of longer periods all days are read.
_DAYS: Final = 1000
_OUTCOMES: Final = tuple(outcome.value for outcome in Outcome)
_BEGUN: Final = select(func.min(event_counts.c.begins)).where(
    event_counts.c.span == bindparam("span"), event_counts.c.field == bindparam("field")
)


@dataclass(frozen=True, slots=True)
class Counters:
    """Which counters answer a search: those of *values* of *field*, or ("") of all events."""

    field: str
    values: tuple[str, ...]

    @classmethod
    def of(cls, search: Search) -> Counters | None:
        """The counters that know the answer; None if none do."""
        named = [name for name in COUNTED if getattr(search, name)]
        if search.digest or len(named) > 1:
            return None
        if not named:
            return cls("", ("",))
        wanted = getattr(search, named[0])
        if named[0] == "kind" and wanted.endswith(".*"):
            return cls("kind", tuple(kind.value for kind in Kind if kind.value.startswith(wanted[:-1])))
        return cls(named[0], (wanted,))


@dataclass(frozen=True, slots=True)
class Period:
    """What counters of so long a *span* tell of: up to *until*, those that begin at *first* and before *last*."""

    span: int
    first: int
    last: int
    until: datetime

    @classmethod
    def around(
        cls, since: datetime, until: datetime, span: int, *, now: datetime, horizon: datetime | None = None
    ) -> Period:
        """
        It holds what is from *since* to *until*, whole, and no future.

        But no counter that begins before the *horizon* is of it, for that tells of what is beyond as well: where there
        is one, the period begins after *since*.
        """
        first = floor(since, span)
        if horizon is not None and first < horizon.timestamp():
            first += span
        return cls(span, first, _ceiling(until, span), widened(until, span, now))

    @property
    def since(self) -> datetime:
        return datetime.fromtimestamp(self.first, UTC)

    def holds(self, moment: datetime) -> bool:
        return self.first <= moment.timestamp() < self.last


def floor(moment: datetime, span: int) -> int:
    """The UNIX second at which the counter of *moment* begins."""
    return int(moment.timestamp() // span) * span


def widened(until: datetime, span: int, now: datetime) -> datetime:
    """The end of the *span* that *until* cuts, but *now* if that goes on."""
    return until if until >= now else min(datetime.fromtimestamp(_ceiling(until, span), UTC), now)


def _ceiling(moment: datetime, span: int) -> int:
    return math.ceil(moment.timestamp() / span) * span


def begun(connection: Connection, span: int, field: str) -> datetime | None:
    """When the first counter of a *field* begins."""
    first = driver.rows(connection, _BEGUN, {"span": span, "field": field}, anew=True)[0][0]
    return datetime.fromtimestamp(first, UTC) if first is not None else None


def counted_in(connection: Connection, counters: Counters, outcome: str, period: Period) -> Sequence[Any]:
    """What the *counters* say, each span of the *period* by itself: its beginning, and the three outcomes."""
    days = range(period.first, period.last, period.span)
    # With a value, a day is looked up; all values of all days would be many more.
    looked_up = bool(counters.field) and len(days) <= _DAYS
    asked = {"span": period.span, "field": counters.field, "first": period.first, "last": period.last}
    asked |= {
        "values": driver.listed(connection, counters.values),
        "days": driver.listed(connection, days if looked_up else ()),
    }
    return driver.rows(connection, _by_day(outcome, looked_up), asked, anew=True)


@cache
def _by_day(outcome: str, looked_up: bool) -> Select[Any]:
    """What the counters of `values` say by day: of each of the `days`, or of all from `first` to `last`."""
    begins = event_counts.c.begins
    when = (begins >= bindparam("first")) & (begins < bindparam("last"))
    mine = [event_counts.c.span == bindparam("span"), event_counts.c.field == bindparam("field")]
    mine += [driver.among(begins, "days") if looked_up else when]
    mine += [driver.among(event_counts.c.value, "values")]
    return select(begins, *_summed(outcome)).where(*mine).group_by(begins)


def left_off(connection: Connection, field: str, period: Period, added: int) -> int | None:
    """When the last one of so many counters of a *field* that are *added* up begins; None if that is all there are."""
    asked = {"field": field, "first": period.first, "last": period.last, "others": added - 1}
    rows = driver.rows(connection, _last_ones(), asked, anew=True)
    return rows[0][0] if len(rows) > 1 else None


def most_met(
    connection: Connection, field: str, outcome: str, period: Period, added: int, top: int, also: Collection[str]
) -> dict[str, list[int]]:
    """
    What the counters of a *field* say of the *top* values, and of those that newer events have *also*.

    Of the *period* so many are *added* up, the newest ones.
    """
    asked = {"field": field, "first": period.first, "last": period.last, "added": added}
    asked |= {"also": driver.listed(connection, also), "most": top + len(also)}
    rows = driver.rows(connection, _ranking(outcome), asked, anew=True)
    return {value: [int(count) for count in counts] for value, *counts in rows}


@cache
def _ranking(outcome: str) -> Select[Any]:
    """The values that the newest counters of a field have most of, after so many that are asked for by name."""
    counters = _newest("value", *_OUTCOMES).limit(bindparam("added", type_=Integer)).subquery()
    sums = _summed(outcome, counters.c)
    total = sum((each.element for each in sums), literal(0.0))
    mine = driver.among(counters.c.value, "also")
    # What was met of late is few; it is told first, so that one reading of the counters answers both.
    each = select(counters.c.value, *sums).group_by(counters.c.value).having(or_(total > 0, mine))
    return each.order_by(mine.desc(), total.desc(), counters.c.value).limit(bindparam("most", type_=Integer))


@cache
def _last_ones() -> Select[Any]:
    """When the last of the counters of a field that are added up begins, and the next one that is not: if there are."""
    return _newest("begins").offset(bindparam("others", type_=Integer)).limit(2)


def _newest(*columns: str) -> Select[Any]:
    """The counters of the days of a field and period, from the newest on."""
    mine = (event_counts.c.span == DAY) & (event_counts.c.field == bindparam("field"))
    mine &= (event_counts.c.begins >= bindparam("first")) & (event_counts.c.begins < bindparam("last"))
    # As the table is kept, backwards: nothing is sorted, and both databases leave off at the same counter.
    order = (event_counts.c.begins.desc(), event_counts.c.value.desc())
    return select(*(event_counts.c[name] for name in columns)).where(mine).order_by(*order)


def _summed(outcome: str, columns: Any = event_counts.c) -> list[Label[Any]]:
    """The sums of the outcomes that are wanted ("": all); nothing of the others."""
    wanted = [name for name in _OUTCOMES if outcome in ("", name)]
    # Exact as well, up to 2**53: what PostgreSQL adds up of such columns itself is numbers of any length, and slow.
    sums = {name: func.sum(cast(columns[name], Double)) for name in wanted}
    return [sums.get(name, func.min(0)).label(name) for name in _OUTCOMES]
