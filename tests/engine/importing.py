"""An import as tests run it: a written volume, a data directory, and the acts between them, through a real gate."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.administration.importing import Imports, Report
from gateway.audit.event import Kind
from gateway.engine.embedded.assembly import embedded
from gateway.engine.embedded.importing import EmbeddedImport
from gateway.engine.embedded.layout import blob_key
from gateway.engine.embedded.volume import Volume
from gateway.engine.port import Engine, StoredManifest
from gateway.engine.source import Source
from gateway.engine.stores.filesystem import Filesystem
from gateway.oci.digest import Digest
from gateway.oci.manifest import load
from gateway.oci.names import Repository, Tag, parse_reference
from tests.house import OPERATOR, House, opened
from tests.services.volume import WrittenVolume

UI = "gallery/ui"


@dataclass(slots=True)
class Stage:
    """Where an import happens: what is read, and what is filled."""

    house: House
    volume: WrittenVolume
    engine: Engine

    def importer(self, source: Source | None = None, *, link: bool = False) -> EmbeddedImport:
        read = source or Volume.at(self.volume.folder)
        return EmbeddedImport(Filesystem(self.house.data), self.house.database, read, link=link)

    def imports(self, source: Source | None = None, *, link: bool = False) -> Imports:
        return Imports(self.house.gate, self.house.database, self.importer(source, link=link))

    def run(self, source: Source | None = None, *, link: bool = False, **asked: Any) -> Report:
        """One import, by the operator."""
        return asyncio.run(self.imports(source, link=link).import_all(OPERATOR, **asked))

    def plan(self, **asked: Any) -> Report:
        return asyncio.run(self.imports().plan(OPERATOR, **asked))

    def manifest(self, reference: str, repository: str = UI) -> StoredManifest:
        found = self.engine.manifests.find(Repository(repository), parse_reference(reference))
        return asyncio.run(found)

    def blob(self, digest: str, repository: str = UI) -> bytes:
        async def read() -> bytes:
            blob = await self.engine.blobs.find(Repository(repository), Digest(digest))
            return b"".join([piece async for piece in self.engine.blobs.read(blob, 0, blob.size_bytes - 1)])

        return asyncio.run(read())

    def tags(self, repository: str = UI) -> list[str]:
        page = asyncio.run(self.engine.listings.tags(Repository(repository), after="", limit=1000))
        return list(page.entries)

    def referrers(self, subject: str, repository: str = UI) -> list[str]:
        listed = self.engine.listings.referrers(Repository(repository), Digest(subject), after="", limit=100)
        return [entry.digest.text for entry in asyncio.run(listed).entries]

    def file(self, digest: str) -> Path:
        """Where a blob's bytes lie here."""
        return self.house.data / blob_key(Digest(digest))

    def push(self, content: bytes, tag: str, owner: str = "user:1") -> None:
        """Moves a tag to a manifest that is here, in the name of *owner*."""

        stored = self.manifest(Digest.of(content).text)

        async def push() -> None:
            manifest = load(content, stored.media_type)
            async with self.house.gate.passage(OPERATOR, Kind.MANIFEST_PUSH) as passage:
                await passage.commit(self.engine.manifests.put(Repository(UI), manifest, [Tag(tag)], owner))

        asyncio.run(push())


@contextmanager
def staged(url: str, place: Path) -> Iterator[Stage]:
    """A stage below *place*, with an empty volume and the records at *url*."""
    data = place / "imported"
    data.mkdir()
    with opened(url, data) as house:
        volume = WrittenVolume(place / "volume")
        (volume.root / "repositories").mkdir(parents=True)
        yield Stage(house, volume, embedded(data, house.database))
