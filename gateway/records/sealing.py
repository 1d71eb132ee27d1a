"""Sealing: events put into a segment, which then leave the table; and segments purged, whose files go later.

    draft ──▶ read back ──▶ its own name, its row ──▶ the events leave, a few at a time
                            one transaction           each compared with what was sealed

A draft gets the name that its row says in the transaction that records it, where no row has that name yet: whoever
seals at the same moment, or dies, the file of a row is the one that the row describes.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from sqlalchemy import Connection, delete, func, insert, select, text, update

from gateway.audit.chain import Head, Sealed, digest, fault
from gateway.change import Change, Notes
from gateway.errors import Conflict, Occupied, Unavailable
from gateway.records.database import Database
from gateway.records.evidence_tables import segments
from gateway.records.schema import event_index, events
from gateway.records.segments import (
    FOLDER,
    Segment,
    Unsealed,
    end_of,
    events_of,
    name_of,
    path_of,
    sealed_until,
    time_of,
)

#: So many events leave the table in one transaction: it holds the writers' lock for some milliseconds.
SLICE = 200
#: The number of the lock that hosts on one database share: any constant, the same in every process.
_ADVISORY: Final = 0x7365_616C
_DRAFT: Final = ".draft-"
_OTHERS: Final = "Others are sealing events; try again when they have ended."


@dataclass(frozen=True, slots=True)
class Left:
    """So many events left; with *foreign* none did, for the event of that number is not the one that was sealed."""

    events: int
    foreign: int | None = None


def alone(database: Database) -> ExitStack:
    """
    Holds off whoever else would seal or purge, on this host and on others with the same database, until it is closed.

    Raises `Occupied` at once while others do, and `Unavailable` when the data directory cannot be written. What one
    that died left unfinished in the folder is cleared away.
    """
    with ExitStack() as held:
        try:
            file = held.enter_context((database.data / "sealing-lock").open("ab"))
        except OSError as error:
            raise Unavailable(_unwritable(database.data, error)) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Occupied(_OTHERS) from None
        if not database.sqlite:
            # Held by a transaction, it goes with the connection, whatever becomes of this process.
            connection = held.enter_context(database.engine.connect())
            connection.exec_driver_sql("BEGIN")
            held.callback(_end, connection)
            # A server that ends idle transactions would end this one while a file is written.
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            if not connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({_ADVISORY})").scalar():
                raise Occupied(_OTHERS)
        for draft in (database.data / FOLDER).glob(f"{_DRAFT}*"):
            with contextlib.suppress(OSError):
                draft.unlink()
        return held.pop_all()


def write(data: Path, found: Sequence[Sealed], previous: Head, statement: str) -> Segment:
    """
    Puts *found*, which follow *previous*, into a draft on disk, with the signed *statement* at its end.

    `record` makes the draft the segment's file. Raises `Unavailable` when it cannot be written.
    """
    folder = data / FOLDER
    first, last = found[0], found[-1]
    lines = (f"{line}\n".encode() for line in (*(event.line() for event in found), statement))
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=_DRAFT, delete=False) as file:
            try:
                _pack(file, lines)
                content = Path(file.name).read_bytes()
                segment = Segment(
                    first_seq=first.seq,
                    last_seq=last.seq,
                    first_time=time_of(first),
                    last_time=time_of(last),
                    previous_hash=previous.hash,
                    last_hash=last.hash,
                    file=name_of(time_of(first), first.seq, last.seq),
                    file_bytes=len(content),
                    file_sha256=hashlib.sha256(content).hexdigest(),
                )
                os.replace(file.name, draft_of(data, segment))
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(file.name)
                raise
    except OSError as error:
        raise Unavailable(_unwritable(folder, error)) from error
    return segment


def draft_of(data: Path, segment: Segment) -> Path:
    """Where the segment's draft is: no other has the name, for it has what is in it."""
    return data / FOLDER / f"{_DRAFT}{segment.file_sha256}"


def checked(found: Iterable[Sealed], previous: Head) -> Head:
    """The place of the last of *found*; raises `Conflict` unless they follow one another, and *previous*."""
    for event in found:
        wrong = fault(previous, event)
        if wrong:
            raise Conflict(f"The trail is damaged: {wrong}; nothing more was sealed. Run: gateway audit verify")
        previous = Head(event.seq, event.hash)
    return previous


