"""The overview of a search, in bounded time: every event that matches while they are few, counters or the newest else.

Few events are counted one by one, to the second. Of many, the counters know how many there were by day, for one filter
at most; where more filters meet, the newest are counted, and the answer says how far back they reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from heapq import nsmallest
from itertools import islice
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    Connection,
    Double,
    Integer,
    Label,
    Select,
    bindparam,
    cast,
    func,
    literal,
    or_,
    select,
)

from gateway.audit.chain import Sealed, told
from gateway.audit.event import Kind, Outcome, time_text
from gateway.audit.overview import Facets, Overview, Share, Timeline, filled, width_for
from gateway.audit.trail import Search
from gateway.records import driver
from gateway.records.evidence_tables import segments
from gateway.records.matching import counted, narrowed, of_value, projected_until, spanned
from gateway.records.review_tables import event_counts
from gateway.records.schema import event_index
from gateway.records.tallies import COUNTED, DAY, HOUR
from gateway.records.trail import tail

#: Events looked at one by one; the newest of those that no counter knows yet, and counters added up for one facet.
_LOOKED: Final = 1000
_UNPROJECTED: Final = 1000
_ADDED: Final = 3000
#: Days looked up one by one for a value; of longer periods all days are read.
_DAYS: Final = 1000
_FACETS: Final = ("principal", "address", "repository")
_EQUAL: Final = ("kind", "outcome", "principal", "project", "repository", "digest", "address")
_OUTCOMES: Final = tuple(outcome.value for outcome in Outcome)
_NUMBERS: Final = {outcome: number for number, outcome in enumerate(_OUTCOMES)}
_BEGUN: Final = select(func.min(event_counts.c.begins)).where(
    event_counts.c.span == bindparam("span"), event_counts.c.field == bindparam("field")
)
_SEALED: Final = select(func.max(segments.c.last_time))
#: What is read of each event: first what is counted, then what else it is found by.
_COLUMNS: Final = ("time", "outcome", *_FACETS, "kind", "project", "digest")


class _Seen(NamedTuple):
    """An event as far as an overview counts it: thousands of them are made for one."""

    at: datetime
    outcome: int
    values: tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Sample:
    """The newest events that match, and whether these are all; they reach back to *since*."""

    events: Sequence[_Seen]
    whole: bool
    since: datetime


def overview(connection: Connection, search: Search, now: datetime, *, top: int = 10) -> Overview:
    """How many events match when, and the *top* values of each facet."""
    # Nothing happened later than now: a chart of the years to come would have no room for what did.
    until = now if search.until is None else min(search.until, max(now, search.since or now))
    until_seq = projected_until(connection)
    newest = [_seen(event) for event in islice(tail(connection, search, until_seq, None), _UNPROJECTED)]
    if len(newest) == _UNPROJECTED:
        # Of what happened between these and what the counters know, nothing is told: it reaches no further back.
        sample = _Sample(newest, whole=False, since=newest[-1].at)
        return Overview(_timeline_of(sample, until), _facets_of(sample, until, top))
    counters = _Counters.of(search)
    known = counters is not None and not counters.field
    sample = _sampled(connection, search, until_seq, newest, only_whole=known)
    if sample.whole:
        return Overview(_timeline_of(sample, until), _facets_of(sample, until, top))
    if counters is None:
        return Overview(_timeline_of(sample, until), _facets_of(sample, until, top))
    timeline = _timeline_by(connection, counters, search, until, newest)
    if counters.field:
        return Overview(timeline, _facets_of(sample, until, top))
    return Overview(timeline, _facets_by(connection, search, timeline, newest, top))


# one by one


def _sampled(
    connection: Connection, search: Search, until_seq: int, newest: list[_Seen], *, only_whole: bool
) -> _Sample:
    """The sample; an empty one, which is not whole, if it would be a part and *only_whole* ones are of use."""
    names = [name for name in _EQUAL if getattr(search, name) and not getattr(search, name).endswith(".*")]
    if only_whole and not names and spanned(connection, search, until_seq) > _LOOKED:
        return _Sample((), whole=False, since=datetime.now(UTC))
    after, upper = narrowed(connection, search, 0, until_seq)
    counts = {name: counted(connection, search, name, after, upper, _LOOKED + 1) for name in names}
    lead = min(names, key=lambda name: counts[name], default="")
    if only_whole and (counts[lead] if lead else upper - after) > _LOOKED:
        return _Sample((), whole=False, since=datetime.now(UTC))
    asked = {"after": after, "upper": upper, "most": _LOOKED + 1, **({"value": getattr(search, lead)} if lead else {})}
    rows = driver.rows(connection, _looked_at(lead, connection.dialect.name == "sqlite"), asked)
    sealed = _sealed_since(connection, search)
    whole = len(rows) <= _LOOKED and sealed is None
    found = newest + _matching(search, rows[:_LOOKED], lead)
    reached = _time(rows[min(len(rows), _LOOKED) - 1][0]) if rows else None
    if whole:
        # Nothing happened before the first event there is.
        since = search.since or min((event.at for event in found), default=search.until or datetime.now(UTC))
    else:
        since = (sealed if len(rows) <= _LOOKED else None) or reached or datetime.now(UTC)
    return _Sample(found, whole, since)


@cache
def _looked_at(lead: str, sqlite: bool) -> Select[Any]:
    """The newest of the events in between, or of those of one value of the field *lead*."""
    columns = [event_index.c[name] for name in _COLUMNS]
    most = bindparam("most", type_=Integer)
    if lead:
        return of_value(lead, sqlite=sqlite).with_only_columns(*columns).limit(most)
    number = event_index.c.seq
    between = (number > bindparam("after"), number <= bindparam("upper"))
    return select(*columns).where(*between).order_by(number.desc()).limit(most)


def _sealed_since(connection: Connection, search: Search) -> datetime | None:
    """The end of what was sealed away, if the wanted time reaches into it: of that, counters alone know."""
    last = driver.rows(connection, _SEALED, {})[0][0]
    until = _time(last) if last else None
    if until is None or (search.since is not None and search.since > until):
        return None
    return until


def _matching(search: Search, rows: Sequence[Any], lead: str) -> list[_Seen]:
    """Those of *rows*, which all meet the filter *lead*, that meet the others as well."""
    equal = [(_COLUMNS.index(name), getattr(search, name)) for name in _EQUAL if getattr(search, name)]
    equal = [(place, wanted) for place, wanted in equal if _COLUMNS[place] != lead]
    kinds = [(place, wanted[:-1]) for place, wanted in equal if _COLUMNS[place] == "kind" and wanted.endswith(".*")]
    equal = [each for each in equal if not (_COLUMNS[each[0]] == "kind" and each[1].endswith(".*"))]
    since = time_text(search.since) if search.since is not None else ""
    until = time_text(search.until) if search.until is not None else "~"
    if equal or kinds or search.since is not None or search.until is not None:
        rows = [
            row
            for row in rows
            if since <= row[0] < until
            and all(row[place] == wanted for place, wanted in equal)
            and all(row[place].startswith(stem) for place, stem in kinds)
        ]
    return [_Seen(_time(row[0]), _NUMBERS[row[1]], row[2:5]) for row in rows]


def _seen(event: Sealed) -> _Seen:
    says = told(event.body)
    if says is None:
        raise ValueError(f"event {event.seq} is damaged")
    return _Seen(_time(says.time), _NUMBERS[says.outcome], (says.principal, says.address, says.repository))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _timeline_of(sample: _Sample, until: datetime) -> Timeline:
    width = width_for((until - sample.since).total_seconds())
    counts: dict[int, list[int]] = {}
    _add(counts, sample.events, width)
    return Timeline(filled(dict(counts), width, sample.since, until), width, sample.whole, sample.since, until)


def _facets_of(sample: _Sample, until: datetime, top: int) -> Facets:
    principals, addresses, repositories = (_shares({}, sample.events, number, top) for number in range(len(_FACETS)))
    return Facets(principals, addresses, repositories, len(sample.events), sample.whole, sample.since, until)


def _add(counts: dict[int, list[int]], events: Iterable[_Seen], width: int) -> None:
    for at, outcome, _ in events:
        counts.setdefault(int(at.timestamp()) // width * width, [0, 0, 0])[outcome] += 1


def _shares(counts: dict[str, list[int]], events: Iterable[_Seen], facet: int, top: int) -> tuple[Share, ...]:
    for _, outcome, values in events:
        value = values[facet]
        if value:
            counts.setdefault(value, [0, 0, 0])[outcome] += 1
    most = nsmallest(top, counts.items(), key=lambda item: (-sum(item[1]), item[0]))
    return tuple(Share(value, *outcomes) for value, outcomes in most)


# by counters


@dataclass(frozen=True, slots=True)
class _Counters:
    """Which counters answer a search: those of *values* of *field*, or ("") of all events."""

    field: str
    values: tuple[str, ...]

    @classmethod
    def of(cls, search: Search) -> _Counters | None:
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


def _timeline_by(
    connection: Connection, counters: _Counters, search: Search, until: datetime, newest: list[_Seen]
) -> Timeline:
    least = DAY if counters.field else HOUR
    since = search.since or _begun(connection, least, counters.field) or until - timedelta(seconds=least)
    width = width_for((until - since).total_seconds(), least)
    span = HOUR if width % DAY else DAY
    first, last = int(since.timestamp()) // span * span, int(until.timestamp())
    days = range(first, last, span)
    counts: dict[int, list[int]] = {}
    # With a value, a day is looked up; all values of all days would be many more.
    looked_up = bool(counters.field) and len(days) <= _DAYS
    asked = {"span": span, "field": counters.field, "first": first, "last": last}
    asked |= {
        "values": driver.listed(connection, counters.values),
        "days": driver.listed(connection, days if looked_up else ()),
    }
    wanted = _by_day(search.outcome, looked_up)
    for begins, *outcomes in driver.rows(connection, wanted, asked, anew=True):
        bucket = counts.setdefault(begins // width * width, [0, 0, 0])
        bucket[:] = [had + int(more) for had, more in zip(bucket, outcomes, strict=True)]
    _add(counts, newest, width)
    covered = datetime.fromtimestamp(first, UTC)
    return Timeline(filled(dict(counts), width, covered, until), width, True, covered, until)


@cache
def _by_day(outcome: str, looked_up: bool) -> Select[Any]:
    """What the counters of `values` say by day: of each of the `days`, or of all from `first` to `last`."""
    begins = event_counts.c.begins
    when = (begins >= bindparam("first")) & (begins < bindparam("last"))
    mine = [event_counts.c.span == bindparam("span"), event_counts.c.field == bindparam("field")]
    mine += [driver.among(begins, "days") if looked_up else when]
    mine += [driver.among(event_counts.c.value, "values")]
    return select(begins, *_summed(outcome)).where(*mine).group_by(begins)


def _facets_by(connection: Connection, search: Search, timeline: Timeline, newest: list[_Seen], top: int) -> Facets:
    first, last = int(timeline.since.timestamp()) // DAY * DAY, int(timeline.until.timestamp())
    reached, whole, shares = first, True, []
    for number, field in enumerate(_FACETS):
        period = {"field": field, "first": first, "last": last, "added": _ADDED, "others": _ADDED - 1}
        counts = _most(connection, search.outcome, period, top, {event.values[number] for event in newest})
        last_ones = driver.rows(connection, _last_ones(), period, anew=True)
        if last_ones:
            reached, whole = max(reached, last_ones[0][0]), whole and len(last_ones) == 1
        shares.append(_shares(counts, newest, number, top))
    counted = sum(bucket.total for bucket in timeline.buckets)
    since, until = datetime.fromtimestamp(reached, UTC), timeline.until
    return Facets(shares[0], shares[1], shares[2], counted, whole, since, until)


def _most(
    connection: Connection, outcome: str, period: Mapping[str, Any], top: int, also: set[str]
) -> dict[str, list[int]]:
    """What the counters of a field say of the *top* values, and of those that newer events have *also*."""
    asked = {**period, "also": driver.listed(connection, also), "most": top + len(also)}
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


def _begun(connection: Connection, span: int, field: str) -> datetime | None:
    first = driver.rows(connection, _BEGUN, {"span": span, "field": field}, anew=True)[0][0]
    return datetime.fromtimestamp(first, UTC) if first is not None else None


def _summed(outcome: str, columns: Any = event_counts.c) -> list[Label[Any]]:
    """The sums of the outcomes that are wanted ("": all); nothing of the others."""
    wanted = [name for name in _OUTCOMES if outcome in ("", name)]
    # Exact as well, up to 2**53: what PostgreSQL adds up of such columns itself is numbers of any length, and slow.
    sums = {name: func.sum(cast(columns[name], Double)) for name in wanted}
    return [sums.get(name, func.min(0)).label(name) for name in _OUTCOMES]
