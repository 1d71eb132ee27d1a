"""The engine in front of a registry, put together from its client, a data directory and its database."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from gateway.engine.port import Engine, Feature
from gateway.engine.upstream.blobs import UpstreamBlobs
from gateway.engine.upstream.client import Client
from gateway.engine.upstream.files import Files
from gateway.engine.upstream.holds import Holds
from gateway.engine.upstream.listings import UpstreamListings
from gateway.engine.upstream.manifests import UpstreamManifests
from gateway.engine.upstream.uploads import UpstreamUploads
from gateway.records.acts import Acts
from gateway.records.database import Database
from gateway.records.rulebook import Rulebook

#: Threads that hash what passes.
_THREADS: Final = 4
DAY_SECONDS: Final = 24 * 60 * 60
EMULATED: Final[Mapping[Feature, str]] = {
    Feature.UNTAG: (
        "The registry behind cannot remove a tag alone: the tag is hidden here, and is still there "
        "until it moves or its manifest is deleted."
    ),
    Feature.REFERRERS: (
        "Referrers are listed from what came through this gateway or was adopted, not by the registry behind."
    ),
    Feature.REMOVAL: "The registry behind keeps what it holds.",
    Feature.TRASH: "The registry behind keeps nothing of what is deleted there; push it again.",
}


def upstream(
    data: Path,
    database: Database,
    client: Client,
    *,
    volume: Path | None = None,
    uploads_per_owner: int = 100,
    upload_seconds: int = DAY_SECONDS,
    clock: Callable[[], float] = time.time,
) -> Engine:
    """
    The engine whose content the registry that *client* speaks with keeps; what that cannot be asked is in *database*.

    Locks of uploads and of acts under way lie in *data*. An upload nobody appended to for *upload_seconds* is gone; a
    principal has at most *uploads_per_owner* open. With *volume*, the folder in which the registry keeps its
    content, the bytes of blobs are read there.
    """
    acts = Acts(clock, done=True)
    holds = Holds(data)
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="hashing")
    return Engine(
        blobs=UpstreamBlobs(client, database, threads, acts, holds, files=Files(volume) if volume else None),
        uploads=UpstreamUploads(
            client, database, acts, data, holds, per_owner=uploads_per_owner, lifetime_seconds=upload_seconds
        ),
        manifests=UpstreamManifests(client, database, acts, holds),
        listings=UpstreamListings(client, database),
        emulated=EMULATED,
        version=lambda repository: database.versions.content(repository.name),
        tags_move_unseen=True,
        trouble=lambda: client.trouble,
        look=client.look,
        close=client.close,
        admit=Rulebook(database).admit,
    )
