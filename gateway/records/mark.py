"""The mark: how far the trail has reached, kept outside of the database, so that putting back its end shows.

    DATA/trail-mark     number of the last event · its hash · the seal of both, written after every commit, not synced

Whoever can write the database alone can put back an older end of the trail, with the seal that it had then; not the
mark. After a crash of the machine, or where another host has gone on, the mark may be older than the trail, never
newer: every event since then follows the one before it (`descent`).
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import DBAPICursor

from gateway.access.principals import LOCAL, SYSTEM, Caller, Origin
from gateway.audit.chain import Head, as_hash, head_seal
from gateway.audit.event import Event, Kind, Outcome
from gateway.records import driver

_log = logging.getLogger("gateway.ledger")
_BYTES: Final = 8 + 32 + 32
_UNSEALED: Final = bytes(32)
_BEGINNING: Final = Head()
#: What is so far behind the last event is not gone on after: numbers would come to an end. Whoever verifies finds it.
FAR: Final = 1 << 40
_GREATEST: Final = (1 << 63) - 1
# Said to the driver itself, before every commit.
_HEAD: Final = "SELECT seq, hash, seal, (SELECT max(seq) FROM events) FROM trail_head WHERE id = 1"
#: The record, and whatever else is in its table.
_RECORDS: Final = "SELECT id, seq, hash, seal FROM trail_head ORDER BY id <> 1, id LIMIT 2"
_LAST: Final = "SELECT seq, hash FROM events WHERE seq > {after} AND seq <= {until} ORDER BY seq DESC LIMIT 1"
_KEPT: Final = "SELECT hash FROM events WHERE seq = {seq}"
_SEALED: Final = "SELECT last_seq, last_hash FROM segments WHERE first_seq <= {seq} AND last_seq >= {seq}"


@dataclass(frozen=True, slots=True)
class Record:
    """
    What the database has of the chain's head.

    *fault* says in words what is wrong with the table that the record is in, or is empty; without a record, nothing has
    been recorded, under a seal that fits nothing.
    """

    head: Head = _BEGINNING
    seal: bytes = b""
    fault: str = ""

    @classmethod
    def of(cls, seq: object, hashed: object, seal: object, fault: str = "") -> Self:
        """What a row holds, whatever that is: of what no event has for its number there is no seal that fits."""
        if isinstance(seq, int) and 0 <= seq <= _GREATEST:
            return cls(Head(seq, as_hash(hashed)), as_hash(seal), fault)
        return cls(fault=fault)

    def is_sealed(self, key: bytes) -> bool:
        """Whether it is as it was written, by who had the *key*."""
        return hmac.compare_digest(self.seal, head_seal(self.head, key))


def recorded(connection: Connection) -> Record:
    """The record of the chain's head."""
    rows = driver.rows_of(connection, _RECORDS)
    if not rows or rows[0][0] != 1:
        return Record(fault="the record of the chain's head is missing")
    _, seq, hashed, seal = rows[0]
    return Record.of(seq, hashed, seal, "there is another record of the chain's head" if rows[1:] else "")


class Mark:
    """The mark of one data directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def write(self, head: Head, seal: bytes) -> None:
        """The trail has reached *head*, for good. Under the writers' lock; a mark that cannot be written stays old."""
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.pwrite(self._descriptor, head.seq.to_bytes(8, "big") + head.hash + seal, 0)
        except OSError as error:
            _log.warning("how far the trail has reached cannot be noted beside the database: %s", error.strerror)

    def read(self, key: bytes) -> Head | None:
        """What was written last; None without any, or if it is not whole."""
        try:
            content = self._path.read_bytes()
        except OSError:
            return None
        head = Head(int.from_bytes(content[:8], "big"), content[8:40])
        return head if len(content) == _BYTES and hmac.compare_digest(content[40:], head_seal(head, key)) else None

    def close(self) -> None:
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


