"""Intents: acts begun in the registry behind us whose outcome is not recorded yet.

    begin ─▶ the act is done elsewhere ─▶ end, with what it changes here and its event: one transaction
                        └── nobody knows what became of it ─▶ the intent stays, and is settled by asking

What an intent's *act* holds, by kind of event; digests, tags and repositories as text:

    manifest.push      digest (its SHA-256), pushed (by which it was pushed), tags (a list), owner (`kind:id`),
                       size_bytes, known and before (of `mirror.starting_point`), index (true if it is one); names (what
                       it requires) and layers (of `foresight.Coming`) are kept as promises alone
    manifest.delete    digest, twin (the SHA-256, if that is another), tags (those that go along)
    tag.delete         tags (a list of one); nothing is done there, only asked
    blob.push          digest, size_bytes, owner, upload (its id), twin (the SHA-256, if that is another and known)
    blob.mount         digest, source (a repository), size_bytes (0 if it is not known here)
    blob.delete        digest, twins (the other names of the same bytes, which go along: `mirror.names_of`)

Which of them come one after the other is in `gateway.records.precedence`, what they bring in
`gateway.records.promises`. Whoever begins reads the acts of all that are open in the repository: what may be large is
kept beside them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from gateway.oci.names import Repository
from gateway.records import promises
from gateway.records.schema import intents

#: Of an act, what is kept as promises, and not given back.
_PROMISED: Final = frozenset({"names", "layers"})
#: Of an act, what only settlement asks for: of a push that waits, each that it waits for adds to it.
_BEFORE: Final = "before"
_BEGUN: Final = select(intents.c.id, intents.c.act).where(
    intents.c.repository == bindparam("repository"), intents.c.kind == bindparam("kind")
)
_PLACE: Final = select(intents.c.kind, intents.c.repository).where(intents.c.id == bindparam("intent_id"))


@dataclass(frozen=True, slots=True)
class Intent:
    """
    An act whose outcome is not recorded: *act* is what was asked, *event* the record of its event as it stood then.

    *kind* is that of the event; *begun_at* is UNIX seconds.
    """

    id: str
    kind: str
    repository: Repository
    act: Mapping[str, Any]
    event: Mapping[str, Any]
    begun_at: int


def begin(
    connection: Connection,
    intent_id: str,
    kind: str,
    repository: Repository,
    act: Mapping[str, Any],
    event: Mapping[str, Any],
    *,
    now: float | None = None,
) -> None:
    """Keeps what it takes to find out later what became of the act; *act* and *event* are JSON-able."""
    connection.execute(
        insert(intents).values(
            id=intent_id,
            kind=kind,
            repository=repository.name,
            event=_text(event),
            begun_at=int(time.time() if now is None else now),
            **_kept(act),
        )
    )
    promises.keep(connection, intent_id, kind, repository, act)


def amend(connection: Connection, intent_id: str, act: Mapping[str, Any]) -> bool:
    """Keeps what is known by now of the act of an open intent; False if it was ended before."""
    row = connection.execute(_PLACE, {"intent_id": intent_id}).first()
    if row is None:
        return False
    connection.execute(update(intents).where(intents.c.id == intent_id).values(_kept(act)))
    promises.keep(connection, intent_id, row.kind, Repository(row.repository), act)
    return True


def end(connection: Connection, intent_id: str) -> bool:
    """
    Forgets the intent, with what it promised; False if it was ended before: whoever ends it records the act's outcome.
    """
    return connection.execute(delete(intents).where(intents.c.id == intent_id)).rowcount > 0


def begun(
    connection: Connection, repository: Repository, kind: str, but: Collection[str] = ()
) -> list[Mapping[str, Any]]:
    """The acts of that kind that are open in the repository, without `before`; the intents *but* do not count."""
    rows = connection.execute(_BEGUN, {"repository": repository.name, "kind": kind})
    return [json.loads(row.act) for row in rows if row.id not in but]


def open_intents(connection: Connection, begun_before: float) -> list[Intent]:
    """The intents begun before *begun_before* (UNIX seconds) that were not ended, oldest first."""
    wanted = select(intents).where(intents.c.begun_at < begun_before).order_by(intents.c.begun_at, intents.c.id)
    return [
        Intent(row.id, row.kind, Repository(row.repository), _act(row), json.loads(row.event), row.begun_at)
        for row in connection.execute(wanted)
    ]


def _kept(act: Mapping[str, Any]) -> dict[str, str | None]:
    """The columns in which the act is kept."""
    before = act.get(_BEFORE)
    told = {name: value for name, value in act.items() if name not in _PROMISED and name != _BEFORE}
    return {"act": _text(told), "before": None if before is None else _text(before)}


def _act(row: Row[Any]) -> dict[str, Any]:
    act: dict[str, Any] = json.loads(row.act)
    return act if row.before is None else {**act, _BEFORE: json.loads(row.before)}


def _text(told: Mapping[str, Any]) -> str:
    return json.dumps(dict(told), ensure_ascii=False)
