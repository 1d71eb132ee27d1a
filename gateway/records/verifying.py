"""Verifying the trail: segments, chain, head, projection and checkpoints, in one reading of everything.

Events are read as the driver gives them and decoded once: of every event a few microseconds are asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, func, select

from gateway.audit.chain import Head, Sealed, fault, head_seal, told
from gateway.audit.offline import Unreadable, fault_of, read_key
from gateway.audit.trail import Verification
from gateway.records import checkpoints, segments
from gateway.records.database import Database
from gateway.records.schema import event_index, events, trail_head
from gateway.records.segments import Segment, Unsealed

_PAGE: Final = 2000
_FIELDS: Final = ("time", "kind", "outcome", "principal", "project", "repository", "digest", "address")
_ROWS: Final = (
    f"SELECT e.seq, {{body}}, e.hash, i.seq, {', '.join(f'i.{name}' for name in _FIELDS)} "  # noqa: S608 - constants
    "FROM events e LEFT JOIN event_index i ON i.seq = e.seq WHERE e.seq > {after} ORDER BY e.seq LIMIT {limit}"
)

#: The body as it is read fastest: SQLite keeps the bytes that were hashed, PostgreSQL's driver would spell them in hex.
_BODIES: Final = {"sqlite": "CAST(e.body AS BLOB)", "postgresql": "e.body"}

_Row = tuple[int, str | bytes, bytes, int | None, *tuple[Any, ...]]


class Verifier:
    """Reads the whole trail once; *key* seals the head, *against* are statements from elsewhere, rightly signed."""

    def __init__(self, database: Database, key: bytes, against: Sequence[Mapping[str, Any]] = ()) -> None:
        self._database = database
        self._key = key
        self._data: Path = database.data
        self._against: dict[int, list[Mapping[str, Any]]] = {}
        for statement in against:
            self._against.setdefault(int(statement["seq"]), []).append(statement)
        self._own: dict[int, Mapping[str, Any]] = {}
        self._head = Head()
        self._sealed = self._purged = self._compared = 0
        self._keys: dict[str, bytes] = {}
        self._search_fault: tuple[str, int] = ("", 0)

    def verify(self) -> Verification:
        """What is wrong with the first bad event, if anything; see `Verification`."""
        try:
            self._keys = {kid: read_key(pem) for kid, pem in self._read(checkpoints.public_keys).items()}
        except Unreadable:
            return self._found("a key that signs checkpoints was edited", 0)
        if self._read(_projected_until) > self._read(_last):
            self._search_fault = ("the search entries name events that do not exist", self._read(_last))
        while True:
            before = self._head
            wrong = self._step()
            if wrong is not None:
                return wrong
            if self._head == before:
                return self._end()

    def _step(self) -> Verification | None:
        """The next events after the head, from the table or from the segment that they left for."""
        until = self._read(_projected_until)
        rows = self._read(partial(_rows, after=self._head.seq))
        if not rows or rows[0][0] != self._head.seq + 1:
            segment = self._read(partial(segments.containing, seq=self._head.seq + 1))
            if segment is not None:
                return self._segment(segment)
        if rows and (wrong := self._expect(rows[-1][0])):
            return wrong
        return self._rows(rows, until)

    def _rows(self, rows: Sequence[_Row], until: int) -> Verification | None:
        seq, chained = self._head.seq, self._head.hash
        for row in rows:
            encoded = row[1] if isinstance(row[1], bytes) else row[1].encode()
            digest = row[2]
            says = told(encoded)
            if (
                says is None
                or row[0] != seq + 1
                or sha256(chained + encoded).digest() != digest
                or says.id != row[0]
                or says.previous_hash != chained.hex()
            ):
                self._head = Head(seq, chained)
                wrong = fault(self._head, Sealed(row[0], encoded.decode("utf-8", "replace"), bytes(digest)))
                return self._found(wrong or f"event {row[0]} cannot be read", row[0])
            seq, chained = row[0], bytes(digest)
            if seq <= until and (
                row[4:]
                != (
                    says.time,
                    says.kind,
                    says.outcome,
                    says.principal,
                    says.project,
                    says.repository,
                    says.digest,
                    says.address,
                )
                and not self._search_fault[0]
            ):
                self._search_fault = (f"the search entry of event {seq} was edited or removed", seq)
            if (seq in self._own or seq in self._against) and (wrong := self._contradiction(seq, chained)):
                self._head = Head(seq, chained)
                return self._found(wrong, seq)
        self._head = Head(seq, chained)
        return None

    def _segment(self, segment: Segment) -> Verification | None:
        if segment.stub:
            return self._stub(segment)
        before = self._head
        if wrong := self._expect(segment.last_seq):
            return wrong
        try:
            for page in _pages(segments.events_of(self._data, segment, self._head.seq)):
                if wrong := self._rows([(event.seq, event.body, event.hash, None) for event in page], 0):
                    return wrong
        except Unsealed as error:
            return self._found(f"the segment of event {self._head.seq + 1} is damaged: {error}", self._head.seq + 1)
        if self._head != segment.head:
            return self._found(f"the segment {segment.file} does not end with event {segment.last_seq}", self._head.seq)
        self._sealed += segment.last_seq - before.seq
        return None

    def _stub(self, segment: Segment) -> Verification | None:
        """What was purged is vouched for by the signature on its stub."""
        try:
            stub: dict[str, Any] = json.loads(segment.stub)
            named = (stub["first"], stub["seq"], stub["previous_hash"], stub["hash"])
            wrong = fault_of(stub, self._keys.get(str(stub.get("key")), bytes(32)))
        except (ValueError, KeyError, AttributeError, TypeError):
            return self._found(f"the stub of event {segment.last_seq} is damaged", segment.first_seq)
        expected = (self._head.seq + 1, segment.last_seq, self._head.hash.hex(), segment.last_hash.hex())
        if wrong or named != expected:
            return self._found(wrong or f"the stub of event {segment.last_seq} was edited", segment.first_seq)
        self._head = segment.head
        self._purged += segment.count
        self._own.clear()
        wrong = self._contradiction(segment.last_seq, segment.last_hash)
        return self._found(wrong, segment.last_seq) if wrong else None

    def _expect(self, until: int) -> Verification | None:
        """Remembers what the checkpoints kept here say of the events up to *until*, their signatures looked at."""
        after = self._head.seq
        while stored := self._read(partial(checkpoints.between, after=after, until=until)):
            for each in stored:
                try:
                    statement = each.statement
                    wrong = fault_of(statement, self._keys.get(str(statement.get("key")), bytes(32)))
                    named = (int(statement["seq"]), str(statement["hash"]), str(statement["time"]))
                except (ValueError, KeyError, AttributeError, TypeError):
                    wrong = "it cannot be read"
                if wrong or named[0] != each.seq:
                    return self._found(f"the checkpoint of event {each.seq} was edited: {wrong}", each.seq)
                self._own[each.seq] = statement
            after = stored[-1].seq
        return None

    def _contradiction(self, seq: int, chained: bytes) -> str:
        against = self._against.pop(seq, [])
        self._compared += len(against)
        own = self._own.pop(seq, None)
        for statement in (*against, *([own] if own is not None else [])):
            if statement["hash"] != chained.hex():
                return f"event {seq} is not the one that the {statement['type']} of {statement['time']} names"
        return ""

    def _end(self) -> Verification:
        """The end of the chain against the head kept beside it, and against what statements from elsewhere name."""
        head = self._head
        kept = self._read(_kept_head)
        if kept is None:
            return self._found("the record of the chain's head is missing", head.seq)
        recorded, seal = kept
        if seal != head_seal(recorded, self._key) and recorded.seq > 0:
            return self._found("the record of the chain's head was edited", head.seq)
        if recorded.seq > head.seq and self._read(_last) <= head.seq:
            return self._found(f"events {head.seq + 1} to {recorded.seq} were cut off the end", head.seq + 1)
        if recorded.seq == head.seq and recorded.hash != head.hash:
            return self._found(f"event {head.seq} is not the one sealed last", head.seq)
        if recorded.seq < head.seq and self._read(_kept_head) == kept:
            return self._found(f"event {recorded.seq + 1} was added after the chain's head", recorded.seq + 1)
        newest = self._read(checkpoints.newest)
        if newest is not None and newest.seq > head.seq and self._read(_last) <= head.seq:
            wrong = f"events {head.seq + 1} to {newest.seq} are gone: a checkpoint names the last of them"
            return self._found(wrong, head.seq + 1)
        beyond = [seq for seq in self._against if seq > head.seq]
        if beyond:
            last = max(beyond)
            moment = self._against[last][0]["time"]
            wrong = f"events {head.seq + 1} to {last} are gone: the checkpoint of {moment} names event {last}"
            return self._found(wrong, head.seq + 1)
        text, seq = self._search_fault
        return self._found(text, seq)

    def _found(self, wrong: str, seq: int) -> Verification:
        return Verification(
            count=self._head.seq,
            head=self._head.hash.hex(),
            fault=wrong,
            seq=seq if wrong else 0,
            sealed=self._sealed,
            purged=self._purged,
            compared=self._compared,
        )

    def _read(self, query: Any) -> Any:
        return self._database.read_now(query)


def _rows(connection: Connection, after: int) -> list[_Row]:
    with closing(connection.connection.cursor()) as cursor:
        cursor.execute(_ROWS.format(body=_BODIES[connection.dialect.name], after=int(after), limit=_PAGE))
        return [*cursor.fetchall()]


def _pages(found: Iterator[Sealed]) -> Iterator[list[Sealed]]:
    page: list[Sealed] = []
    for event in found:
        page.append(event)
        if len(page) == _PAGE:
            yield page
            page = []
    if page:
        yield page


def _last(connection: Connection) -> int:
    return int(connection.execute(select(func.max(events.c.seq))).scalar() or 0)


def _projected_until(connection: Connection) -> int:
    return int(connection.execute(select(func.max(event_index.c.seq))).scalar() or 0)


def _kept_head(connection: Connection) -> tuple[Head, bytes] | None:
    row = connection.execute(select(trail_head.c.seq, trail_head.c.hash, trail_head.c.seal)).first()
    return (Head(row.seq, bytes(row.hash)), bytes(row.seal)) if row is not None else None
