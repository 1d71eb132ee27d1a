"""When things were pulled last, and by whom: from the newest events that tell of them, and no further back.

What is looked through is bounded: the newest events of a repository, and of those not yet in the projection the newest
pulls. Nothing is told by what happens in another repository, or happened before the project began that has it now: of
that, whoever asks may not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from os.path import commonprefix
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, Subquery, bindparam, func, literal, select, tuple_

from gateway.audit.chain import UNTIMED, is_time, told
from gateway.audit.event import Outcome, time_text
from gateway.oci.names import Repository
from gateway.records import driver, segments
from gateway.records.matching import PLAIN, projected_until, waiting
from gateway.records.schema import event_index

#: So many events of each repository of a page are looked through, so many of the one whose manifests are asked for, and
#: so many that the projection does not have yet.
WINDOW: Final = 128
DEPTH: Final = 4096
_TAIL: Final = 4096
_PULL: Final = "manifest.pull"
_SAID: Final = {"kind": f'"kind":"{_PULL}"', "outcome": f'"outcome":"{Outcome.ALLOWED}"'}
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


def of_repositories(connection: Connection, names: Sequence[str], born: datetime) -> dict[str, LastPull]:
    """The last pull from each of the repositories *names*; one page of them, of a project that was *born* then."""
    since = time_text(born)
    # What waits is looked at first: what is projected meanwhile is then met twice, not missed.
    fresh, whole = _fresh(connection, names, since)
    last = {repository: pull for (repository, _), pull in reversed(fresh)}
    return _joined(_of_each(connection, names, since), last, whole=whole)


def of_digests(
    connection: Connection, repository: Repository, digests: Iterable[str], born: datetime
) -> dict[str, LastPull]:
    """The last pull of each of the manifests *digests* from *repository*; one page of them, as above."""
    since = time_text(born)
    fresh, whole = _fresh(connection, [repository.name], since)
    last = {digest: pull for (_, digest), pull in reversed(fresh)}
    return _joined(_within(connection, repository.name, set(digests), since), last, whole=whole)


def _joined(found: dict[str, LastPull], fresh: dict[str, LastPull], *, whole: bool) -> dict[str, LastPull]:
    """What the projection knows, and what is newer; if that is not the *whole* of it, nothing is said never to be."""
    if not whole:
        found = {each: pull if pull.at is not None else LastPull(all_seen=False) for each, pull in found.items()}
    return found | {each: pull for each, pull in fresh.items() if each in found}


def _of_each(connection: Connection, names: Sequence[str], since: str) -> dict[str, LastPull]:
    """The last pulls that the projection knows, by repository."""
    sqlite = connection.dialect.name == "sqlite"
    asked = {"wanted": driver.listed(connection, names), "since": since}
    pulled = dict(driver.rows(connection, _last(sqlite=sqlite), asked))
    found = {name: _told(text) for name, text in pulled.items() if text is not None}
    never = [name for name in pulled if name not in found]
    if never:
        sealed = _sealed(connection)
        asked = {"wanted": driver.listed(connection, never), "since": since}
        counted = driver.rows(connection, _looked(sqlite=sqlite), asked)
        found |= {name: LastPull(all_seen=seen < WINDOW and not sealed) for name, seen in counted}
    return found


def _within(connection: Connection, repository: str, digests: set[str], since: str) -> dict[str, LastPull]:
    """The last pulls from *repository* that the projection knows, by digest: whatever happens elsewhere."""
    sqlite = connection.dialect.name == "sqlite"
    asked = {"repository": repository, "wanted": driver.listed(connection, digests), "since": since}
    found = {digest: _told(text) for digest, text in driver.rows(connection, _last_within(sqlite=sqlite), asked)}
    never = digests - found.keys()
    if never:
        looked = driver.rows(connection, _looked_within(sqlite=sqlite), {"repository": repository, "since": since})
        [(seen,)] = looked
        found |= dict.fromkeys(never, LastPull(all_seen=seen < DEPTH and not _sealed(connection)))
    return found


def _sealed(connection: Connection) -> bool:
    """Whether there were events that are sealed away: those are not looked through."""
    return segments.sealed_until(connection) > 0


@cache
def _last(*, sqlite: bool) -> Select[Any]:
    """Each of the repositories `wanted`, and when its window's newest pull was and by whom, or nothing."""
    wanted = driver.each("wanted", sqlite=sqlite)
    window = _newest(wanted, WINDOW, sqlite=sqlite)
    said = select(window.c.time + _GAP + window.c.principal).where(*_pulls(window))
    return select(wanted, said.order_by(window.c.seq.desc()).limit(1).scalar_subquery())


