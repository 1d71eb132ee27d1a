"""A registry's file system volume, written fast: laid out as CNCF Distribution leaves it."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_IMAGE = "application/vnd.docker.distribution.manifest.v2+json"


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def named(content: bytes, media_type: str) -> dict[str, object]:
    """A descriptor of *content*."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


@dataclass(slots=True)
class WrittenVolume:
    """A volume below *folder*; everything it writes is owned by whoever runs it, mode 0644."""

    folder: Path
    _made: set[Path] = field(default_factory=set)

    @property
    def root(self) -> Path:
        return self.folder / "docker" / "registry" / "v2"

    def blob_file(self, digest: str) -> Path:
        algorithm, _, text = digest.partition(":")
        return self.root / "blobs" / algorithm / text[:2] / text / "data"

    def layer_link(self, repository: str, digest: str) -> Path:
        algorithm, _, text = digest.partition(":")
        return self.root / "repositories" / repository / "_layers" / algorithm / text / "link"

    def revision_link(self, repository: str, digest: str) -> Path:
        algorithm, _, text = digest.partition(":")
        return self.root / "repositories" / repository / "_manifests" / "revisions" / algorithm / text / "link"

    def tag_link(self, repository: str, tag: str) -> Path:
        return self.root / "repositories" / repository / "_manifests" / "tags" / tag / "current" / "link"

    def blob(self, repository: str, content: bytes) -> str:
        """Keeps *content* and links it in *repository*; its digest."""
        digest = digest_of(content)
        file = self.blob_file(digest)
        if not file.exists():
            self._write(file, content)
        link = self.layer_link(repository, digest)
        if not link.exists():
            self._write(link, digest.encode())
        return digest

    def manifest(self, repository: str, content: bytes, *tags: str) -> str:
        """Keeps *content* as a manifest of *repository* under *tags*; its digest."""
        digest = digest_of(content)
        self._write(self.blob_file(digest), content)
        self._write(self.revision_link(repository, digest), digest.encode())
        for tag in tags:
            link = self.tag_link(repository, tag)
            self._write(link, digest.encode())
            self._write(link.parent.parent / "index" / "sha256" / digest[7:] / "link", digest.encode())
        return digest

    def image(
        self,
        repository: str,
        *tags: str,
        layers: Iterable[bytes] = (b"a layer",),
        config: bytes = b"{}",
        **more: object,
    ) -> bytes:
        """Pushes an image; the bytes of its manifest."""
        layers = tuple(layers)
        for each in (config, *layers):
            self.blob(repository, each)
        fields = {
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": named(config, CONFIG),
            "layers": [named(layer, LAYER) for layer in layers],
            **more,
        }
        content = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
        self.manifest(repository, content, *tags)
        return content

    def index(self, repository: str, *tags: str, of: Iterable[bytes], media_type: str = IMAGE) -> bytes:
        """Pushes an index of manifests; its bytes."""
        entries = [named(each, media_type) for each in of]
        content = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
        self.manifest(repository, content, *tags)
        return content

    def fill(self, *, repositories: int, tags: int, layer_bytes: int, layers: int, seed: int = 1) -> None:
        """
        Many images in `project-N/app`: *tags* in all, spread over *repositories*; each has a config of its own and two
        of the *layers* that its repository has, of *layer_bytes* each.
        """
        pieces = random.Random(seed)
        for number in range(repositories):
            name = f"project-{number % 4}/app-{number}"
            mine = [pieces.randbytes(layer_bytes) for _ in range(max(1, layers // repositories))]
            for tag in range(tags // repositories):
                config = json.dumps({"created": f"{number}-{tag}"}).encode()
                chosen = {mine[tag % len(mine)], mine[(tag + 1) % len(mine)]}
                self.image(name, f"v{tag}", layers=chosen, config=config)

    def _write(self, file: Path, content: bytes) -> None:
        if file.parent not in self._made:
            os.makedirs(file.parent, exist_ok=True)
            self._made.add(file.parent)
        file.write_bytes(content)
        file.chmod(0o644)
