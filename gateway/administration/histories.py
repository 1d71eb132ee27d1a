"""What became of a tag, from the events that moved it: a page at a time, and none looks through more than so many."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from gateway.access.policy import Need, parse_target
from gateway.access.principals import Caller
from gateway.access.scopes import Action
from gateway.administration.horizon import horizon
from gateway.administration.looks import Looks
from gateway.audit.chain import Sealed
from gateway.audit.event import TAG_MOVES, Kind, Outcome
from gateway.audit.trail import Search, Trail
from gateway.errors import Invalid
from gateway.gate import Gate
from gateway.oci.names import Repository, Tag
from gateway.records import browsing, trash
from gateway.records.database import Database

PAGE: Final = 100
LIMIT: Final = 1000
#: Events that are looked through for one page: some tenths of a second.
EVENTS: Final = 5000
#: Of each kind, so many are read at once.
_STRIDE: Final = 250


@dataclass(frozen=True, slots=True)
class TagMove:
    """
    What became of a tag in the event numbered *event*: it pointed at *before* and then at *after*, "" for nothing.

    *restorable* says that *before* can be had back: the repository holds it, or its trash does.
    """

    event: int
    time: str
    kind: str
    principal: str
    before: str
    after: str
    restorable: bool


@dataclass(frozen=True, slots=True)
class TagHistory:
    """
    Moves of a tag, newest first. More may be found *before* this event, also if there are few here; None: that is all.

    *named* is the digest that the tag names now, "" for nothing.
    """

    moves: tuple[TagMove, ...]
    before: int | None = None
    named: str = ""


@dataclass(frozen=True, slots=True)
class Histories:
    """Looking needs pull. Whoever may do no more sees nothing of a project that had the name before."""

    gate: Gate
    database: Database
    trail: Trail
    looks: Looks

    async def of_tag(
        self,
        caller: Caller,
        repository: str,
        tag: str,
        *,
        before: int | None = None,
        limit: int = PAGE,
        events: int | None = EVENTS,
    ) -> TagHistory:
        """
        Where the tag pointed and who moved or removed it, in events numbered below *before*; at most 1,000 moves.

        For one answer at most so many *events* of the repository are looked through (None: as many as it takes).
        Goes as far back as the trail has it at hand. Raises `TooManyRequests` while enough such looks are under way.
        """
        name, wanted = parse_target(repository), Tag.parse(tag)
        need = Need(Action.PULL, name)
        async with self.gate.passage(caller, Kind.TAG_HISTORY, need, reference=wanted.name) as passage:
            if not 1 <= limit <= LIMIT:
                raise Invalid(f"A page has 1 to {LIMIT} moves.", detail={"field": "limit"})
            first = await horizon(self.gate, self.database, self.trail, caller, name.project)
            moved, on = await self.looks.run(caller, self._moved, name, wanted, first, before, limit, events)
            named, at_hand = await self.database.read(lambda connection: _standing(connection, name, wanted, moved))
            await passage.seal()
        return TagHistory(tuple(_move(each, wanted, at_hand) for each in moved), on, named)

    def _moved(
        self, name: Repository, tag: Tag, first: datetime | None, before: int | None, limit: int, most: int | None
    ) -> tuple[list[dict[str, Any]], int | None]:
        """The newest moves of *tag*, as events tell them, and before which event to go on."""
        search = Search(repository=name.name, outcome=Outcome.ALLOWED.value, since=first)
        found: list[dict[str, Any]] = []
        last, looked = before, 0
        for event in heapq.merge(*(self._of_kind(search, kind, before) for kind in TAG_MOVES), key=_newest):
            if len(found) == limit or looked == most:
                return found, last
            last, looked = event.seq, looked + 1
            # As events are spelled, a tag's name is in them letter by letter: few are read whole.
            if f'"{tag.name}"' in event.body:
                record = {**event.record(), "id": event.seq}
                if any(tag.name in _tags(record, side) for side in ("before", "after")):
                    found.append(record)
        return found, None

    def _of_kind(self, search: Search, kind: Kind, before: int | None) -> Iterator[Sealed]:
        """The events of *kind*, newest first."""
        wanted = replace(search, kind=kind.value)
        while page := self.trail.page(wanted, before=before, limit=_STRIDE):
            yield from page
            if len(page) < _STRIDE:
                return
            before = page[-1].seq


def _newest(event: Sealed) -> int:
    return -event.seq


def _standing(connection: Any, name: Repository, tag: Tag, moved: list[dict[str, Any]]) -> tuple[str, set[str]]:
    """What the tag names now, and what of that which it named before can be had back."""
    place = browsing.place_of(connection, name)
    rows = browsing.tags_named(connection, place.id, [tag.name]) if place is not None else {}
    digests = sorted({digest for each in moved if (digest := _tags(each, "before").get(tag.name))})
    at_hand = trash.at_hand(connection, name, digests)
    return rows[tag.name].digest if tag.name in rows else "", at_hand


def _tags(record: dict[str, Any], side: str) -> dict[str, str]:
    told = record.get(side)
    names = told.get("tags") if isinstance(told, dict) else None
    return names if isinstance(names, dict) else {}


def _move(record: dict[str, Any], tag: Tag, at_hand: set[str]) -> TagMove:
    before, after = (_tags(record, side).get(tag.name, "") for side in ("before", "after"))
    time, kind, principal = (str(record.get(name, "")) for name in ("time", "kind", "principal"))
    return TagMove(int(record["id"]), time, kind, principal, before, after, before in at_hand and before != after)
