"""Where events are kept, in order, sealed: what readers may ask of it. The records implement it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Protocol, Self

from gateway.audit.chain import Sealed, Told
from gateway.audit.event import time_text

_EQUAL: Final = ("project", "repository", "principal", "outcome", "digest", "address")


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

    def wants(self, says: Told) -> bool:
        """Whether an event that *says* this is one that is wanted."""
        for name in _EQUAL:
            wanted = getattr(self, name)
            if wanted and wanted != getattr(says, name):
                return False
        noun = self.kind[:-1] if self.kind.endswith(".*") else ""
        if self.kind and self.kind != says.kind and not (noun and says.kind.startswith(noun)):
            return False
        if self.since is not None and says.time < time_text(self.since):
            return False
        return self.until is None or says.time < time_text(self.until)


@dataclass(frozen=True, slots=True)
class SealedPart:
    """
    The part of a period that was sealed away: no page shows its events, up to the number *last*, of *until*.

    So many *files* of the folder `segments` hold them, from *oldest* to *newest*, with events from *since* on (times
    are as events spell them). *purged* of the events are gone for good.
    """

    last: int
    since: str
    until: str
    files: int
    oldest: str
    newest: str
    purged: int

    @property
    def told(self) -> str:
        """What and where, in a sentence."""
        names = self.oldest if self.files == 1 else f"{self.oldest} to {self.newest}"
        kept = f"{self.files} file{'s' if self.files != 1 else ''} under segments/ ({names})"
        gone = f"{self.purged} event{'s' if self.purged != 1 else ''} of then {'were' if self.purged != 1 else 'was'}"
        sealed = f"Events up to {self.last}, of {self.until[:10]}, are sealed away in {kept}"
        if not self.files:
            return f"{gone} purged, and cannot be read any more."
        return f"{sealed}; {gone} purged." if self.purged else f"{sealed}."

    def read(self) -> Self | None:
        """What is left of it once the files were looked through: what was purged, if anything."""
        return replace(self, files=0, oldest="", newest="") if self.purged else None


@dataclass(frozen=True, slots=True)
class Verification:
    """
    *count* events were accounted for; *fault* says in words what is wrong with the first bad one, *seq*, or is empty.

    *sealed* of them were read from segments, *purged* are gone, and signed stubs vouch for them; *compared* is how many
    statements from elsewhere were met, *uncompared* how many could not be, for their events were purged. A *fault* is
    *beside* the chain if that holds, and is all there: an event tells of an edited end, or searches have other words.
    """

    count: int
    head: str
    fault: str = ""
    seq: int = 0
    sealed: int = 0
    purged: int = 0
    compared: int = 0
    uncompared: int = 0
    beside: bool = False

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong, and all that was given was compared."""
        return not self.fault and not self.uncompared

    @property
    def holds(self) -> bool:
        """Whether every event is there and as it was written, whatever else is wrong."""
        return self.beside or not self.fault


class Trail(Protocol):
    """Reading the trail; every method sees all events acknowledged before it was called."""

    def page(self, search: Search, *, before: int | None = None, limit: int = 100) -> Sequence[Sealed]:
        """The newest events that match, newest first, those numbered below *before*; at most 5,000."""
        ...

    def event(self, seq: int) -> Sealed | None: ...

    def events(self, numbers: Iterable[int]) -> dict[int, Sealed]:
        """The events of these numbers that there are, those in segments too; each segment is read once."""
        ...

    def sealed(self, search: Search, before: int | None = None) -> SealedPart | None:
        """What of the period of *search*, of events numbered below *before*, is in segments, or was purged."""
        ...

    def older(
        self, searches: Sequence[Search], *, before: int | None = None, files: int | None = None
    ) -> Iterator[Sealed | int]:
        """
        The events in segments that any of *searches* wants, newest first, those numbered below *before*.

        The files of the periods are read one by one, some tenths of a second each; the events of one are in memory.
        After so many *files*, if more are left, the last thing told is a number: go on before it. Raises `Unavailable`
        for a file that is damaged. While months are being sealed, an event may be in a page and here.
        """
        ...

    def export(self, search: Search) -> Iterator[Sealed]:
        """Every event that matches, oldest first, in bounded memory; those in segments too."""
        ...

    def lines(self, search: Search) -> Iterator[str]:
        """As `export`, as text: `Sealed.line` of each, and where events were purged, the signed stub."""
        ...

    def sealed_away(self) -> tuple[int, str]:
        """The number and the time of the last event that is in a segment, and so in no page; (0, "") without any."""
        ...

    def stretch(self, first: int) -> Iterator[Sealed]:
        """The events from the one numbered *first* to the last one there is now, in order, those in segments too."""
        ...

    def verify(self, against: Sequence[Mapping[str, Any]] = (), only: str = "") -> Verification:
        """
        Reads the whole chain; an edit, deletion, insertion or reordering is named by its first bad event.

        *against* are checkpoints from elsewhere, their signatures good: what they name must be there. Stubs of purged
        events are believed under the gateway's own keys: under the one with the id *only* alone, if that is given.
        """
        ...
