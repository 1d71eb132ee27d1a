"""Verifies an export of the trail on any machine: one file of the standard library, run as it is or copied alone.

    python -m gateway.audit.offline EXPORT… --checkpoint FILE --key KEY.pem        or: python offline.py …

An export is JSON lines, also compressed: of `gateway audit export`, a sink, an evidence pack, or segments in turn.
Events are followed by their hashes; signed statements (checkpoints, segments, purges) by their Ed25519 signatures.
Exit status: 0 whole · 1 it is not, or a checkpoint given could not be compared · 2 it cannot be read.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

GENESIS: Final = "0" * 64
#: What some readers take for the end of a line, though JSON does not.
_BREAKS: Final = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
DOMAIN: Final = b"registry-gateway trail v1\n"  # begins what is signed
_EVENT: Final = '{"hash":"'
#: What the gateway adds when it finds the end of its trail edited.
_BREAK: Final = '"kind":"audit.break"'
_BODY: Final = len(_EVENT) + 64 + 2
#: The members of an event's line in a pack.
_PACKED: Final = {"seq", "hash", "body"}
_SIGNED: Final = ("checkpoint", "segment", "purge")
#: Fields that readers of an event always see; in what was sealed they are left out when they are empty.
_EMPTY: Final = ("project", "repository", "reference", "digest", "reason")
_DER: Final = bytes.fromhex("302a300506032b6570032100")
#: How far back an event may come again: sinks deliver at least once.
_REMEMBERED: Final = 65_536


class Unreadable(Exception):
    """What was given is no export, checkpoint or key; the message says which, and why."""


@dataclass(slots=True)
class Report:
    """
    What verifying found. *fault* says in words what is wrong first, or is empty; *seq* is where.

    *proven* of the *count* events are followed, without a break, by one that a signed statement names; *newest* is the
    last such statement. *purged* events are gone, and a signed stub vouches for their place; *gaps* are missing ranges.
    *uncompared* are the events, not in the export, that statements from elsewhere name; of a partial one, the purged.
    """

    first: int = 0
    last: int = 0
    count: int = 0
    head: str = GENESIS
    proven: int = 0
    statements: int = 0
    purged: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)
    newest: Mapping[str, Any] | None = None
    uncompared: list[int] = field(default_factory=list)
    fault: str = ""
    seq: int = 0


def canonical(record: Mapping[str, Any]) -> bytes:
    """One line of JSON, keys sorted, no spaces."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).translate(_BREAKS)
    return text.encode("utf-8", "surrogatepass")


def signed_bytes(statement: Mapping[str, Any]) -> bytes:
    """What the signature of *statement* is over: the domain's line, and all its members but the signature."""
    return DOMAIN + canonical({name: value for name, value in statement.items() if name != "signature"})


def key_id(public: bytes) -> str:
    """The id of a raw Ed25519 public key: its RFC 7638 thumbprint."""
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": base64.urlsafe_b64encode(public).decode().rstrip("=")}
    return base64.urlsafe_b64encode(hashlib.sha256(canonical(jwk)).digest()).decode().rstrip("=")


def read_key(pem: str) -> bytes:
    """The raw public key in *pem* (SubjectPublicKeyInfo); raises `Unreadable`."""
    lines = [line.strip() for line in pem.strip().splitlines()]
    try:
        if lines[0] != "-----BEGIN PUBLIC KEY-----" or lines[-1] != "-----END PUBLIC KEY-----":
            raise ValueError
        der = base64.b64decode("".join(lines[1:-1]), validate=True)
        if not der.startswith(_DER) or len(der) != len(_DER) + 32:
            raise ValueError
    except (ValueError, IndexError):
        raise Unreadable("The key is no Ed25519 public key in PEM; export it with: gateway audit key") from None
    return der[len(_DER) :]


def fault_of(statement: Mapping[str, Any], public: bytes) -> str:
    """What is wrong with the signature of *statement* under the raw key *public*, or ""."""
    what = f"the {statement.get('type')} of event {statement.get('seq')}"
    if statement.get("key") != key_id(public):
        return f"{what} was signed by another key"
    try:
        signature = base64.urlsafe_b64decode(str(statement["signature"]) + "==")
        message = signed_bytes(statement)
    except (KeyError, ValueError):
        return f"{what} has no signature"
    return "" if _is_signed(public, signature, message) else f"the signature of {what} is not right"


