"""Appending to the chain: the statements of every commit, said to the driver itself, for they are said so often."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from sqlalchemy.engine.interfaces import DBAPICursor

from gateway.audit.chain import Head, Sealed, head_seal

#: Events put into one statement: SQLite as it mostly comes takes 32,766 values in one, and each event has three.
_ROWS: Final = 5000


def append(cursor: DBAPICursor, paramstyle: str, sealed: Sequence[Sealed], key: bytes) -> None:
    """Puts the events, of which there are some, at the end of the chain, and seals the new end with *key*."""
    # One statement for many: the drivers hand the interpreter over for every row of an `executemany`.
    for first in range(0, len(sealed), _ROWS):
        part = sealed[first : first + _ROWS]
        values = tuple(value for event in part for value in (event.seq, event.body, event.hash))
        cursor.execute(_insertion(len(part), paramstyle), values)
    head = Head(sealed[-1].seq, sealed[-1].hash)
    cursor.execute(_moving_head(paramstyle), (head.seq, head.hash, head_seal(head, key)))


@lru_cache(maxsize=1024)
def _insertion(rows: int, paramstyle: str) -> str:
    mark = "?" if paramstyle == "qmark" else "%s"
    row = f"({mark}, {mark}, {mark})"
    return f"INSERT INTO events (seq, body, hash) VALUES {', '.join([row] * rows)}"  # noqa: S608 - nothing but marks


@lru_cache(maxsize=4)
def _moving_head(paramstyle: str) -> str:
    mark = "?" if paramstyle == "qmark" else "%s"
    return f"UPDATE trail_head SET seq = {mark}, hash = {mark}, seal = {mark} WHERE id = 1"  # noqa: S608 - marks
