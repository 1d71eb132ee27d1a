"""`/metrics`: for whoever has the token, as text that Prometheus reads; nothing of it is an event."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.errors import Unavailable
from gateway.metrics import exposition
from gateway.metrics.board import Board

_HIDDEN = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def application(
    token: str,
    board: Board,
    seat: int,
    told: Callable[[], Mapping[str, object]],
    look: Callable[[], Awaitable[None]],
    state: Callable[[], exposition.State],
) -> Starlette:
    """
    The application for `GET /metrics`; *token* is compared in constant time.

    *told* is what this process has counted, *state* what is so now; *state* is called in a thread, after *look*. When
    that raises `Unavailable`, the answer is 503.
    """

    async def metrics(request: Request) -> Response:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not _same(given.strip(), token):
            challenge = {"WWW-Authenticate": 'Bearer realm="metrics"', **_HIDDEN}
            return PlainTextResponse("Send the token of [metrics] token_file as a bearer token.\n", 401, challenge)

        def text() -> tuple[str, bytes]:
            board.post(seat, told())
            return exposition.text(board.all(), state(), accept=request.headers.get("accept", ""))

        await look()
        try:
            kind, content = await asyncio.to_thread(text)
        except Unavailable as refusal:
            later = {"Retry-After": str(refusal.retry_after_seconds), **_HIDDEN}
            return PlainTextResponse(f"{refusal.message}\n", 503, later)
        return Response(content, headers={**_HIDDEN, "Content-Type": kind})

    return Starlette(routes=[Route("/metrics", metrics, methods=["GET"])])


def _same(given: str, token: str) -> bool:
    # Of the digests: then not even the length can be told from the time.
    sides = (hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (given, token))
    return hmac.compare_digest(*sides)
