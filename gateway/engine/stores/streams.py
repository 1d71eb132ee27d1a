"""Streams of what a store keeps: read as fast as it is wanted, compared with its digest the first time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from typing import Final

from gateway.engine.port import PIECE_BYTES, Appetite
from gateway.engine.stores.files import Stored
from gateway.oci.digest import Digest

#: What is in memory is read where it stands: with its encryption, a piece holds up the event loop for some 0.1 ms.
_CACHED_BYTES: Final = 128 * 1024
#: What is on the disk is read in a thread, in pieces worth the way there.
_COLD_BYTES: Final = PIECE_BYTES
_AHEAD_BYTES: Final = 4 * 1024 * 1024
_REMEMBERED: Final = 16_384


class Verified:
    """Files whose bytes this process has seen to have their digest; any change of the file makes it another."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Digest, tuple[int, int, int]] = OrderedDict()

    def keep(self, digest: Digest, identity: tuple[int, int, int]) -> None:
        self._seen[digest] = identity
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def has(self, digest: Digest, identity: tuple[int, int, int]) -> bool:
        return self._seen.get(digest) == identity


class Damaged(OSError):
    """The bytes on disk are not those of the digest: the transfer must not end as if it had gone well."""


class Streams:
    """Reads files for the event loop that it is used in; *threads* do what may have to wait for a disk."""

    def __init__(self, threads: Executor, verified: Verified) -> None:
        self._threads = threads
        self._verified = verified
        # One for all streams: whatever is read into it is taken out again before anybody else's turn.
        self._buffer = memoryview(bytearray(_CACHED_BYTES))

    def read(self, stored: Stored, digest: Digest, first: int, last: int, appetite: Appetite) -> AsyncGenerator[bytes]:
        """
        The bytes *first* to *last* of a file that should have *digest*; its caller releases it afterwards.

        The first whole read of a file in this process compares the digest before the last piece is given out. Raises
        `Damaged` if it is another or the file became shorter, and `OSError` if it cannot be read.
        """
        if first == 0 and last == stored.size - 1 and not self._verified.has(digest, stored.identity):
            return self._checked(stored, digest, appetite)
        return self._pieces(stored, first, last + 1, appetite)

    async def _pieces(self, stored: Stored, offset: int, end: int, appetite: Appetite) -> AsyncGenerator[bytes]:
        loop = asyncio.get_running_loop()
        while offset < end:
            wanted = min(await appetite(), end - offset)
            count = stored.cached(offset, self._buffer[:wanted])
            if count:
                piece = bytes(self._buffer[:count])
            else:
                stored.ahead(offset, min(_AHEAD_BYTES, end - offset))
                size = min(_COLD_BYTES, wanted)
                piece = await loop.run_in_executor(self._threads, stored.read, offset, size)
            if not piece:
                raise Damaged("a blob's file became shorter while it was read")
            offset += len(piece)
            yield piece
            # Whoever waits for a client must not hold what it has already been given.
            del piece

    async def _checked(self, stored: Stored, digest: Digest, appetite: Appetite) -> AsyncGenerator[bytes]:
        loop = asyncio.get_running_loop()
        hasher = digest.algorithm.hasher()

        def read(offset: int, size: int) -> bytes:
            piece = stored.read(offset, size)
            hasher.update(piece)
            return piece

        offset, coming = 0, None
        try:
            while offset < stored.size:
                wanted = min(_COLD_BYTES, await appetite())
                piece = await (coming or loop.run_in_executor(self._threads, read, offset, wanted))
                offset, coming = offset + len(piece), None
                if not piece or offset == stored.size:
                    if hasher.hexdigest() != digest.hex:
                        raise Damaged("a blob's file does not have its digest")
                    self._verified.keep(digest, stored.identity)
                elif wanted == _COLD_BYTES:
                    # One piece ahead: hashing goes on while this one is sent.
                    coming = loop.run_in_executor(self._threads, read, offset, wanted)
                yield piece
                del piece
        finally:
            if coming is not None:
                coming.cancel()
