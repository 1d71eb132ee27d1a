"""The client's journal: what was sent, what was acknowledged, and what therefore has to be there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

#: The value of what is not there.
GONE = ""


class Noun(StrEnum):
    BLOB = "blob"
    MANIFEST = "manifest"
    TAG = "tag"
    UPLOAD = "upload"
    GRANT = "grant"
    ACCOUNT = "account"
    PROJECT = "project"


@dataclass(frozen=True, slots=True, order=True)
class Thing:
    """What may be there: a blob by its digest, a tag by its name, a grant by `ROLE REACH`, in a place."""

    noun: Noun
    place: str
    name: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An act that was acknowledged and must have its event: by its request, or by a word that only it knows."""

    kind: str
    request_id: str = ""
    word: str = ""


@dataclass(slots=True)
class Journal:
    """
    Of each thing, the values it may have now.

    One, if the last write was acknowledged; more, if nobody knows what became of one. Whoever writes says so before
    (`intends`) and after (`acknowledges`); several clients may, of different things.
    """

    values: dict[Thing, frozenset[str]] = field(default_factory=dict)
    acts: list[Acknowledged] = field(default_factory=list)
    operations: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def intends(self, thing: Thing, value: str) -> None:
        """A write is about to be sent."""
        with self._guard:
            self.values[thing] = self.values.get(thing, frozenset({GONE})) | {value}

    def acknowledges(self, thing: Thing, value: str, act: Acknowledged | None = None) -> None:
        """The write was acknowledged: nothing else may be found."""
        with self._guard:
            self.values[thing] = frozenset({value})
            self.operations += 1
            if act is not None:
                self.acts.append(act)

    def observes(self, thing: Thing, value: str) -> None:
        """Nobody acknowledged it, and somebody saw how it stands: so it stays."""
        with self._guard:
            self.values[thing] = frozenset({value})

    def may_be_gone(self, noun: Noun) -> None:
        """What befell the writes of these that nobody has acknowledged may have taken the things with them."""
        with self._guard:
            for thing, values in self.values.items():
                if thing.noun is noun and len(values) > 1:
                    self.values[thing] = values | {GONE}

    def counts(self, act: Acknowledged | None = None) -> None:
        """Something was acknowledged that leaves nothing to be found but its event."""
        with self._guard:
            self.operations += 1
            if act is not None:
                self.acts.append(act)

    def things(self, *nouns: Noun) -> Iterator[tuple[Thing, frozenset[str]]]:
        """Each thing of the nouns, with what it may be."""
        for thing, values in sorted(self.values.items()):
            if thing.noun in nouns:
                yield thing, values
