"""Sight: what a caller may see where an act needs no particular right."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.access.policy import Allowed, Need, Standing, judge
from gateway.access.principals import Caller, CredentialKind
from gateway.access.scopes import Action
from gateway.errors import Denied
from gateway.gate import Gate
from gateway.oci.names import ProjectName, Repository

_SEES_ALL = (Action.MANAGE, Action.REVIEW)


async def standing_of(gate: Gate, caller: Caller) -> Standing:
    """How *caller* stands; raises `Denied` if the account is gone, disabled, expired or its password has changed."""
    standing = await gate.directory.standing(caller.principal)
    if standing is None or not standing.live(datetime.now(UTC)):
        raise Denied("This account is disabled, expired or removed; ask an administrator.")
    if caller.credential.kind is CredentialKind.BEARER and caller.generation != standing.generation:
        raise Denied("The password was changed since; sign in again.")
    return standing


async def may_know(gate: Gate, caller: Caller, name: ProjectName) -> bool:
    """Whether *caller* may know if there is a project of this *name*: whoever sees all, or holds anything in it."""
    standing = await gate.directory.standing(caller.principal)
    now = datetime.now(UTC)
    if standing is None or not standing.live(now):
        return False
    if any(isinstance(judge(caller, Need(action), standing, None, now), Allowed) for action in _SEES_ALL):
        return True
    project = await gate.directory.project(name)
    if project is None:
        return False
    return project.public or any(grant.live(now) and grant.reach.project == name for grant in standing.grants)


async def may_pull(gate: Gate, caller: Caller, standing: Standing, repository: Repository) -> bool:
    """Whether *caller* may pull from *repository*, and so may know that it exists."""
    project = await gate.directory.project(repository.project)
    verdict = judge(caller, Need(Action.PULL, repository), standing, project, datetime.now(UTC))
    return isinstance(verdict, Allowed)
