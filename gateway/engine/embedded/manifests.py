"""Manifests: their bytes and everything about them lie in the records; what is read often stays in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway.change import Change, Notes
from gateway.engine.port import StoredManifest
from gateway.errors import ManifestUnknown
from gateway.oci.digest import Digest
from gateway.oci.manifest import Manifest
from gateway.oci.names import Reference, Repository, Tag
from gateway.records import content, sweeping
from gateway.records.acts import Acts
from gateway.records.content import Act
from gateway.records.database import Database
from gateway.records.recent import Recent
from gateway.records.trash import Bin

_REMEMBERED_BYTES: Final = 32 * 1024 * 1024
#: What an entry costs beside its content.
_ENTRY_BYTES: Final = 512


class EmbeddedManifests:
    """Manifests of one data directory; a tag moved by any process is seen by all at once."""

    def __init__(self, database: Database, acts: Acts, trash_seconds: int = 0) -> None:
        self._database = database
        self._trash_seconds = trash_seconds
        self._acts = acts
        self._recent: Recent[StoredManifest] = Recent(database.versions, _REMEMBERED_BYTES, _weight)

    async def find(self, repository: Repository, reference: Reference) -> StoredManifest:
        version = self._recent.version(repository)
        manifest = self._recent.find(repository, reference, version)
        if manifest is not None:
            return manifest
        found = await self._database.read(lambda connection: content.find_manifest(connection, repository, reference))
        if found is None:
            raise ManifestUnknown(f"{repository} holds no manifest {reference}.")
        manifest = StoredManifest(*found)
        self._acts.saw(repository.project)
        self._recent.keep(repository, reference, version, manifest)
        return manifest

    def put(self, repository: Repository, manifest: Manifest, tags: Sequence[Tag], owner: str = "") -> Change:
        def apply(connection: Any, act: Act) -> Notes:
            return content.put_manifest(connection, repository, manifest, tags, act)

        return self._acts.change(repository, apply, owner)

    def delete(self, repository: Repository, digest: Digest, owner: str = "") -> Change:
        def apply(connection: Any) -> Notes:
            sweeping.release(connection, repository, digest, self._acts.now())
            return content.delete_manifest(connection, repository, digest, self._bin(owner))

        return Change(apply, repositories=(repository,))

    def untag(self, repository: Repository, tag: Tag, owner: str = "") -> Change:
        def apply(connection: Any) -> Notes:
            return content.untag(connection, repository, tag, self._bin(owner))

        return Change(apply, repositories=(repository,))

    def _bin(self, owner: str) -> Bin:
        return Bin(self._acts.now(), owner, self._trash_seconds)


def _weight(manifest: StoredManifest) -> int:
    return len(manifest.content) + _ENTRY_BYTES
