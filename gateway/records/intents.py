"""Intents: acts begun in the registry behind us whose outcome is not recorded yet.

    begin ─▶ the act is done elsewhere ─▶ end, with what it changes here and its event: one transaction
                        └── nobody knows what became of it ─▶ the intent stays, and is settled by asking

What an intent's *act* holds, by kind of event; digests, tags and repositories as text:

    manifest.push      digest (its SHA-256), pushed (by which it was pushed), tags (a list), owner (`kind:id`),
                       names (what it requires), size_bytes, layers (of `foresight.Coming`), known and before (of
                       `mirror.starting_point`), index (true if it is one)
    manifest.delete    digest, twin (the SHA-256, if that is another), tags (those that go along)
    tag.delete         tags (a list of one); nothing is done there, only asked
    blob.push          digest, size_bytes, owner, upload (its id), twin (the SHA-256, if that is another and known)
    blob.mount         digest, source (a repository), size_bytes (0 if it is not known here)
    blob.delete        digest, twins (the other names of the same bytes, which go along: `mirror.names_of`)

Which of them come one after the other is in `gateway.records.precedence`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from gateway.oci.names import Repository
from gateway.records.schema import intents


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
            act=json.dumps(dict(act), ensure_ascii=False),
            event=json.dumps(dict(event), ensure_ascii=False),
            begun_at=int(time.time() if now is None else now),
        )
    )


def amend(connection: Connection, intent_id: str, act: Mapping[str, Any]) -> bool:
    """Keeps what is known by now of the act of an open intent; False if it was ended before."""
    wanted = update(intents).where(intents.c.id == intent_id)
    return connection.execute(wanted.values(act=json.dumps(dict(act), ensure_ascii=False))).rowcount > 0


def end(connection: Connection, intent_id: str) -> bool:
    """Forgets the intent; False if it was ended before: whoever ends it records the act's outcome."""
    return connection.execute(delete(intents).where(intents.c.id == intent_id)).rowcount > 0


def open_intents(connection: Connection, begun_before: float) -> list[Intent]:
    """The intents begun before *begun_before* (UNIX seconds) that were not ended, oldest first."""
    wanted = select(intents).where(intents.c.begun_at < begun_before).order_by(intents.c.begun_at, intents.c.id)
    return [
        Intent(row.id, row.kind, Repository(row.repository), json.loads(row.act), json.loads(row.event), row.begun_at)
        for row in connection.execute(wanted)
    ]
