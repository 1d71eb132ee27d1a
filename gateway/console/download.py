"""A file that a browser keeps, sent piece by piece as it is made."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from starlette.responses import Response


class Download(Response):
    """
    *pieces*, each made in a thread when the one before has been sent, under the name *filename* (ASCII, no quotes).

    Nothing but the present piece is in memory. *pieces* is closed, also when the browser goes away.
    """

    def __init__(self, pieces: Generator[bytes, None, None], filename: str, media_type: str) -> None:
        headers = {"Content-Disposition": f'attachment; filename="{filename}"'}
        super().__init__(None, headers=headers, media_type=media_type)
        self._pieces = pieces
        del self.headers["content-length"]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            if scope["method"] != "HEAD":
                while (piece := await asyncio.to_thread(next, self._pieces, None)) is not None:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            await asyncio.to_thread(self._pieces.close)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
