"""Images made from nothing: OCI layouts with layers of the sizes wanted, which every client can push.

layout/
  oci-layout   index.json (one entry per tag)   blobs/sha256/…
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"
IN_TOTO = "application/vnd.in-toto+json"

GREETING = "hello from the gateway"
BUSYBOX = Path("/bin/busybox")
PLATFORMS = ("amd64", "arm64", "arm/v7")

# The layout's own name for a tag; a client never sends it.
_TAG = "org.opencontainers.image.ref.name"
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What points at a blob or manifest in the layout."""

    media_type: str
    digest: str
    size: int
    platform: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The descriptor as the specification writes it."""
        written: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.platform:
            names = zip(("os", "architecture", "variant"), self.platform.split("/"), strict=False)
            written["platform"] = dict(names)
        if self.annotations:
            written["annotations"] = dict(self.annotations)
        return written


@dataclass(frozen=True, slots=True)
class Image:
    """One image in a layout: its manifest, and what the manifest names."""

    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """An OCI image layout in a directory, to which images are added; skopeo's name for a tag is `oci:DIR:TAG`."""

    directory: Path

    @classmethod
    def create(cls, directory: Path) -> Layout:
        """Begin an empty layout; the directory is made."""
        (directory / "blobs/sha256").mkdir(parents=True)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": []}))
        return cls(directory)

    def read(self, digest: str) -> bytes:
        """The bytes of a blob or manifest."""
        return self.blob(digest).read_bytes()

    def blob(self, digest: str) -> Path:
        """Where a blob or manifest lies."""
        return self.directory / "blobs" / digest.replace(":", "/")

    def source(self, tag: str) -> str:
        """What skopeo and podman call a tag of this layout."""
        return f"oci:{self.directory}:{tag}"

    def add_image(
        self, tag: str | None, layer_bytes: Sequence[int], *, seed: int = 0, architecture: str = "amd64"
    ) -> Image:
        """Add an image with one layer per size; the layers cannot be compressed, and equal seeds give equal bytes.

        skopeo and podman remember, for the whole machine, which repository of a registry has a layer, and mount it
        from there: a push that must upload wants a seed of its own.
        """
        layers = [self._layer(size, f"{seed}/{architecture}/{n}") for n, size in enumerate(layer_bytes)]
        return self._image(tag, layers, architecture, {})

    def add_runnable_image(self, tag: str) -> Image:
        """Add an image whose container prints GREETING; small, for this machine's kind of processor."""
        with BUSYBOX.open("rb") as busybox:
            layer = self._store_layer(_tar("bin/busybox", 0o755, BUSYBOX.stat().st_size, busybox.read))
        return self._image(tag, [layer], "amd64", {"Cmd": ["/bin/busybox", "echo", GREETING]})

    def add_index(self, tag: str, layer_bytes: Sequence[int], *, seed: int = 0) -> tuple[Descriptor, tuple[Image, ...]]:
        """Add a multi-platform index: an image each for PLATFORMS, and an attestation for `unknown/unknown`."""
        images = tuple(self.add_image(None, layer_bytes, seed=seed, architecture=each) for each in PLATFORMS)
        children = [image.manifest for image in images] + [self._attestation(images[0]).manifest]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child.as_json() for child in children]}
        return self._name(tag, self._store_json(OCI_INDEX, index)), images

    def add_artifact(self, tag: str, subject: Descriptor, artifact_type: str, payload: bytes = b"{}") -> Image:
        """Add a manifest that is about another one, such as a signature or a bill of materials."""
        config = self._store_json(EMPTY, {})
        digest = f"sha256:{hashlib.sha256(payload).hexdigest()}"
        self.blob(digest).write_bytes(payload)
        layers = (Descriptor("application/octet-stream", digest, len(payload)),)
        about = {"artifactType": artifact_type, "subject": replace(subject, platform=None).as_json()}
        manifest = self._store_json(OCI_MANIFEST, {**_manifest(config, layers), **about})
        return Image(self._name(tag, manifest), config, layers)

    def archive(self, to: Path) -> Path:
        """Write the layout as one tar file, as `ctr images import` reads it."""
        with tarfile.open(to, "w") as archive:
            for entry in sorted(self.directory.iterdir()):
                archive.add(entry, entry.name)
        return to

    def docker_archive(self, tag: str, name: str, to: Path) -> Path:
        """Write a tag as `docker load` reads it, under a full name such as `localhost:5000/gallery/ui:v1`."""
        argv = ["skopeo", "copy", "--insecure-policy", self.source(tag), f"docker-archive:{to}:{name}"]
        copied = subprocess.run(argv, capture_output=True, text=True, timeout=300)
        assert copied.returncode == 0, copied.stderr
        return to

    def _attestation(self, about: Image) -> Image:
        statement = {"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "about", "predicate": {}}
        layer = self._store_json(IN_TOTO, statement)
        rootfs = {"type": "layers", "diff_ids": [layer.digest]}
        described = {"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": rootfs}
        config = self._store_json(OCI_CONFIG, described)
        annotations = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": about.manifest.digest,
        }
        manifest = self._store_json(OCI_MANIFEST, _manifest(config, [layer]), "unknown/unknown", annotations)
        return Image(manifest, config, (layer,))

    def _image(
        self, tag: str | None, layers: list[tuple[Descriptor, str]], architecture: str, run: Mapping[str, Any]
    ) -> Image:
        kind, _, variant = architecture.partition("/")
        rootfs = {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]}
        described = {"architecture": kind, "os": "linux", "config": dict(run), "rootfs": rootfs}
        if variant:
            described["variant"] = variant
        config = self._store_json(OCI_CONFIG, described)
        descriptors = tuple(descriptor for descriptor, _ in layers)
        manifest = self._store_json(OCI_MANIFEST, _manifest(config, descriptors), f"linux/{architecture}")
        return Image(manifest if tag is None else self._name(tag, manifest), config, descriptors)

    def _layer(self, size: int, seed: str) -> tuple[Descriptor, str]:
        name = f"layer-{hashlib.sha256(seed.encode()).hexdigest()[:12]}.bin"
        return self._store_layer(_tar(name, 0o644, size, random.Random(seed).randbytes))

    def _store_layer(self, pieces: Iterator[bytes]) -> tuple[Descriptor, str]:
        """Store a tar as a gzip stream that is not compressed at all, which costs next to no time."""
        diff_id = hashlib.sha256()
        with (
            tempfile.NamedTemporaryFile(dir=self.directory, delete=False) as spool,
            gzip.GzipFile("", "wb", compresslevel=0, fileobj=spool, mtime=0) as packed,
        ):
            for piece in pieces:
                diff_id.update(piece)
                packed.write(piece)
        with open(spool.name, "rb") as stored:
            digest = f"sha256:{hashlib.file_digest(stored, 'sha256').hexdigest()}"
        blob = Path(spool.name).rename(self.blob(digest))
        return Descriptor(OCI_LAYER, digest, blob.stat().st_size), f"sha256:{diff_id.hexdigest()}"

    def _store_json(
        self, media_type: str, value: Mapping[str, Any], platform: str | None = None, annotations: Any = None
    ) -> Descriptor:
        written = json.dumps(value, separators=(",", ":")).encode()
        digest = f"sha256:{hashlib.sha256(written).hexdigest()}"
        self.blob(digest).write_bytes(written)
        return Descriptor(media_type, digest, len(written), platform, annotations or {})

    def _name(self, tag: str, manifest: Descriptor) -> Descriptor:
        path = self.directory / "index.json"
        index = json.loads(path.read_text())
        index["manifests"] = [entry for entry in index["manifests"] if entry["annotations"][_TAG] != tag]
        index["manifests"].append({**manifest.as_json(), "annotations": {_TAG: tag}})
        path.write_text(json.dumps(index))
        return manifest


def _manifest(config: Descriptor, layers: Sequence[Descriptor]) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.as_json(),
        "layers": [layer.as_json() for layer in layers],
    }


def _tar(name: str, mode: int, size: int, read: Callable[[int], bytes]) -> Iterator[bytes]:
    """A tar of one file, piece by piece."""
    header = tarfile.TarInfo(name)
    header.mode, header.size = mode, size
    yield header.tobuf(tarfile.PAX_FORMAT)
    for start in range(0, size, _PIECE_BYTES):
        yield read(min(_PIECE_BYTES, size - start))
    yield b"\0" * (-size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)
