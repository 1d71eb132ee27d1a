"""Counters and origins: what the projection adds up of the events it reaches, in the same transaction."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy.engine.interfaces import DBAPICursor

from gateway.audit.chain import UNTIMED
from gateway.audit.event import Kind, Outcome

HOUR: Final = 3600
DAY: Final = 86_400
#: The fields whose values are counted by day; all events together are counted by hour as well.
COUNTED: Final = ("kind", "principal", "project", "repository", "address")
#: What is a pull or a push.
TRANSFERS: Final = frozenset({Kind.MANIFEST_PULL, Kind.MANIFEST_PUSH, Kind.BLOB_PULL, Kind.BLOB_PUSH, Kind.BLOB_MOUNT})
#: A statement has at most so many rows: below the number of values that either driver takes.
_ROWS: Final = 500
#: Where each outcome stands among the counts of a counter.
OUTCOMES: Final = {outcome.value: number for number, outcome in enumerate(Outcome)}


def follow(cursor: DBAPICursor, paramstyle: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """Adds the projected *entries*, which were not counted before, to the counters; in the transaction of *cursor*."""
    rows = [(*key, *counts) for key, counts in sorted(counted(entries).items())]
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        cursor.execute(_counting(len(some), paramstyle), tuple(value for row in some for value in row))
    seen = [(*key, *first) for key, first in sorted(first_seen(entries).items())]
    if seen:
        cursor.execute(_meeting(len(seen), paramstyle), tuple(value for row in seen for value in row))


def counted(entries: Sequence[Mapping[str, Any]]) -> dict[tuple[int, str, int, str], list[int]]:
    """Allowed, denied and failed among *entries*, by span, field, its beginning, and value."""
    found: dict[tuple[int, str, int, str], list[int]] = {}
    for entry in entries:
        outcome = OUTCOMES.get(entry["outcome"])
        if outcome is None or entry["time"] == UNTIMED:
            continue
        hour = _hour(entry["time"][:13])
        day = hour // DAY * DAY
        keys = [(HOUR, "", hour, ""), (DAY, "", day, "")]
        keys += [(DAY, field, day, entry[field]) for field in COUNTED if entry[field]]
        for key in keys:
            found.setdefault(key, [0, 0, 0])[outcome] += 1
    return found


def first_seen(entries: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[int, int]]:
    """The number and UNIX second of the first transfer among *entries*, by principal and network."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for entry in entries:
        transfer = entry["kind"] in TRANSFERS and entry["outcome"] == Outcome.ALLOWED
        # Anybody is many: from where strangers pull is not remembered one by one.
        if transfer and entry["principal"] != "anonymous" and entry["time"] != UNTIMED:
            at = int(datetime.fromisoformat(entry["time"]).timestamp())
            found.setdefault((entry["principal"], network_of(entry["address"])), (entry["seq"], at))
    return found


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """The network of an address as rules see it: the /24 of an IPv4 address, the /48 of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))


@lru_cache(maxsize=256)
def _hour(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}:00:00+00:00").timestamp())


@lru_cache(maxsize=1024)
def _counting(rows: int, paramstyle: str) -> str:
    added = ", ".join(f"{name} = event_counts.{name} + excluded.{name}" for name in ("allowed", "denied", "failed"))
    return (
        "INSERT INTO event_counts (span, field, begins, value, allowed, denied, failed) "  # noqa: S608 - constants
        f"VALUES {_marks(rows, 7, paramstyle)} ON CONFLICT (span, field, begins, value) DO UPDATE SET {added}"
    )


@lru_cache(maxsize=256)
def _meeting(rows: int, paramstyle: str) -> str:
    return (
        "INSERT INTO origins (principal, network, first_seq, first_at) "  # noqa: S608 - constants
        f"VALUES {_marks(rows, 4, paramstyle)} ON CONFLICT (principal, network) DO NOTHING"
    )


def _marks(rows: int, columns: int, paramstyle: str) -> str:
    row = f"({', '.join(['?' if paramstyle == 'qmark' else '%s'] * columns)})"
    return ", ".join([row] * rows)
