"""Policy replay: which of the requests that were made would be decided differently if a right were given or taken."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from gateway.access.names import parse_principal
from gateway.access.policy import Allowed, Grant, Need, Project, Reach, Role, Standing, judge
from gateway.access.principals import Caller, Origin, Principal, PrincipalKind
from gateway.access.scopes import Action
from gateway.administration.gathering import everywhere
from gateway.administration.horizon import horizon
from gateway.administration.looks import Looks
from gateway.audit.chain import Sealed
from gateway.audit.event import Kind
from gateway.audit.trail import SealedPart, Search, Trail
from gateway.errors import Invalid
from gateway.gate import Gate
from gateway.oci.names import ProjectName, Repository
from gateway.records.accounts import find, no_account
from gateway.records.database import Database

#: Requests looked at, the newest; and how far back, at most.
MOST: Final = 20_000
DAYS: Final = 365
_NOWHERE: Final = Origin("", "", "", "")


class Verb(StrEnum):
    """What is proposed: to give a role, or to take away what is held on exactly that reach."""

    GRANT = "grant"
    REVOKE = "revoke"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change of one principal's grants, as text; *role* is for a grant alone."""

    verb: Verb
    principal: str
    reach: str
    role: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """
    *count* requests of one kind that would be decided differently from now on.

    *allowed* is the verdict with the change, *why* the grant that would decide or what would be missing; *outcome* is
    what became of the requests when they were made, the last one in the event *last_event*.
    """

    action: str
    target: str
    allowed: bool
    why: str
    outcome: str
    count: int
    first: datetime
    last: datetime
    last_event: int


@dataclass(frozen=True, slots=True)
class Replay:
    """
    What would be different: requests judged by the policy of now without the change, and with it.

    *looked* requests of the principal in the project were judged again, the newest; *whole* says that these are all
    there were *since* then. *sealed* is what could not be looked at, for it was purged.
    """

    proposal: Proposal
    differences: tuple[Difference, ...]
    looked: int
    whole: bool
    since: datetime
    sealed: SealedPart | None = None


@dataclass(frozen=True, slots=True)
class Replays:
    """For administrators, auditors and the project's owner; nothing changes, and it is an event."""

    gate: Gate
    database: Database
    trail: Trail
    looks: Looks

    async def replay(self, caller: Caller, proposal: Proposal, *, days: int = 30) -> Replay:
        """
        Judges the requests of the last *days* again, at most the newest 20,000.

        Raises `Invalid` for a name, role or reach that is not legal, `Unknown` for an account that is not there.
        """
        reach = Reach.parse(proposal.reach)
        asked = {"verb": proposal.verb.value, "account": proposal.principal, "reach": str(reach), "role": proposal.role}
        needs = Need(Action.REVIEW, reach.project)
        async with self.gate.passage(caller, Kind.AUDIT_REPLAY, needs, detail={**asked, "days": days}) as passage:
            if not 1 <= days <= DAYS:
                raise Invalid(f"A replay looks back 1 to {DAYS} days.", detail={"field": "days"})
            role = Role.parse(proposal.role) if proposal.verb is Verb.GRANT else None
            found = await self._replay(caller, proposal, reach, role, datetime.now(UTC) - timedelta(days=days))
            await passage.seal()
        return found

    async def _replay(
        self, caller: Caller, proposal: Proposal, reach: Reach, role: Role | None, since: datetime
    ) -> Replay:
        name = parse_principal(proposal.principal)
        account = await self.database.read(lambda connection: find(connection, name))
        if account is None:
            raise no_account(name)
        principal = Principal(PrincipalKind(account.kind), account.id, account.name)
        standing = await self.gate.directory.standing(principal)
        project = await self.gate.directory.project(reach.project)
        if standing is None:
            raise no_account(name)
        changed = with_grant(standing, reach, role)
        first = await horizon(self.gate, self.database, self.trail, caller, reach.project)
        since = max(since, first) if first is not None else since
        search = Search(project=reach.project.name, principal=name, since=since)
        # One more than is looked at tells whether there are more.
        events = await self.looks.run(caller, everywhere, self.trail, [search], MOST + 1)
        judged = Judged(principal, project, standing, changed, datetime.now(UTC))
        looked, whole = events[:MOST], len(events) <= MOST
        reached = since if whole else datetime.fromisoformat(str(looked[-1].record()["time"]))
        requests = sum("action" in event.record() for event in looked)
        part = await asyncio.to_thread(self.trail.sealed, search)
        purged = part.read() if part is not None else None
        return Replay(proposal, differences(looked, judged), requests, whole, reached, purged)


@dataclass(frozen=True, slots=True)
class Judged:
    """Who is judged, how they stand *without* the change and *changed*, in which project, and when."""

    principal: Principal
    project: Project | None
    without: Standing
    changed: Standing
    now: datetime


def with_grant(standing: Standing, reach: Reach, role: Role | None) -> Standing:
    """*standing* with *role* on exactly this reach instead of what is held there; without anything there for None."""
    others = tuple(grant for grant in standing.grants if grant.reach != reach)
    return replace(standing, grants=others if role is None else (*others, Grant(role, reach)))


def differences(events: Iterable[Sealed], judged: Judged) -> tuple[Difference, ...]:
    """The requests among *events*, newest first, that the change decides differently; the most frequent first."""
    found: dict[tuple[str, str, str], Difference] = {}
    verdicts: dict[tuple[str, str], tuple[bool, bool, str]] = {}
    for event in events:
        record = event.record()
        action, repository = str(record.get("action", "")), str(record.get("repository", ""))
        place = repository or str(record.get("project", ""))
        if not action or not place:
            continue
        if (action, place) not in verdicts:
            target = Repository(repository) if repository else ProjectName(place)
            verdicts[action, place] = _verdicts(Action(action), target, judged)
        was, would, why = verdicts[action, place]
        if was == would:
            continue
        outcome, at = str(record["outcome"]), datetime.fromisoformat(str(record["time"]))
        known = found.get((action, place, outcome))
        if known is None:
            known = Difference(action, place, would, why, outcome, 0, at, at, event.seq)
        found[action, place, outcome] = replace(known, count=known.count + 1, first=at)
    return tuple(sorted(found.values(), key=lambda each: (-each.count, each.target, each.action)))


def _verdicts(action: Action, target: Repository | ProjectName, judged: Judged) -> tuple[bool, bool, str]:
    need, caller = Need(action, target), Caller(judged.principal, _NOWHERE)
    was = judge(caller, need, judged.without, judged.project, judged.now)
    would = judge(caller, need, judged.changed, judged.project, judged.now)
    why = would.grant if isinstance(would, Allowed) else f"{need} is missing"
    return isinstance(was, Allowed), isinstance(would, Allowed), why
