"""Proving segments: what a row says of a file, or of one that is gone, is believed as far as file and signature go.

Whoever can write to the database can put a key, a segment or a stub there; not what only the data directory has: the
files, and the secret under which the keys that sign are sealed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from gateway.audit.chain import BREAK, Head, Sealed, fault, told
from gateway.audit.checkpoints import CheckpointKey, statement_of
from gateway.audit.offline import fault_of, read_key
from gateway.errors import Invalid
from gateway.records import segments
from gateway.records.database import Database
from gateway.records.evidence_tables import checkpoint_keys
from gateway.records.schema import events
from gateway.records.segments import Segment, Unsealed, lines_of, time_of

#: Raw public keys by their ids.
Keys = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Proven:
    """
    What the file of a segment proves: when it was sealed, as the signed statement at its end says.

    *broken* is the first of its events that tells of an edited end, or 0.
    """

    sealed_at: datetime
    broken: int


def owned_keys(connection: Connection, secret: bytes) -> Keys:
    """The keys of this data directory: those whose private half opens under its *secret*, whatever else is there."""
    found: dict[str, bytes] = {}
    for row in connection.execute(select(checkpoint_keys.c.kid, checkpoint_keys.c.sealed)):
        try:
            found[row.kid] = read_key(CheckpointKey.opened(bytes(row.sealed), row.kid, secret).public_pem)
        # A row may hold anything at all.
        except (Invalid, TypeError, AttributeError):
            continue
    return found


def oldest_event(connection: Connection) -> int | None:
    """The number of the oldest event in the table, None if there is none."""
    seq = connection.execute(select(func.min(events.c.seq))).scalar()
    return int(seq) if seq is not None else None


def is_here(connection: Connection, segment: Segment) -> bool:
    """Whether the table has any of the segment's events."""
    mine = (events.c.seq >= segment.first_seq) & (events.c.seq <= segment.last_seq)
    return connection.execute(select(events.c.seq).where(mine).limit(1)).first() is not None


def newest_time(connection: Connection) -> datetime | None:
    """When the newest event happened, as it says; None before the first."""
    row = connection.execute(select(events).order_by(events.c.seq.desc()).limit(1)).first()
    return _happened(row.body) if row is not None else None


def newest_of_others(database: Database, keys: Keys) -> datetime | None:
    """
    As `newest_time`, of an event that no sealing or purging made.

    Where the table has none, it is the last event of the newest segment whose file, or signed stub, proves when that
    was: some tenths of a second. Where none proves it, it is the oldest event there is; None without any.
    """
    others = select(events.c.body).where(events.c.body.not_like('%"kind":"audit.retain"%'))
    body = database.read_now(lambda each: each.execute(others.order_by(events.c.seq.desc()).limit(1)).scalar())
    if body is not None:
        return _happened(body)
    for segment in reversed(database.read_now(segments.every)):
        if _is_proven(database.data, segment, keys):
            return datetime.fromisoformat(segment.last_time)
    # The newest may be from a clock that is ahead, and vouch for it.
    oldest = database.read_now(lambda each: each.execute(select(events).order_by(events.c.seq).limit(1)).first())
    return _happened(oldest.body) if oldest is not None else None


def stub_of(segment: Segment, proven: Proven, key: CheckpointKey, moment: datetime) -> str:
    """What stands where the segment was, from when it is purged at this *moment*, its file having *proven* the rest."""
    ends = segment.first_seq, segment.previous, segment.head
    return key.purge(*ends, moment, segment.file_sha256, segment.period, proven.broken)


def stub_fault(segment: Segment, keys: Keys, only: str = "") -> str:
    """
    What is wrong with the stub of a purged segment, or "".

    It says what the row says, and is signed by one of *keys*: by the one with the id *only*, if that is given.
    """
    try:
        stub = statement_of(segment.stub)
        wrong = _statement_fault(stub, "purge", segment, keys, only)
        edited = stub["file_sha256"] != segment.file_sha256
        # Those of older gateways tell no period.
        edited = edited or segment.period not in (None, (segment.first_time, segment.last_time))
    except (ValueError, KeyError, AttributeError, TypeError):
        return f"the stub of event {segment.last_seq} is damaged"
    return wrong or (f"the stub of event {segment.last_seq} was edited" if edited else "")


def prove(data: Path, segment: Segment, keys: Keys, hashes: dict[int, bytes] | None = None) -> Proven:
    """
    Reads all of the segment's file, and returns what it proves.

    The *hashes* of its events, and of the one before, are put there by their numbers. Raises `Unsealed` unless the row
    names this file and its digest, and the numbers, times and hashes of its events, which follow one another, and the
    statement says the same and is signed by one of *keys*. Some tenths of a second.
    """
    lines = lines_of(data, segment)
    head, times, broken = segment.previous, ("", ""), 0
    if hashes is not None:
        hashes[head.seq] = head.hash
    for event in _events(lines, segment.count):
        if wrong := fault(head, event):
            raise Unsealed(f"in its file {segment.file} {wrong}")
        head = Head(event.seq, event.hash)
        if hashes is not None:
            hashes[head.seq] = head.hash
        times = times[0] or time_of(event), time_of(event)
        if not broken and BREAK in event.body and (says := told(event.body)) is not None and says.kind == BREAK:
            broken = event.seq
    if head != segment.head or times != (segment.first_time, segment.last_time):
        raise Unsealed(f"its file {segment.file} holds other events")
    try:
        statement = statement_of(next(lines, b""))
        wrong = _statement_fault(statement, "segment", segment, keys)
        sealed_at = datetime.fromisoformat(str(statement["time"]))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise Unsealed(f"its file {segment.file} does not end with a signed statement") from None
    if wrong:
        raise Unsealed(f"in its file {segment.file} {wrong}")
    return Proven(sealed_at, broken)


def _is_proven(data: Path, segment: Segment, keys: Keys) -> bool:
    """Whether its file, or its signed stub, says that the segment's times are those of its row."""
    if segment.stub:
        return not stub_fault(segment, keys) and segment.period is not None
    try:
        prove(data, segment, keys)
    except Unsealed:
        return False
    return True


def _happened(body: str) -> datetime:
    return datetime.fromisoformat(time_of(Sealed(0, body, b"")))


def _events(lines: Iterator[bytes], count: int) -> Iterator[Sealed]:
    for _ in range(count):
        try:
            yield Sealed.of_line(next(lines, b"").decode().removesuffix("\n"))
        except ValueError:
            raise Unsealed("its file holds fewer events") from None


def _statement_fault(statement: Mapping[str, Any], kind: str, segment: Segment, keys: Keys, only: str = "") -> str:
    named = tuple(statement[name] for name in ("type", "first", "seq", "previous_hash", "hash"))
    ends = (segment.first_seq, segment.last_seq, segment.previous_hash.hex(), segment.last_hash.hex())
    kid = str(statement.get("key"))
    what = f"the {'stub' if kind == 'purge' else kind} of event {segment.last_seq}"
    if kid not in keys or (only and kid != only):
        return f"{what} was signed by another key"
    return fault_of(statement, keys[kid]) or (f"{what} was edited" if named != (kind, *ends) else "")
