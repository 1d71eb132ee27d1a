"""Signing in, with a password and where it is asked for a second factor; going on where one was; signing out."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from gateway.access.principals import Caller
from gateway.administration import SecondFactorNeeded
from gateway.console import carrying
from gateway.console.carrying import Carried
from gateway.console.frame import render
from gateway.console.plan import Group, Page
from gateway.console.session import cookie_of, give, take_back
from gateway.console.visit import ROOT, Visit, address, local
from gateway.errors import Denied, TooManyRequests


async def ask(visit: Visit) -> Response:
    """The page to sign in on; whoever has done so goes on."""
    if visit.session is not None:
        return visit.go_on(local(visit.form.value("next")))
    return await render(visit, "sign_in.html", **_travelling(visit))


async def required(visit: Visit) -> Response:
    """
    What a page answers to a visitor who is not signed in (any more).

    Its address is returned to afterwards; the fields of a form that was sent are carried along.
    """
    path, query = visit.request.scope["path"], visit.query_text
    if visit.request.method != "POST":
        return visit.go("/sign-in", next=local(f"{path}?{query}" if query else path))
    # A form that was just being confirmed travels on without what was typed to confirm it.
    inner = carrying.unseal(visit.parts.forms, visit.form.value(carrying.FIELD))
    fields = inner.fields if inner is not None else visit.form.pairs
    carried = carrying.seal(visit.parts.forms, _asked(visit), fields)
    response = await render(visit, "sign_in.html", 401, next=local(path), carried=carried, crossing=False)
    take_back(response)
    return response


async def of_another_session(visit: Visit) -> Response:
    """
    What a page answers to a form that does not carry the session's token: nothing is done.

    Whoever signed in again elsewhere is shown what was filled in, and may send it from this session.
    """
    carried = Carried.of(_asked(visit), visit.form.pairs)
    return await _resumed(visit, carried, 403)


async def enter(visit: Visit) -> Response:
    """Takes a name and a password; asks for a code where the account has a second factor."""
    form = visit.form
    try:
        signed_in = await visit.parts.sign_in.by_password(form.text("name"), form.value("password"), visit.origin)
    except (Denied, TooManyRequests) as refusal:
        return await _refused(visit, "sign_in.html", refusal, "")
    if isinstance(signed_in, SecondFactorNeeded):
        return await render(visit, "sign_in_code.html", ticket=signed_in.ticket, **_travelling(visit))
    return await _entered(visit, signed_in)


async def enter_code(visit: Visit) -> Response:
    """Takes the code of a second factor, or a recovery code."""
    form, ticket = visit.form, visit.form.value("ticket")
    try:
        caller = await visit.parts.sign_in.second_factor(ticket, form.text("code"), visit.origin)
    except (Denied, TooManyRequests) as refusal:
        again = bool(refusal.detail.get("begin_again"))
        return await _refused(visit, "sign_in.html" if again else "sign_in_code.html", refusal, ticket)
    return await _entered(visit, caller)


async def leave(visit: Visit) -> Response:
    """Signs out."""
    assert visit.session is not None
    await visit.acts.sessions.close(visit.session)
    response = visit.go("/sign-in", said="signed-out")
    take_back(response)
    return response


async def _entered(visit: Visit, caller: Caller) -> Response:
    """A new session, whatever cookie the browser had; then the page it wanted, or the form it was sending."""
    opened = await visit.acts.sessions.open(caller, replacing=cookie_of(visit.request))
    visit.session = await visit.acts.sessions.find(opened.cookie, visit.origin)
    carried = carrying.unseal(visit.parts.forms, visit.form.value("carried"))
    whole = carried is not None and not carried.account
    response = await _resumed(visit, carried) if carried and whole else visit.go_on(local(visit.form.value("next")))
    give(response, opened.cookie)
    return response


async def _resumed(visit: Visit, carried: Carried, status: int = 200) -> Response:
    """What was filled in when the session had ended, to be sent now, or not."""
    return await render(visit, "resume.html", status, carried=carried, action=local(carried.path))


def _asked(visit: Visit) -> str:
    """The address that was asked, with what it says of the leaf that is shown; without, if that is not of our kind."""
    plain = address(visit.request.scope["path"].removeprefix(ROOT))
    whole = f"{plain}?{visit.query_text}"
    return whole if visit.query_text and local(whole) == whole else plain


async def _refused(visit: Visit, template: str, refusal: Denied | TooManyRequests, ticket: str) -> Response:
    visit.form.blame("", refusal.message)
    throttled = isinstance(refusal, TooManyRequests)
    response = await render(visit, template, 429 if throttled else 403, ticket=ticket, **_travelling(visit))
    if isinstance(refusal, TooManyRequests):
        response.headers["Retry-After"] = str(refusal.retry_after_seconds)
    return response


def _travelling(visit: Visit) -> dict[str, Any]:
    """
    What travels through signing in, and whether the browser came from elsewhere and so left its cookie behind.

    A form that is carried comes from a page of ours, never from an address: that could be anybody's link.
    """
    carried = visit.form.value("carried") if visit.request.method == "POST" else ""
    crossing = visit.request.headers.get("sec-fetch-site") == "cross-site"
    return {"next": local(visit.form.value("next")), "carried": carried, "crossing": crossing}


GROUP = Group(
    pages=(
        Page("/sign-in", ask, enter, open=True),
        Page("/sign-in/code", None, enter_code, open=True),
        Page("/sign-out", None, leave),
    )
)
