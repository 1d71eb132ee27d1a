"""The chain: each event carries the hash of the one before it, so that none can be changed, lost or moved unseen."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, Self

import msgspec
from msgspec.structs import astuple

_ENCODER = msgspec.json.Encoder(order="sorted")
#: What some readers take for the end of a line, though JSON does not.
_BREAKS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
_LINE = '{"hash":"'
_BODY = len(_LINE) + 64 + 2


class Told(msgspec.Struct, gc=False):
    """What of an event says where it belongs, and what searches find it by."""

    id: int
    previous_hash: str
    time: str = ""
    kind: str = ""
    outcome: str = ""
    principal: str = ""
    project: str = ""
    repository: str = ""
    digest: str = ""
    address: str = ""


_TOLD = msgspec.json.Decoder(Told)
#: What is raised for a text that is no event; of what nests too deeply, the last one.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
#: An event as it is kept: its number, the bytes of its canonical form and its hash; then the fields of `Told` from the
#: time on, as searches have them: one by one, all in the text of one JSON array, or nothing.
Kept = tuple[int, bytes, bytes, *tuple[Any, ...]]

#: The kind of the event that tells that the end of the trail was edited before it.
BREAK = "audit.break"
#: When an event happened that does not say it: nothing counts it.
UNTIMED: Final = "1970-01-01T00:00:00.000000Z"
_TIME: Final = len(UNTIMED)
_MARKS: Final = UNTIMED[4::3][:6]
#: Of the last year of the calendar no time is one: what is counted by the day has to have a day after it.
_LAST_YEAR: Final = "9999"
#: What the record of a row says that was edited until it was no event any more.
_EDITED: Final = {"time": UNTIMED, "kind": "", "outcome": "failed", "reason": "edited"}
HASH_BYTES: Final = 32
#: The hash before the first event.
GENESIS = bytes(HASH_BYTES)


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain stands: the number and hash of its last event; (0, 32 zero bytes) before the first."""

    seq: int = 0
    hash: bytes = GENESIS


@dataclass(frozen=True, slots=True)
class Sealed:
    """An event in its place: *body* is its canonical form, *hash* that of the previous hash followed by the body."""

    seq: int
    body: str
    hash: bytes

    def record(self) -> dict[str, object]:
        """
        The event as a mapping: `id`, its fields, and its `hash` in hexadecimal.

        Of an edited row that is no event any more it says at least its number, and that it was edited. Its `time` is
        always one: `UNTIMED` where none is told.
        """
        record = fields(self.body)
        timed = is_time(record.get("time"))
        if not timed or "kind" not in record or "outcome" not in record:
            record = {**_EDITED, "id": self.seq, **record}
        if not timed:
            record["time"] = UNTIMED
        record["hash"] = self.hash.hex()
        return record

    def line(self) -> str:
        """The event as it leaves the gateway: its hash and then, letter by letter, what was sealed; one JSON object."""
        return line(self.body, self.hash)

    @classmethod
    def of_line(cls, line: str) -> Self:
        """Undoes `line`; raises `ValueError` for anything else."""
        if not line.startswith(_LINE) or line[_BODY - 2 : _BODY] != '",':
            raise ValueError("not a line of an export")
        body = "{" + line[_BODY:]
        return cls(_TOLD.decode(body).id, body, bytes.fromhex(line[len(_LINE) : len(_LINE) + 64]))


def as_hash(value: object) -> bytes:
    """The hash that a row has: in place of *value*, if it is none, stand zeros, with which nothing agrees."""
    return value if isinstance(value, bytes) and len(value) == HASH_BYTES else GENESIS


def as_text(value: object) -> str:
    """The canonical form that a row has: of *value*, if it is no text, what can be read, which is no event."""
    return value if isinstance(value, str) else value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def is_time(text: object) -> bool:
    """Whether it is a time as events tell times, and none before 1970 or in the last year of the calendar."""
    if not isinstance(text, str) or len(text) != _TIME or text[4::3][:6] != _MARKS or text[-1] != "Z":
        return False
    try:
        # Of what has these marks, the only form that this takes.
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return UNTIMED <= text < _LAST_YEAR


