"""What the gateway says of itself to anybody: whether it lives, whether it is ready, and whose word its certificate is.

Nothing here tells what is kept, or for whom; no request here is an event.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

LIVE, READY, AUTHORITY = "/health/live", "/health/ready", "/ca.crt"
#: The room that browsers which ask for `/` are sent to.
CONSOLE = "console"
_OURS = frozenset({LIVE, READY, AUTHORITY})
_FOREIGN = "This gateway's certificate is not one it made itself; ask its operator whom to trust."


class Front:
    """
    The application as a whole: its own few paths, those of other edges, and *registry* for all others.

    *broken* finds out what keeps this process from serving ("" for nothing), *warnings* what an operator should see;
    *authority* is the file served at `/ca.crt`, absent when the certificate is not one we made. *rooms* make, by the
    first part of the path ("api" for `/api/…`), the applications of other edges, each when it is first asked for. Set
    *draining* when the process is about to stop: readiness turns red.
    """

    def __init__(
        self,
        registry: Application,
        broken: Callable[[], Awaitable[str]],
        warnings: Callable[[], list[str]],
        authority: Path | None = None,
        rooms: Mapping[str, Callable[[], Application]] = MappingProxyType({}),
    ) -> None:
        self.draining = False
        self._makers = dict(rooms)
        self._made: dict[str, Application] = {}
        self._registry = registry
        self._broken = broken
        self._warnings = warnings
        self._authority = authority
        self._pages = Starlette(
            routes=[Route(LIVE, _live), Route(READY, self._ready), Route(AUTHORITY, self._certificate)],
            exception_handlers={HTTPException: _refused},
        )

    def open(self, name: str, make: Callable[[], Application]) -> None:
        """Has `/name` and everything below it answered by what *make* makes, when it is first asked for."""
        self._makers[name] = make

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The registry's requests are many: they meet no router of ours on their way.
        path = scope["path"] if scope["type"] == "http" else "/v2/"
        if path.startswith("/v2/"):
            await self._registry(scope, receive, send)
        elif path == "/" and CONSOLE in self._makers and _for_people(scope):
            await _page(RedirectResponse(f"/{CONSOLE}/", 303))(scope, receive, send)
        else:
            await (self._pages if path in _OURS else self._room(path))(scope, receive, send)

    def _room(self, path: str) -> Application:
        name = path[1:].partition("/")[0]
        if name not in self._made:
            if name not in self._makers:
                return self._registry
            # A process that is never asked for a room does not load it.
            self._made[name] = self._makers[name]()
        return self._made[name]

    async def _ready(self, _: Request) -> Response:
        broken = "the gateway is stopping" if self.draining else await self._broken()
        state: dict[str, object] = {"status": "unavailable" if broken else "ready", "warnings": self._warnings()}
        if broken:
            state["reason"] = broken
        return _page(JSONResponse(state, 503 if broken else 200))

    async def _certificate(self, _: Request) -> Response:
        if self._authority is None:
            return _page(_problem(404, "UNKNOWN", _FOREIGN))
        return _page(Response(self._authority.read_bytes(), media_type="application/x-pem-file"))


def _for_people(scope: Scope) -> bool:
    """Whether a browser asks, to show a page."""
    accepted = b",".join(value for name, value in scope["headers"] if name == b"accept")
    return scope["method"] in {"GET", "HEAD"} and b"text/html" in accepted


async def _live(_: Request) -> Response:
    return _page(JSONResponse({"status": "alive"}))


def _refused(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    allow = dict(getattr(error, "headers", None) or {})
    return _page(_problem(status, "UNSUPPORTED", "Use GET or HEAD here.", allow))


def _problem(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"errors": [{"code": code, "message": message, "detail": {}}]}, status, headers)


def _page(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Request-Id"] = secrets.token_hex(16)
    return response
