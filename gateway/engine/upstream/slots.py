"""
How many connections to the registry behind are in use at once, by what for: slow transfers leave some for all others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.errors import UpstreamUnavailable


class Use(StrEnum):
    """What a connection is used for; the first two last as long as a client of the gateway takes."""

    DOWNLOAD = "download"
    UPLOAD = "upload"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Shares:
    """How many connections one event loop uses at once, each for its own, and the seconds anybody waits for one."""

    downloads: int = 512
    uploads: int = 256
    answers: int = 256
    wait_seconds: float = 3


_FULL: Final[Mapping[Use, str]] = {
    Use.DOWNLOAD: "Too many blobs are being read from the registry behind; try again in a moment.",
    Use.UPLOAD: "Too many blobs are being sent to the registry behind; try again in a moment.",
    Use.ANSWER: "Too many requests wait for the registry behind; try again in a moment.",
}


class Slots:
    """The connections of one event loop, given out in the order in which they were asked for."""

    def __init__(self, shares: Shares) -> None:
        self._seconds = shares.wait_seconds
        self._free = {
            Use.DOWNLOAD: asyncio.Semaphore(shares.downloads),
            Use.UPLOAD: asyncio.Semaphore(shares.uploads),
            Use.ANSWER: asyncio.Semaphore(shares.answers),
        }

    @asynccontextmanager
    async def taken(self, use: Use) -> AsyncIterator[None]:
        """A connection may be used within; raises `UpstreamUnavailable` when none gets free in time."""
        free = self._free[use]
        try:
            async with asyncio.timeout(self._seconds if free.locked() else None):
                await free.acquire()
        except TimeoutError:
            # Not the peer's fault: it is not to be left alone for that.
            raise UpstreamUnavailable(_FULL[use]) from None
        try:
            yield
        finally:
            free.release()
