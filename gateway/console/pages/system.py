"""The gateway as a whole, for administrators: its read-only switch, how it is doing, and the keys that sign tokens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Final

from starlette.responses import Response

from gateway.access.scopes import Action
from gateway.administration import Finding, State
from gateway.console.frame import render
from gateway.console.plan import Group, Page, Place
from gateway.console.visit import Visit

_DISTRIBUTION: Final = "registry-gateway"
#: How the state of a key is shown, and what it means.
_KEYS: Final = {
    "next": ("", "published; signs after the next change"),
    "current": ("good", "signs now"),
    "previous": ("", "signs no more; what it signed is good until its end"),
    "revoked": ("bad", "what it signed is worth nothing"),
}
_TONES: Final = {State.OK: "good", State.WARN: "warn", State.BAD: "bad"}


async def show(visit: Visit, status: int = 200) -> Response:
    """How the switch stands, and what was found of the gateway just now."""

    async def others() -> Sequence[Finding]:
        return await visit.parts.surroundings()

    findings = await visit.acts.doctor.examine(visit.caller, others)
    freeze = await visit.acts.read_only.show(visit.caller)
    return await render(
        visit,
        "system.html",
        status,
        freeze=freeze,
        findings=[(each, _TONES[each.state]) for each in findings],
        version=version(_DISTRIBUTION),
    )


async def keys(visit: Visit) -> Response:
    """The keys that sign tokens, without their private halves; what becomes of them is decided on the host."""
    rows = await visit.acts.keys.list_keys(visit.caller)
    shown = [(row, *_KEYS[row.state], datetime.fromisoformat(row.created), _moment(row.retires)) for row in rows]
    return await render(visit, "keys.html", keys=shown)


async def turn_on(visit: Visit) -> Response:
    """Makes the whole gateway read-only, for a reason that clients are told."""
    with visit.form.blaming("reason"):
        await visit.acts.read_only.turn_on(visit.caller, visit.form.text("reason"))
        return visit.go("/system", said="saved")
    return await show(visit, 422)


async def turn_off(visit: Visit) -> Response:
    await visit.acts.read_only.turn_off(visit.caller)
    return visit.go("/system", said="saved")


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None


GROUP = Group(
    pages=(
        Page("/system", show),
        Page("/system/keys", keys),
        Page("/system/read-only", post=turn_on),
        Page("/system/writable", post=turn_off),
    ),
    places=(Place("System", "/system", Action.MANAGE),),
)