class Reader:
    """
    Follows lines of an export; `take` each and `end`, then look at the `report`.

    *public* is the raw key; without one, statements are compared but their signatures are not. *awaited* are statements
    from elsewhere; *partial* lets events be missing, and tells of each gap.
    """

    def __init__(
        self, public: bytes | None, awaited: Iterable[Mapping[str, Any]] = (), *, partial: bool = False
    ) -> None:
        self.report = Report()
        self._public = public
        self._partial = partial
        self._awaited: dict[int, list[Mapping[str, Any]]] = {}
        self._seen: dict[int, str] = {}
        self._order: deque[int] = deque()
        self._unproven = 0
        self._broken = 0
        for statement in awaited:
            self._admit(statement)
        self._given = set(self._awaited)

    def take(self, line: str) -> None:
        """One line of an export; nothing any more once there is a fault."""
        if self.report.fault or not line:
            return
        if line.startswith(_EVENT) and line[_BODY - 2 : _BODY] == '",':
            self._event(line[len(_EVENT) : len(_EVENT) + 64], "{" + line[_BODY:])
            return
        record = _record(line)
        if "id" in record and "hash" in record:
            sealed = {name: value for name, value in record.items() if name != "hash"}
            dropped = [name for name in _EMPTY if sealed.get(name) == ""]
            body = canonical({name: value for name, value in sealed.items() if name not in dropped})
            self._event(str(record["hash"]), body.decode("utf-8", "surrogatepass"))
        elif record.keys() == _PACKED and record["seq"] == _record(str(record["body"])).get("id"):
            self._event(str(record["hash"]), str(record["body"]))
        elif record.get("type") == "gap":
            self._gap(int(record["first"]), int(record["last"]))
        elif record.get("type") in _SIGNED and "seq" in record:
            self._statement(record)
        else:
            # What says something and is neither sealed nor signed is nobody's word.
            last = self.report.last
            self._wrong(f"a line after event {last} is no event, and no statement: {line[:60]!r}", last + 1)

    def end(self) -> Report:
        """What was found, all lines taken."""
        found = self.report
        beyond = [seq for seq in self._awaited if seq > found.last]
        if beyond and not found.fault:
            wrong = f"events {found.last + 1} to {max(beyond)} are missing from the end: a checkpoint names the last"
            self._wrong(wrong, found.last + 1)
        if self._broken:
            self._wrong(f"event {self._broken} tells that the trail's end was edited before it", self._broken)
        if not self._partial:
            found.uncompared = sorted(seq for seq in self._given & self._awaited.keys() if seq <= found.last)
        return found

    def _event(self, chained: str, body: str) -> None:
        found = self.report
        seq = found.last + 1
        if not found.count or f'"id":{seq},' not in body:
            try:
                seq = int(json.loads(body)["id"])
            except (ValueError, KeyError, TypeError):
                self._wrong(f"what follows event {found.last} is no event", found.last + 1)
                return
            if seq in self._seen:
                if self._seen[seq] != chained or _hash(_previous(body), body) != chained:
                    self._wrong(f"event {seq} comes twice, and not the same", seq)
                return
            if not self._placed(seq, body):
                return
        if _hash(found.head, body) != chained:
            self._wrong(f"event {seq} was edited, or does not follow event {seq - 1}", seq)
            return
        found.first = found.first or seq
        found.last, found.head, found.count = seq, chained, found.count + 1
        self._unproven += 1
        if _BREAK in body and not self._broken and _record(body).get("kind") == "audit.break":
            self._broken = seq
        self._remember(seq, chained)
        if self._awaited and seq in self._awaited:
            for statement in self._awaited.pop(seq):
                self._compare(statement, chained)

    def _placed(self, seq: int, body: str) -> bool:
        """Whether an event that does not follow the last one may stand here."""
        found = self.report
        if seq == found.last + 1 and (found.last or found.purged):
            return True
        if found.last and not self._partial:
            text = f"event {found.last + 1} is missing; the next one is {seq}"
            self._wrong(text if seq > found.last else f"event {seq} comes after event {found.last}", found.last + 1)
            return False
        if found.last:
            self._gap(found.last + 1, seq - 1)
        # What the first event follows is not in an export that begins later: it is taken at its word.
        found.head = GENESIS if seq == 1 else _previous(body)
        return not found.fault

    def _gap(self, first: int, last: int) -> None:
        found = self.report
        if last <= found.last:
            return
        found.gaps.append((first, last))
        self._unproven = 0
        if not self._partial:
            self._wrong(f"events {first} to {last} are missing: the export says so itself", first)
        found.last = last

    def _statement(self, statement: Mapping[str, Any]) -> None:
        seq = int(statement["seq"])
        if statement["type"] == "purge":
            self._purge(statement)
        elif seq in self._seen:
            self._sign(statement)
            self._compare(statement, self._seen[seq])
        elif seq > self.report.last:
            self._admit(statement)

    def _purge(self, statement: Mapping[str, Any]) -> None:
        found = self.report
        first, last = int(statement["first"]), int(statement["seq"])
        self._sign(statement)
        self._broken = self._broken or int(statement.get("broken", 0))
        if last <= found.last:
            if last in self._seen:
                self._compare(statement, self._seen[last])
            return
        if (found.last or first <= 1) and (first != found.last + 1 or found.head != statement["previous_hash"]):
            self._wrong(f"the stub of events {first} to {last} does not follow event {found.last}", first)
        if not found.fault:
            found.proven += self._unproven
            self._unproven = 0
            found.purged += last - first + 1
            found.last, found.head = last, str(statement["hash"])
            found.uncompared += sorted(seq for seq in self._given & self._awaited.keys() if first <= seq < last)
            for each in self._awaited.pop(last, ()):
                self._compare(each, found.head)

    def _admit(self, statement: Mapping[str, Any]) -> None:
        self._sign(statement)
        self._awaited.setdefault(int(statement["seq"]), []).append(statement)

    def _sign(self, statement: Mapping[str, Any]) -> None:
        if self._public is not None and (wrong := fault_of(statement, self._public)):
            self._wrong(wrong, int(statement["seq"]))

    def _compare(self, statement: Mapping[str, Any], chained: str) -> None:
        found, seq = self.report, int(statement["seq"])
        if statement["hash"] != chained:
            self._wrong(f"event {seq} is not the one that the {statement['type']} of {statement['time']} names", seq)
            return
        found.statements += 1
        if found.newest is None or str(statement["time"]) >= str(found.newest["time"]):
            found.newest = statement
        if self._public is not None and seq == found.last:
            found.proven += self._unproven
            self._unproven = 0

    def _remember(self, seq: int, chained: str) -> None:
        self._seen[seq] = chained
        self._order.append(seq)
        if len(self._order) > _REMEMBERED:
            del self._seen[self._order.popleft()]

    def _wrong(self, text: str, seq: int) -> None:
        if not self.report.fault:
            self.report.fault, self.report.seq = text, seq


