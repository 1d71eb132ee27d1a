"""The API as an ASGI application: one request walks from its scope to its reply.

number it ─▶ budget ─▶ find its row ─▶ whose token? ─▶ values, query, body ─▶ endpoint: the acts, through the gate
                 └──────────┴───────────────┴─────────────────┴─▶ a refusal: its problem; a fault: 500 and a number
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from gateway.access.principals import Caller, Origin
from gateway.administration.exports import NobodyReads
from gateway.administration.sight import may_know
from gateway.api import once, openapi, problems, routes
from gateway.api.replies import ALWAYS, JSON, RawHeader, Reply, Send
from gateway.api.request import Gone, Parts, Receive, Request, read_body, read_query, read_struct, read_value
from gateway.api.words import IN_PATHS
from gateway.errors import AgainstRule, Denied, Invalid, Refusal, TooManyRequests, Unauthorized, Unknown

_log = logging.getLogger("gateway.api")
_OPENAPI: Final = "/openapi.json"
_ASK: Final = (
    "Send Authorization: Bearer with a personal access token (gwp_…); passwords and cookies do not count here."
)
_WORTHLESS: Final = "The token is not valid (any more): make another personal access token."
_LOOKS: Final = frozenset({"GET", "HEAD"})
_BODILESS: Final = frozenset({"GET", "HEAD", "DELETE"})


class Api:
    """
    Answers everything below `/api`, for callers with a personal access token; `/api/v1/openapi.json` for everybody.

    An ASGI application for `http` scopes. Every answer carries `X-Request-Id`, the number under which the trail and
    the log know the request.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the API speaks http, not {scope['type']}")
        request_id = secrets.token_hex(16)
        exchange = _Exchange(scope["method"] == "HEAD", (*ALWAYS, (b"x-request-id", request_id.encode())), send)
        try:
            await self._answer(scope, receive, exchange, request_id)
        except (Gone, NobodyReads):
            return
        except Exception:
            if exchange.begun:
                # Half a reply is out: only an aborted connection tells the client so.
                raise
            _log.exception("request %s failed: %s %r", request_id, scope["method"], scope["path"])
            with contextlib.suppress(Gone):
                await exchange.deliver(problems.fault(request_id))

    async def _answer(
        self, scope: MutableMapping[str, Any], receive: Receive, exchange: _Exchange, request_id: str
    ) -> None:
        try:
            reply = await self._reply(scope, receive, request_id)
            await exchange.deliver(reply)
        except Refusal as refusal:
            if exchange.begun:
                raise
            await exchange.deliver(problems.refused(refusal, request_id))

    async def _reply(self, scope: MutableMapping[str, Any], receive: Receive, request_id: str) -> Reply:
        request = _request(self.parts, scope, receive, request_id)
        _spend(self.parts.asked.spend(request.origin.address))
        if request.path == routes.PREFIX + _OPENAPI:
            return Reply(200, (JSON,), self._document) if request.method in _LOOKS else _wrong(request, "GET")
        below = request.path.removeprefix(routes.PREFIX) if request.path.startswith(f"{routes.PREFIX}/") else ""
        rows, segments = routes.find(below)
        row = rows.get("GET" if request.method == "HEAD" else request.method)
        if row is None:
            return _wrong(request, *rows)
        request.caller = await _caller(request)
        principal = request.caller.principal
        _spend(self.parts.working.spend(f"{principal.kind}:{principal.id}"))
        request.query = read_query(scope.get("query_string", b"").decode("latin-1"))
        request.asked = read_struct(row.query, request.query)
        named = routes.values(row, segments)
        request.values = {name: read_value(name, text, IN_PATHS[name]) for name, text in named.items()}
        return _unreadable(request, row) or await _run(request, row, await _content(request, row))

    @cached_property
    def _document(self) -> bytes:
        return openapi.document()


async def _content(request: Request, row: routes.Row) -> bytes:
    """The body as it came, once it is read as what the row takes; raises `Invalid`."""
    if request.method in _BODILESS:
        return b""
    content = await request.content()
    if row.body is not None:
        request.body = read_body(row.body, content)
    elif content:
        raise Invalid("Send no body here.")
    return content


async def _run(request: Request, row: routes.Row, content: bytes) -> Reply:
    """What the endpoint answers; whoever may not know of a project is told that there is none, whether there is."""
    try:
        return await once.run(request, row, content)
    except Denied as refusal:
        project = request.project
        if project is None or isinstance(refusal, AgainstRule):
            raise
        if await may_know(request.administration.gate, request.caller, project):
            raise
        raise Unknown(f"There is no project {project} that you may know of; check how it is spelled.") from refusal


async def _caller(request: Request) -> Caller:
    """The caller that the request's token speaks for; raises `Unauthorized`, `TooManyRequests`."""
    values = request.headers.get("authorization", ())
    scheme, _, text = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() != "bearer":
        raise Unauthorized(_ASK)
    try:
        return await request.parts.sign_in.by_token(text.strip(" "), request.origin)
    except Denied as refusal:
        raise Unauthorized(_WORTHLESS, error="invalid_token") from refusal


def _wrong(request: Request, *methods: str) -> Reply:
    """What is told to another method than those that the address answers."""
    told = "See Allow for the methods of this address."
    allowed = sorted({*methods, *(["HEAD"] if "GET" in methods else [])})
    reply = problems.problem(405, "UNSUPPORTED", told, request.origin.request_id)
    return reply.and_headers(("Allow", ", ".join(allowed)))


def _unreadable(request: Request, row: routes.Row) -> Reply | None:
    """Why the body is not read, as a reply: it is encoded, or is of another type than JSON."""
    request_id = request.origin.request_id
    if request.header("content-encoding").lower() not in {"", "identity"}:
        return problems.problem(415, "UNSUPPORTED", "Send the body as it is, without encoding it.", request_id)
    media_type, _, parameters = request.header("content-type").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if row.body is not None and (media_type.strip().lower() != "application/json" or charset not in {"", "utf-8"}):
        return problems.problem(415, "UNSUPPORTED", "Send the body as Content-Type: application/json.", request_id)
    return None


def _spend(wait_seconds: int) -> None:
    if wait_seconds:
        raise TooManyRequests("Ask less often; see Retry-After.", retry_after_seconds=wait_seconds)


def _request(parts: Parts, scope: MutableMapping[str, Any], receive: Receive, request_id: str) -> Request:
    headers: dict[str, tuple[str, ...]] = {}
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1").lower()
        headers[name] = (*headers.get(name, ()), raw_value.decode("latin-1"))
    client = scope.get("client")
    address = client[0] if client else ""
    state = scope.setdefault("state", {})
    state["request_id"] = request_id
    agent = headers.get("user-agent", ("",))[0]
    origin = Origin(address, state.get("peer_address", address), agent, request_id)
    raw_path = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
    path = raw_path.decode("latin-1")
    return Request(parts, scope["method"], path, headers, (), receive, origin, parts.administration)


@dataclass(slots=True)
class _Exchange:
    """The way back to the client: adds what every reply carries, and knows whether one has begun."""

    headless: bool
    headers: Sequence[RawHeader]
    send: Send
    begun: bool = False

    async def deliver(self, reply: Reply) -> None:
        await reply.deliver(self._forward, self.headers, headless=self.headless)

    async def _forward(self, message: MutableMapping[str, Any]) -> None:
        self.begun = True
        try:
            await self.send(message)
        except OSError as error:
            raise Gone("the client went away before it had the whole reply") from error
