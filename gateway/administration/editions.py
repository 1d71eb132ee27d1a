"""Editions: an edit is made on what its editor saw, or refused with what there is now."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeAlias, assert_never

from gateway.access.names import parse_principal
from gateway.access.policy import Reach
from gateway.access.principals import PrincipalKind
from gateway.access.retention import Retention
from gateway.change import Notes
from gateway.errors import Stale
from gateway.gate import Act, Ledger
from gateway.oci.names import ProjectName
from gateway.records import accounts, grants, projects, retention, reviews
from gateway.records.accounts import Account
from gateway.records.grants import GrantRow
from gateway.records.projects import ProjectRow
from gateway.records.reviews import Finding

#: What people edit, and may edit at the same time.
Edited: TypeAlias = Account | ProjectRow | GrantRow | Retention | Finding


def edition_of(thing: Edited) -> str:
    """A short text that differs whenever anything differs that can be edited; the same in every process."""
    match thing:
        case Account():
            told: tuple[object, ...] = (thing.id, thing.enabled, thing.administrator, thing.auditor)
            if thing.kind is PrincipalKind.ROBOT:
                # Its secrets are its project's to change, not its own as a user's password is.
                told += tuple(map(_seconds, (thing.changed_at, thing.expires_at, thing.former_until)))
        case ProjectRow():
            rules = thing.rules
            told = (thing.id, thing.public, rules.quota_bytes, rules.immutable, rules.read_only)
        case GrantRow():
            told = (thing.id, thing.role, _seconds(thing.expires_at))
        case Retention():
            told = (thing.last, thing.matching, thing.pulled_days)
        case Finding():
            told = (thing.number, thing.mark, thing.note, thing.marked_by, _seconds(thing.marked_at))
        case _:
            assert_never(thing)
    return hashlib.sha256(repr((type(thing).__name__, *told)).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Condition:
    """
    What must be true of one thing when it is edited: it is one of these *editions* (None: whichever, if it exists).

    With *absent* it must not exist yet. *noun* names it for the refusal.
    """

    noun: str
    look: Callable[[Any], Edited | None]
    editions: frozenset[str] | None = None
    absent: bool = False

    @classmethod
    def on_user(cls, name: str, editions: frozenset[str] | None) -> Condition:
        """On the user or robot of this name; raises `Invalid`."""
        canonical = parse_principal(name)
        return cls(canonical, lambda connection: accounts.find(connection, canonical), editions)

    @classmethod
    def on_project(cls, name: str, editions: frozenset[str] | None) -> Condition:
        """On the project of this name; raises `Invalid`."""
        project = ProjectName.parse(name)
        return cls(f"project {project}", lambda connection: projects.find(connection, project), editions)

    @classmethod
    def on_grant(
        cls, principal: str, reach: str, editions: frozenset[str] | None, *, absent: bool = False
    ) -> Condition:
        """On what *principal* holds on exactly *reach*; raises `Invalid`."""
        canonical, covered = parse_principal(principal), Reach.parse(reach)
        noun = f"the grant of {canonical} on {covered}"
        return cls(noun, lambda connection: grants.find(connection, canonical, covered), editions, absent)

    @classmethod
    def on_retention(cls, project: str, editions: frozenset[str] | None) -> Condition:
        """On what the project keeps; raises `NameInvalid`, and when it is looked at `Unknown`."""
        name = ProjectName.parse(project)
        noun = f"what {name} keeps"
        return cls(noun, lambda connection: retention.of_project(connection, name)[0], editions)

    @classmethod
    def on_finding(cls, review: int, finding: int, editions: frozenset[str] | None) -> Condition:
        """On what was said of a finding of a review."""
        noun = f"finding {finding} of review {review}"
        return cls(noun, lambda connection: reviews.find_finding(connection, review, finding), editions)

    def require(self, connection: Any) -> None:
        """Raises `Stale` with what there is now, unless the condition holds."""
        present = self.look(connection)
        if self.absent:
            if present is not None:
                raise Stale(f"There is {self.noun} already; look at it, and edit that.", present=present)
        elif present is None:
            raise Stale(f"There is no {self.noun} any more; look whether it is still wanted.", present=None)
        elif self.editions is not None and edition_of(present) not in self.editions:
            raise Stale(f"Somebody changed {self.noun} meanwhile; look at it, and edit that.", present=present)


@dataclass(frozen=True, slots=True)
class Conditional:
    """A ledger that commits a change only if *condition* holds in the same transaction, before anything is changed."""

    ledger: Ledger
    condition: Condition

    async def commit(self, act: Act) -> Notes:
        change = act.change
        if change is None:
            return await self.ledger.commit(act)
        apply = change.apply

        def conditioned(connection: Any) -> Notes:
            self.condition.require(connection)
            return apply(connection)

        return await self.ledger.commit(replace(act, change=replace(change, apply=conditioned)))


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment is not None else None