def statements_in(lines: Iterable[str], place: object = "it") -> list[Mapping[str, Any]]:
    """The signed statements among *lines*, those of *place*, whatever else there is; `Unreadable` if there are none."""
    signed = (_record(line) for line in lines if '"signature"' in line and not line.startswith(_EVENT))
    whole = (each for each in signed if {"type", "seq", "hash", "time"} <= each.keys())
    found: list[Mapping[str, Any]] = [each for each in whole if isinstance(each["seq"], int)]
    if not found:
        raise Unreadable(f"There is no checkpoint in {place}; make one with: gateway audit checkpoint --output FILE")
    return found


def lines_of(path: Path) -> Iterator[str]:
    """The lines of the file, unpacked if it is compressed, without their ends; raises `Unreadable`."""
    try:
        with path.open("rb") as file:
            packed = file.peek(2)[:2] == b"\x1f\x8b"
            for line in gzip.GzipFile(fileobj=file) if packed else file:
                yield line.decode().rstrip("\r\n")
    except (OSError, EOFError, ValueError) as error:
        raise Unreadable(f"{path} cannot be read: {(getattr(error, 'strerror', None) or str(error)).lower()}") from None


def _hash(previous: str, body: str) -> str:
    return hashlib.sha256(bytes.fromhex(previous) + body.encode("utf-8", "surrogatepass")).hexdigest()


def _previous(body: str) -> str:
    """The hash that the event says it follows."""
    return bytes.fromhex(json.loads(body)["previous_hash"]).hex()


