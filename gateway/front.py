"""What the gateway says of itself to anybody: whether it lives, whether it is ready, and whose word its certificate is.

Nothing here tells what is kept, or for whom; no request here is an event.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_PATHS = frozenset({"/health/live", "/health/ready", "/ca.crt"})
_NOT_ALLOWED = "Use GET or HEAD here."


@dataclass(slots=True)
class Front:
    """
    The application as a whole: its own few paths, and *registry* for all others.

    *broken* tells what keeps this process from serving ("" for nothing) and *warnings* what an operator should see;
    *certificate* is the file served at `/ca.crt`, absent when the certificate is not one we made.
    """

    registry: Application
    broken: Callable[[], str]
    warnings: Callable[[], list[str]]
    certificate: Path | None = None
    draining: bool = field(default=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or path not in _PATHS:
            await self.registry(scope, receive, send)
            return
        if scope["method"] not in {"GET", "HEAD"}:
            await _reply(scope, send, 405, _error("UNSUPPORTED", _NOT_ALLOWED), allow=b"GET, HEAD")
        elif path == "/health/live":
            await _reply(scope, send, 200, {"status": "alive"})
        elif path == "/health/ready":
            await self._ready(scope, send)
        else:
            await self._certificate(scope, send)

    async def _ready(self, scope: Scope, send: Send) -> None:
        broken = "the gateway is stopping" if self.draining else self.broken()
        warnings = self.warnings()
        if broken:
            await _reply(scope, send, 503, {"status": "unavailable", "reason": broken, "warnings": warnings})
        else:
            await _reply(scope, send, 200, {"status": "ready", "warnings": warnings})

    async def _certificate(self, scope: Scope, send: Send) -> None:
        if self.certificate is None:
            missing = "This gateway's certificate is not one it made itself; ask its operator whom to trust."
            await _reply(scope, send, 404, _error("UNKNOWN", missing))
            return
        body = self.certificate.read_bytes()
        await _reply(scope, send, 200, body, media_type=b"application/x-pem-file")


def _error(code: str, message: str) -> dict[str, object]:
    return {"errors": [{"code": code, "message": message, "detail": {}}]}


async def _reply(
    scope: Scope,
    send: Send,
    status: int,
    body: dict[str, object] | bytes,
    *,
    media_type: bytes = b"application/json",
    allow: bytes = b"",
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = [
        (b"content-type", media_type),
        (b"content-length", str(len(content)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-request-id", secrets.token_hex(16).encode()),
    ]
    if allow:
        headers.append((b"allow", allow))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})
