"""The canary: an image that is nobody's, and an engine that holds it, in memory, and nothing else."""

from __future__ import annotations

import json
import secrets as randomness
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.change import Change, Notes
from gateway.engine.port import Appended, Appetite, Blob, Engine, Page, StoredManifest, Upload, greedy
from gateway.errors import BlobUnknown, BlobUploadUnknown, ManifestUnknown, NameUnknown
from gateway.oci.digest import Digest
from gateway.oci.manifest import Descriptor, Manifest, load
from gateway.oci.media import OCI_MANIFEST
from gateway.oci.names import ProjectName, Reference, Repository, Tag

_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True, slots=True)
class Canary:
    """
    A private image and where it lives; no two processes have the same, and none is in the database.

    *secret* stands in its manifest and is the whole of its layer: whoever is told it was told what the canary holds.
    *neighbour* is a repository of another project, which exists beside it.
    """

    repository: Repository
    neighbour: Repository
    tag: Tag
    secret: str
    layer: Blob
    manifest: Manifest

    @classmethod
    def fresh(cls) -> Canary:
        """A canary under names that nobody can guess."""
        secret = randomness.token_hex(32)
        # Each of the two is a project of its own: neither name begins with the other.
        name, neighbour = (Repository(f"canary-{randomness.token_hex(12)}/image") for _ in range(2))
        layer = Digest.of(secret.encode())
        entry = {"mediaType": _LAYER, "digest": layer.text, "size": len(secret)}
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {**entry, "mediaType": _CONFIG},
            "layers": [entry],
            "annotations": {"secret": secret},
        }
        manifest = load(json.dumps(document).encode(), OCI_MANIFEST)
        return cls(name, neighbour, Tag("latest"), secret, Blob(layer, len(secret), name), manifest)


def engine_of(canary: Canary) -> Engine:
    """An engine that holds *canary* alone; what it prepares changes nothing."""
    return Engine(_Blobs(canary), _Uploads(canary), _Manifests(canary), _Listings(canary))


def _nothing() -> Change:
    return Change(lambda _: Notes())


@dataclass(frozen=True, slots=True)
class _Blobs:
    canary: Canary

    async def find(self, repository: Repository, digest: Digest, *, spares_push: bool = False) -> Blob:
        if repository != self.canary.repository or digest != self.canary.layer.digest:
            raise BlobUnknown("There is no such blob here.")
        return self.canary.layer

    async def read(self, blob: Blob, first: int, last: int, appetite: Appetite = greedy) -> AsyncIterator[bytes]:
        yield self.canary.secret.encode()[first : last + 1]

    def mount(self, source: Repository, target: Repository, digest: Digest) -> Change:
        return _nothing()

    def delete(self, repository: Repository, digest: Digest, owner: str = "") -> Change:
        return _nothing()


@dataclass(frozen=True, slots=True)
class _Uploads:
    canary: Canary

    async def begin(self, repository: Repository, owner: str) -> tuple[Upload, Change]:
        return Upload("canary", repository, owner, 0, 0, 0), _nothing()

    async def find(self, repository: Repository, owner: str, upload_id: str) -> Upload:
        raise BlobUploadUnknown("There is no such upload of yours here; begin a new one.")

    async def append(self, upload: Upload, body: AsyncIterator[bytes], first: int | None) -> Appended:
        return Appended(_nothing(), sum([len(piece) async for piece in body]))

    async def finish(
        self, upload: Upload, body: AsyncIterator[bytes], first: int | None, digest: Digest
    ) -> tuple[Blob, Change]:
        return Blob(digest, sum([len(piece) async for piece in body])), _nothing()

    async def cancel(self, upload: Upload) -> Change:
        return _nothing()


@dataclass(frozen=True, slots=True)
class _Manifests:
    canary: Canary

    async def find(self, repository: Repository, reference: Reference) -> StoredManifest:
        manifest = self.canary.manifest
        if repository != self.canary.repository or reference not in (self.canary.tag, manifest.digest):
            raise ManifestUnknown("There is no such manifest here.")
        return StoredManifest(manifest.digest, manifest.media_type, manifest.content)

    def put(self, repository: Repository, manifest: Manifest, tags: Sequence[Tag], owner: str = "") -> Change:
        return _nothing()

    def delete(self, repository: Repository, digest: Digest, owner: str = "") -> Change:
        return _nothing()

    def untag(self, repository: Repository, tag: Tag, owner: str = "") -> Change:
        return _nothing()


@dataclass(frozen=True, slots=True)
class _Listings:
    canary: Canary

    async def tags(self, repository: Repository, *, after: str, limit: int) -> Page[str]:
        if repository != self.canary.repository:
            raise NameUnknown("There is no such repository.")
        return Page((self.canary.tag.name,))

    async def repositories(
        self,
        *,
        after: str,
        limit: int,
        projects: Sequence[ProjectName] | None,
        admits: Callable[[Repository], bool],
    ) -> Page[str]:
        here = self.canary.repository
        seen = (projects is None or here.project in projects) and admits(here)
        return Page((here.name,) if seen else ())

    async def referrers(
        self, repository: Repository, subject: Digest, *, after: str, limit: int, types: Collection[str] = ()
    ) -> Page[Descriptor]:
        told = self.canary.manifest.descriptor
        here = repository == self.canary.repository and not after and (not types or told.artifact_type in types)
        return Page((told,) if here else ())