@cache
def _looked(*, sqlite: bool) -> Select[Any]:
    """Each of the repositories `wanted`, and how many events since `since` are in its window."""
    wanted = driver.each("wanted", sqlite=sqlite)
    window = _newest(wanted, WINDOW, sqlite=sqlite)
    return select(wanted, select(func.count()).select_from(window).where(_since(window)).scalar_subquery())


@cache
def _last_within(*, sqlite: bool) -> Select[Any]:
    """Those of the digests `wanted` that were pulled in the window of `repository`, and when last and by whom."""
    window = _newest(bindparam("repository"), DEPTH, sqlite=sqlite)
    mine = (*_pulls(window), driver.among(window.c.digest, "wanted"))
    last = (
        select(window.c.digest, func.max(window.c.seq).label("seq")).where(*mine).group_by(window.c.digest).subquery()
    )
    said = event_index.c.time + _GAP + event_index.c.principal
    return select(last.c.digest, said).join(event_index, event_index.c.seq == last.c.seq)


@cache
def _looked_within(*, sqlite: bool) -> Select[Any]:
    """How many events since `since` are in the window of `repository`."""
    window = _newest(bindparam("repository"), DEPTH, sqlite=sqlite)
    return select(func.count()).select_from(window).where(_since(window))


def _pulls(window: Subquery) -> tuple[ColumnElement[bool], ...]:
    return window.c.kind == _PULL, window.c.outcome == Outcome.ALLOWED.value, _since(window)


def _since(window: Subquery) -> ColumnElement[bool]:
    # Asked of the window, not for it: else one would be filled from all events of before.
    return window.c.time >= bindparam("since")


def _newest(repository: ColumnElement[str], most: int, *, sqlite: bool) -> Subquery:
    """The newest events of a repository."""
    column, number = event_index.c.repository, event_index.c.seq
    if sqlite:
        events_of = select(event_index).where(column == repository).order_by(number.desc())
    else:
        # Taken for a frequent one, it would be looked for among all events there are.
        none, every = literal(0, number.type), literal(_BIGGEST, number.type)
        within = (tuple_(column, number) > tuple_(repository, none), tuple_(column, number) < tuple_(repository, every))
        events_of = select(event_index).where(*within).order_by(column.desc(), number.desc())
    table = getattr(repository, "table", None)
    return (events_of if table is None else events_of.correlate(table)).limit(most).subquery()


def _told(text: str) -> LastPull:
    at, _, by = text.partition(_GAP)
    return LastPull(_moment(at), by)


def _fresh(
    connection: Connection, names: Sequence[str], since: str
) -> tuple[list[tuple[tuple[str, str], LastPull]], bool]:
    """
    The pulls among the events that are not in the projection yet, newest first, by repository and digest.

    Those since *since* from the repositories *names*, maybe from others too; and whether these are all of them.
    """
    # Letter by letter: what else happens in their project, or elsewhere, is not carried along.
    beginning = commonprefix(list(names)) if len(names) != 1 else f'{names[0]}"'  # noqa: RUF071
    wanted = {"repository": f'"repository":"{beginning}', **_SAID}
    said = {name: text.translate(PLAIN) for name, text in wanted.items()}
    asked = {**said, "until": projected_until(connection), "most": _TAIL}
    rows = driver.rows(connection, waiting(tuple(said), before=False), asked)
    records = [record for _, body, _ in rows if (record := told(body)) is not None]
    ours = [record for record in records if record.time >= since and is_time(record.time)]
    pulled = [record for record in ours if record.kind == _PULL and record.outcome == Outcome.ALLOWED]
    found = [((each.repository, each.digest), LastPull(_moment(each.time), each.principal)) for each in pulled]
    return found, len(rows) < _TAIL


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text if is_time(text) else UNTIMED)
