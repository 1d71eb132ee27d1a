"""My account: the password, and the sessions in which one is signed in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.responses import Response

from gateway.access.passwords import check_password
from gateway.access.principals import Caller
from gateway.access.scopes import Action
from gateway.administration.codes import FIELD as CODE_FIELD
from gateway.console.form import Form
from gateway.console.frame import render
from gateway.console.plan import Group, Page
from gateway.console.session import cookie_of, give
from gateway.console.visit import Visit
from gateway.errors import Denied, Invalid


async def show(visit: Visit, status: int = 200) -> Response:
    """What there is to know of one's own account."""
    factor = await visit.acts.second_factor.show(visit.caller)
    rights = await visit.rights()
    role = "administrator" if Action.MANAGE in rights else "auditor" if Action.REVIEW in rights else "user"
    return await render(visit, "account.html", status, factor=factor, role=role)


async def change_password(visit: Visit) -> Response:
    """
    Another password, for whoever knows the old one and has the second factor; this browser stays signed in, others do
    not.
    """
    form = visit.form
    with form.blaming("new_password"):
        check_password(form.value("new_password"))
    if form.value("new_password") != form.value("new_password_again"):
        form.blame("new_password_again", "The two are not the same; type the new password once more.")
    if form.sound:
        with form.blaming("password", Denied), _blaming_the_code(form):
            caller = await visit.parts.sign_in.change_password(
                visit.caller, form.value("password"), form.value("new_password"), form.text("code")
            )
            return await _anew(visit, caller)
    return await show(visit, 422)


@contextmanager
def _blaming_the_code(form: Form) -> Iterator[None]:
    try:
        yield
    except Denied as refusal:
        if refusal.detail.get("field") != CODE_FIELD:
            raise
        form.blame("code", refusal.message)


async def _anew(visit: Visit, caller: Caller) -> Response:
    """Another session in the place of that which the old password had opened."""
    opened = await visit.acts.sessions.open(caller, replacing=cookie_of(visit.request))
    response = visit.go("/account", said="password")
    give(response, opened.cookie)
    return response


async def sessions(visit: Visit) -> Response:
    """Where one is signed in."""
    found = await visit.acts.sessions.list(visit.caller)
    assert visit.session is not None
    return await render(visit, "sessions.html", sessions=found, current=visit.session.row.id)


async def end_session(visit: Visit) -> Response:
    await visit.acts.sessions.end(visit.caller, _number(visit.form.text("number")))
    return visit.go("/account/sessions", said="closed")


async def end_others(visit: Visit) -> Response:
    await visit.acts.sessions.end_others(visit.caller)
    return visit.go("/account/sessions", said="others-closed")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Invalid("Choose a session from the list.")
    return int(text)


GROUP = Group(
    pages=(
        Page("/account", show),
        Page("/account/password", show, change_password),
        Page("/account/sessions", sessions),
        Page("/account/sessions/end", None, end_session),
        Page("/account/sessions/end-others", None, end_others),
    )
)
