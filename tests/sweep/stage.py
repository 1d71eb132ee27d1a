"""A gateway's inner rooms with content in them, a clock that goes where it is told, and sweeps through a real gate."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import select

from gateway.administration.sweeping import Plan, Receipt, Sweeps
from gateway.audit.event import Event, Kind
from gateway.change import Change, Notes
from gateway.engine.embedded.assembly import embedded
from gateway.engine.embedded.layout import SWEPT, blob_key
from gateway.engine.embedded.sweep import EmbeddedSweep
from gateway.engine.port import Engine, Upload
from gateway.engine.stores.clearing import Clearing
from gateway.engine.stores.filesystem import Filesystem
from gateway.gate import Act
from gateway.oci.digest import Digest
from gateway.oci.manifest import Manifest
from gateway.oci.names import Repository, Tag
from gateway.records.schema import blobs, edges, links, manifests, tags, uploads
from tests.contract.house import OTHER, UI, WRITER, Clock, body, image, read
from tests.house import GATEWAY, OPERATOR, House

__all__ = ["DAY", "HOUR", "OTHER", "UI", "WRITER", "Stage", "body", "image"]

T = TypeVar("T")
HOUR = 3600
DAY = 24 * HOUR


@dataclass(slots=True)
class Stage:
    """*clock* is the engine's and the sweep's; files bear the time of this machine, at which it begins."""

    house: House
    clock: Clock = field(default_factory=lambda: Clock(float(int(time.time()))))
    trash_seconds: int = 0
    _engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = embedded(
                self.house.data, self.house.database, clock=self.clock, trash_seconds=self.trash_seconds
            )
        return self._engine

    def run(self, story: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(story)

    async def commit(self, change: Change, kind: Kind = Kind.BLOB_PUSH) -> Notes:
        return await self.house.ledger.commit(Act(Event(kind, GATEWAY), change))

    # what clients do

    async def begin(self, repository: Repository) -> Upload:
        upload, change = await self.engine.uploads.begin(repository, WRITER)
        await self.commit(change)
        return upload

    async def push(self, repository: Repository, content: bytes) -> Digest:
        upload = await self.begin(repository)
        blob, change = await self.engine.uploads.finish(upload, body(content), None, Digest.of(content))
        await self.commit(change)
        return blob.digest

    async def put(self, repository: Repository, manifest: Manifest, *names: str) -> Digest:
        change = self.engine.manifests.put(repository, manifest, [Tag(name) for name in names], WRITER)
        await self.commit(change)
        return manifest.digest

    async def push_image(self, repository: Repository, *names: str, layer: bytes = b"a layer") -> Manifest:
        for content in (b"{}", layer):
            await self.push(repository, content)
        manifest = image(b"{}", layer)
        await self.put(repository, manifest, *names)
        return manifest

    async def delete(self, repository: Repository, digest: Digest) -> None:
        await self.commit(self.engine.manifests.delete(repository, digest))

    async def pull(self, repository: Repository, digest: Digest) -> bytes:
        return await read(self.engine, await self.engine.blobs.find(repository, digest))

    # sweeping

    def sweeps(self) -> Sweeps:
        store, clearing = Filesystem(self.house.data), Clearing(self.house.data, SWEPT)
        database, clock = self.house.database, self.clock

        def sweeper(grace_seconds: int) -> EmbeddedSweep:
            return EmbeddedSweep(store, clearing, database, grace_seconds=grace_seconds, clock=clock)

        return Sweeps(self.house.gate, database, sweeper, clock)

    async def sweep(self, grace_seconds: int = DAY) -> Receipt:
        return await self.sweeps().sweep(OPERATOR, grace_seconds)

    async def plan(self, grace_seconds: int = DAY) -> Plan:
        return await self.sweeps().plan(OPERATOR, grace_seconds)

    # what there is

    def file(self, digest: Digest) -> Path:
        return self.house.data / blob_key(digest)

    def put_file(self, content: bytes) -> Path:
        """A file where a blob of that content would lie, without a record."""
        path = self.file(Digest.of(content))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def files(self) -> dict[str, bytes]:
        """Every file of content, whole or growing or on its way out."""
        found = [
            file
            for folder in ("blobs", "uploads", "imports", "swept")
            for file in (self.house.data / folder).rglob("*")
        ]
        return {os.path.relpath(file, self.house.data): file.read_bytes() for file in found if file.is_file()}

    def rows(self) -> dict[str, list[Any]]:
        def every(connection: Any) -> dict[str, list[Any]]:
            tables = (blobs, links, manifests, edges, tags, uploads)
            return {table.name: sorted(map(tuple, connection.execute(select(table)))) for table in tables}

        return self.house.database.read_now(every)
