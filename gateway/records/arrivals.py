"""Arrivals: the first transfer of each principal from each network, as the projection has noted them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from gateway.records.review_tables import origins


@dataclass(frozen=True, slots=True)
class Arrival:
    """*principal* pulled or pushed from *network* for the first time with the event *seq*."""

    principal: str
    network: str
    seq: int


def between(connection: Connection, since: int, until: int, *, limit: int) -> list[Arrival]:
    """The arrivals from *since* to before *until*, in UNIX seconds; of more than *limit*, the newest, oldest first."""
    wanted = select(origins).where(origins.c.first_at >= since, origins.c.first_at < until)
    rows = connection.execute(wanted.order_by(origins.c.first_at.desc(), origins.c.first_seq.desc()).limit(limit))
    found = [Arrival(row.principal, row.network, row.first_seq) for row in rows]
    return sorted(found, key=lambda arrival: arrival.seq)


def networks_before(connection: Connection, principal: str, seq: int) -> tuple[str, ...]:
    """The networks that *principal* had pulled or pushed from before the event *seq*, by name."""
    mine = (origins.c.principal == principal) & (origins.c.first_seq < seq)
    return tuple(connection.execute(select(origins.c.network).where(mine).order_by(origins.c.network)).scalars())
