"""A file that a browser keeps, sent piece by piece as it is made."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import suppress
from typing import Any

from starlette.responses import Response

from gateway.administration.exports import NobodyReads, Slot


class Download(Response):
    """
    *pieces*, each made in a thread when the one before has been sent, under the name *filename* (ASCII, no quotes).

    Nothing but the present piece is in memory. *pieces* is closed, and *slot* given back, also when the browser goes
    away; one that takes nothing for long is sent no more.
    """

    def __init__(self, slot: Slot, pieces: Generator[bytes, None, None], filename: str, media_type: str) -> None:
        headers = {"Content-Disposition": f'attachment; filename="{filename}"'}
        super().__init__(None, headers=headers, media_type=media_type)
        self._slot = slot
        self._pieces = pieces
        del self.headers["content-length"]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with self._slot, suppress(NobodyReads):
            await self._send(self._slot.bounded(send), headless=scope["method"] == "HEAD")

    async def _send(self, send: Any, *, headless: bool) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if not headless:
                while (piece := await asyncio.to_thread(next, self._pieces, None)) is not None:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            await asyncio.to_thread(self._pieces.close)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
