"""Where events are kept, in order, sealed: what readers may ask of it. The records implement it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from gateway.audit.chain import Sealed


@dataclass(frozen=True, slots=True)
class Search:
    """
    Which events are wanted; an empty field excludes nothing. *since* is inclusive, *until* exclusive, both UTC.

    *kind* may end in `.*` for every kind of a noun.
    """

    project: str = ""
    repository: str = ""
    principal: str = ""
    kind: str = ""
    outcome: str = ""
    digest: str = ""
    address: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """
    *count* events were accounted for; *fault* says in words what is wrong with the first bad one, *seq*, or is empty.

    *sealed* of them were read from segments, *purged* are gone, and signed stubs vouch for them; *compared* is how many
    statements from elsewhere were met.
    """

    count: int
    head: str
    fault: str = ""
    seq: int = 0
    sealed: int = 0
    purged: int = 0
    compared: int = 0


class Trail(Protocol):
    """Reading the trail; every method sees all events acknowledged before it was called."""

    def page(self, search: Search, *, before: int | None = None, limit: int = 100) -> Sequence[Sealed]:
        """The newest events that match, newest first, those numbered below *before*; at most 1,000."""
        ...

    def event(self, seq: int) -> Sealed | None: ...

    def export(self, search: Search) -> Iterator[Sealed]:
        """Every event that matches, oldest first, in bounded memory; those in segments too."""
        ...

    def lines(self, search: Search) -> Iterator[str]:
        """As `export`, as text: `Sealed.line` of each, and where events were purged, the signed stub."""
        ...

    def sealed_away(self) -> tuple[int, str]:
        """The number and the time of the last event that is in a segment, and so in no page; (0, "") without any."""
        ...

    def verify(self, against: Sequence[Mapping[str, Any]] = ()) -> Verification:
        """
        Reads the whole chain; an edit, deletion, insertion or reordering is named by its first bad event.

        *against* are checkpoints from elsewhere, their signatures good: what they name must be there.
        """
        ...
