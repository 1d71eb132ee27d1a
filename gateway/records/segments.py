"""Segments: old events in compressed files that still verify, and the rows that say which file holds which.

    DATA/segments/2025-10-000000000001-000000020000.jsonl.gz      its lines are those of an export; the last is signed

The file is on disk before its row, the row before its events leave the table, a few at a time: whatever happens in
between, every event is in one place at least. How they are made is in `sealing`.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select

from gateway.audit.chain import Head, Sealed, Told, is_time, told
from gateway.audit.checkpoints import statement_of
from gateway.audit.event import time_text
from gateway.records.evidence_tables import segments
from gateway.records.schema import event_index, events

FOLDER = "segments"
_EVENT: Final = b'{"hash":'
#: The most events that one file holds.
MOST = 20_000
#: As a search of the trail: events of one moment may be sealed out of the order of their times, so many at most.
_DISORDER = 10_000
#: Later than any event, as events tell times.
_NEVER: Final = "9999-12-31T23:59:59.999999Z"
#: What stands in place of what is not even of its column's type.
_NONE: Final[Mapping[str, int | str]] = {
    **dict.fromkeys(("first_seq", "file_bytes"), 0),
    **dict.fromkeys(("first_time", "last_time", "file", "file_sha256"), ""),
    "stub": "{}",
}
_NAME: Final = re.compile(r"\d{4}-\d\d-\d{12,}-\d{12,}\.jsonl\.gz", re.ASCII)


@dataclass(frozen=True, slots=True)
class Segment:
    """
    The events *first_seq* to *last_seq* in *file*; *first_time* and *last_time* are those of its ends, as events tell.

    *stub* is the signed statement that took its place when it was purged, "" before that.
    """

    first_seq: int
    last_seq: int
    first_time: str
    last_time: str
    previous_hash: bytes
    last_hash: bytes
    file: str
    file_bytes: int
    file_sha256: str
    stub: str = ""

    @property
    def count(self) -> int:
        return self.last_seq - self.first_seq + 1

    @property
    def previous(self) -> Head:
        """What the first event follows."""
        return Head(self.first_seq - 1, self.previous_hash)

    @property
    def head(self) -> Head:
        """The last event's place."""
        return Head(self.last_seq, self.last_hash)

    @property
    def period(self) -> tuple[str, str] | None:
        """
        The times of its ends, None if the last is not told, "" for a first that is not; of a purged one as its signed
        stub tells them.
        """
        first, last = self.first_time, self.last_time
        if self.stub:
            try:
                stub = statement_of(self.stub)
                first, last = str(stub["first_time"]), str(stub["last_time"])
            except (ValueError, KeyError, TypeError):
                return None
        return (first if is_time(first) else "", last) if is_time(last) else None

    @property
    def broken(self) -> int:
        """The first event of a purged one that told of an edited end, as its signed stub says; 0 without any."""
        try:
            told = statement_of(self.stub).get("broken", 0) if self.stub else 0
        except ValueError:
            return 0
        return told if isinstance(told, int) else 0


class Unsealed(Exception):
    """A segment's file cannot be read; the message says in words what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Month:
    """So many events of one month, the numbers of the first and the last."""

    month: str
    events: int
    first: int
    last: int


# reading


_EVERY: Final = select(segments).order_by(segments.c.last_seq)


def every(connection: Connection) -> Sequence[Segment]:
    """All segments, the oldest first."""
    return [_segment(row) for row in connection.execute(_EVERY)]


def spans(connection: Connection, sealed: Sequence[Segment]) -> Mapping[int, tuple[str, str]]:
    """
    The first and the last time of the events in each of *sealed*, which are all segments, by the last one's number.

    Of those that tell none (purged ones with stubs of older gateways, edited rows) they are the times of what is around
    them: events are sealed in the order in which they happened, but for a moment.
    """
    periods = [segment.period for segment in sealed]
    after = _NEVER if not periods or periods[-1] else time_after(connection, sealed[-1].last_seq)
    begins = accumulate(((each or ("", ""))[1] for each in periods), _given, initial="")
    ends = accumulate(((each or ("", ""))[0] for each in reversed(periods)), _given, initial=after)
    around = zip(begins, reversed(list(ends)[:-1]), strict=False)
    between = ((min(both), max(both)) for both in around)
    return {each.last_seq: each.period or span for each, span in zip(sealed, between, strict=True)}


def _segment(row: Row[Any]) -> Segment:
    """
    SQLite keeps anything in any column: in place of what is no number stands 0, and of what is no text "", which no
    segment has; of a stub that is none, one that says nothing.
    """
    kept = row._mapping
    none = {name: value for name, value in _NONE.items() if not isinstance(kept[name], type(value))}
    return Segment(**{**kept, **none})


def _given(before: str, now: str) -> str:
    return now or before


def time_after(connection: Connection, seq: int) -> str:
    """When the first event after that with this number happened which is in no segment."""
    following = select(events.c.body).where(events.c.seq > seq).order_by(events.c.seq).limit(1)
    body = connection.execute(following).scalar()
    says = told(body) if isinstance(body, str) else None
    return says.time if says is not None and is_time(says.time) else _NEVER


def ending_after(connection: Connection, seq: int) -> Segment | None:
    """The first segment that ends after the event of this number."""
    query = select(segments).where(segments.c.last_seq > seq).order_by(segments.c.last_seq).limit(1)
    row = connection.execute(query).first()
    return _segment(row) if row is not None else None


def containing(connection: Connection, seq: int) -> Segment | None:
    """The segment that the event of this number is in."""
    found = ending_after(connection, seq - 1)
    return found if found is not None and found.first_seq <= seq else None


def sealed_until(connection: Connection) -> int:
    """The number of the last event that is in a segment; 0 without any."""
    return int(connection.execute(select(func.max(segments.c.last_seq))).scalar() or 0)


def end_of(connection: Connection) -> Head:
    """What the first event that is in no segment follows."""
    row = connection.execute(select(segments).order_by(segments.c.last_seq.desc()).limit(1)).first()
    return _segment(row).head if row is not None else Head()


def path_of(data: Path, segment: Segment) -> Path:
    """Where the segment's file is; raises `Unsealed` unless it has the name that it was given when it was sealed."""
    # The row is whatever somebody wrote into the database: it does not lead out of the folder, nor to another file.
    try:
        given = name_of(segment.first_time, segment.first_seq, segment.last_seq)
    except (TypeError, ValueError):
        given = ""
    if segment.file != given or not _NAME.fullmatch(given):
        raise Unsealed(f"{segment.file!r} is not the name of its file")
    return data / FOLDER / segment.file


