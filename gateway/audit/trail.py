"""Where events are kept, in order, sealed: what readers may ask of it. The records implement it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

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
    """*count* events were read; *fault* says in words what is wrong with the first bad one, *seq*, or is empty."""

    count: int
    head: str
    fault: str = ""
    seq: int = 0


class Trail(Protocol):
    """Reading the trail; every method sees all events acknowledged before it was called."""

    def page(self, search: Search, *, before: int | None = None, limit: int = 100) -> Sequence[Sealed]:
        """The newest events that match, newest first, those numbered below *before*; at most 1,000."""
        ...

    def event(self, seq: int) -> Sealed | None: ...

    def export(self, search: Search) -> Iterator[Sealed]:
        """Every event that matches, oldest first, in bounded memory."""
        ...

    def verify(self) -> Verification:
        """Reads the whole chain; an edit, deletion, insertion or reordering is named by its first bad event."""
        ...
