"""Precedence: of acts in the registry behind that meet at one tag or one digest, the one begun first is done first.

The registry behind has an order of its own, and the records have theirs. They are the same order only if nobody does
such an act before the one ahead of it is recorded, or given up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select

from gateway.oci.names import Repository
from gateway.records.schema import intents

_BEGUN: Final = (
    select(intents.c.id, intents.c.kind, intents.c.act)
    .where(intents.c.repository == bindparam("repository"), intents.c.id != bindparam("but"))
    .order_by(intents.c.begun_at)
)


@dataclass(frozen=True, slots=True)
class Claim:
    """What an act *moves*, or removes, and what it only *needs*: tags and digests, which no tag is spelled like."""

    moves: frozenset[str]
    needs: frozenset[str] = frozenset()

    def meets(self, other: Claim) -> bool:
        """Whether it matters which of the two is done first."""
        return not (self.moves.isdisjoint(other.moves | other.needs) and self.needs.isdisjoint(other.moves))


def claim(kind: str, act: Mapping[str, Any]) -> Claim:
    """What the act of an intent claims in its repository; pushes of one digest under several tags do not meet."""
    digests = frozenset(act[name] for name in ("digest", "pushed", "twin") if name in act).union(act.get("twins", ()))
    tags = frozenset(act.get("tags", ()))
    if kind in {"manifest.delete", "blob.delete", "tag.delete"}:
        return Claim(digests | tags)
    return Claim(tags, digests)


def meeting(
    connection: Connection, repository: Repository, kind: str, act: Mapping[str, Any], intent_id: str
) -> tuple[str, ...]:
    """The ids of the open intents that meet this one, which may be open itself; asked as it is begun: those ahead."""
    mine = claim(kind, act)
    rows = connection.execute(_BEGUN, {"repository": repository.name, "but": intent_id})
    return tuple(row.id for row in rows if mine.meets(claim(row.kind, json.loads(row.act))))