def _record(line: str) -> dict[str, Any]:
    """The JSON object in *line*; what stands before it, a syslog header, is passed over."""
    try:
        record: dict[str, Any] = json.loads(line[line.index("{") :], object_pairs_hook=_once)
    except ValueError:
        raise Unreadable(f"not a line of an export: {line[:60]!r}") from None
    return record


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object none of whose members comes twice: of two, readers would see one and verifiers the other."""
    found = dict(members)
    if len(found) != len(members):
        raise ValueError
    return found


def _is_signed(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        return is_signed_plainly(public, signature, message)
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


# Ed25519 (RFC 8032 §5.1) for machines that have Python and nothing else: it only verifies, so its timing tells nothing.
_P: Final = 2**255 - 19
_L: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
_Point = tuple[int, int, int, int]


def is_signed_plainly(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether *signature* is that of *message*; some milliseconds."""
    key, commitment = _point(public), _point(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    base = _point((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))
    if key is None or commitment is None or base is None or scalar >= _L or len(public) != 32 or len(signature) != 64:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % _L
    left, right = _times(scalar, base), _add(commitment, _times(challenge, key))
    return (left[0] * right[2] - right[0] * left[2]) % _P == 0 and (left[1] * right[2] - right[1] * left[2]) % _P == 0


def _point(encoded: bytes) -> _Point | None:
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    if (x * x - square) % _P or (x == 0 and sign):
        return None
    x = _P - x if x & 1 != sign else x
    return x, y, 1, x * y % _P


def _add(one: _Point, two: _Point) -> _Point:
    a, b = (one[1] - one[0]) * (two[1] - two[0]) % _P, (one[1] + one[0]) * (two[1] + two[0]) % _P
    c, d = 2 * one[3] * two[3] * _D % _P, 2 * one[2] * two[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(scalar: int, point: _Point) -> _Point:
    found: _Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            found = _add(found, point)
        point, scalar = _add(point, point), scalar >> 1
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="offline", description="Verify an export of a gateway's audit trail.")
    parser.add_argument("export", nargs="+", type=Path, help="JSON lines, the oldest first; may be compressed")
    parser.add_argument("--checkpoint", action="append", default=[], type=Path, help="a file with signed checkpoints")
    parser.add_argument("--key", type=Path, help="the public key that signs them, from `gateway audit key`")
    parser.add_argument("--partial", action="store_true", help="events may be missing, as in a filtered export")
    given = parser.parse_args(arguments)
    try:
        found = _verified(given.export, given.checkpoint, given.key, partial=given.partial)
    except (Unreadable, OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        sys.stderr.write(f"offline: {error}\n")
        return 2
    sys.stdout.writelines(f"{line}\n" for line in _told(found, signed=given.key is not None))
    return 1 if found.fault or found.uncompared else 0


def _verified(exports: list[Path], checkpoints: list[Path], key: Path | None, *, partial: bool) -> Report:
    if checkpoints and key is None:
        raise Unreadable("A checkpoint proves nothing without the key it was signed with; give it with --key.")
    awaited = [each for path in checkpoints for each in statements_in(lines_of(path), path)]
    reader = Reader(read_key(key.read_text()) if key is not None else None, awaited, partial=partial)
    for path in exports:
        for line in lines_of(path):
            reader.take(line)
    return reader.end()


def _told(found: Report, *, signed: bool) -> Iterator[str]:
    if found.fault:
        yield f"DAMAGED: {found.fault}."
        return
    yield f"Whole: {found.count} events, {found.first} to {found.last}, the last one's hash is {found.head}."
    if found.purged:
        unsigned = "" if signed else ", their signatures not looked at without --key"
        yield f"{found.purged} events were purged; signed stubs stand in their place{unsigned}."
    if found.gaps:
        missing = ", ".join(f"{first}-{last}" for first, last in found.gaps[:10])
        yield f"{len(found.gaps)} gaps: {missing}{' …' if len(found.gaps) > 10 else ''}."
    if signed and found.newest is not None:
        proven = f"{found.statements} signed statement{'s' if found.statements != 1 else ''}: {found.proven} events"
        yield f"Proven by {proven}; the newest is of {found.newest['time']}."
    if found.uncompared:
        events = ", ".join(map(str, found.uncompared[:10])) + (" …" if len(found.uncompared) > 10 else "")
        yield f"NOT COMPARED: checkpoints of events that were purged, or are not in the export: {events}."
    yield f"Not proven by a signature: {found.count - found.proven} events, which rest on the chain alone."


if __name__ == "__main__":
    raise SystemExit(main())