def events_of(
    data: Path, segment: Segment, after: int = 0, *, checked: bool = True, path: Path | None = None
) -> Iterator[Sealed]:
    """The events of the segment with numbers above *after*, read as they are wanted; see `picked`."""
    return picked(data, segment, lambda says: says.id > after, checked=checked, path=path)


def picked(
    data: Path, segment: Segment, wanted: Callable[[Told], bool], *, checked: bool = True, path: Path | None = None
) -> Iterator[Sealed]:
    """
    Those events of the segment that are *wanted* by what they say, oldest first; read at *path*, if that is given.

    Raises `Unsealed` before the first of them if the file is not the one that was sealed, by its SHA-256; only who
    follows the hashes of all its events may leave that out (*checked*).
    """
    for line in lines_of(data, segment, checked=checked, path=path):
        if not line.startswith(_EVENT):
            continue
        says = told(line)
        if says is None:
            raise Unsealed(f"its file {segment.file} cannot be read: a line is not an event")
        if wanted(says):
            yield _event_of(segment, line)


def lines_of(data: Path, segment: Segment, *, checked: bool = True, path: Path | None = None) -> Iterator[bytes]:
    """The lines of the segment's file; raises `Unsealed` as `picked` does."""
    path = path or path_of(data, segment)
    try:
        with path.open("rb") as file:
            if checked:
                if hashlib.file_digest(file, "sha256").hexdigest() != segment.file_sha256:
                    raise Unsealed(f"its file {segment.file} is not the one that was sealed")
                file.seek(0)
            with gzip.GzipFile(fileobj=file) as lines:
                yield from lines
    except FileNotFoundError:
        raise Unsealed(f"its file {segment.file} is missing") from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise Unsealed(f"its file {segment.file} cannot be read: {error}") from None


def _event_of(segment: Segment, line: bytes) -> Sealed:
    try:
        return Sealed.of_line(line.decode().removesuffix("\n"))
    except ValueError as error:
        raise Unsealed(f"its file {segment.file} cannot be read: {error}") from None


def name_of(first_time: str, first: int, last: int) -> str:
    return f"{first_time[:7]}-{first:012}-{last:012}.jsonl.gz"


def months(connection: Connection, cut: datetime) -> Sequence[Month]:
    """What would be sealed of events before *cut*, month by month; the newest event of all always stays."""
    first, last = _range(connection, cut)
    month = func.substr(event_index.c.time, 1, 7)
    counted = select(month, func.count(), func.min(event_index.c.seq), func.max(event_index.c.seq))
    within = counted.where(event_index.c.seq >= first, event_index.c.seq <= last).group_by(month).order_by(month)
    return [Month(*row) for row in connection.execute(within)]


def next_events(connection: Connection, cut: datetime) -> Sequence[Sealed]:
    """The oldest events before *cut* that are in no segment, of one month, for one segment."""
    first, last = _range(connection, cut)
    if last < first:
        return ()
    query = select(events).where(events.c.seq >= first, events.c.seq <= last).order_by(events.c.seq).limit(MOST)
    found: list[Sealed] = []
    begun = ""
    for row in connection.execute(query):
        event = Sealed(row.seq, row.body, row.hash)
        month = time_of(event)[:7]
        begun = begun or month
        if month != begun:
            break
        found.append(event)
    return found


def time_of(event: Sealed) -> str:
    """When it happened, as it says."""
    return str(event.record()["time"])


def _range(connection: Connection, cut: datetime) -> tuple[int, int]:
    """The numbers of the first and the last event to seal; the last is less when there is none."""
    first = sealed_until(connection) + 1
    wanted = select(event_index.c.seq).where(event_index.c.time >= time_text(cut))
    near = wanted.order_by(event_index.c.time).limit(_DISORDER).subquery()
    stays = connection.execute(select(func.min(near.c.seq))).scalar()
    newest = int(connection.execute(select(func.max(event_index.c.seq))).scalar() or 0)
    return first, min(newest, stays or newest) - 1