def kept_hash(rows: Callable[[str], Sequence[Any]], seq: int) -> bytes | None:
    """
    The hash that the records have of the event of this number; *rows* answers a statement.

    It is empty if there is no such event, and None if only a segment's file could tell.
    """
    # The table first: what leaves it meanwhile is in a segment by then.
    for row in rows(_KEPT.format(seq=int(seq))):
        return as_hash(row[0])
    for last, hashed in rows(_SEALED.format(seq=int(seq))):
        return as_hash(hashed) if last == seq else None
    return b""


def fault_at(mark: Head, kept: bytes | None) -> str:
    """What is wrong, in words, with an event that has the hash *kept* in place of the *mark*, or "" if nothing is."""
    if kept in {mark.hash, None}:
        return ""
    return f"event {mark.seq} is not the one sealed there: an older end was put back, and the trail went on"


def fault_of_end(head: Head, seal: bytes, key: bytes, mark: Head | None, between: Callable[[Head, Head], str]) -> str:
    """
    What is wrong with the record of the chain's head, in words, or "" if nothing is.

    *mark* was read before the record was; *between* says what is wrong between an older one and the head, or "".
    """
    begun = head == Head() and seal == _UNSEALED and mark is None
    if not begun and not hmac.compare_digest(seal, head_seal(head, key)):
        return "the record of the chain's head was edited"
    if mark is not None and mark.seq > head.seq:
        return f"events {head.seq + 1} to {mark.seq} were cut off the end"
    if mark is not None and mark.seq == head.seq and mark.hash != head.hash:
        return f"event {head.seq} is not the one sealed last"
    return between(mark, head) if mark is not None and mark.seq < head.seq else ""


def end_of_chain(
    cursor: DBAPICursor, mark: Head | None, key: bytes, between: Callable[[Head, Head], str]
) -> tuple[Head, Event | None]:
    """
    Where the chain goes on, in a transaction of the writers; and, if its end was edited, the event that has to be next.

    *between* is asked as by `fault_of_end`, and takes no row at its word. What is there beyond the record of the head
    is gone on after, unless it is `FAR`: it stays as it was found.
    """
    rows = partial(_rows, cursor)
    # Without a record, the seal of nothing fits as little.
    *kept, last = next(iter(rows(_HEAD)), (None, None, None, None))
    record = Record.of(*kept)
    head = record.head
    wrong = fault_of_end(head, record.seal, key, mark, between)
    if not wrong and (last is None or last <= head.seq):
        return head, None
    whole = record.is_sealed(key)
    # A record that was edited tells nothing of how far the trail had come.
    near = head.seq if whole else mark.seq if mark is not None else 0
    found = last_after(rows, head.seq if whole else 0, near)
    if not wrong and found is not None:
        wrong = f"an event {found.seq} was put in after event {head.seq}, which was the last"
    if not wrong:
        return head, None
    _log.error("the end of the trail was edited: %s; what follows goes on after an event that tells so", wrong)
    if found is not None or head.seq > near + FAR:
        head = found or Head()
    reached = {"reached": mark.seq} if mark is not None else {}
    caller = Caller(SYSTEM, Origin("local", "local", "gateway", secrets.token_hex(16)), LOCAL)
    told = {"fault": wrong, **reached}
    return head, Event(Kind.AUDIT_BREAK, caller, Outcome.FAILED, reason="trail_edited", detail=told)


def last_after(rows: Callable[[str], Sequence[Any]], after: int, near: int = 0) -> Head | None:
    """
    The last of the rows behind the event *after* that the chain may go on after; None if there is none.

    None of them is `FAR` behind the one before it, or behind the number *near*, and none follows it so closely that it
    would be in the way.
    """
    found = None
    until = max(after, near) + FAR
    while kept := rows(_LAST.format(after=int(after), until=min(until, _GREATEST - FAR))):
        [(after, hashed)] = kept
        found, until = Head(after, as_hash(hashed)), after + FAR
    return found


def _rows(cursor: DBAPICursor, statement: str) -> Sequence[Any]:
    cursor.execute(statement)
    return cursor.fetchall()
