"""A descriptor: what a piece of content is, how long it is, and by which digest it is found."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from gateway.errors import DigestInvalid, ManifestInvalid
from gateway.oci.digest import Digest
from gateway.oci.document import quoted
from gateway.oci.media import MEDIA_TYPE_CHARACTERS, is_media_type

SIZE_BYTES: Final = 2**63 - 1
#: Per map. Real manifests carry a few dozen; the bytes are bounded by the manifest's own limit.
ANNOTATIONS: Final = 4096
URLS: Final = 64
_REQUIRED_FIELDS: Final = 3
_NOTHING: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """
    One reference to content (image-spec descriptor.md).

    *annotations* is empty when there are none; *artifact_type* is None when it is absent or empty. The mappings belong
    to the descriptor: read them only.
    """

    media_type: str
    digest: Digest
    size: int
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    urls: tuple[str, ...] = ()
    platform: Mapping[str, object] | None = field(default=None, hash=False)


def read_descriptor(value: object, where: str) -> Descriptor:
    """
    The descriptor that a piece of parsed JSON spells; raises `ManifestInvalid` naming *where* and the field.

    Optional fields may be null, as Go clients write an absent value; unknown fields are allowed. Embedded `data` must
    be the content that size and digest promise (descriptor.md, "Embedded Content").
    """
    fields = read_object(value, where)
    media_type = fields.get("mediaType")
    if not isinstance(media_type, str) or not is_media_type(media_type):
        raise ManifestInvalid(
            f"Set {where}.mediaType to type/subtype in at most {MEDIA_TYPE_CHARACTERS} characters, without parameters."
        )
    size = fields.get("size")
    # A bool is an int to isinstance, and true is not a length.
    if type(size) is not int or not 0 <= size <= SIZE_BYTES:
        raise ManifestInvalid(f"Set {where}.size to a whole number of bytes from 0 to {SIZE_BYTES}.")
    digest = _read_digest(fields.get("digest"), where)
    # Nearly every descriptor of nearly every image ends here, and there may be thousands.
    if len(fields) == _REQUIRED_FIELDS:
        return Descriptor(media_type, digest, size)
    if fields.get("data") is not None:
        _verify_data(fields["data"], digest, size, where)
    platform = fields.get("platform")
    return Descriptor(
        media_type=media_type,
        digest=digest,
        size=size,
        artifact_type=read_artifact_type(fields.get("artifactType"), f"{where}.artifactType"),
        annotations=read_annotations(fields.get("annotations"), f"{where}.annotations"),
        urls=_read_urls(fields.get("urls"), where),
        platform=None if platform is None else read_object(platform, f"{where}.platform"),
    )


def read_object(value: object, where: str) -> dict[str, object]:
    """*value*, if it is a JSON object; raises `ManifestInvalid` otherwise."""
    if not isinstance(value, dict):
        raise ManifestInvalid(f"Make {where} a JSON object.")
    return value


def read_artifact_type(value: object, where: str) -> str | None:
    """The artifact type *value* spells, at most 255 characters; None when it is absent, null or empty."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MEDIA_TYPE_CHARACTERS:
        raise ManifestInvalid(f"Set {where} to a string of at most {MEDIA_TYPE_CHARACTERS} characters.")
    return value


def read_annotations(value: object, where: str) -> Mapping[str, str]:
    """The annotations *value* spells: strings to strings, at most 4,096; empty when absent or null."""
    if value is None:
        return _NOTHING
    found = read_object(value, where)
    if len(found) > ANNOTATIONS:
        raise ManifestInvalid(f"Leave at most {ANNOTATIONS} entries in {where}.")
    for key, text in found.items():
        if not isinstance(text, str):
            raise ManifestInvalid(f"Make {quoted(key)} in {where} a string.")
    return cast("dict[str, str]", found)


def _read_digest(value: object, where: str) -> Digest:
    """A wrong digest is the manifest's fault here, so it is not `DigestInvalid` that leaves."""
    if not isinstance(value, str):
        raise ManifestInvalid(f"Set {where}.digest to a digest.")
    try:
        return Digest.parse(value)
    except DigestInvalid as fault:
        raise ManifestInvalid(
            f"Set {where}.digest to sha256:<64 hex digits> or sha512:<128 hex digits>, in lower case; "
            f"it is {quoted(value)}."
        ) from fault


def _read_urls(value: object, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > URLS or not all(isinstance(url, str) for url in value):
        raise ManifestInvalid(f"Make {where}.urls a list of at most {URLS} strings.")
    return tuple(value)


def _verify_data(value: object, digest: Digest, size: int, where: str) -> None:
    if not isinstance(value, str):
        raise ManifestInvalid(f"Make {where}.data a string of base64.")
    try:
        content = binascii.a2b_base64(value, strict_mode=True)
    except ValueError as fault:
        raise ManifestInvalid(f"Make {where}.data valid base64, with padding and without line breaks.") from fault
    if len(content) != size or Digest.of(content, digest.algorithm) != digest:
        raise ManifestInvalid(f"Make {where}.data the content that its size and digest name, or leave it out.")
