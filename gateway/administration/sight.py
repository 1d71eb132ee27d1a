"""Sight: what a caller may see where an act needs no particular right."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.access.policy import Allowed, Need, Reason, Standing, judge, suspended
from gateway.access.principals import Caller, CredentialKind, PrincipalKind
from gateway.access.scopes import Action
from gateway.errors import Denied
from gateway.gate import Gate
from gateway.oci.names import ProjectName, Repository


async def standing_of(gate: Gate, caller: Caller) -> Standing:
    """How *caller* stands; raises `Denied` if its account or its credential is not live any more."""
    standing = await gate.directory.standing(caller.principal)
    match suspended(caller, standing, datetime.now(UTC)):
        case Reason.CREDENTIAL_CHANGED:
            raise Denied("The password was changed since; sign in again.")
        case Reason.CREDENTIAL_REVOKED:
            raise Denied("The token was revoked or is over; use another one.")
        case None if standing is not None:
            return standing
        case _:
            raise Denied("This account is disabled, expired or removed; ask an administrator.")


async def require_own(gate: Gate, caller: Caller) -> None:
    """
    Raises `Denied` unless *caller* is a user who may look after its own account: its tokens, sessions, second factor.

    That takes a sign-in, or a personal token that bounds nothing its account may administer.
    """
    await standing_of(gate, caller)
    if caller.principal.kind is not PrincipalKind.USER or caller.credential.kind is CredentialKind.BEARER:
        raise Denied("Sign in as a user for this: it is about the user's own account.")
    if caller.bound is not None and not caller.bound.administers:
        raise Denied("This token may not be used to look after its account; sign in to the console.")


async def reading(gate: Gate, caller: Caller, project: ProjectName | None = None) -> Need:
    """
    What it takes of *caller* to read who may do what, in *project* or in the system: to manage it, or to review it.

    The one of them that the caller has; who has neither is asked for the first.
    """
    standing, now = await gate.directory.standing(caller.principal), datetime.now(UTC)
    found = await gate.directory.project(project) if project is not None else None
    managing = Need(Action.MANAGE, project)
    # A project that is not there has no owner; auditors are told so, like administrators.
    reviewing = Need(Action.REVIEW, project if found is not None else None)
    held = (need for need in (managing, reviewing) if isinstance(judge(caller, need, standing, found, now), Allowed))
    return next(held, managing)


def sees_all(caller: Caller, standing: Standing) -> bool:
    """Whether *caller* may see every project that its credential reaches."""
    reviews = caller.bound is None or Action.REVIEW in caller.bound.actions
    return standing.administrator or (standing.auditor and reviews)


async def may_know(gate: Gate, caller: Caller, name: ProjectName) -> bool:
    """Whether *caller* may know if there is a project of this *name*: whoever sees all, or holds anything in it."""
    standing, now = await gate.directory.standing(caller.principal), datetime.now(UTC)
    if standing is None or suspended(caller, standing, now) is not None:
        return False
    if caller.bound is not None and not caller.bound.reaches(name):
        return False
    if sees_all(caller, standing):
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
