"""Who pulled what, what a leaked credential touched, and what a change of a grant would have decided."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from starlette.responses import Response

from gateway.access.names import is_robot
from gateway.access.policy import Reach, Role
from gateway.access.scopes import Action
from gateway.administration import Leak, Proposal, Verb
from gateway.audit.moments import moment
from gateway.console.frame import render
from gateway.console.plan import Group, Page
from gateway.console.visit import Visit
from gateway.errors import Refusal
from gateway.oci.names import ProjectName

_VERBS: Final = ((Verb.GRANT.value, "give the role"), (Verb.REVOKE.value, "take away what is held"))
#: Digests of one page; a credential may have touched thousands.
_SHOWN: Final = 200
_ROLES: Final = tuple((role.value, role.value) for role in Role)


async def who_pulled(visit: Visit) -> Response:
    """Who pulled what is named: a digest, or a tag at a moment; nothing named shows the form."""
    form = visit.form
    found: Any = None
    at = None
    if form.text("at"):
        at = form.parsed("at", lambda text: moment(text, datetime.now(UTC)))
    # A project alone, as its pages' links fill it in, waits for the rest to be typed.
    if form.text("target") and not form.text("target").endswith("/") and form.sound:
        with form.blaming("target"):
            sealed = form.text("sealed") == "1"
            found = await visit.acts.tracing.who_pulled(visit.caller, form.text("target"), at, sealed=sealed)
    base = await visit.trail(_within(form.text("target")))
    return await render(visit, "who_pulled.html", 200 if form.sound else 422, found=found, base=base)


async def leak(visit: Visit) -> Response:
    """What a credential touched; nothing is changed. Nothing named shows the form."""
    form = visit.form
    found: Leak | None = None
    if form.text("credential"):
        since = form.parsed("since", lambda text: moment(text or "30d", datetime.now(UTC)))
        if since is not None:
            with form.blaming("credential"):
                found = await visit.acts.tracing.leak(visit.caller, form.text("credential"), since, plan=True)
    return await _touched(visit, found)


async def revoke(visit: Visit) -> Response:
    """Ends the credential, if its name was typed; what it touched is told either way."""
    form = visit.form
    if form.text("typed") != form.text("credential"):
        form.blame("typed", f"Type {form.text('credential')} to confirm.")
        return await leak(visit)
    since = form.parsed("since", lambda text: moment(text or "30d", datetime.now(UTC)))
    found: Leak | None = None
    if since is not None:
        with form.blaming("credential"):
            found = await visit.acts.tracing.leak(visit.caller, form.text("credential"), since)
    return await _touched(visit, found)


async def _touched(visit: Visit, found: Leak | None) -> Response:
    robot = found is not None and is_robot(found.principal)
    project = ProjectName(found.principal.partition("+")[0]) if found is not None and robot else None
    values = {
        "base": await visit.trail(project),
        "found": found,
        "shown": found.touched[:_SHOWN] if found is not None else (),
        "digests": len({each.digest for each in found.touched}) if found is not None else 0,
        "may_revoke": Action.MANAGE in await visit.rights(project),
    }
    return await render(visit, "leak.html", 200 if visit.form.sound else 422, **values)


async def ask_replay(visit: Visit) -> Response:
    return await _replayed(visit, None)


async def replay(visit: Visit) -> Response:
    """Which requests of the last 30 days a change of a grant would decide differently; nothing is changed."""
    form = visit.form
    found: Any = None
    form.parsed("reach", Reach.parse)
    verb = Verb.REVOKE if form.value("verb") == Verb.REVOKE else Verb.GRANT
    proposal = Proposal(verb, form.text("principal"), form.text("reach"), form.text("role"))
    if verb is Verb.GRANT:
        form.parsed("role", Role.parse)
    if not form.sound:
        return await _replayed(visit, None)
    with form.blaming("principal"):
        found = await visit.acts.replays.replay(visit.caller, proposal)
    return await _replayed(visit, found)


async def _replayed(visit: Visit, found: Any) -> Response:
    values = {
        "found": found,
        "verbs": _VERBS,
        "roles": _ROLES,
        "base": await visit.trail(_within(visit.form.text("reach"))),
    }
    return await render(visit, "replay.html", 200 if visit.form.sound else 422, **values)


def _within(text: str) -> ProjectName | None:
    """The project that a reach or a repository's reference begins with, if it can be one."""
    try:
        return ProjectName.parse(text.partition("/")[0])
    except Refusal:
        return None


GROUP = Group(
    pages=(
        Page("/audit/who-pulled", who_pulled),
        Page("/audit/leak", leak, revoke, grave=True),
        Page("/audit/replay", ask_replay, replay),
    )
)
