"""Blobs: bytes in the store under their digest, seen from a repository only through its links."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from gateway.change import Change, Notes
from gateway.engine.embedded.layout import blob_key
from gateway.engine.embedded.suspects import Suspects
from gateway.engine.port import Appetite, Blob, greedy
from gateway.engine.stores.filesystem import Filesystem
from gateway.engine.stores.streams import Streams, Verified
from gateway.errors import BlobUnknown, ContentDamaged
from gateway.oci.digest import Digest
from gateway.oci.names import Repository
from gateway.records import content, sweeping
from gateway.records.acts import Acts
from gateway.records.content import Act
from gateway.records.database import Database
from gateway.records.recent import Recent

_REMEMBERED: Final = 16_384
#: How old the grace of a blob that no manifest names may grow while it is asked for.
_RENEWED_SECONDS: Final = 60


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
        self._suspects = suspects
        self._streams = Streams(threads, verified)
        self._recent: Recent[tuple[Blob, float]] = Recent(database.versions, _REMEMBERED)

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
            async with aclosing(self._streams.read(stored, blob.digest, first, last, appetite)) as pieces:
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

    def _damaged(self, digest: Digest) -> ContentDamaged:
        self._suspects.note(digest)
        return ContentDamaged(f"The stored bytes of {digest} are damaged; push the blob again to heal it.")
