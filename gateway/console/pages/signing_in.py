"""Signing in and out."""

from __future__ import annotations

from starlette.responses import Response

from gateway.console import carrying
from gateway.console.frame import render
from gateway.console.plan import Group, Page
from gateway.console.visit import ROOT, Visit, local


async def ask(visit: Visit, status: int = 200) -> Response:
    """The page to sign in on; whoever has done so goes on."""
    if visit.session is not None and status == 200:
        return visit.go(local(visit.form.value("next")).removeprefix(ROOT))
    return await render(visit, "sign_in.html", status, **_on(visit))


async def required(visit: Visit) -> Response:
    """
    What a page answers to a visitor who is not signed in (any more).

    Its address is returned to afterwards; the fields of a form that was sent are carried along.
    """
    path, query = visit.request.scope["path"], visit.query_text
    if visit.request.method != "POST":
        return visit.go("/sign-in", next=local(f"{path}?{query}" if query else path))
    carried = carrying.seal(visit.parts.forms, path, visit.form.pairs)
    return await render(visit, "sign_in.html", 401, next=local(path), carried=carried, crossing=False)


def _on(visit: Visit) -> dict[str, object]:
    """What travels through signing in, and whether the browser came from elsewhere and so left its cookie behind."""
    crossing = visit.request.headers.get("sec-fetch-site") == "cross-site"
    return {"next": local(visit.form.value("next")), "carried": visit.form.value("carried"), "crossing": crossing}


GROUP = Group(pages=(Page("/sign-in", ask, open=True),))
