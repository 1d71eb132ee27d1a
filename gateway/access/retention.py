"""Retention: which tags a project keeps, decided from values; every tag that stays has its reasons."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.access.patterns import matches
from gateway.access.rules import Rules, parse_patterns
from gateway.errors import Invalid

LAST: Final = 1_000_000
DAYS: Final = 36_500
_DAY_SECONDS: Final = 86_400
#: Signatures and attestations are tagged by the digest of what they are about.
_COMPANION: Final = re.compile(r"(sha256|sha512)-([0-9a-f]+)(?:\..*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Retention:
    """
    What keeps a tag: being one of the *last* pushed of its repository, *matching* a pattern, having been pulled within
    *pulled_days*. Any one does. Without any of them nothing is decided and everything stays.
    """

    last: int | None = None
    matching: tuple[str, ...] = ()
    pulled_days: int | None = None

    @property
    def active(self) -> bool:
        return self.last is not None or bool(self.matching) or self.pulled_days is not None

    @classmethod
    def parse(cls, last: int | None, matching: Sequence[str], pulled_days: int | None) -> Retention:
        """Raises `Invalid` for what is out of range or no pattern."""
        if last is not None and not 1 <= last <= LAST:
            raise Invalid(f"Keep from 1 to {LAST} of the last tags.")
        if pulled_days is not None and not 1 <= pulled_days <= DAYS:
            raise Invalid(f"Keep what was pulled within 1 to {DAYS} days.")
        return cls(last, parse_patterns(matching), pulled_days)

    def __str__(self) -> str:
        parts = [f"the last {self.last}"] if self.last is not None else []
        parts += [f"tags matching {pattern}" for pattern in self.matching]
        parts += [f"what was pulled within {self.pulled_days} days"] if self.pulled_days is not None else []
        return ", ".join(parts) or "everything"


@dataclass(frozen=True, slots=True)
class TagState:
    """
    A tag of a repository: when it was moved to *digest*, when that was pulled last, if ever, and when it was pushed
    last, under any name (UNIX seconds).
    """

    name: str
    digest: str
    moved_at: int
    pulled_at: int | None = None
    pushed_at: int = 0

    @property
    def renewed_at(self) -> int:
        """When the tag was pushed last: the same manifest again moves no tag, and is a push all the same."""
        return max(self.moved_at, self.pushed_at)


@dataclass(frozen=True, slots=True)
class Decision:
    """Why the tag stays; it goes if there is no reason."""

    tag: TagState
    reasons: tuple[str, ...]

    @property
    def stays(self) -> bool:
        return bool(self.reasons)


def decide(retention: Retention, rules: Rules, tags: Sequence[TagState], now: int) -> tuple[Decision, ...]:
    """
    What becomes of each of *tags*, which are all of one repository, in their order.

    Immutable tags stay. A signature, attestation or list that is tagged by a digest stays as long as a tag that stays
    names that digest, and goes with it; those of a digest that no tag names stay.
    """
    if not retention.active:
        return tuple(Decision(tag, ("nothing is retained by rule",)) for tag in tags)
    subjects = {tag.name: subject for tag in tags if (subject := subject_of(tag.name))}
    own = [tag for tag in tags if tag.name not in subjects]
    newest = sorted(own, key=lambda tag: (-tag.renewed_at, -tag.moved_at, tag.name))[: retention.last or 0]
    # Under which of its tags a manifest was pushed again is not known: they count as one.
    pushes = {(tag.digest, tag.renewed_at) for tag in newest}
    last = {tag.name for tag in own if (tag.digest, tag.renewed_at) in pushes}
    reasons: dict[str, tuple[str, ...]] = {tag.name: _reasons(retention, rules, tag, last, now) for tag in own}
    named: dict[str, list[str]] = {}
    for tag in own:
        named.setdefault(tag.digest, []).append(tag.name)
    for name, subject in subjects.items():
        reasons[name] = _of_companion(rules, name, subject, named, reasons)
    return tuple(Decision(tag, reasons[tag.name]) for tag in tags)


def _reasons(retention: Retention, rules: Rules, tag: TagState, last: set[str], now: int) -> tuple[str, ...]:
    found = []
    if tag.name in last:
        found.append(f"one of the last {retention.last}")
    pattern = next((pattern for pattern in retention.matching if matches(pattern, tag.name)), "")
    if pattern:
        found.append(f"matches {pattern}")
    days = retention.pulled_days
    if days is not None and tag.pulled_at is not None and tag.pulled_at > now - days * _DAY_SECONDS:
        found.append(f"pulled within {days} days")
    # What was pushed a moment ago has had no time to be pulled.
    if days is not None and tag.renewed_at > now - days * _DAY_SECONDS:
        found.append(f"pushed within {days} days")
    if held := rules.holding(tag.name):
        found.append(f"immutable by {held}")
    return tuple(found)


def _of_companion(
    rules: Rules, name: str, subject: str, named: Mapping[str, list[str]], reasons: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    names = named.get(subject, [])
    if not names:
        return ("about a manifest that no tag names",)
    staying = next((each for each in names if reasons[each]), "")
    return (f"about {staying}",) if staying else ()


def subject_of(name: str) -> str:
    """The digest of what a tag of this *name* is about, "" if it is about itself."""
    found = _COMPANION.fullmatch(name)
    if found is None or len(found[2]) != {"sha256": 64, "sha512": 128}[found[1]]:
        return ""
    return f"{found[1]}:{found[2]}"
