"""What a search asks of the database: conditions on the projection and on what was sealed, which always decides."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, func, literal, literal_column, select

from gateway.audit.chain import Sealed, told
from gateway.audit.event import Outcome, time_text
from gateway.audit.trail import Search
from gateway.records.schema import event_index, events

FIELDS: Final = ("kind", "outcome", "principal", "project", "repository", "digest", "address")
#: The same, beginning with those whose values are likely to be met by fewest events.
SPECIFIC: Final = ("digest", "repository", "address", "principal", "project", "kind", "outcome")
#: What waits for a commit at the same moment may be sealed out of the order of its times, so many events at most.
_DISORDER: Final = 10_000
#: The time as no index knows it: a page is read in the order of its numbers, not by times that are sorted afterwards.
_plain_time = event_index.c.time.op("||")("")


def index_conditions(search: Search, lead: str = "") -> list[ColumnElement[bool]]:
    """What the projection is searched by; with a *lead*, by no other index than that of this filter."""
    conditions: list[ColumnElement[bool]] = []
    for name in FIELDS:
        wanted = getattr(search, name)
        if not wanted:
            continue
        column: ColumnElement[Any] = event_index.c[name]
        if lead and name != lead:
            column = column.op("||")("")
        if name == "kind" and wanted.endswith(".*"):
            stem = wanted[:-1]
            conditions += [column >= stem, column < stem[:-1] + chr(ord(stem[-1]) + 1)]
        else:
            conditions.append(column == wanted)
    if paired(search):
        # As the index itself says it: from a value that is handed over, no database sees that it will do.
        conditions.append(event_index.c.outcome != literal_column("'allowed'"))
    if search.since is not None:
        conditions.append(_plain_time >= time_text(search.since))
    if search.until is not None:
        conditions.append(_plain_time < time_text(search.until))
    return conditions


def paired(search: Search) -> bool:
    """Whether *search* asks for a project and an outcome alone that an index has together."""
    named = [name for name in FIELDS if getattr(search, name)]
    return sorted(named) == ["outcome", "project"] and search.outcome != Outcome.ALLOWED


def narrowed(connection: Connection, search: Search, after: int, upper: int) -> tuple[int, int]:
    """The part of the numbers after *after* and up to *upper* in which events of the wanted time can be."""
    # One bound on either side: of two, the database may walk to the second one from the first.
    if search.since is not None:
        later = select(event_index.c.seq).where(event_index.c.time >= time_text(search.since))
        near = later.order_by(event_index.c.time).limit(_DISORDER).subquery()
        after = max(after, (connection.execute(select(func.min(near.c.seq))).scalar() or upper + 1) - 1)
    if search.until is not None:
        sooner = select(event_index.c.seq).where(event_index.c.time < time_text(search.until))
        near = sooner.order_by(event_index.c.time.desc()).limit(_DISORDER).subquery()
        upper = min(upper, connection.execute(select(func.max(near.c.seq))).scalar() or 0)
    return after, upper


def spanned(connection: Connection, search: Search, upper: int) -> int:
    """As many numbers at least are in the part that `narrowed` tells after a longer look, of those up to *upper*."""
    first, last = 1, upper
    if search.since is not None:
        later = select(event_index.c.seq).where(event_index.c.time >= time_text(search.since))
        first = connection.execute(later.order_by(event_index.c.time).limit(1)).scalar() or upper + 1
    if search.until is not None:
        sooner = select(event_index.c.seq).where(event_index.c.time < time_text(search.until))
        last = min(upper, connection.execute(sooner.order_by(event_index.c.time.desc()).limit(1)).scalar() or 0)
    return last - first + 1


def body_conditions(search: Search) -> list[ColumnElement[bool]]:
    """A coarse filter on the canonical text, done by the database; `matches` decides."""
    conditions: list[ColumnElement[bool]] = []
    for name in FIELDS:
        wanted = getattr(search, name)
        if wanted and wanted.isascii() and not (name == "kind" and wanted.endswith(".*")):
            text = f'"{name}":"{wanted}"'
            conditions.append(events.c.body.contains(text, autoescape=True))
    return conditions


def matches(search: Search, body: str) -> bool:
    """Whether the event with this canonical form is one that *search* wants."""
    says = told(body)
    record: dict[str, Any] = {} if says is not None else json.loads(body)
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
    return int(connection.execute(select(func.coalesce(func.max(event_index.c.seq), literal(0)))).scalar_one())
