"""Looking through sealed months: the events in segments that readers want, file by file, the newest first.

What a file holds is told apart by what each line says, in some microseconds; of one file the wanted events are in
memory. Months that were purged have nothing to look through, and are told of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import Connection

from gateway.audit.chain import Sealed, Told
from gateway.audit.event import time_text
from gateway.audit.trail import SealedPart, Search
from gateway.errors import Unavailable
from gateway.records import segments
from gateway.records.database import Database
from gateway.records.segments import Segment, Unsealed

#: What waits for a commit at the same moment may be sealed out of the order of its times.
_DISORDER: Final = timedelta(hours=1)


def part(database: Database, search: Search, before: int | None = None) -> SealedPart | None:
    """What of the period of *search*, numbered below *before*, is in segments; see `Trail.sealed`."""
    found = _within(database, [search], before)
    if not found:
        return None
    files = [segment for segment in found if not segment.stub]
    told = files or found
    return SealedPart(
        last=found[0].last_seq,
        since=told[-1].first_time,
        until=found[0].last_time,
        files=len(files),
        oldest=files[-1].file if files else "",
        newest=files[0].file if files else "",
        purged=sum(segment.count for segment in found if segment.stub),
    )


def older(
    database: Database, searches: Sequence[Search], before: int | None = None, files: int | None = None
) -> Iterator[Sealed | int]:
    """The events that any of *searches* wants, and where to go on after so many *files*; see `Trail.older`."""
    wanted = _Wanted(searches, before)
    kept = [segment for segment in _within(database, searches, before) if not segment.stub]
    for segment in kept[:files]:
        with sound(segment):
            found = list(segments.picked(database.data, segment, wanted))
        yield from reversed(found)
    if files is not None and len(kept) > files:
        yield kept[files].last_seq + 1


def numbered(database: Database, numbers: Iterable[int]) -> dict[int, Sealed]:
    """The events of these numbers that are in segments; each file is read once."""
    found: dict[int, Sealed] = {}
    missing = sorted(set(numbers))
    while missing:
        segment = database.read_now(partial(segments.containing, seq=missing[0]))
        if segment is None:
            missing.pop(0)
            continue
        here = {number for number in missing if number <= segment.last_seq}
        missing = [number for number in missing if number not in here]
        if not segment.stub:
            with sound(segment):
                picked = segments.picked(database.data, segment, lambda says, here=here: says.id in here)  # type: ignore[misc]
                found.update((event.seq, event) for event in picked)
    return found


def outside(segment: Segment, spans: Mapping[int, tuple[str, str]], searches: Sequence[Search]) -> bool:
    """Whether the period of none of *searches* meets the segment's, which is told by *spans* (see there)."""
    period = spans.get(segment.last_seq, segment.period)
    return period is not None and not any(
        (each.since is None or period[1] >= _time(each.since, -_DISORDER))
        and (each.until is None or period[0] < _time(each.until, _DISORDER))
        for each in searches
    )


def sealed_before(connection: Connection) -> datetime | None:
    """
    When the last of the events in segments happened, as far as `segments.spans` tells; None without segments.

    Whatever was written into their rows, it is no time to come, and not long after what is in no segment begins.
    """
    every = segments.every(connection)
    if not every:
        return None
    last = datetime.fromisoformat(max(last for _, last in segments.spans(connection, every).values()))
    after = datetime.fromisoformat(segments.time_after(connection, every[-1].last_seq))
    return min(last if last - after <= _DISORDER else after, datetime.now(UTC))


@contextmanager
def sound(segment: Segment) -> Iterator[None]:
    """Refuses with `Unavailable` when the segment's file turns out to be damaged."""
    try:
        yield
    except Unsealed as error:
        raise Unavailable(f"The segment of event {segment.first_seq} is damaged: {error}; restore its file.") from error


def _within(database: Database, searches: Sequence[Search], before: int | None) -> list[Segment]:
    """The segments of the periods of *searches*, the newest first."""
    every = database.read_now(segments.every)
    spans = database.read_now(partial(segments.spans, sealed=every))
    near = [segment for segment in every if before is None or segment.first_seq < before]
    return [segment for segment in reversed(near) if not outside(segment, spans, searches)]


def _time(moment: datetime, more: timedelta) -> str:
    try:
        return time_text(moment + more)
    except OverflowError:
        return time_text(moment)


class _Wanted:
    """Whether any of many searches wants what an event says: those of its principal, of its kind, and the others."""

    def __init__(self, searches: Sequence[Search], before: int | None) -> None:
        self._before = before
        self._by_principal: dict[str, list[Search]] = {}
        self._by_kind: dict[str, list[Search]] = {}
        self._others: list[Search] = []
        for each in searches:
            if each.principal:
                self._by_principal.setdefault(each.principal, []).append(each)
            elif each.kind and not each.kind.endswith(".*"):
                self._by_kind.setdefault(each.kind, []).append(each)
            else:
                self._others.append(each)

    def __call__(self, says: Told) -> bool:
        if self._before is not None and says.id >= self._before:
            return False
        near = (self._by_kind.get(says.kind, ()), self._by_principal.get(says.principal, ()), self._others)
        return any(search.wants(says) for some in near for search in some)