def read_back(data: Path, segment: Segment) -> None:
    """Raises `Unavailable` unless the draft gives back what was written: it is about to be the only copy."""
    wrong = f"The segment {segment.file} was not written as it should be; check the disk."
    try:
        last = checked(events_of(data, segment, path=draft_of(data, segment)), segment.previous)
    except (Unsealed, Conflict) as error:
        raise Unavailable(wrong) from error
    if last != segment.head:
        raise Unavailable(wrong)


def record(data: Path, segment: Segment) -> Change:
    """
    Gives the segment's draft its name, and keeps that the events are in it; from then on they may leave the table.

    On commit raises `Conflict` if somebody else sealed meanwhile, and `Unavailable` when the draft is gone.
    """

    def apply(connection: Connection) -> Notes:
        if end_of(connection) != segment.previous:
            raise Conflict("Another process is sealing events; wait until it has ended.")
        row = {name: getattr(segment, name) for name in Segment.__slots__}
        connection.execute(insert(segments).values(row))
        try:
            # No row had this name: what may lie under it was never committed.
            os.replace(draft_of(data, segment), data / FOLDER / segment.file)
            _sync(data / FOLDER)
        except OSError as error:
            raise Unavailable(_unwritable(data / FOLDER, error)) from error
        told = {"file": segment.file, "sha256": segment.file_sha256, "first": segment.first_seq}
        return Notes(detail={**told, "last": segment.last_seq, "hash": segment.last_hash.hex()})

    return Change(apply)


def leave(proven: int, hashes: Mapping[int, bytes]) -> Change:
    """
    Takes a few events that are in segments out of the table; the result is how many `Left`.

    The files up to the event with the number *proven* were read, and hold events with these *hashes*; so has what each
    first one follows. What is not the same in the table stays there.
    """

    def apply(connection: Connection) -> Notes:
        until = min(proven, sealed_until(connection))
        oldest = connection.execute(select(func.min(events.c.seq)).where(events.c.seq <= until)).scalar()
        if oldest is None:
            return Notes(result=Left(0))
        last = min(until, oldest + SLICE - 1)
        leaving = connection.execute(select(events).where(events.c.seq <= last).order_by(events.c.seq)).all()
        for row in leaving:
            sealed, before = hashes.get(row.seq), hashes.get(row.seq - 1)
            if sealed is None or before is None or not sealed == row.hash == digest(before, row.body):
                return Notes(result=Left(0, row.seq))
        connection.execute(delete(event_index).where(event_index.c.seq <= last))
        if connection.dialect.name == "sqlite":
            gone = connection.execute(delete(events).where(events.c.seq <= last)).rowcount
        else:
            # The role that serves may not delete events; this function of the schema may, what segments cover.
            gone = int(connection.execute(text("SELECT events_leave(:last)"), {"last": last}).scalar_one())
        if gone != len(leaving):
            raise Conflict("Events changed while they left the database; nothing did. Run: gateway audit verify")
        return Notes(result=Left(gone))

    return Change(apply)


def purge(segment: Segment, stub: str) -> Change:
    """Keeps the signed *stub* in the place of the segment, whose file may go a day later."""

    def apply(connection: Connection) -> Notes:
        mine = segments.c.last_seq == segment.last_seq
        connection.execute(update(segments).where(mine).values(stub=stub))
        told = {"purged": segment.file, "sha256": segment.file_sha256, "first": segment.first_seq}
        return Notes(detail={**told, "last": segment.last_seq, "hash": segment.last_hash.hex()})

    return Change(apply)


def remove_file(data: Path, segment: Segment) -> None:
    """Removes the file of a purged segment, durably; nothing if it is gone. Raises `Unsealed` as `path_of` does."""
    with contextlib.suppress(FileNotFoundError):
        path_of(data, segment).unlink()
        _sync(data / FOLDER)


def _unwritable(folder: Path, error: OSError) -> str:
    return f"Nothing was sealed: {folder} cannot be written to ({(error.strerror or 'unknown reason').lower()})."


def _end(connection: Connection) -> None:
    with contextlib.suppress(Exception):
        connection.exec_driver_sql("ROLLBACK")


def _pack(file: IO[bytes], lines: Iterable[bytes]) -> None:
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as packed:
        for line in lines:
            packed.write(line)
    file.flush()
    os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
