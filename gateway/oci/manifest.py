"""The manifest and its strict loader: bytes come in, a value that names its references comes out.

content ─▶ size ─▶ Content-Type ─▶ strict JSON ─▶ one kind only ─▶ Manifest
                                                  ├─ image: config, layers
                                                  └─ index: manifests
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import ManifestInvalid, ManifestTooLarge, MediaTypeUnsupported
from gateway.oci.descriptor import (
    Descriptor,
    read_annotations,
    read_artifact_type,
    read_descriptor,
)
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.document import quoted, strict_json
from gateway.oci.media import (
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    DOCKER_MEDIA_TYPES,
    INDEX_MEDIA_TYPES,
    MANIFEST_MEDIA_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    essence,
    is_distributable,
)

__all__ = [
    "DOCKER_MANIFEST",
    "DOCKER_MANIFEST_LIST",
    "ENTRIES",
    "LIMIT_BYTES",
    "MANIFEST_MEDIA_TYPES",
    "NESTING",
    "OCI_INDEX",
    "OCI_MANIFEST",
    "Descriptor",
    "Manifest",
    "load",
]

LIMIT_BYTES: Final = 4 * 1024 * 1024
#: Layers of an image or children of an index. Each costs a look-up at the push; images have at most 127 layers.
ENTRIES: Final = 4096
#: Indexes in one chain, each listing the next; builders nest two.
NESTING: Final = 8


@dataclass(frozen=True, slots=True)
class Manifest:
    """
    A manifest that exists is well formed: build one with `load`.

    *content* is what was pushed, byte for byte, and *digest* its digest. An image has *config* and *layers*, an index
    has *manifests*. *artifact_type* is the manifest's own, for an image else its config's media type
    (distribution-spec, "Listing Referrers").
    """

    media_type: str
    content: bytes = field(repr=False)
    digest: Digest
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None
    artifact_type: str | None
    annotations: Mapping[str, str] = field(hash=False)

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEX_MEDIA_TYPES

    @property
    def required(self) -> tuple[Digest, ...]:
        """What the repository must hold first, each digest once; without non-distributable layers and the subject."""
        return _digests(entry for entry in self._entries() if is_distributable(entry.media_type))

    @property
    def references(self) -> tuple[Digest, ...]:
        """Every digest this manifest names, each once; without the subject."""
        return _digests(self._entries())

    @property
    def descriptor(self) -> Descriptor:
        """What a list of referrers says about this manifest."""
        return Descriptor(self.media_type, self.digest, len(self.content), self.artifact_type, self.annotations)

    def _entries(self) -> tuple[Descriptor, ...]:
        config = () if self.config is None else (self.config,)
        return config + self.layers + self.manifests


def load(
    content: bytes,
    content_type: str | None,
    *,
    algorithm: Algorithm = Algorithm.SHA256,
    limit_bytes: int = LIMIT_BYTES,
) -> Manifest:
    """
    The manifest that *content* is, under the media type its pusher gave; *algorithm* is the one to digest it with.

    Raises `ManifestTooLarge` over *limit_bytes*, `MediaTypeUnsupported` when *content_type*, parameters aside, is not
    one of `MANIFEST_MEDIA_TYPES`, and `ManifestInvalid` for everything else that is wrong. Refused are, besides what
    `strict_json` refuses: a schema version other than 2; a `mediaType` that differs from *content_type* (or, for the
    Docker types, is missing); a document that is both image and index (image-spec manifest.md: the confusion of
    CVE-2021-41190); more than 4,096 layers or children. Unknown fields are allowed.

    Costs 0.1 ms for an ordinary image, some 4 ms per 100 KiB of descriptors, and up to a second for 4 MiB made to
    hurt: what is larger than 64 KiB should be loaded off the event loop.
    """
    if len(content) > limit_bytes:
        raise ManifestTooLarge(f"Push a manifest of at most {limit_bytes} bytes; this one has {len(content)}.")
    media_type = _media_type(content_type)
    fields = _fields(content, limit_bytes)
    _check_kind(fields, media_type)
    index = media_type in INDEX_MEDIA_TYPES
    config = None if index else read_descriptor(fields.get("config"), "config")
    artifact_type = read_artifact_type(fields.get("artifactType"), "artifactType")
    if artifact_type is None and config is not None:
        artifact_type = config.media_type
    subject = fields.get("subject")
    return Manifest(
        media_type=media_type,
        content=content,
        digest=Digest.of(content, algorithm),
        config=config,
        layers=() if index else _entries(fields, "layers"),
        manifests=_entries(fields, "manifests") if index else (),
        subject=None if subject is None else read_descriptor(subject, "subject"),
        artifact_type=artifact_type,
        annotations=read_annotations(fields.get("annotations"), "annotations"),
    )


def _media_type(content_type: str | None) -> str:
    found = essence(content_type)
    if found not in MANIFEST_MEDIA_TYPES:
        raise MediaTypeUnsupported(
            f"Push the manifest with a Content-Type of {', '.join(sorted(MANIFEST_MEDIA_TYPES))}."
        )
    return found


def _fields(content: bytes, limit_bytes: int) -> dict[str, object]:
    try:
        fields = strict_json(content, limit_bytes=limit_bytes)
    except ValueError as fault:
        raise ManifestInvalid(f"The manifest cannot be read: {fault}") from fault
    if not isinstance(fields, dict):
        raise ManifestInvalid("Make the manifest a JSON object.")
    return fields


def _check_kind(fields: Mapping[str, object], media_type: str) -> None:
    version = fields.get("schemaVersion")
    if not isinstance(version, int) or version != 2:
        raise ManifestInvalid("Set schemaVersion to the number 2.")
    named = fields.get("mediaType")
    if named is None and media_type in DOCKER_MEDIA_TYPES:
        raise ManifestInvalid(f"Set mediaType to {media_type}; Docker manifests must name their type.")
    if named is not None and named != media_type:
        shown = quoted(named) if isinstance(named, str) else "not a string"
        raise ManifestInvalid(f"Make mediaType and Content-Type the same; one is {shown}, the other {media_type}.")
    foreign = ("config", "layers") if media_type in INDEX_MEDIA_TYPES else ("manifests",)
    for name in (*foreign, "fsLayers"):
        if name in fields:
            raise ManifestInvalid(f"Leave out {name}: a manifest of type {media_type} has none.")


def _entries(fields: Mapping[str, object], name: str) -> tuple[Descriptor, ...]:
    found = fields.get(name)
    if found is None and name in fields:
        return ()  # so Go programs write an empty list that was never made
    if not isinstance(found, list):
        raise ManifestInvalid(f"Set {name} to a list of descriptors; it may be empty.")
    if len(found) > ENTRIES:
        raise ManifestInvalid(f"Leave at most {ENTRIES} descriptors in {name}; it has {len(found)}.")
    return tuple(read_descriptor(entry, f"{name}[{place}]") for place, entry in enumerate(found))


def _digests(entries: Iterable[Descriptor]) -> tuple[Digest, ...]:
    return tuple(dict.fromkeys(entry.digest for entry in entries))
