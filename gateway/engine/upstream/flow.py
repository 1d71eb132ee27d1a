"""Bodies on their way, either way: bounded in size, in pieces and in how long they may keep us waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress

import aiohttp

from gateway.engine.upstream import lines
from gateway.engine.upstream.lines import READS, Patience
from gateway.errors import UpstreamFailed, UpstreamSlow, UpstreamUnavailable


class Streamed:
    """An answer whose body is read as it comes; the names of its headers are lower-case."""

    def __init__(
        self,
        answer: aiohttp.ClientResponse,
        patience: Patience,
        failed: Callable[[UpstreamUnavailable], None],
        answered: Callable[[], None],
    ) -> None:
        self._answer = answer
        self._patience = patience
        self._failed = failed
        self._answered = answered
        self.status = answer.status
        self.headers = headers_of(answer)
        self.method = "GET"

    async def pieces(self) -> AsyncIterator[bytes]:
        """
        The body, in pieces as they came: of at most 256 KiB, for the loop reads no more at once.

        Raises `UpstreamFailed` when it is cut, `UpstreamSlow` when a piece, or a window's worth, does not come in time.
        """
        pace = Pace(self._patience)
        try:
            while came := await _piece(self._answer, self._patience, pace):
                yield came
                # The next may be long in coming: until then nothing is held.
                del came
        except lines.FAILURES as error:
            refusal = lines.told(error, self.method)
            self._failed(refusal)
            raise refusal from error
        except UpstreamUnavailable as refusal:
            self._failed(refusal)
            raise
        if self.status < 500:
            self._answered()


class Flow:
    """A body on its way: what it raises is kept, and the peer has its time for each piece, then for the answer."""

    def __init__(self, body: AsyncIterator[bytes], patience: Patience) -> None:
        self._body = body
        self._patience = patience
        self.error: Exception | None = None
        self.deadline: asyncio.Timeout | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        while (piece := await self._next()) is not None:
            if piece:
                self._allow(self._patience.idle_seconds)
                yield piece
        self._allow(self._patience.answer_seconds)

    async def _next(self) -> bytes | None:
        # How long our own client takes is not the peer's fault.
        self._allow(None)
        try:
            return await anext(self._body, None)
        except Exception as error:
            self.error = error
            raise

    def _allow(self, seconds: float | None) -> None:
        # The answer may have come before the whole body was sent: nothing is waited for any more.
        with suppress(RuntimeError):
            if self.deadline is not None:
                self.deadline.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)


async def whole(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body; raises `UpstreamFailed`, and reads no further, when it is longer than *limit* bytes."""
    uncertain = answer.method not in READS and not 300 <= answer.status < 500
    pieces: list[bytes] = []
    size = 0
    while piece := await answer.content.readany():
        size += len(piece)
        if size > limit:
            answer.close()
            message = "The registry behind answers with more than it may; try again."
            raise UpstreamFailed(message, uncertain=uncertain)
        pieces.append(piece)
    return b"".join(pieces)


class Pace:
    """Counts what came while it was waited for; time in which nobody waited is not the peer's."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._waited = 0.0
        self._bytes = 0

    def came(self, size: int, seconds: float) -> None:
        """Raises `UpstreamSlow` when a whole window was waited for too little."""
        self._waited += seconds
        self._bytes += size
        if self._waited < self._patience.window_seconds:
            return
        if self._bytes < self._patience.min_bytes_per_second * self._waited:
            raise UpstreamSlow("The registry behind sends too slowly; try again.")
        self._waited, self._bytes = 0.0, 0


async def _piece(answer: aiohttp.ClientResponse, patience: Patience, pace: Pace) -> bytes:
    """What has come of the body, waiting for it if nothing has; b"" at its end."""
    content = answer.content
    now = asyncio.get_running_loop().time
    begun = now()
    came = b""
    async with asyncio.timeout(patience.idle_seconds):
        # As it was received: joining what lies there costs a quarter of the speed. Between chunks nothing comes.
        while not came and not content.at_eof():
            came, _ = await content.readchunk()
    pace.came(len(came), now() - begun)
    return came


def headers_of(answer: aiohttp.ClientResponse) -> Mapping[str, str]:
    """The headers by their names in lower case; what comes more than once is joined by commas (RFC 9110 §5.3)."""
    found: dict[str, str] = {}
    for name, value in answer.headers.items():
        lower = name.lower()
        found[lower] = f"{found[lower]}, {value}" if lower in found else value
    return found
