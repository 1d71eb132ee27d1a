"""The console as an ASGI application: one request walks from its cookie to its page.

number it ─▶ find its page ─▶ whose session? ─▶ [POST: from our own page? with the session's token?] ─▶ the page
                                 │ none                    │ no                                          │
                                 └▶ sign in, form and all  └▶ 403                    a refusal: a page that tells it

A grave act (`confirming`) has one more door before the page.
"""

from __future__ import annotations

import asyncio
import logging
import secrets as randomness
from collections.abc import MutableMapping, Sequence
from typing import Any, Final

from markupsafe import Markup
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Match, Route

from gateway import errors
from gateway.access.principals import Origin
from gateway.access.sealing import Sealer
from gateway.administration import Administration, Session, SignIn
from gateway.console import session
from gateway.console.assets import Assets
from gateway.console.confirming import confirmed
from gateway.console.form import Form
from gateway.console.frame import Frame, render
from gateway.console.pages import GROUPS
from gateway.console.pages.signing_in import of_another_session, required
from gateway.console.plan import Group, Page
from gateway.console.visit import ROOT, Parts, Surroundings, Visit, nothing
from gateway.errors import BodyTooLarge, BodyTooSlow, Denied, Refusal, Unknown, Unsupported
from gateway.gate import Gate

_log = logging.getLogger("gateway.console")

#: A form that is confirmed is sealed, inside another form.
CONFIRMING_BYTES: Final = 160 * 1024
#: So is one that travels through signing in, and it may be the longest that any page takes: half as much again.
CARRYING_BYTES: Final = 576 * 1024
_FORM_SECONDS: Final = 30
_FORM: Final = "application/x-www-form-urlencoded"

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
#: What every answer carries. Without `same-origin`, browsers would hide from us where a form comes from.
ALWAYS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
#: The status of a page that tells a refusal; a class that is not named here has that of the nearest ancestor that is.
STATUSES: Final[dict[type[Refusal], int]] = {
    Refusal: 400,
    errors.NameUnknown: 404,
    errors.ManifestUnknown: 404,
    errors.BlobUnknown: 404,
    errors.AccessRefusal: 403,
    errors.TooManyRequests: 429,
    errors.BodyTooLarge: 413,
    errors.BodyTooSlow: 408,
    errors.Unavailable: 503,
    errors.Unknown: 404,
    errors.Conflict: 409,
}
_FAULT: Final = "The gateway failed. Try again, and tell its operator the number below if it stays."
#: What is told where no page can be framed.
_BARE: Final = Markup(
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Registry gateway</title></head>'
    "<body><main><h1>Registry gateway</h1><p>{}</p><p>Request <code>{}</code></p></main></body></html>"
)


def make(
    administration: Administration,
    gate: Gate,
    sign_in: SignIn,
    forms: Sealer,
    host: str,
    surroundings: Surroundings = nothing,
) -> Console:
    """The console with all its pages; *host* is how clients call the registry, the others as `Parts` says."""
    assets = Assets()
    parts = Parts(administration, gate, sign_in, Frame(GROUPS, assets), forms, host, surroundings)
    return Console(parts, GROUPS, assets)


