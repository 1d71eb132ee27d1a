"""The registry as an ASGI application: one request walks from its scope to its reply.

number it ─▶ find its row ─▶ whose token? ─▶ [passage: endpoint ─▶ seal ─▶ deliver]
                 │               │                │
                 └───────────────┴────────────────┴─▶ a refusal: its status and envelope; a fault: 500 and a number
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from gateway.access.principals import Origin
from gateway.access.refusals import wanted_scope
from gateway.access.scopes import CATALOG
from gateway.engine.port import Interrupted, greedy
from gateway.errors import Refusal, Unsupported
from gateway.oci.names import Repository
from gateway.registry import repeats, routes
from gateway.registry.authentication import authenticate, require_catalog, require_standing
from gateway.registry.replies import ALWAYS, RawHeader, Reply, Send, fault, problem, refused
from gateway.registry.request import Parts, Receive, Request, read_fields, read_headers

_log = logging.getLogger("gateway.registry")
_BODIES = frozenset({"POST", "PUT", "PATCH"})


class Gone(ConnectionError):
    """The client went away before it had the whole reply."""


@dataclass(frozen=True, slots=True)
class Registry:
    """
    Answers `/v2` and everything below it, `/token` and `/.well-known/jwks.json`; everything else is 404.

    An ASGI application for `http` scopes whose `path` has been decoded once. Every answer carries `X-Request-Id`,
    the number under which the trail and the log know the request; nothing a client sends is taken for it.
    """

    parts: Parts
    # Request ids are to be unique, not secret: a system call for each would give the interpreter away.
    numbers: random.Random = field(default_factory=random.Random)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the registry speaks http, not {scope['type']}")
        request_id = f"{self.numbers.getrandbits(128):032x}"
        head = repeats.found(scope)
        if head is not None and head.memory is not None and await self._repeat(head, scope, request_id, send):
            return
        always = (*ALWAYS, (b"x-request-id", request_id.encode()))
        exchange = _Exchange(scope["method"] == "HEAD", always, send)
        try:
            await self._answer(_request(self.parts, scope, receive, request_id), scope, exchange)
        except (Gone, Interrupted):
            return
        except Exception:
            if exchange.begun:
                # Half a reply is out: only an aborted connection tells the client so.
                raise
            _log.exception("request %s failed: %s %r", request_id, scope["method"], scope["path"])
            with contextlib.suppress(Gone):
                await exchange.deliver(fault(request_id))

    async def _repeat(self, head: repeats.Head, scope: MutableMapping[str, Any], request_id: str, send: Send) -> bool:
        repeat: repeats.Repeat = head.memory
        if not repeat.holds(self.parts.engine, scope["client"][0], self.parts.now().timestamp()):
            head.forget()
            return False
        try:
            return await repeats.answer(repeat, self.parts.gate, self.parts.engine, request_id, send)
        except Refusal as refusal:
            exchange = _Exchange(scope["method"] == "HEAD", (*ALWAYS, (b"x-request-id", request_id.encode())), send)
            with contextlib.suppress(Gone):
                await exchange.deliver(refused(refusal, path=scope["path"]))
            return True

    async def _answer(self, request: Request, scope: MutableMapping[str, Any], exchange: _Exchange) -> None:
        challenging = False
        try:
            request.query = read_fields(scope.get("query_string", b"").decode("latin-1"))
            row = _row(request, scope)
            if request.method in _BODIES and request.header("content-encoding").lower() not in {"", "identity"}:
                await exchange.deliver(problem(415, Unsupported.code, "Send the body as it is, without encoding it."))
            elif isinstance(row, routes.OpenRow):
                await exchange.deliver(await row.endpoint(request))
            else:
                challenging = True
                await _pass(request, row, exchange, repeats.found(scope))
        except _WrongMethod as wrong:
            allowed = ("Allow", ", ".join(sorted(wrong.allowed)))
            await exchange.deliver(refused(wrong, path=request.path).and_headers(allowed))
        except Refusal as refusal:
            if exchange.begun:
                raise
            realm = self.parts.realm_for(request.header("host")) if challenging else ""
            await exchange.deliver(refused(refusal, path=request.path, realm=realm, service=self.parts.service))


async def _pass(request: Request, row: routes.Row, exchange: _Exchange, head: repeats.Head | None) -> None:
    """One pass through the gate; what the endpoint answers is sent while still inside."""
    needs = row.needs(request)
    request.caller = await authenticate(request, row.kind, CATALOG if row.catalog else wanted_scope(needs))
    if not needs:
        await require_standing(request, row.kind)
    if row.catalog:
        await require_catalog(request, row.kind)
    version = request.engine.version(request.repository) if head is not None and request.engine.version else 1
    async with request.gate.passage(request.caller, row.kind, *needs, **routes.facts(row, request)) as passage:
        reply = await row.endpoint(request, passage)
        passage.note(status=reply.status)
        try:
            await passage.seal()
            if head is not None and len(needs) == 1:
                repeats.remember(head, request, needs[0], version, passage.event(), reply)
            await exchange.deliver(reply)
        except BaseException:
            # A stream that has begun says itself how far it came; a body in one piece was not handed over at all.
            if reply.stream is None or not exchange.begun:
                passage.note(bytes=0)
            raise


class _WrongMethod(Unsupported):
    def __init__(self, allowed: frozenset[str]) -> None:
        super().__init__("This address does not answer that method; see Allow.")
        self.allowed = allowed


class _Exchange:
    """The way back to the client: adds what every reply carries, and knows whether one has begun."""

    __slots__ = ("_headers", "_headless", "_send", "begun")

    def __init__(self, headless: bool, headers: tuple[RawHeader, ...], send: Send) -> None:
        self._headless = headless
        self._headers = headers
        self._send = send
        self.begun = False

    async def deliver(self, reply: Reply) -> None:
        await reply.deliver(self._forward, self._headers, headless=self._headless)

    async def _forward(self, message: MutableMapping[str, Any]) -> None:
        self.begun = True
        try:
            await self._send(message)
        except OSError as error:
            raise Gone("the client went away before it had the whole reply") from error


def _request(parts: Parts, scope: MutableMapping[str, Any], receive: Receive, request_id: str) -> Request:
    headers = read_headers(scope["headers"])
    client = scope.get("client")
    address = client[0] if client else ""
    state = scope.setdefault("state", {})
    state["request_id"] = request_id
    agent = headers.get("user-agent", ("",))[0]
    origin = Origin(address, state.get("peer_address", address), agent, request_id)
    appetite = state.get("appetite", greedy)
    return Request(parts, scope["method"], scope["path"], headers, (), receive, origin, appetite=appetite)


def _row(request: Request, scope: MutableMapping[str, Any]) -> routes.Row | routes.OpenRow:
    """The row that answers; what the path names is parsed, and refused here if it is outside its grammar."""
    raw_path = scope.get("raw_path") or request.path.encode("utf-8", "replace")
    posts = request.method == "POST"
    # What else a query holds is a stranger's, and would fill the memory of places with what chooses none.
    query = routes.CHOOSING.intersection(name for name, _ in request.query) if posts else frozenset[str]()
    place = routes.find(request.path, raw_path, query=query, posts=posts)
    row = place.rows.get(request.method)
    if row is None:
        raise _WrongMethod(frozenset(place.rows))
    request.repository = place.repository or Repository("")
    request.reference = place.reference
    return row
