"""Who pulled what, and what a change of a grant would have decided."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from starlette.responses import Response

from gateway.access.policy import Role
from gateway.administration import Proposal, Verb
from gateway.audit.moments import moment
from gateway.console.frame import render
from gateway.console.plan import Group, Page
from gateway.console.visit import Visit

_VERBS: Final = ((Verb.GRANT.value, "give the role"), (Verb.REVOKE.value, "take away what is held"))
_ROLES: Final = tuple((role.value, role.value) for role in Role)


async def who_pulled(visit: Visit) -> Response:
    """Who pulled what is named: a digest, or a tag at a moment; nothing named shows the form."""
    form = visit.form
    found: Any = None
    at = None
    if form.text("at"):
        at = form.parsed("at", lambda text: moment(text, datetime.now(UTC)))
    if form.text("target") and form.sound:
        with form.blaming("target"):
            found = await visit.acts.tracing.who_pulled(visit.caller, form.text("target"), at)
    return await render(visit, "who_pulled.html", 200 if form.sound else 422, found=found)


async def ask_replay(visit: Visit) -> Response:
    return await render(visit, "replay.html", found=None, verbs=_VERBS, roles=_ROLES)


async def replay(visit: Visit) -> Response:
    """Which requests of the last 30 days a change of a grant would decide differently; nothing is changed."""
    form = visit.form
    found: Any = None
    verb = Verb.REVOKE if form.value("verb") == Verb.REVOKE else Verb.GRANT
    proposal = Proposal(verb, form.text("principal"), form.text("reach"), form.text("role"))
    with form.blaming("principal"):
        found = await visit.acts.replays.replay(visit.caller, proposal)
    return await render(visit, "replay.html", 200 if form.sound else 422, found=found, verbs=_VERBS, roles=_ROLES)


GROUP = Group(pages=(Page("/audit/who-pulled", who_pulled), Page("/audit/replay", ask_replay, replay)))
