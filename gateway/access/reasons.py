"""Reasons: everything that gives somebody a right, where the judgement stops at the first that does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gateway.access.policy import ACTIONS, Grant, Need, Project, Standing, covers
from gateway.access.scopes import Action
from gateway.oci.names import Repository

ADMINISTRATOR, AUDITOR, PUBLIC = "administrator", "auditor", "public project"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why somebody holds a right: a *grant*, or what is not one (`administrator`, `auditor`, `public project`)."""

    why: str
    grant: Grant | None = None

    def __str__(self) -> str:
        return self.why


def causes(need: Need, standing: Standing | None, project: Project | None, now: datetime) -> tuple[Cause, ...]:
    """
    Everything that gives what *need* names at the moment *now*; empty means refused.

    It is the judgement's own answer, told in full: `policy.judge` allows a caller without a token exactly when there
    is a cause. *standing* and *project* are None when there is none such.
    """
    if standing is None or not standing.live(now):
        return ()
    found: list[Cause] = []
    if standing.administrator:
        found.append(Cause(ADMINISTRATOR))
    if need.action is Action.REVIEW and standing.auditor:
        found.append(Cause(AUDITOR))
    if need.target is None or project is None:
        return tuple(found)
    for grant in standing.grants:
        if grant.live(now) and covers(grant.reach, need.target) and need.action in ACTIONS[grant.role]:
            found.append(Cause(str(grant), grant))
    if need.action is Action.PULL and project.public and isinstance(need.target, Repository):
        found.append(Cause(PUBLIC))
    return tuple(found)


def barred(standing: Standing | None, now: datetime) -> str:
    """Why an account can do nothing at all at the moment; "" if it is not so."""
    if standing is None:
        return "it does not exist any more"
    if not standing.enabled:
        return "it is disabled"
    return "" if standing.live(now) else "it has expired"
