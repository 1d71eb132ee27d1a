"""Checkpoints and the key that signs them, in the database: the key's private half sealed, as those of tokens are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, tuple_

from gateway.access.secrets import Secrets
from gateway.audit.checkpoints import CheckpointKey, is_due, statement_of
from gateway.audit.offline import fault_of, read_key
from gateway.change import Change, Notes
from gateway.records.evidence_tables import checkpoint_keys, checkpoints
from gateway.records.mark import recorded

_TEXTS: Final = ("hash", "time", "key", "signature")
#: Rows that are read at once, where one is looked for.
_LOOKED: Final = 100


@dataclass(frozen=True, slots=True)
class Stored:
    """A checkpoint as it is kept: *line* is what was signed, with its signature; *made_at* is UNIX seconds."""

    number: int
    seq: int
    made_at: int
    line: str

    @property
    def statement(self) -> dict[str, Any]:
        """What it says; raises `ValueError` if that is nothing."""
        return statement_of(self.line)

    @property
    def is_statement(self) -> bool:
        """
        Whether it is one line, which says that it is this very checkpoint; not who signed it.

        The database may hold anything: of what is none verifiers tell.
        """
        try:
            said = self.statement
        except ValueError:
            return False
        named = (said.get("type"), said.get("number"), said.get("seq")) == ("checkpoint", self.number, self.seq)
        return named and all(isinstance(said.get(name), str) for name in _TEXTS) and self.line.isprintable()

    @property
    def made(self) -> datetime:
        """When it was made; 1970, if what the row tells is no time that there is."""
        try:
            return datetime.fromtimestamp(self.made_at, UTC)
        except (ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(0, UTC)


def current_key(connection: Connection, secrets: Secrets) -> CheckpointKey | None:
    """The key that signs, if one was made; raises `Invalid` if it was sealed under another secret."""
    newest = select(checkpoint_keys).order_by(checkpoint_keys.c.created_at.desc(), checkpoint_keys.c.kid).limit(1)
    row = connection.execute(newest).first()
    return None if row is None else CheckpointKey.opened(bytes(row.sealed), row.kid, secrets.checkpoints)


def make_key(secrets: Secrets) -> Change:
    """The first key, unless there is one; the result is the key that signs."""
    fresh = CheckpointKey.new()

    def apply(connection: Connection) -> Notes:
        found = current_key(connection, secrets)
        if found is not None:
            return Notes(detail={"kid": found.kid}, result=found)
        row = {"kid": fresh.kid, "public": fresh.public_pem, "sealed": fresh.sealed(secrets.checkpoints)}
        connection.execute(insert(checkpoint_keys).values(**row, created_at=int(time.time())))
        return Notes(after={"kid": fresh.kid}, detail={"kid": fresh.kid}, result=fresh)

    return Change(apply)


def make(key: CheckpointKey, *, always: bool = False, clock: Callable[[], float] = time.time) -> Change:
    """
    A checkpoint of the chain as it is committed, if one is due, or *always*; the result is the newest there is.

    Of several about the same event only the newest is kept.
    """

    def apply(connection: Connection) -> Notes:
        now = clock()
        head, last = recorded(connection).head, newest(connection, key)
        if head.seq == 0 or not (always or is_due(last.seq if last else None, head, last.made_at if last else 0, now)):
            return Notes(result=last)
        number = _next_number(connection, last)
        line = key.checkpoint(number, head, datetime.fromtimestamp(now, UTC))
        connection.execute(delete(checkpoints).where(checkpoints.c.seq == head.seq))
        made = Stored(number, head.seq, int(now), line)
        row_of = {"number": number, "seq": head.seq, "made_at": made.made_at, "line": line}
        connection.execute(insert(checkpoints).values(row_of))
        return Notes(result=made)

    return Change(apply)


def due(connection: Connection, now: float) -> bool:
    """Whether `make` would make one."""
    head, last = recorded(connection).head, newest(connection)
    return head.seq > 0 and is_due(last.seq if last else None, head, last.made_at if last else 0, now)


def newest(connection: Connection, key: CheckpointKey | None = None) -> Stored | None:
    """The checkpoint about the newest event, of those that are statements; with the *key*, of those that it signed."""
    return _newest(connection, lambda each: each.is_statement if key is None else _is_signed(each, key))


def newest_row(connection: Connection) -> Stored | None:
    """What is kept as the checkpoint about the newest event, whatever it says."""
    return _newest(connection, lambda _: True)


def _newest(connection: Connection, wanted: Callable[[Stored], bool]) -> Stored | None:
    before: Stored | None = None
    while (stored := _before(connection, before)) and not wanted(stored):
        before = stored
    return stored


def _kept(connection: Connection) -> Select[Any]:
    """The checkpoints; SQLite keeps anything in any column, and a row whose numbers are none is one for verifiers."""
    if connection.dialect.name != "sqlite":
        return select(checkpoints)
    return select(checkpoints).where(*(func.typeof(checkpoints.c[name]) == "integer" for name in ("seq", "made_at")))


def _before(connection: Connection, stored: Stored | None) -> Stored | None:
    place = tuple_(checkpoints.c.seq, checkpoints.c.number)
    found = _kept(connection).order_by(checkpoints.c.seq.desc(), checkpoints.c.number.desc()).limit(1)
    row = connection.execute(found if stored is None else found.where(place < (stored.seq, stored.number))).first()
    return None if row is None else _stored(row)


def _stored(row: Row[Any]) -> Stored:
    return Stored(row.number, row.seq, row.made_at, row.line if isinstance(row.line, str) else "")


def _is_signed(stored: Stored, key: CheckpointKey) -> bool:
    return _is_signed_by(stored, {key.kid: read_key(key.public_pem)})


def _is_signed_by(stored: Stored, keys: Mapping[str, bytes]) -> bool:
    """Whether the row is of a checkpoint that one of *keys* signed: the database may hold anything."""
    try:
        return stored.is_statement and not fault_of(stored.statement, keys[stored.statement["key"]])
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _next_number(connection: Connection, last: Stored | None) -> int:
    number = last.number + 1 if last is not None else 1
    # Numbers that others put there are passed over.
    while connection.execute(select(checkpoints.c.number).where(checkpoints.c.number == number)).first() is not None:
        number += 1
    return number


def between(connection: Connection, after: int, until: int, *, most: int = 1000) -> Sequence[Stored]:
    """The checkpoints about events after *after* and up to *until*, in their order; at most *most*."""
    query = _kept(connection).where(checkpoints.c.seq > after, checkpoints.c.seq <= until)
    return [_stored(row) for row in connection.execute(query.order_by(checkpoints.c.seq).limit(most))]


def latest(connection: Connection, before: int, *, most: int) -> Sequence[Stored]:
    """The newest *most* checkpoints of those about events before *before*, the newest first."""
    wanted = _kept(connection).where(checkpoints.c.seq < before)
    query = wanted.order_by(checkpoints.c.seq.desc()).limit(most)
    return [_stored(row) for row in connection.execute(query)]


def following(connection: Connection, number: int, until: int, *, most: int = 1000) -> Sequence[Stored]:
    """
    The checkpoints made after that with this *number*, about events up to *until*, in their order.

    Rows that are no statements are passed over: to whoever verifies what a sink has they would be damage of its own.
    """
    found: list[Stored] = []
    while len(found) < most:
        query = _kept(connection).where(checkpoints.c.number > number, checkpoints.c.seq <= until)
        rows = [_stored(row) for row in connection.execute(query.order_by(checkpoints.c.number).limit(most))]
        found += [each for each in rows if each.is_statement]
        if len(rows) < most:
            break
        number = rows[-1].number
    return found[:most]


def last_number(connection: Connection, keys: Mapping[str, bytes]) -> int:
    """The highest number of a checkpoint that one of *keys*, raw public keys by their ids, signed; 0 without any."""
    query = _kept(connection).order_by(checkpoints.c.number.desc()).limit(_LOOKED)
    rows = connection.execute(query).all()
    while rows:
        for stored in map(_stored, rows):
            if _is_signed_by(stored, keys):
                return stored.number
        rows = connection.execute(query.where(checkpoints.c.number < rows[-1].number)).all()
    return 0


def thin(until: int) -> Change:
    """
    Removes those about events before *until*: they are in segments, which end with statements of their own.

    The one made last stays, so that the numbers go on from it: sinks ask for those after the one they had.
    """

    def apply(connection: Connection) -> Notes:
        last = newest(connection)
        old = delete(checkpoints).where(checkpoints.c.seq < min(until, last.seq if last else 0))
        return Notes(result=connection.execute(old).rowcount)

    return Change(apply)
