"""Blobs: bytes in the store under their digest, seen from a repository only through its links."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import Executor
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from gateway.change import Change, Notes
from gateway.engine.embedded.layout import blob_key
from gateway.engine.embedded.suspects import Suspects
from gateway.engine.port import PIECE_BYTES, Appetite, Blob, greedy
from gateway.engine.stores.files import Stored
from gateway.engine.stores.filesystem import Filesystem
from gateway.errors import BlobUnknown, ContentDamaged
from gateway.oci.digest import Digest
from gateway.oci.names import Repository
from gateway.records import content, sweeping
from gateway.records.acts import Acts
from gateway.records.content import Act
from gateway.records.database import Database
from gateway.records.recent import Recent

#: What is in memory is read where it stands: with its encryption, a piece holds up the event loop for some 0.1 ms.
_CACHED_BYTES: Final = 128 * 1024
#: What is on the disk is read in a thread, in pieces worth the way there.
_COLD_BYTES: Final = PIECE_BYTES
_AHEAD_BYTES: Final = 4 * 1024 * 1024
_REMEMBERED: Final = 16_384
#: How old the grace of a blob that no manifest names may grow while it is asked for.
_RENEWED_SECONDS: Final = 60


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


class BlobDamaged(OSError):
    """The bytes on disk are not those of the digest: the transfer must not end as if it had gone well."""


class EmbeddedBlobs:
    """
    Blobs of one data directory.

    A blob whose file is missing or has another length is `ContentDamaged`, never unknown: `find` sees that before a
    byte is sent. The first whole read of a file in this process compares the digest before the last piece is given out.
    Whatever damage is met becomes one of the *suspects*.
    """

    def __init__(
        self,
        store: Filesystem,
        database: Database,
        threads: Executor,
        acts: Acts,
        verified: Verified,
        suspects: Suspects,
    ) -> None:
        self._store = store
        self._database = database
        self._threads = threads
        self._acts = acts
        self._verified = verified
        self._suspects = suspects
        self._recent: Recent[tuple[Blob, float]] = Recent(database.versions, _REMEMBERED)
        # One for all streams: whatever is read into it is taken out again before anybody else's turn.
        self._buffer = memoryview(bytearray(_CACHED_BYTES))

    async def find(self, repository: Repository, digest: Digest, *, spares_push: bool = False) -> Blob:
        version = self._recent.version(repository)
        blob, until = self._recent.find(repository, digest, version) or (None, 0.0)
        if blob is None or (until != math.inf and until <= self._acts.now()):
            blob, until = await self._found(repository, digest)
            self._acts.saw(repository.project)
            self._recent.keep(repository, digest, version, (blob, until))
        if self._store.size(blob_key(digest)) != blob.size_bytes:
            raise self._damaged(digest)
        if spares_push and self._is_suspect(digest):
            # He has to be told now, not when it was judged, or sends nothing.
            raise self._damaged(digest)
        return blob

    def _is_suspect(self, digest: Digest) -> bool:
        noted = self._suspects.waiting(digest)
        return noted is not None and (self._store.changed(blob_key(digest)) or 0.0) <= noted

    async def _found(self, repository: Repository, digest: Digest) -> tuple[Blob, float]:
        """The blob, and until when that may be said of it without asking again."""
        found = await self._database.read(lambda connection: sweeping.standing(connection, repository, digest))
        if found is not None and found.named:
            return Blob(digest, found.size_bytes), math.inf
        now = self._acts.now()
        if found is not None and found.since <= now - _RENEWED_SECONDS:
            # Whoever is told that it is there may count on it, and push a manifest that names it.
            spare = partial(sweeping.spare, self._database, repository, digest, now)
            if not await asyncio.get_running_loop().run_in_executor(self._threads, spare):
                found = None
        if found is None:
            raise BlobUnknown(f"{repository} holds no blob {digest}.")
        return Blob(digest, found.size_bytes), now + _RENEWED_SECONDS

    async def read(self, blob: Blob, first: int, last: int, appetite: Appetite = greedy) -> AsyncIterator[bytes]:
        try:
            stored = self._store.open(blob_key(blob.digest))
        except FileNotFoundError:
            raise self._damaged(blob.digest) from None
        try:
            if stored.size != blob.size_bytes:
                raise self._damaged(blob.digest)
            whole = first == 0 and last == blob.size_bytes - 1
            checked = whole and not self._verified.has(blob.digest, stored.identity)
            if checked:
                pieces = self._checked(stored, blob, appetite)
            else:
                pieces = self._pieces(stored, first, last + 1, appetite)
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece
                    # Whoever waits for a client must not hold what it has already been given.
                    del piece
        except OSError:
            # Not its bytes, or none that can be read.
            self._suspects.note(blob.digest)
            raise
        finally:
            stored.release()

    def mount(self, source: Repository, target: Repository, digest: Digest) -> Change:
        def apply(connection: Any, act: Act) -> Notes:
            return content.mount_blob(connection, source, target, digest, act)

        return self._acts.change(target, apply)

    def delete(self, repository: Repository, digest: Digest) -> Change:
        def apply(connection: Any) -> Notes:
            return content.unlink_blob(connection, repository, digest)

        return Change(apply, repositories=(repository,))

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
                raise BlobDamaged("a blob's file became shorter while it was read")
            offset += len(piece)
            yield piece
            del piece

    async def _checked(self, stored: Stored, blob: Blob, appetite: Appetite) -> AsyncGenerator[bytes]:
        loop = asyncio.get_running_loop()
        hasher = blob.digest.algorithm.hasher()

        def read(offset: int, size: int) -> bytes:
            piece = stored.read(offset, size)
            hasher.update(piece)
            return piece

        offset, coming = 0, None
        try:
            while offset < blob.size_bytes:
                wanted = min(_COLD_BYTES, await appetite())
                piece = await (coming or loop.run_in_executor(self._threads, read, offset, wanted))
                offset, coming = offset + len(piece), None
                if not piece or offset == blob.size_bytes:
                    if hasher.hexdigest() != blob.digest.hex:
                        raise BlobDamaged("a blob's file does not have its digest")
                    self._verified.keep(blob.digest, stored.identity)
                elif wanted == _COLD_BYTES:
                    # One piece ahead: hashing goes on while this one is sent.
                    coming = loop.run_in_executor(self._threads, read, offset, wanted)
                yield piece
                del piece
        finally:
            if coming is not None:
                coming.cancel()

    def _damaged(self, digest: Digest) -> ContentDamaged:
        self._suspects.note(digest)
        return ContentDamaged(f"The stored bytes of {digest} are damaged; push the blob again to heal it.")
