"""What a search asks of the database: conditions on the projection and on what was sealed, which always decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple, Self

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Integer,
    Select,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    tuple_,
)

from gateway.audit.chain import Sealed, fields, told
from gateway.audit.event import Outcome, time_text
from gateway.audit.trail import Search
from gateway.records import driver
from gateway.records.schema import event_index, events

FIELDS: Final = ("kind", "outcome", "principal", "project", "repository", "digest", "address")
#: The same, beginning with those whose values are likely to be met by fewest events.
SPECIFIC: Final = ("digest", "repository", "address", "principal", "project", "kind", "outcome")
#: What waits for a commit at the same moment may be sealed out of the order of its times, so many events at most.
_DISORDER: Final = 10_000
#: The time as no index knows it: a page is read in the order of its numbers, not by times that are sorted afterwards.
_plain_time = event_index.c.time.op("||")("")
_UNSAID: Final[Mapping[str, str]] = {}
_PROJECTED: Final = select(func.coalesce(func.max(event_index.c.seq), literal(0)))
#: What is looked for by `waiting` stands for itself.
PLAIN: Final = str.maketrans({mark: f"/{mark}" for mark in "/%_"})


class Shape(NamedTuple):
    """What a search asks for, without the values: all searches of one shape are one statement."""

    names: tuple[str, ...]
    kinds: bool
    since: bool
    until: bool
    paired: bool

    @classmethod
    def of(cls, search: Search) -> Self:
        """The shape of *search*; its *kinds* are those of a noun, and not among its *names*."""
        kinds = search.kind.endswith(".*")
        names = tuple(name for name in FIELDS if getattr(search, name) and not (kinds and name == "kind"))
        return cls(names, kinds, search.since is not None, search.until is not None, paired(search))

    def conditions(self, lead: str = "", given: Mapping[str, str] = _UNSAID) -> list[ColumnElement[bool]]:
        """
        What the projection is searched by; with a *lead*, by no other index than that of this filter.

        The values are those *given*, or are handed over with the statement: see `values`.
        """
        columns: dict[str, ColumnElement[Any]] = {
            name: event_index.c[name] if lead in ("", name) else event_index.c[name].op("||")("") for name in FIELDS
        }
        conditions: list[ColumnElement[bool]] = [columns[name] == _value(name, given) for name in self.names]
        if self.kinds:
            conditions += [columns["kind"] >= _value("stem", given), columns["kind"] < _value("beyond", given)]
        if self.paired:
            # As the index itself says it: from a value that is handed over, no database sees that it will do.
            conditions.append(event_index.c.outcome != literal_column("'allowed'"))
        return conditions + self.times(given)

    def times(self, given: Mapping[str, str] = _UNSAID) -> list[ColumnElement[bool]]:
        """The part of `conditions` that is about the time."""
        since = [_plain_time >= _value("since", given)] if self.since else []
        return since + ([_plain_time < _value("until", given)] if self.until else [])


def _value(name: str, given: Mapping[str, str]) -> BindParameter[Any]:
    return bindparam(name, given[name]) if given else bindparam(name)


def values(search: Search) -> dict[str, str]:
    """The values of *search* in the conditions of its shape."""
    found = {name: getattr(search, name) for name in FIELDS}
    if search.kind.endswith(".*"):
        stem = found.pop("kind")[:-1]
        found |= {"stem": stem, "beyond": stem[:-1] + chr(ord(stem[-1]) + 1)}
    if search.since is not None:
        found["since"] = time_text(search.since)
    if search.until is not None:
        found["until"] = time_text(search.until)
    return found


def index_conditions(search: Search) -> list[ColumnElement[bool]]:
    """What the projection is searched by."""
    return Shape.of(search).conditions(given=values(search))


def of_value(name: str, *, sqlite: bool) -> Select[Any]:
    """
    The numbers of the events after `after` and up to `upper` whose field *name* is `value`, newest first.

    They are found by the index of the field, whatever the values are.
    """
    column, number = event_index.c[name], event_index.c.seq
    after, upper = bindparam("after", type_=number.type), bindparam("upper", type_=number.type)
    value = bindparam("value", type_=column.type)
    if sqlite:
        return select(number).where(column == value, number > after, number <= upper).order_by(number.desc())
    # Of a value that it takes for a frequent one, PostgreSQL would walk all events backwards, past however many newer
    # ones have another. Of a pair it cannot, and SQLite cannot find one by both of its halves.
    pair = tuple_(column, number)
    within = (pair > tuple_(value, after), pair <= tuple_(value, upper))
    return select(number).where(*within).order_by(column.desc(), number.desc())


def counted(connection: Connection, search: Search, name: str, after: int, upper: int, most: int) -> int:
    """How many projected events in between meet the filter *name* of *search*, up to *most*."""
    asked = {"value": getattr(search, name), "after": after, "upper": upper, "most": most}
    counting = _counting(name, connection.dialect.name == "sqlite")
    return int(driver.rows(connection, counting, asked)[0][0])


@cache
def _counting(name: str, sqlite: bool) -> Select[Any]:
    meeting = of_value(name, sqlite=sqlite).limit(bindparam("most", type_=Integer)).subquery()
    return select(func.count()).select_from(meeting)


def kinds_like(connection: Connection, search: Search) -> list[str]:
    """The kinds that projected events have, of those that *search* asks for by their noun."""
    return [kind for (kind,) in driver.rows(connection, _kinds(), values(search))]


@cache
def _kinds() -> Select[Any]:
    # From each to the next one, by the index: none reads the events of a kind.
    column = event_index.c.kind
    first = select(func.min(column).label("kind")).where(column >= bindparam("stem"), column < bindparam("beyond"))
    met = first.cte("met", recursive=True)
    later = select(func.min(column)).where(column > met.c.kind, column < bindparam("beyond")).scalar_subquery()
    met = met.union_all(select(later).where(met.c.kind.is_not(None)))
    return select(met.c.kind).where(met.c.kind.is_not(None))


def paired(search: Search) -> bool:
    """Whether *search* asks for a project and an outcome alone that an index has together."""
    named = [name for name in FIELDS if getattr(search, name)]
    return sorted(named) == ["outcome", "project"] and search.outcome != Outcome.ALLOWED


def narrowed(connection: Connection, search: Search, after: int, upper: int) -> tuple[int, int]:
    """The part of the numbers after *after* and up to *upper* in which events of the wanted time can be."""
    # One bound on either side: of two, the database may walk to the second one from the first.
    if search.since is not None:
        after = max(after, (_near(connection, search, _DISORDER, later=True) or upper + 1) - 1)
    if search.until is not None:
        upper = min(upper, _near(connection, search, _DISORDER, later=False) or 0)
    return after, upper


def spanned(connection: Connection, search: Search, upper: int) -> int:
    """As many numbers at least are in the part that `narrowed` tells after a longer look, of those up to *upper*."""
    first, last = 1, upper
    if search.since is not None:
        first = _near(connection, search, 1, later=True) or upper + 1
    if search.until is not None:
        last = min(upper, _near(connection, search, 1, later=False) or 0)
    return last - first + 1


def _near(connection: Connection, search: Search, most: int, *, later: bool) -> int | None:
    """The least number of the first *most* events since the wanted time, or the greatest of the last ones until it."""
    asked: Mapping[str, object] = {**values(search), "most": most}
    number: int | None = driver.rows(connection, _nearest(later), asked)[0][0]
    return number


@cache
def _nearest(later: bool) -> Select[Any]:
    time = event_index.c.time
    near = select(event_index.c.seq).limit(bindparam("most", type_=Integer))
    if later:
        found = near.where(time >= bindparam("since")).order_by(time).subquery()
        return select(func.min(found.c.seq))
    found = near.where(time < bindparam("until")).order_by(time.desc()).subquery()
    return select(func.max(found.c.seq))


def coarse(search: Search) -> dict[str, str]:
    """What of *search* the canonical text of an event holds letter by letter, by field, as `LIKE` with `/` wants it."""
    found = {}
    for name in FIELDS:
        wanted = getattr(search, name)
        if wanted and wanted.isascii() and not (name == "kind" and wanted.endswith(".*")):
            found[name] = f'"{name}":"{wanted}"'.translate(PLAIN)
    return found


@cache
def waiting(names: tuple[str, ...], before: bool) -> Select[Any]:
    """The newest events after `until`, and numbered below `before`, whose text holds what is `coarse` for *names*."""
    wanted = [events.c.body.contains(bindparam(name), escape="/") for name in names]
    if before:
        wanted.append(events.c.seq < bindparam("before"))
    query = select(events.c.seq, events.c.body, events.c.hash).where(events.c.seq > bindparam("until"), *wanted)
    return query.order_by(events.c.seq.desc()).limit(bindparam("most", type_=Integer))


def matches(search: Search, body: str) -> bool:
    """Whether the event with this canonical form is one that *search* wants."""
    says = told(body)
    record: dict[str, Any] = {} if says is not None else fields(body)
    for name in FIELDS:
        wanted = getattr(search, name)
        if not wanted:
            continue
        has = getattr(says, name) if says is not None else record.get(name, "")
        if name == "kind" and wanted.endswith(".*"):
            if not str(has).startswith(wanted[:-1]):
                return False
        elif has != wanted:
            return False
    if search.since is None and search.until is None:
        return True
    time = says.time if says is not None else str(record.get("time", ""))
    return (search.since is None or time >= time_text(search.since)) and (
        search.until is None or time < time_text(search.until)
    )


def those(search: Search, found: Iterable[Sealed]) -> list[Sealed]:
    """Those of *found* that `matches` *search*; what is asked for is looked up and spelled once for all."""
    if search.kind.endswith(".*"):
        return [event for event in found if matches(search, event.body)]
    equal = [(name, getattr(search, name)) for name in FIELDS if getattr(search, name)]
    since = time_text(search.since) if search.since is not None else ""
    until = time_text(search.until) if search.until is not None else None
    kept = []
    for event in found:
        says = told(event.body)
        if says is None:
            wanted = matches(search, event.body)
        else:
            wanted = since <= says.time and (until is None or says.time < until)
            wanted = wanted and all(getattr(says, name) == value for name, value in equal)
        if wanted:
            kept.append(event)
    return kept


def projected_until(connection: Connection) -> int:
    return int(driver.rows(connection, _PROJECTED, {})[0][0])
