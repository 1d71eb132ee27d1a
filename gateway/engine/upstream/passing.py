"""A blob on its way through: a thread hashes what passes, and the last piece is held back until the digest is right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import Final

from gateway.errors import UpstreamFailed
from gateway.oci.digest import Digest

#: Hashed together: worth the way to a thread and back, and no more than that is held.
_BATCH_BYTES: Final = 128 * 1024


async def whole(pieces: AsyncIterator[bytes], digest: Digest, size: int, threads: Executor) -> AsyncGenerator[bytes]:
    """
    The *pieces*, if together they have *digest* and *size*; raises `UpstreamFailed` otherwise, and then something of
    them is missing: nobody who counts takes what was given out for the whole.
    """
    hashing = _Hashing(digest, threads)
    count = 0
    held = b""
    async with closing(pieces):
        async for piece in pieces:
            count += len(piece)
            if count > size:
                raise _wrong(digest)
            await hashing.add(piece)
            if held:
                yield held
            held = piece
    if count != size:
        raise broken(digest)
    if await hashing.hexdigest() != digest.hex:
        raise _wrong(digest)
    if held:
        yield held


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
    """A hash that follows in a thread, at most two batches behind."""

    def __init__(self, digest: Digest, threads: Executor) -> None:
        self._hasher = digest.algorithm.hasher()
        self._threads = threads
        self._waiting: list[bytes] = []
        self._size = 0
        self._running: asyncio.Future[None] | None = None

    async def add(self, piece: bytes) -> None:
        self._waiting.append(piece)
        self._size += len(piece)
        if self._size >= _BATCH_BYTES:
            await self._caught_up()
            batch, self._waiting, self._size = self._waiting, [], 0
            self._running = asyncio.get_running_loop().run_in_executor(self._threads, self._update, batch)

    async def hexdigest(self) -> str:
        await self._caught_up()
        self._update(self._waiting)
        return self._hasher.hexdigest()

    async def _caught_up(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            await running

    def _update(self, batch: list[bytes]) -> None:
        for piece in batch:
            self._hasher.update(piece)


def broken(digest: Digest) -> UpstreamFailed:
    """The registry behind ended before its end."""
    return UpstreamFailed(f"The registry behind broke off within {digest}; try again.")


def _wrong(digest: Digest) -> UpstreamFailed:
    return UpstreamFailed(f"The registry behind has other bytes than those of {digest}.")