def fields(body: str) -> dict[str, object]:
    """What an event with this canonical form says; nothing if it is none."""
    try:
        found: dict[str, object] = msgspec.json.decode(body, type=dict)
    except _UNREADABLE:
        return {}
    return found


def line(body: str, hashed: bytes) -> str:
    """As `Sealed.line`."""
    return f'{{"hash":"{hashed.hex()}",{body[1:]}'


def canonical(record: Mapping[str, object]) -> str:
    """One line of JSON, keys sorted, no spaces: the same mapping always gives the same text."""
    text = _ENCODER.encode(record).decode()
    return text if text.isascii() else text.translate(_BREAKS)


def seal(head: Head, record: Mapping[str, object]) -> Sealed:
    """*record* as the event after *head*; its `id` is its number in the chain."""
    seq = head.seq + 1
    body = canonical({**record, "id": seq, "previous_hash": head.hash.hex()})
    return Sealed(seq, body, digest(head.hash, body))


def digest(previous: bytes, body: str) -> bytes:
    """SHA-256 of the previous event's hash followed by this one's canonical form."""
    return sha256(previous + body.encode()).digest()


def head_seal(head: Head, key: bytes) -> bytes:
    """A keyed hash of the chain's head, kept beside it: events cut off the end are missed without the key."""
    return hmac.digest(key, b"trail head" + head.seq.to_bytes(8, "big") + head.hash, "sha256")


def told(body: bytes | str) -> Told | None:
    """What an event with this canonical form says, in a microsecond; None if it is none."""
    try:
        return _TOLD.decode(body)
    except _UNREADABLE:
        return None


def fault(previous: Head, event: Sealed) -> str:
    """What is wrong with *event* as the one after *previous*, in words, or "" if nothing is."""
    if event.seq != previous.seq + 1:
        return f"event {previous.seq + 1} is missing; the next one is {event.seq}"
    if sha256(previous.hash + event.body.encode()).digest() != event.hash:
        return f"event {event.seq} was edited, or does not follow event {previous.seq}"
    place = told(event.body.encode())
    if place is None:
        return f"event {event.seq} is not JSON"
    if place.id != event.seq or place.previous_hash != previous.hash.hex():
        return f"event {event.seq} was moved here from elsewhere"
    return ""


@dataclass(frozen=True, slots=True)
class Followed:
    """
    How far events follow one another: up to *head*; *fault* is what is wrong with the next one, or "".

    *unlike* is the number of the first event that searches have other fields of than it says, or 0; *broken* that of
    the first that tells of an edited end.
    """

    head: Head
    fault: str = ""
    unlike: int = 0
    broken: int = 0


def follow(head: Head, events: Iterable[Kept], searched: int) -> Followed:
    """Follows *events* from the one after *head*; those up to the number *searched* have their fields beside them."""
    seq, chained, unlike, broken = head.seq, head.hash, 0, 0
    decode = _TOLD.decode
    for event in events:
        body, kept = event[1], event[2]
        try:
            says = decode(body)
        except _UNREADABLE:
            says = None
        if (
            says is None
            or sha256(chained + body).digest() != kept
            or event[0] != seq + 1
            or says.id != event[0]
            or says.previous_hash != chained.hex()
        ):
            place = Head(seq, chained)
            wrong = fault(place, Sealed(event[0], body.decode("utf-8", "replace"), kept))
            return Followed(place, wrong or f"event {event[0]} cannot be read", unlike, broken)
        seq, chained = event[0], kept
        if says.kind == BREAK and not broken:
            broken = seq
        if seq <= searched and not unlike and not _found_by(event, astuple(says)[2:]):
            unlike = seq
    return Followed(Head(seq, chained), unlike=unlike, broken=broken)


def _found_by(event: Kept, fields: tuple[str, ...]) -> bool:
    """Whether searches have these *fields* of the event."""
    if len(event) != 4:
        return event[3:] == fields
    entry = event[3]
    # Where nothing is escaped, the only quotes are those round the fields.
    if entry == '["' + '","'.join(fields) + '"]' and "\\" not in entry:
        return True
    try:
        return bool(json.loads(entry) == list(fields))
    except ValueError:
        return False
