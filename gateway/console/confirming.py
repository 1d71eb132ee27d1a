"""Confirming: before something grave, whoever signed in a while ago proves once more who is there.

POST to a grave page ─▶ signed in, or confirmed, in the last quarter of an hour? ─▶ the page
                              │ no
                              └▶ the password, and a code where one is due; the form, sealed ─▶ the same address
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from starlette.responses import Response

from gateway.access.principals import Caller
from gateway.administration import SecondFactorNeeded, Session
from gateway.console import carrying
from gateway.console.form import Form
from gateway.console.frame import render
from gateway.console.plan import Answer
from gateway.console.session import cookie_of
from gateway.console.visit import ROOT, Visit
from gateway.errors import Denied, Invalid, TooManyRequests

#: How long a sign-in, or a confirmation, is good for.
FRESH_SECONDS: Final = 15 * 60


async def confirmed(visit: Visit, answer: Answer) -> Response:
    """
    What *answer* says of the form, once whoever sent it has confirmed who they are; until then the page that asks.

    A confirmation begins another session in the place of this one, as a sign-in does.
    """
    assert visit.session is not None
    carried = visit.form.value(carrying.FIELD)
    if not carried and _fresh(visit.session):
        return await answer(visit)
    if not carried:
        return await _asked(visit, _sealed(visit), 401)
    form = _unsealed(visit, carried)
    if not _fresh(visit.session):
        refused = await _doubted(visit, carried)
        if refused is not None:
            return refused
    visit.form = form
    return await answer(visit)


async def _doubted(visit: Visit, carried: str) -> Response | None:
    """The page that asks (again), or for the code; None once the caller has another, fresh session."""
    form, sign_in = visit.form, visit.parts.sign_in
    name, ticket = visit.caller.principal.name, form.value("ticket")
    try:
        if ticket:
            found: Caller | SecondFactorNeeded = await sign_in.second_factor(
                ticket, form.text("confirm_code"), visit.origin
            )
        else:
            found = await sign_in.by_password(name, form.value("confirm_password"), visit.origin)
    except (Denied, TooManyRequests) as refusal:
        form.blame("confirm_code" if ticket else "confirm_password", refusal.message)
        again = bool(refusal.detail.get("begin_again"))
        throttled = isinstance(refusal, TooManyRequests)
        response = await _asked(visit, carried, 429 if throttled else 403, "" if again else ticket)
        if isinstance(refusal, TooManyRequests):
            response.headers["Retry-After"] = str(refusal.retry_after_seconds)
        return response
    if isinstance(found, SecondFactorNeeded):
        return await _asked(visit, carried, 401, found.ticket)
    if found.principal != visit.caller.principal:
        raise Denied("This is not the account that is signed in here; sign out, and sign in again.")
    opened = await visit.acts.sessions.open(found, replacing=cookie_of(visit.request))
    visit.session, visit.cookie = await visit.acts.sessions.find(opened.cookie, visit.origin), opened.cookie
    return None


async def _asked(visit: Visit, carried: str, status: int, ticket: str = "") -> Response:
    path = visit.request.scope["path"].removeprefix(ROOT)
    return await render(visit, "confirming.html", status, carried=carried, ticket=ticket, path=path)


def _fresh(session: Session) -> bool:
    return (datetime.now(UTC) - session.row.created_at).total_seconds() < FRESH_SECONDS


def _sealed(visit: Visit) -> str:
    path, account = visit.request.scope["path"], visit.caller.principal.id
    return carrying.seal(visit.parts.forms, path, visit.form.pairs, account=account)


def _unsealed(visit: Visit, text: str) -> Form:
    """The form that is confirmed; raises `Invalid` for one of another page or account, and after an hour."""
    found = carrying.unseal(visit.parts.forms, text)
    if found is None or (found.path, found.account) != (visit.request.scope["path"], visit.caller.principal.id):
        raise Invalid("This took too long; open the page again, and fill it in once more.")
    return Form(found.fields)
