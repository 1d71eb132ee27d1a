"""A blob on its way through: a thread hashes what passes, and the last piece is held back until the digest is right."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager
from typing import Final

from gateway.errors import UpstreamFailed
from gateway.oci.digest import Digest

#: How far the hash may stay behind what has passed, which is held for it.
_BEHIND_BYTES: Final = 512 * 1024


async def whole(pieces: AsyncIterator[bytes], digest: Digest, size: int, threads: Executor) -> AsyncGenerator[bytes]:
    """
    The *pieces*, if together they have *digest* and *size*; raises `UpstreamFailed` otherwise, and then something of
    them is missing: nobody who counts takes what was given out for the whole.
    """
    hashing = _Hashing(digest, threads)
    count = 0
    last: list[bytes] = []
    async with closing(pieces):
        async for piece in pieces:
            count += len(piece)
            if count > size:
                raise _wrong(digest)
            await hashing.add(piece)
            if count == size:
                last.append(piece)
            else:
                yield piece
            # The next may be long in coming: until then no piece is held.
            del piece
    if count != size:
        raise broken(digest)
    if await hashing.hexdigest() != digest.hex:
        raise _wrong(digest)
    for piece in last:
        yield piece


async def part(pieces: AsyncIterator[bytes], digest: Digest, skipped: int, length: int) -> AsyncGenerator[bytes]:
    """*length* bytes of the *pieces*, after those that are *skipped*; raises `UpstreamFailed` if there are fewer."""
    async with closing(pieces):
        async for piece in pieces:
            if skipped >= len(piece):
                skipped -= len(piece)
                continue
            wanted = piece[skipped : skipped + length]
            skipped = 0
            length -= len(wanted)
            yield wanted
            if not length:
                return
    raise broken(digest)


@asynccontextmanager
async def closing(pieces: AsyncIterator[bytes]) -> AsyncIterator[None]:
    """Ends *pieces* with the block, if they are made by a generator."""
    try:
        yield
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


class _Hashing:
    """A hash that follows in a thread, at most 512 KiB behind; the thread stays while there is more."""

    def __init__(self, digest: Digest, threads: Executor) -> None:
        self._hasher = digest.algorithm.hasher()
        self._threads = threads
        self._waiting: deque[bytes] = deque()
        self._added = 0
        self._hashed = 0
        self._running: Future[None] | None = None

    async def add(self, piece: bytes) -> None:
        self._waiting.append(piece)
        self._added += len(piece)
        if self._running is not None and not self._running.done():
            if self._added - self._hashed <= _BEHIND_BYTES:
                return
            await asyncio.wrap_future(self._running)
        self._running = self._threads.submit(self._drain)

    async def hexdigest(self) -> str:
        if self._running is not None:
            await asyncio.wrap_future(self._running)
        self._drain()
        return self._hasher.hexdigest()

    def _drain(self) -> None:
        # What is added just as this ends is left to the next.
        while self._waiting:
            piece = self._waiting.popleft()
            self._hasher.update(piece)
            self._hashed += len(piece)


def broken(digest: Digest) -> UpstreamFailed:
    """The registry behind ended before its end."""
    return UpstreamFailed(f"The registry behind broke off within {digest}; try again.")


def _wrong(digest: Digest) -> UpstreamFailed:
    return UpstreamFailed(f"The registry behind has other bytes than those of {digest}.")
