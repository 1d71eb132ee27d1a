"""How far each sink has got: written when it moves, read by whoever asks for the lag."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from gateway.audit.chain import GENESIS, Head, Sealed
from gateway.change import Change, Notes
from gateway.records.evidence_tables import sinks
from gateway.records.mark import recorded
from gateway.records.schema import events


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a sink stands: the last event and the last checkpoint that it took."""

    seq: int = 0
    checkpoint: int = 0


@dataclass(frozen=True, slots=True)
class Lag:
    """
    What a sink has not taken yet: *events* of them, the oldest *seconds* old; both 0 when it is up to date.

    Of one whose place is beyond the end of the trail nobody knows what it took: they are those of all events.
    *delivered_at* and *failing_since* are UNIX seconds, None for never and for no failure; *trouble* says why.
    *wanted* is whether the settings of the gateway that served last name it.
    """

    name: str
    kind: str
    place: str
    seq: int
    events: int
    seconds: int
    delivered_at: int | None
    failing_since: int | None
    trouble: str
    wanted: bool


def cursor(connection: Connection, name: str) -> Cursor:
    """Where the sink stands; at the beginning if it is new."""
    row = connection.execute(select(sinks.c.seq, sinks.c.checkpoint).where(sinks.c.name == name)).first()
    return Cursor(row.seq, row.checkpoint) if row is not None else Cursor()


def want(places: Mapping[str, tuple[str, str]]) -> Change:
    """Keeps which sinks there are: *places* has the kind and the place of each, by name. Others keep their cursors."""

    def apply(connection: Connection) -> Notes:
        connection.execute(update(sinks).values(wanted=False))
        for name, (kind, place) in places.items():
            told = {"kind": kind, "place": place, "wanted": True}
            if not connection.execute(update(sinks).where(sinks.c.name == name).values(told)).rowcount:
                connection.execute(insert(sinks).values(name=name, seq=0, checkpoint=0, **told))
        return Notes()

    return Change(apply)


def move(name: str, to: Cursor) -> Change:
    """Keeps that the sink took everything up to *to*, just now."""
    moved = {"seq": to.seq, "checkpoint": to.checkpoint, "failing_since": None, "trouble": ""}

    def apply(connection: Connection) -> Notes:
        connection.execute(update(sinks).where(sinks.c.name == name).values(**moved, delivered_at=int(time.time())))
        return Notes()

    return Change(apply)


def fail(name: str, trouble: str) -> Change:
    """Keeps why the sink takes nothing; since when, is kept from the first time. The result is the seconds since."""

    def apply(connection: Connection) -> Notes:
        now = int(time.time())
        mine = sinks.c.name == name
        since = connection.execute(select(sinks.c.failing_since).where(mine)).scalar() or now
        connection.execute(update(sinks).where(mine).values(failing_since=since, trouble=trouble))
        return Notes(result=now - since)

    return Change(apply)


def lags(connection: Connection, now: float) -> Sequence[Lag]:
    """Every sink that ever was, by name, and how far it is behind; a few look-ups each."""
    head = recorded(connection).head.seq
    found = []
    for row in connection.execute(select(sinks).order_by(sinks.c.name)).all():
        after = row.seq if row.seq <= head else 0
        lag = Lag(
            name=row.name,
            kind=row.kind,
            place=row.place,
            seq=row.seq,
            events=head - after,
            seconds=_age(connection, after, head, now),
            delivered_at=row.delivered_at,
            failing_since=row.failing_since,
            trouble=row.trouble or (beyond(row.seq, head) if row.seq > head else ""),
            wanted=bool(row.wanted),
        )
        found.append(lag)
    return found


def beyond(seq: int, end: int) -> str:
    """What is wrong with a sink whose place is the event *seq*, behind the last one there is, in words."""
    edited = f"its place, event {seq}, is beyond the end of the trail, event {end}: somebody edited the database"
    return f"{edited}; under another name in the settings it is sent everything again"


def end_of_trail(connection: Connection, key: bytes) -> int | None:
    """The number of the last event, by the record of the chain's head; None unless that is sealed with the *key*."""
    record = recorded(connection)
    begun = record.head == Head() and record.seal == GENESIS
    return record.head.seq if begun or record.is_sealed(key) else None


def _age(connection: Connection, seq: int, head: int, now: float) -> int:
    """How old the event after *seq* is, or, if it has left for a segment, the oldest that has not; up to *head*."""
    query = select(events).where(events.c.seq > seq, events.c.seq <= head).order_by(events.c.seq).limit(1)
    row = connection.execute(query).first()
    if row is None:
        return 0
    time_of = str(Sealed(row.seq, row.body, row.hash).record()["time"])
    return max(0, int(now - datetime.fromisoformat(time_of).timestamp()))
