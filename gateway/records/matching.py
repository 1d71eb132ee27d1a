"""What a search asks of the database: conditions on the projection and on what was sealed, which always decides."""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, func, literal, select

from gateway.audit.chain import told
from gateway.audit.event import time_text
from gateway.audit.trail import Search
from gateway.records.schema import event_index, events

FIELDS: Final = ("kind", "outcome", "principal", "project", "repository", "digest", "address")
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
    if search.since is not None:
        conditions.append(_plain_time >= time_text(search.since))
    if search.until is not None:
        conditions.append(_plain_time < time_text(search.until))
    return conditions


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


def projected_until(connection: Connection) -> int:
    return int(connection.execute(select(func.coalesce(func.max(event_index.c.seq), literal(0)))).scalar_one())