class Console:
    """
    Answers everything below `/console`; the pages are those of *groups*.

    An ASGI application for `http` scopes. The session's cookie is all that says who asks: an `Authorization` header
    means nothing here.
    """

    def __init__(self, parts: Parts, groups: Sequence[Group], assets: Assets) -> None:
        self._parts = parts
        self._assets = assets
        pages = [page for group in groups for page in group.pages]
        self._routes = [(Route(ROOT + page.path, _unused), page) for page in pages]
        self._static = Route(ROOT + "/static/{name}", _unused)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        request_id = randomness.token_hex(16)
        request = Request(scope, receive)
        origin = _origin(request, request_id)
        try:
            response = await self._answer(request, origin)
        except ClientDisconnect:
            return
        for name, value in ALWAYS.items():
            response.headers[name] = value
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    async def _answer(self, request: Request, origin: Origin) -> Response:
        matched, child = self._static.matches(request.scope)
        if matched is not Match.NONE and request.method in {"GET", "HEAD"}:
            request.scope.update(child)
            return self._assets.answer(request)
        visit = Visit(self._parts, request, origin, None, Form(), {})
        try:
            response = await self._visited(visit)
        except Refusal as refusal:
            response = await _told(visit, refusal)
        except ClientDisconnect:
            raise
        except Exception:
            _log.exception("request %s failed: %s %r", origin.request_id, request.method, request.scope["path"])
            response = await _told(visit, None)
        if visit.cookie:
            session.give(response, visit.cookie)
        return response

    async def _visited(self, visit: Visit) -> Response:
        request = visit.request
        if request.scope["path"] == ROOT:
            return RedirectResponse(f"{ROOT}/", 308)
        cookie = session.cookie_of(request)
        visit.session = await visit.acts.sessions.find(cookie, visit.origin) if cookie else None
        visit.query = Form.read(visit.query_text)
        page, visit.path = self._find(request)
        answer = {"GET": page.get, "HEAD": page.get, "POST": page.post}.get(request.method)
        if answer is None:
            raise Unsupported("This page does not answer that method; go back, and open it from the navigation.")
        if request.method == "POST":
            visit.form = await _form(request, _most(page))
            if not session.from_ourselves(request):
                raise Denied("This form was not sent by a page of this console; open the page here, and send it again.")
            if visit.session is not None and not page.open and not _carries_token(visit, visit.session):
                return await of_another_session(visit)
        else:
            visit.form = Form(visit.query.pairs)
        if visit.session is None and not page.open:
            return await required(visit)
        if page.grave and request.method == "POST":
            return await confirmed(visit, answer)
        return await answer(visit)

    def _find(self, request: Request) -> tuple[Page, dict[str, str]]:
        for route, page in self._routes:
            matched, child = route.matches({**request.scope, "method": "GET"})
            if matched is Match.FULL:
                return page, child["path_params"]
        raise Unknown("There is no such page; open one from the navigation.")


def _carries_token(visit: Visit, opened: Session) -> bool:
    return session.carries_token(opened, visit.form.value(session.CSRF_FIELD))


async def _told(visit: Visit, refusal: Refusal | None) -> Response:
    """The page that tells *refusal*, or, for a fault, nothing but the number under which our own log has it."""
    status = status_of(refusal) if refusal is not None else 500
    told = refusal.message if refusal is not None else _FAULT
    number = visit.origin.request_id if refusal is None else ""
    try:
        await visit.ensure_rights()
        response = await render(visit, "refused.html", status, message=told, number=number, code=status)
    except Exception:
        # The frame asks what may be opened: what failed the page may fail the telling too.
        _log.exception("request %s could not be told of: %r", visit.origin.request_id, visit.request.scope["path"])
        response = HTMLResponse(_BARE.format(told, visit.origin.request_id), status)
    if isinstance(refusal, errors.TooManyRequests | errors.Unavailable):
        response.headers["Retry-After"] = str(max(1, int(refusal.retry_after_seconds)))
    return response


def status_of(refusal: Refusal) -> int:
    """The status of the page that tells *refusal*."""
    return next(STATUSES[kind] for kind in type(refusal).__mro__ if kind in STATUSES)


def _most(page: Page) -> int:
    """How long a form to *page* may be: what travels in it does so sealed, and is longer than it was."""
    return CARRYING_BYTES if page.open else CONFIRMING_BYTES if page.grave else page.form_bytes


async def _form(request: Request, limit_bytes: int) -> Form:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise Unsupported("Send a form, as the pages of this console do.")
    content = bytearray()
    try:
        async with asyncio.timeout(_FORM_SECONDS):
            async for piece in request.stream():
                content += piece
                if len(content) > limit_bytes:
                    raise BodyTooLarge(f"A form has at most {limit_bytes} bytes; shorten what you typed.")
    except TimeoutError:
        raise BodyTooSlow(f"The form did not arrive within {_FORM_SECONDS} seconds; send it again.") from None
    return Form.read(content.decode("utf-8", "replace"))


def _origin(request: Request, request_id: str) -> Origin:
    address = request.client.host if request.client is not None else ""
    peer = request.scope.get("state", {}).get("peer_address", address)
    return Origin(address, peer, request.headers.get("user-agent", ""), request_id)


async def _unused(_: Request) -> Response:
    raise AssertionError("pages are answered by the console itself")
