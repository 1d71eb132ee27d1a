"""Who pulled one digest, counted where searches look for it: what is shown of an event is read as it was sealed."""

from __future__ import annotations

from functools import cache
from itertools import islice
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Integer, Select, bindparam, func, or_, select

from gateway.audit.chain import told
from gateway.audit.event import Kind, Outcome, time_text
from gateway.audit.trail import Search
from gateway.records import driver
from gateway.records.matching import projected_until
from gateway.records.schema import event_index
from gateway.records.trail import tail

#: What hands content out.
PULLS: Final = (Kind.MANIFEST_PULL.value, Kind.BLOB_PULL.value)


class Unreadable(Exception):
    """An event was edited, or is not what searches have of it: who asks has to read every one."""


class Tally(NamedTuple):
    """Pulls that have these in common, how many there are, and the numbers of the first and the last event of them."""

    principal: str
    address: str
    repository: str
    times: int
    first: int
    last: int


def tallied(connection: Connection, wanted: Search, most: int) -> list[Tally]:
    """
    The newest *most* pulls that *wanted* finds, which names a digest, and may name a repository, and since when.

    Whoever pulled last comes first. Raises `Unreadable`.
    """
    until = projected_until(connection)
    found: dict[tuple[str, str, str], Tally] = {}
    newest = (told(event.body) for event in tail(connection, wanted, until, None))
    for says in islice((each for each in newest if each is None or each.kind in PULLS), most):
        if says is None:
            raise Unreadable
        key, most = (says.principal, says.address, says.repository), most - 1
        known = found.get(key) or Tally(*key, 0, says.id, says.id)
        found[key] = known._replace(times=known.times + 1, first=says.id)
    asked = {"digest": wanted.digest, "repository": wanted.repository, "until": until, "most": most}
    if wanted.since is not None:
        asked["since"] = time_text(wanted.since)
    # How many have one digest, only its own value says.
    for row in driver.rows(connection, _spread(bool(wanted.repository), since="since" in asked), asked, anew=True):
        projected = Tally(*row)
        newer = found.get(projected[:3])
        if newer is not None:
            projected = projected._replace(times=projected.times + newer.times, last=newer.last)
        found[projected[:3]] = projected
    return sorted(found.values(), key=lambda tally: -tally.last)


@cache
def _spread(within: bool, *, since: bool) -> Select[Any]:
    """The newest pulls of a digest by principal, address and repository."""
    number = event_index.c.seq
    by = [event_index.c[name] for name in ("principal", "address", "repository")]
    # As no index knows them: found by the digest, there are few to look at.
    unled = ("kind", "outcome", "repository", "time")
    kind, outcome, repository, time = (event_index.c[name].op("||")("") for name in unled)
    pulls = select(*by, number).where(event_index.c.digest == bindparam("digest"), number <= bindparam("until"))
    pulls = pulls.where(outcome == Outcome.ALLOWED.value, or_(*(kind == each for each in PULLS)))
    if within:
        pulls = pulls.where(repository == bindparam("repository"))
    if since:
        pulls = pulls.where(time >= bindparam("since"))
    pulls = pulls.order_by(number.desc())
    newest = pulls.limit(bindparam("most", type_=Integer)).subquery()
    fields = [newest.c[column.name] for column in by]
    return select(*fields, func.count(), func.min(newest.c.seq), func.max(newest.c.seq)).group_by(*fields)
