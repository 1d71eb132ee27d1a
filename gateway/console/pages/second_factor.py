"""My second factor: codes of a phone, asked for after the password; and recovery codes for when there is no phone."""

from __future__ import annotations

import json
from typing import Final

from starlette.responses import Response

from gateway.administration import Enrolment
from gateway.console.frame import render
from gateway.console.pictures import qr_code
from gateway.console.plan import Group, Page
from gateway.console.session import cookie_of, give
from gateway.console.visit import Visit
from gateway.errors import Denied, Invalid

#: How long a key that was shown may be confirmed from the same page.
_SECONDS: Final = 900


async def show(visit: Visit, status: int = 200) -> Response:
    """Whether there is one, and what can be done about it."""
    factor = await visit.acts.second_factor.show(visit.caller)
    return await render(visit, "second_factor.html", status, factor=factor)


async def begin(visit: Visit) -> Response:
    """A fresh key for the phone to be told, for whoever knows the password: a browser left open is not enough."""
    name = visit.caller.principal.name
    with visit.form.blaming("password", Denied):
        await visit.parts.sign_in.by_password(name, visit.form.value("password"), visit.origin)
        # A colon would end the name in what the phone is told.
        issuer = f"Registry gateway {visit.parts.host.rpartition(':')[0] or visit.parts.host}"
        return await _telling(visit, await visit.acts.second_factor.begin(visit.caller, issuer))
    return await show(visit, 422)


async def confirm(visit: Visit) -> Response:
    """Puts the key in force, given a code of it, and shows the recovery codes this once."""
    with visit.form.blaming("code"):
        confirmed = await visit.acts.second_factor.confirm(visit.caller, visit.form.text("code"))
        # Whoever may do more than before gets another cookie.
        opened = await visit.acts.sessions.open(confirmed.caller, replacing=cookie_of(visit.request))
        visit.session = await visit.acts.sessions.find(opened.cookie, visit.origin)
        response = await _coded(visit, confirmed.codes, fresh=True)
        give(response, opened.cookie)
        return response
    return await _telling(visit, _unsealed(visit), 422)


async def disable(visit: Visit) -> Response:
    with visit.form.blaming("code", Denied):
        await visit.acts.second_factor.disable(visit.caller, visit.form.text("code"))
        return visit.go("/account/second-factor", said="factor-off")
    return await show(visit, 422)


async def renew(visit: Visit) -> Response:
    """Other recovery codes, shown this once."""
    with visit.form.blaming("renewing_code", Denied):
        codes = await visit.acts.second_factor.renew_codes(visit.caller, visit.form.text("renewing_code"))
        return await _coded(visit, codes, fresh=False)
    return await show(visit, 422)


async def _telling(visit: Visit, enrolment: Enrolment, status: int = 200) -> Response:
    content = json.dumps([visit.caller.principal.id, enrolment.key, enrolment.uri]).encode()
    sealed = visit.parts.forms.seal(content, _SECONDS)
    values = {"enrolment": enrolment, "sealed": sealed, "picture": qr_code(enrolment.uri)}
    return await render(visit, "second_factor_begin.html", status, **values)


def _unsealed(visit: Visit) -> Enrolment:
    """The key that the form's page had shown, to be shown again; raises `Invalid` when that was too long ago."""
    content = visit.parts.forms.unseal(visit.form.value("enrolment"))
    found = json.loads(content) if content is not None else None
    if not isinstance(found, list) or found[0] != visit.caller.principal.id:
        raise Invalid("This took too long; go to your second factor, and set it up again.")
    return Enrolment(found[1], found[2])


async def _coded(visit: Visit, codes: tuple[str, ...], *, fresh: bool) -> Response:
    return await render(visit, "recovery_codes.html", codes=codes, fresh=fresh)


GROUP = Group(
    pages=(
        Page("/account/second-factor", show),
        Page("/account/second-factor/begin", show, begin),
        Page("/account/second-factor/confirm", show, confirm),
        Page("/account/second-factor/disable", show, disable),
        Page("/account/second-factor/codes", show, renew),
    )
)
