"""Content for an existing registry, put there as if no gateway had ever been: by requests of its API, in clear."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.services.distribution import Registry

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What points at content that was pushed."""

    media_type: str
    digest: str
    size: int

    def as_json(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}

    @property
    def fallback_tag(self) -> str:
        """The tag under which clients list its referrers, where nobody else does."""
        return self.digest.replace(":", "-")


@dataclass(frozen=True, slots=True)
class Filling:
    """Pushes into *registry*, which asks for no credential."""

    registry: Registry

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers with lower-case names, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.registry.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def blob(self, repository: str, content: bytes, media_type: str = OCI_CONFIG) -> Descriptor:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        status, headers, said = self.request("POST", f"/v2/{repository}/blobs/uploads/")
        assert status == 202, said
        place = headers["location"].partition(f":{self.registry.port}")[2]
        status, _, said = self.request("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", content)
        assert status == 201, said
        return Descriptor(media_type, digest, len(content))

    def manifest(self, repository: str, document: Mapping[str, Any], tag: str = "") -> Descriptor:
        """Pushed under *tag*, or by its digest alone."""
        return self.content(repository, json.dumps(document).encode(), document["mediaType"], tag)

    def content(self, repository: str, content: bytes, media_type: str, tag: str = "") -> Descriptor:
        """A manifest as these very bytes."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        path = f"/v2/{repository}/manifests/{tag or digest}"
        status, _, said = self.request("PUT", path, content, {"Content-Type": media_type})
        assert status == 201, said
        return Descriptor(media_type, digest, len(content))

    def image(self, repository: str, tag: str = "", seed: str = "", **more: Any) -> Descriptor:
        """An image with a layer of a few bytes that *seed* makes its own; *more* are fields of its manifest."""
        return self.manifest(repository, self.image_document(repository, seed, **more), tag)

    def image_document(self, repository: str, seed: str = "", **more: Any) -> dict[str, Any]:
        """The manifest of an image whose blobs have been pushed."""
        config = self.blob(repository, json.dumps({"seed": seed}).encode())
        layer = self.blob(repository, f"layer {seed}".encode(), OCI_LAYER)
        written = {"config": config.as_json(), "layers": [layer.as_json()]}
        return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, **written, **more}

    def about(self, repository: str, subject: Descriptor, tag: str = "", seed: str = "about") -> Descriptor:
        """Something about *subject*: a signature, say."""
        return self.image(repository, tag, seed, subject=subject.as_json(), artifactType="application/x-signature")

    def index(self, repository: str, children: Sequence[Descriptor], tag: str = "") -> Descriptor:
        listed = [child.as_json() for child in children]
        return self.manifest(repository, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}, tag)

    def file(self, digest: str) -> Path:
        """Where the registry keeps these bytes."""
        hexadecimal = digest.partition(":")[2]
        blobs = self.registry.content / "docker/registry/v2/blobs/sha256"
        return blobs / hexadecimal[:2] / hexadecimal / "data"
