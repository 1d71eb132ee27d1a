"""Sight: what a caller may see where an act needs no particular right."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.access.policy import Allowed, Need, Standing, judge
from gateway.access.principals import Caller, CredentialKind
from gateway.access.scopes import Action
from gateway.errors import Denied
from gateway.gate import Gate
from gateway.oci.names import Repository


async def standing_of(gate: Gate, caller: Caller) -> Standing:
    """How *caller* stands; raises `Denied` if the account is gone, disabled, expired or its password has changed."""
    standing = await gate.directory.standing(caller.principal)
    if standing is None or not standing.live(datetime.now(UTC)):
        raise Denied("This account is disabled, expired or removed; ask an administrator.")
    if caller.credential.kind is CredentialKind.BEARER and caller.generation != standing.generation:
        raise Denied("The password was changed since; sign in again.")
    return standing


async def may_pull(gate: Gate, caller: Caller, standing: Standing, repository: Repository) -> bool:
    """Whether *caller* may pull from *repository*, and so may know that it exists."""
    project = await gate.directory.project(repository.project)
    verdict = judge(caller, Need(Action.PULL, repository), standing, project, datetime.now(UTC))
    return isinstance(verdict, Allowed)
