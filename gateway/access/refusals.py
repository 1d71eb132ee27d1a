"""Refusals: what a caller is told whose right is missing, and which scope its client should ask a token for."""

from __future__ import annotations

from functools import lru_cache

from gateway.access.policy import Need, Reason, Refused
from gateway.access.principals import ANONYMOUS, Caller, CredentialKind
from gateway.access.scopes import TOKEN_ACTIONS, Action, scope_text
from gateway.errors import Denied, Refusal, Unauthorized
from gateway.oci.names import Repository


def refusal(caller: Caller, needs: tuple[Need, ...], verdict: Refused) -> Refusal:
    """
    What *caller* is told when the verdict on *needs* is *verdict*.

    With a bearer token: `Unauthorized`, `insufficient_scope` when the token lacks the right, `invalid_token` when it
    carries a right that policy does not give any more. Without one: `Denied`. What the caller holds is told only to
    those who may know that the repository exists.
    """
    missing = verdict.missing
    message = f"{missing} is missing" if missing is not None else "access is missing"
    if verdict.disclose and verdict.held:
        message += f"; {caller.principal.name} holds {verdict.held}"
    elif caller.principal == ANONYMOUS:
        message += "; nobody is signed in: log in first"
    detail: dict[str, object] = {}
    if missing is not None:
        detail = {"missing": str(missing.action), "on": str(missing.target) if missing.target else "system"}
    if caller.access is None and caller.credential.kind is not CredentialKind.BEARER:
        if verdict.reason is Reason.INSUFFICIENT_SCOPE:
            message = f"{missing} is not among what this token may be used for; use one that it is"
        return Denied(f"{message}.", detail=detail)
    error = "insufficient_scope" if verdict.reason is Reason.INSUFFICIENT_SCOPE else "invalid_token"
    return Unauthorized(f"{message}.", scope=wanted_scope(needs), error=error, detail=detail)


@lru_cache(maxsize=4096)
def wanted_scope(needs: tuple[Need, ...]) -> str:
    """The scope that a request with *needs* should ask a token for: one scope a repository, joined by spaces."""
    wanted: dict[Repository, set[Action]] = {}
    for need in needs:
        if isinstance(need.target, Repository) and need.action in TOKEN_ACTIONS:
            wanted.setdefault(need.target, set()).add(need.action)
    return " ".join(scope_text(repository, actions) for repository, actions in wanted.items())
