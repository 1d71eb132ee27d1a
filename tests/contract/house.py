"""An engine to make claims about, and the smallest ledger: changes become true in one transaction, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from sqlalchemy import select

from gateway.change import Change, Elsewhere, Notes
from gateway.engine.embedded.assembly import embedded
from gateway.engine.port import Blob, Engine, Interrupted
from gateway.engine.upstream.assembly import upstream
from gateway.engine.upstream.client import Client, Peer
from gateway.errors import Refusal
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import OCI_INDEX, OCI_MANIFEST, Manifest, load
from gateway.oci.names import Repository, Tag
from gateway.records.database import Database
from gateway.records.schema import intents, metadata
from tests.house import prepare
from tests.services.distribution import Registry

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


@dataclass(frozen=True, slots=True)
class Nature:
    """What one engine promises and another cannot: a registry behind the gateway keeps some things its own way."""

    name: str
    #: Bytes of an upload that nobody acknowledged are cut off again; else they count, and the upload says so.
    cuts_back: bool
    #: Layers of foreign media types need not be there.
    takes_foreign_layers: bool
    #: What was pushed under one digest is found by that one alone, not by its SHA-256 as well.
    keeps_algorithms_apart: bool


EMBEDDED = Nature("embedded", cuts_back=True, takes_foreign_layers=True, keeps_algorithms_apart=True)
UPSTREAM = Nature("upstream", cuts_back=False, takes_foreign_layers=False, keeps_algorithms_apart=False)


class Opener(Protocol):
    """Makes engines of one nature."""

    @property
    def nature(self) -> Nature: ...

    def open(self, data: Path, database: Database, clock: Clock, **options: Any) -> Engine: ...

    def begin(self) -> None:
        """Empties what the engines keep elsewhere."""


class Embedded:
    nature = EMBEDDED

    def open(self, data: Path, database: Database, clock: Clock, **options: Any) -> Engine:
        return embedded(data, database, clock=clock, **options)

    def begin(self) -> None:
        return None


@dataclass(frozen=True)
class Upstream:
    registry: Registry
    reads_files: bool = False
    nature: Nature = UPSTREAM

    def open(self, data: Path, database: Database, clock: Clock, **options: Any) -> Engine:
        behind = self.registry
        peer = Peer(behind.url, behind.username, behind.password, behind.ca_file)
        volume = behind.content if self.reads_files else None
        return upstream(data, database, Client(peer), volume=volume, clock=clock, **options)

    def begin(self) -> None:
        self.registry.forget()


@dataclass(eq=False)
class House:
    """One process: its database, its engine, and a ledger that commits without remembering anything."""

    database: Database
    engine: Engine
    clock: Clock
    root: Path
    nature: Nature = EMBEDDED
    changes: list[Change] = field(default_factory=list)

    async def commit(self, change: Change) -> Notes:
        """Commits *change* as the gate does: what it does elsewhere comes between its intent and itself."""
        try:
            if change.elsewhere is not None:
                await self._carry_out(change.elsewhere)
            return self.apply(change)
        finally:
            change.release()

    async def _carry_out(self, elsewhere: Elsewhere) -> None:
        def intend(connection: Any) -> Notes:
            elsewhere.intend(connection, {"kind": "test"})
            return Notes()

        def drop(connection: Any) -> Notes:
            elsewhere.drop(connection)
            return Notes()

        def resume(connection: Any) -> Notes:
            elsewhere.resume(connection)
            return Notes()

        self.apply(Change(intend))
        try:
            if await elsewhere.wait():
                self.apply(Change(resume))
            await elsewhere.run()
        except Refusal as refusal:
            if not getattr(refusal, "uncertain", False):
                self.apply(Change(drop))
            raise

    def apply(self, change: Change) -> Notes:
        """Commits what *change* does here."""
        self.changes.append(change)
        names = [repository.name for repository in change.repositories]
        with (
            self.database.lock(),
            self.database.versions.moving(policy=change.policy, repositories=names),
            self.database.writer() as connection,
        ):
            if self.database.sqlite:
                # What a power cut leaves is asked elsewhere.
                connection.exec_driver_sql("PRAGMA synchronous = OFF")
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
        await self.commit(begun)
        blob, linked = await self.engine.uploads.finish(upload, body(content), None, Digest.of(content, algorithm))
        await self.commit(linked)
        return blob

    async def put(self, repository: Repository, manifest: Manifest, *tags: str) -> Notes:
        names = [Tag(tag) for tag in tags]
        return await self.commit(self.engine.manifests.put(repository, manifest, names, WRITER))

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


_HOUSES: WeakSet[House] = WeakSet()


class Houses:
    """Opens processes on one data directory and closes them all in the end."""

    def __init__(self, url: str, data: Path, opener: Opener | None = None) -> None:
        self._url = url
        self._data = data
        self._opener = opener or Embedded()
        self._opened: list[House] = []
        self.clock = Clock()

    def open(self, **options: Any) -> House:
        if not self._opened:
            self._opener.begin()
            _prepare(self._url, self._data)
        database = Database.open(self._url, self._data)
        engine = self._opener.open(self._data, database, self.clock, **options)
        house = House(database, engine, self.clock, self._data, self._opener.nature)
        self._opened.append(house)
        _HOUSES.add(house)
        return house

    def unsettled(self) -> list[str]:
        """The acts begun elsewhere whose outcome nobody has recorded."""
        if not self._opened:
            return []
        return self._opened[0].database.read_now(
            lambda connection: list(connection.execute(select(intents.c.kind)).scalars())
        )

    def close(self) -> None:
        for house in self._opened:
            house.database.close()


def _prepare(url: str, data: Path) -> None:
    """Makes the tables."""
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).write_bytes(_empty_sqlite())
        return
    prepare(url, data)


@cache
def _empty_sqlite() -> bytes:
    with TemporaryDirectory() as directory:
        database = Database.open(f"sqlite:///{directory}/empty.db", Path(directory))
        with database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        metadata.create_all(database.engine)
        database.close()
        return Path(directory, "empty.db").read_bytes()


def run(story: Coroutine[Any, Any, T]) -> T:
    """What the story tells; whatever it connected to is let go before its loop ends."""

    async def told() -> T:
        try:
            return await story
        finally:
            for house in list(_HOUSES):
                await house.engine.close()

    return asyncio.run(told())


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
