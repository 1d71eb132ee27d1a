"""An engine to make claims about, and the smallest ledger: changes become true in one transaction, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gateway.change import Change, Notes
from gateway.engine.embedded.assembly import embedded
from gateway.engine.port import Blob, Engine, Interrupted
from gateway.engine.stores.filesystem import Filesystem
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import OCI_INDEX, OCI_MANIFEST, Manifest, load
from gateway.oci.names import Repository, Tag
from gateway.records.database import Database
from gateway.records.schema import metadata

T = TypeVar("T")

UI = Repository("gallery/ui")
OTHER = Repository("garden/ui")
WRITER = "user:1"
READER = "user:2"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass
class Clock:
    """A clock that goes where it is told."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class House:
    """One process: its database, its engine, and a ledger that commits without remembering anything."""

    database: Database
    engine: Engine
    clock: Clock
    root: Path
    changes: list[Change] = field(default_factory=list)

    def commit(self, change: Change) -> Notes:
        self.changes.append(change)
        names = [repository.name for repository in change.repositories]
        with (
            self.database.lock(),
            self.database.versions.moving(policy=change.policy, repositories=names),
            self.database.writer() as connection,
        ):
            self.database.begin(connection)
            try:
                notes = change.apply(connection)
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")
            return notes

    async def push(
        self, repository: Repository, content: bytes, algorithm: Algorithm = Algorithm.SHA256, owner: str = WRITER
    ) -> Blob:
        upload, begun = await self.engine.uploads.begin(repository, owner)
        self.commit(begun)
        blob, linked = await self.engine.uploads.finish(upload, body(content), None, Digest.of(content, algorithm))
        self.commit(linked)
        return blob

    async def put(self, repository: Repository, manifest: Manifest, *tags: str) -> Notes:
        names = [Tag(tag) for tag in tags]
        return self.commit(self.engine.manifests.put(repository, manifest, names, WRITER))

    async def pull(self, repository: Repository, digest: Digest) -> bytes:
        blob = await self.engine.blobs.find(repository, digest)
        return await read(self.engine, blob)

    async def push_image(self, repository: Repository, *tags: str, layer: bytes = b"a layer", **more: Any) -> Manifest:
        config = b"{}"
        await self.push(repository, config)
        await self.push(repository, layer)
        manifest = image(config, layer, **more)
        await self.put(repository, manifest, *tags)
        return manifest

    def spools(self) -> list[Path]:
        folder = self.root / "uploads"
        return sorted(folder.iterdir()) if folder.exists() else []


class Houses:
    """Opens processes on one data directory and closes them all in the end."""

    def __init__(self, url: str, data: Path) -> None:
        self._url = url
        self._data = data
        self._opened: list[House] = []
        self.clock = Clock()

    def open(self, store: Filesystem | None = None, **options: Any) -> House:
        database = Database.open(self._url, self._data)
        if not self._opened:
            if database.sqlite:
                with database.engine.connect() as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            metadata.create_all(database.engine)
        engine = embedded(self._data, database, clock=self.clock, store=store, **options)
        self._opened.append(House(database, engine, self.clock, self._data))
        return self._opened[-1]

    def close(self) -> None:
        for house in self._opened:
            house.database.close()


def run(story: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(story)


async def body(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def cut(*pieces: bytes, error: Callable[[], BaseException] = Interrupted) -> AsyncIterator[bytes]:
    """A body whose client goes away."""
    for piece in pieces:
        yield piece
    raise error()


async def read(engine: Engine, blob: Blob, first: int = 0, last: int | None = None) -> bytes:
    end = blob.size_bytes - 1 if last is None else last
    return b"".join([piece async for piece in engine.blobs.read(blob, first, end)])


def descriptor(content: bytes, media_type: str, **more: object) -> dict[str, object]:
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    return {"mediaType": media_type, "digest": digest, "size": len(content), **more}


def image(
    config: bytes,
    *layers: bytes,
    subject: Manifest | None = None,
    annotations: dict[str, str] | None = None,
    artifact_type: str | None = None,
    layer_type: str = LAYER,
    algorithm: Algorithm = Algorithm.SHA256,
) -> Manifest:
    fields: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config, CONFIG),
        "layers": [descriptor(layer, layer_type) for layer in layers],
    }
    if subject is not None:
        fields["subject"] = descriptor(subject.content, subject.media_type)
    if annotations is not None:
        fields["annotations"] = annotations
    if artifact_type is not None:
        fields["artifactType"] = artifact_type
    return load(json.dumps(fields).encode(), OCI_MANIFEST, algorithm=algorithm)


def index(children: Iterable[tuple[bytes, str]]) -> Manifest:
    fields = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(content, media_type) for content, media_type in children],
    }
    return load(json.dumps(fields).encode(), OCI_INDEX)
