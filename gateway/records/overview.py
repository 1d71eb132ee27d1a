"""The overview of a search, in bounded time: every event that matches while they are few, counters or the newest else.

Few events are counted one by one, to the second. Of many, the counters know how many there were by hour or day, for one
filter at most; the answer says of which whole hours or days it is. Where more filters meet, the newest are counted, and
the answer says how far back they reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from heapq import nsmallest
from itertools import islice
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Integer, Select, bindparam, select

from gateway.audit.chain import UNTIMED, Told, is_time, told
from gateway.audit.event import Outcome, time_text
from gateway.audit.overview import Facets, Overview, Share, Timeline, filled, width_for
from gateway.audit.trail import Search
from gateway.records import driver, sealed_months
from gateway.records.counters import Counters, Period, begun, counted_in, floor, left_off, most_met, widened
from gateway.records.matching import counted, narrowed, of_value, projected_until, spanned
from gateway.records.schema import event_index
from gateway.records.tallies import DAY, HOUR
from gateway.records.trail import tail

#: Events looked at one by one; the newest of those that no counter knows yet, and counters added up for one facet.
_LOOKED: Final = 1000
_UNPROJECTED: Final = 1000
_ADDED: Final = 3000
_FACETS: Final = ("principal", "address", "repository")
_EQUAL: Final = ("kind", "outcome", "principal", "project", "repository", "digest", "address")
_OUTCOMES: Final = tuple(outcome.value for outcome in Outcome)
_NUMBERS: Final = {outcome: number for number, outcome in enumerate(_OUTCOMES)}
_FAILED: Final = _NUMBERS[Outcome.FAILED]
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


@dataclass(frozen=True, slots=True)
class _Look:
    """What is asked for, up to *until*; *waiting* is not projected yet, and of all days that may be counted."""

    search: Search
    until: datetime
    now: datetime
    horizon: datetime | None
    until_seq: int
    waiting: Sequence[_Seen]

    def period(self, since: datetime, span: int) -> Period:
        return Period.around(since, self.until, span, now=self.now, horizon=self.horizon)

    def waiting_in(self, period: Period) -> list[_Seen]:
        return [event for event in self.waiting if period.holds(event.at)]


def overview(
    connection: Connection, search: Search, now: datetime, *, top: int = 10, horizon: datetime | None = None
) -> Overview:
    """
    How many events match when, and the *top* values of each facet.

    Of what happened before the *horizon*, which the *search* does not reach beyond, nothing is counted.
    """
    # What is projected meanwhile would be counted twice: where it waits, and by the counters.
    with driver.one_moment(connection):
        return _overview(connection, search, now, top, horizon)


def _overview(connection: Connection, search: Search, now: datetime, top: int, horizon: datetime | None) -> Overview:
    # Nothing happened later than now: a chart of the years to come would have no room for what did.
    until = now if search.until is None else min(search.until, max(now, search.since or now))
    until_seq = projected_until(connection)
    around = _around(search, now, horizon)
    waiting = _waiting(connection, around, until_seq)
    newest = [event for event in waiting if _within(event, search)]
    behind = len(waiting) == _UNPROJECTED
    if behind:
        newest = waiting if around == search else _waiting(connection, search, until_seq)
    if len(newest) == _UNPROJECTED:
        # Of what happened between these and what the counters know, nothing is told: it reaches no further back.
        return _overview_of(_Sample(newest, whole=False, since=newest[-1].at), until, top)
    counters = None if behind else Counters.of(search)
    known = counters is not None and not counters.field and horizon is None
    sample = _sampled(connection, search, until_seq, newest, only_whole=known)
    if sample.whole or counters is None:
        return _overview_of(sample, until, top)
    look = _Look(search, until, now, horizon, until_seq, waiting)
    timeline = _timeline_by(connection, counters, look)
    if known:
        return Overview(timeline, _facets_by(connection, look, search.since or timeline.since, top))
    if not timeline.whole and sample.since <= timeline.since:
        return _overview_of(sample, until, top)
    return Overview(timeline, _facets_of(sample, until, top))


def _waiting(connection: Connection, search: Search, until_seq: int) -> list[_Seen]:
    """The newest of the events that match and are not projected yet."""
    # Of an edited row that is no event any more there is nothing to count.
    says = (told(event.body) for event in tail(connection, search, until_seq, None))
    return list(islice((_seen(each) for each in says if each is not None and _counts(each.time)), _UNPROJECTED))


def _around(search: Search, now: datetime, horizon: datetime | None) -> Search:
    """*search*, of all days that counters may answer with."""
    since, until = search.since, search.until
    if since is not None:
        midnight = datetime.fromtimestamp(floor(since, DAY), UTC)
        since = midnight if horizon is None else min(since, max(midnight, horizon))
    return replace(search, since=since, until=until and widened(until, DAY, now))


def _within(event: _Seen, search: Search) -> bool:
    since, until = search.since, search.until
    return (since is None or event.at >= since) and (until is None or event.at < until)


def _overview_of(sample: _Sample, until: datetime, top: int) -> Overview:
    return Overview(_timeline_of(sample, until), _facets_of(sample, until, top))


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
    reached = next((_time(row[0]) for row in reversed(rows[:_LOOKED]) if _counts(row[0])), None)
    if whole:
        # Nothing happened before the first event there is.
        since = search.since or min((event.at for event in found), default=search.until or datetime.now(UTC))
    else:
        since = (sealed if len(rows) <= _LOOKED else None) or reached or datetime.now(UTC)
        since = max(since, search.since or since)
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
    until = sealed_months.sealed_before(connection)
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
    return [_Seen(_time(row[0]), _NUMBERS.get(row[1], _FAILED), row[2:5]) for row in rows if _counts(row[0])]


def _seen(says: Told) -> _Seen:
    outcome = _NUMBERS.get(says.outcome, _FAILED)
    return _Seen(_time(says.time), outcome, (says.principal, says.address, says.repository))


def _counts(time: object) -> bool:
    """Whether what has this time is counted: no row is that was edited until it has none."""
    return is_time(time) and time != UNTIMED


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _timeline_of(sample: _Sample, until: datetime) -> Timeline:
    since = min(sample.since, until)
    width = width_for((until - since).total_seconds())
    counts: dict[int, list[int]] = {}
    _add(counts, sample.events, width)
    return Timeline(filled(dict(counts), width, since, until), width, sample.whole, since, until)


def _facets_of(sample: _Sample, until: datetime, top: int) -> Facets:
    principals, addresses, repositories = (_shares({}, sample.events, number, top) for number in range(len(_FACETS)))
    since = min(sample.since, until)
    return Facets(principals, addresses, repositories, len(sample.events), sample.whole, since, until)


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


def _timeline_by(connection: Connection, counters: Counters, look: _Look) -> Timeline:
    least = DAY if counters.field else HOUR
    until = look.until
    since = look.search.since or begun(connection, least, counters.field) or until - timedelta(seconds=least)
    width = width_for((until - since).total_seconds(), least)
    period = look.period(since, HOUR if width % DAY else DAY)
    counts: dict[int, list[int]] = {}
    for begins, *outcomes in counted_in(connection, counters, look.search.outcome, period):
        bucket = counts.setdefault(begins // width * width, [0, 0, 0])
        bucket[:] = [had + int(more) for had, more in zip(bucket, outcomes, strict=True)]
    _add(counts, look.waiting_in(period), width)
    reached, whole = period.since, True
    if since < reached:
        # What is before the first of these counters is counted one by one, while it is few.
        cut = replace(look.search, since=since, until=min(reached, until))
        early = [event for event in look.waiting if _within(event, cut)]
        sample = _sampled(connection, cut, look.until_seq, early, only_whole=True)
        if whole := sample.whole:
            _add(counts, sample.events, width)
            reached = since
    return Timeline(filled(dict(counts), width, reached, period.until), width, whole, reached, period.until)


def _facets_by(connection: Connection, look: _Look, since: datetime, top: int) -> Facets:
    period, outcome = look.period(since, DAY), look.search.outcome
    # Where counters of one facet are left off, the others reach no further back: all three tell of the same events.
    ends = [end for field in _FACETS if (end := left_off(connection, field, period, _ADDED)) is not None]
    reached = replace(period, first=max([period.first, *ends]))
    newest, shares = look.waiting_in(reached), []
    for number, field in enumerate(_FACETS):
        also = {event.values[number] for event in newest}
        counts = most_met(connection, field, outcome, reached, _ADDED, top, also)
        shares.append(_shares(counts, newest, number, top))
    rows = counted_in(connection, Counters("", ("",)), outcome, reached)
    count = len(newest) + sum(int(outcome) for _, *outcomes in rows for outcome in outcomes)
    return Facets(shares[0], shares[1], shares[2], count, not ends, reached.since, reached.until)
