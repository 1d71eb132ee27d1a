"""What the canary's gate stands on: real policy with the canary's world beside it, and a ledger that writes nothing.

The account, the two projects and the grant exist in here alone. To every other gate a token of this account is one of
an account that is gone, and the canary's project is one that does not exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.access.directory import Directory
from gateway.access.policy import Grant, Project, Reach, Role, Standing
from gateway.access.principals import Principal, PrincipalKind
from gateway.audit.event import Event, Outcome
from gateway.canary.content import Canary
from gateway.change import Notes
from gateway.gate import Act
from gateway.oci.names import ProjectName

#: No account or project of the records ever gets so far: these are the largest numbers that a token may carry.
_ACCOUNT: Final = 2**53 - 1
_PROJECT: Final = 2**53 - 2
_NEIGHBOUR: Final = 2**53 - 3

#: Whoever holds a little somewhere, and nothing on the canary.
LOW = Principal(PrincipalKind.USER, _ACCOUNT, "canary")


@dataclass(frozen=True, slots=True)
class StagedDirectory:
    """Policy as it stands, and besides it the canary's private project and an account that may push next to it."""

    real: Directory
    canary: Canary

    def version(self) -> int:
        return self.real.version()

    async def standing(self, principal: Principal, *, offline_token: int = 0) -> Standing | None:
        if principal == LOW:
            return Standing(grants=(Grant(Role.PUSHER, Reach(self.canary.neighbour.project)),))
        return await self.real.standing(principal, offline_token=offline_token)

    async def project(self, name: ProjectName) -> Project | None:
        if name == self.canary.repository.project:
            return Project(_PROJECT, name)
        if name == self.canary.neighbour.project:
            return Project(_NEIGHBOUR, name)
        return await self.real.project(name)

    async def projects(self, names: Iterable[ProjectName]) -> Sequence[Project]:
        found = [await self.project(name) for name in dict.fromkeys(names)]
        return [project for project in found if project is not None]

    async def public_projects(self) -> Sequence[Project]:
        return await self.real.public_projects()


@dataclass(slots=True)
class DeafLedger:
    """
    Writes nothing: no event of the probe stands in the trail, and no change it could cause is made.

    *passed* collects the kinds of what was let through on the canary, which is nothing while policy holds.
    """

    canary: Canary
    passed: list[str] = field(default_factory=list)

    async def commit(self, act: Act) -> Notes:
        event = act.event
        if isinstance(event, Event) and event.outcome is Outcome.ALLOWED and self._is_on_the_canary(event):
            self.passed.append(event.kind.value)
        return Notes()

    def _is_on_the_canary(self, event: Event) -> bool:
        name = self.canary.repository.name
        return event.repository == name or (event.detail or {}).get("from") == name
