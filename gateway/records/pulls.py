"""When things were pulled last, and by whom: from the newest events that tell of them, and no further back.

What is looked through is bounded: the newest events of a repository or digest, and those not yet in the projection.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, Subquery, bindparam, func, literal, select, tuple_

from gateway.oci.names import Repository
from gateway.records import driver, segments
from gateway.records.schema import event_index, events

#: So many events of a repository or a digest are looked through, and so many that the projection does not have yet.
WINDOW: Final = 128
_TAIL: Final = 1000
_PULL: Final = "manifest.pull"
#: Between a time and a name: no time has it.
_GAP: Final = " "
#: No event has this number.
_BIGGEST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class LastPull:
    """
    The last pull that is on record: when (UTC), and by whom, by name.

    Without one, *at* is None; *all_seen* says then whether there was none at all, or none among the newest events.
    """

    at: datetime | None = None
    by: str = ""
    all_seen: bool = True


def of_repositories(connection: Connection, names: Sequence[str]) -> dict[str, LastPull]:
    """The last pull from each of the repositories *names*; one page of them."""
    fresh = _fresh(connection, lambda record: record.get("repository") in names, "repository")
    return _found(connection, "repository", names, {}) | fresh


def of_digests(connection: Connection, repository: Repository, digests: Iterable[str]) -> dict[str, LastPull]:
    """The last pull of each of the manifests *digests* from *repository*; one page of them."""
    wanted = set(digests)
    fresh = _fresh(
        connection,
        lambda record: record.get("repository") == repository.name and record.get("digest") in wanted,
        "digest",
    )
    return _found(connection, "digest", wanted, {"repository": repository.name}) | fresh


def _found(connection: Connection, name: str, wanted: Iterable[str], others: dict[str, str]) -> dict[str, LastPull]:
    """The last pulls that the projection knows, by each of the values *wanted* of the field *name*."""
    sqlite = connection.dialect.name == "sqlite"
    newest, counted = _last(name, tuple(others), sqlite=sqlite), _looked(name, sqlite=sqlite)
    pulled = dict(driver.rows(connection, newest, {"wanted": driver.listed(connection, wanted), **others}))
    found = {value: _told(text) for value, text in pulled.items() if text is not None}
    never = [value for value in pulled if value not in found]
    if never:
        # What was sealed away is not looked through.
        sealed = segments.sealed_until(connection) > 0
        for value, seen in driver.rows(connection, counted, {"wanted": driver.listed(connection, never)}):
            found[value] = LastPull(all_seen=seen < WINDOW and not sealed)
    return found


@cache
def _last(name: str, others: tuple[str, ...], *, sqlite: bool) -> Select[Any]:
    """Each of the values `wanted`, and the time and the principal of the newest pull in its window, or nothing."""
    wanted, window = _window(name, sqlite=sqlite)
    mine = [
        window.c.kind == _PULL,
        window.c.outcome == "allowed",
        *(window.c[each] == bindparam(each) for each in others),
    ]
    said = select(window.c.time + _GAP + window.c.principal).where(*mine)
    return select(wanted, said.order_by(window.c.seq.desc()).limit(1).scalar_subquery())


@cache
def _looked(name: str, *, sqlite: bool) -> Select[Any]:
    """Each of the values `wanted`, and how many events are in its window."""
    wanted, window = _window(name, sqlite=sqlite)
    return select(wanted, select(func.count()).select_from(window).scalar_subquery())


def _window(name: str, *, sqlite: bool) -> tuple[ColumnElement[str], Subquery]:
    """One of the values `wanted`, and the newest events that have it in their field *name*."""
    wanted = driver.each("wanted", sqlite=sqlite)
    column, number = event_index.c[name], event_index.c.seq
    if sqlite:
        events_of = select(event_index).where(column == wanted).order_by(number.desc())
    else:
        # Taken for a frequent one, it would be looked for among all events there are.
        none, every = literal(0, number.type), literal(_BIGGEST, number.type)
        within = (tuple_(column, number) > tuple_(wanted, none), tuple_(column, number) < tuple_(wanted, every))
        events_of = select(event_index).where(*within).order_by(column.desc(), number.desc())
    return wanted, events_of.correlate(wanted.table).limit(WINDOW).subquery()


def _told(text: str) -> LastPull:
    at, _, by = text.partition(_GAP)
    return LastPull(_moment(at), by)


def _fresh(connection: Connection, mine: Callable[[dict[str, Any]], bool], key: str) -> dict[str, LastPull]:
    """The newest pulls among the events that are not in the projection yet."""
    until = select(func.coalesce(func.max(event_index.c.seq), 0)).scalar_subquery()
    tail = select(events.c.body).where(events.c.seq > until).order_by(events.c.seq.desc()).limit(_TAIL)
    found: dict[str, LastPull] = {}
    for (body,) in connection.execute(tail):
        if f'"{_PULL}"' not in body:
            continue
        record = json.loads(body)
        if record["kind"] == _PULL and record["outcome"] == "allowed" and mine(record) and record[key] not in found:
            found[record[key]] = LastPull(_moment(record["time"]), record["principal"])
    return found


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
