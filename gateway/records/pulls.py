"""When things were pulled last, and by whom: from the newest events that tell of them, and no further back.

What is looked through is bounded: the newest events of a repository or digest, and those not yet in the projection.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, func, select

from gateway.oci.names import Repository
from gateway.records import driver, segments
from gateway.records.schema import event_index, events

#: So many events of a repository or a digest are looked through, and so many that the projection does not have yet.
WINDOW: Final = 128
_TAIL: Final = 1000
_PULL: Final = "manifest.pull"


@dataclass(frozen=True, slots=True)
class LastPull:
    """
    The last pull that is on record: when (UTC), and by whom, by name.

    Without one, *at* is None; *all_seen* says then whether there was none at all, or none among the newest events.
    """

    at: datetime | None = None
    by: str = ""
    all_seen: bool = True


def _newest(column: Any, *others: Any) -> tuple[Select[Any], Select[Any]]:
    """The newest pull among the newest events whose *column* is `wanted`, and how many events were looked at."""
    inner = select(event_index).where(column == bindparam("wanted")).order_by(event_index.c.seq.desc()).limit(WINDOW)
    window = inner.subquery()
    mine = (window.c.kind == _PULL) & (window.c.outcome == "allowed")
    for name in others:
        mine &= window.c[name] == bindparam(name)
    newest = select(window.c.time, window.c.principal).where(mine).order_by(window.c.seq.desc()).limit(1)
    counted = select(event_index.c.seq).where(column == bindparam("wanted")).limit(WINDOW).subquery()
    return newest, select(func.count()).select_from(counted)


_OF_REPOSITORY: Final = _newest(event_index.c.repository)
_OF_DIGEST: Final = _newest(event_index.c.digest, "repository")


def of_repositories(connection: Connection, names: Sequence[str]) -> dict[str, LastPull]:
    """The last pull from each of the repositories *names*; one page of them."""
    fresh = _fresh(connection, lambda record: record.get("repository") in names, "repository")
    sealed = segments.sealed_until(connection) > 0
    return {name: fresh.get(name) or _found(connection, _OF_REPOSITORY, {"wanted": name}, sealed) for name in names}


def of_digests(connection: Connection, repository: Repository, digests: Iterable[str]) -> dict[str, LastPull]:
    """The last pull of each of the manifests *digests* from *repository*; one page of them."""
    wanted = set(digests)
    fresh = _fresh(
        connection,
        lambda record: record.get("repository") == repository.name and record.get("digest") in wanted,
        "digest",
    )
    asked = {"repository": repository.name}
    sealed = segments.sealed_until(connection) > 0
    return {
        digest: fresh.get(digest) or _found(connection, _OF_DIGEST, {"wanted": digest, **asked}, sealed)
        for digest in wanted
    }


def _found(
    connection: Connection, statements: tuple[Select[Any], Select[Any]], asked: dict[str, str], sealed: bool
) -> LastPull:
    newest, counted = statements
    for time, principal in driver.rows(connection, newest, asked):
        return LastPull(_moment(time), principal)
    ((seen,),) = driver.rows(connection, counted, {"wanted": asked["wanted"]})
    # What was sealed away is not looked through.
    return LastPull(all_seen=seen < WINDOW and not sealed)


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
