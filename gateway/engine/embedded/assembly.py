"""The embedded engine, put together from a data directory and its database."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from gateway.engine.embedded.blobs import EmbeddedBlobs
from gateway.engine.embedded.listings import EmbeddedListings
from gateway.engine.embedded.manifests import EmbeddedManifests
from gateway.engine.embedded.suspects import Suspects
from gateway.engine.embedded.uploads import EmbeddedUploads
from gateway.engine.embedded.watermark import Watermark
from gateway.engine.port import Engine
from gateway.engine.stores.filesystem import Filesystem
from gateway.engine.stores.streams import Verified
from gateway.oci.digest import Digest
from gateway.oci.names import Repository
from gateway.records.acts import Acts
from gateway.records.database import Database
from gateway.records.rulebook import Rulebook

#: Threads that hash, write, sync and read. One waits for the disk as long as an fsync takes, so more than processors.
_THREADS: Final = 16
DAY_SECONDS: Final = 24 * 60 * 60


def embedded(
    root: Path,
    database: Database,
    *,
    uploads_per_owner: int = 100,
    upload_seconds: int = DAY_SECONDS,
    free_bytes: int = 0,
    trash_seconds: int = 0,
    clock: Callable[[], float] = time.time,
    store: Filesystem | None = None,
) -> Engine:
    """
    The engine that keeps bytes below *root* (made when first needed) and the rest in *database*.

    An upload nobody appended to for *upload_seconds* is gone; a principal has at most *uploads_per_owner* open. With
    less than *free_bytes* free on the disk none are taken; 0 for as long as there is room at all. What is deleted can
    be had back for *trash_seconds*.
    """
    store = store or Filesystem(root)
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="content")
    acts, verified = Acts(clock), Verified()
    rulebook, watermark = Rulebook(database), Watermark(root, free_bytes)

    async def admit(
        repository: Repository, *, held_bytes: int = 0, coming_bytes: int = 0, digest: Digest | None = None
    ) -> None:
        await rulebook.admit(repository, held_bytes=held_bytes, coming_bytes=coming_bytes, digest=digest)
        watermark.require(coming_bytes)

    return Engine(
        blobs=EmbeddedBlobs(store, database, threads, acts, verified, Suspects(root)),
        uploads=EmbeddedUploads(
            store,
            database,
            threads,
            acts,
            verified,
            per_owner=uploads_per_owner,
            lifetime_seconds=upload_seconds,
        ),
        manifests=EmbeddedManifests(database, acts, trash_seconds),
        listings=EmbeddedListings(database),
        version=lambda repository: database.versions.content(repository.name),
        admit=admit,
    )
