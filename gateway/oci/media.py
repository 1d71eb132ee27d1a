"""Media types: which manifests are kept, and what a media type may look like."""

from __future__ import annotations

import re
from typing import Final

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_MANIFEST_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"

#: Manifests are stored under these four and served as nothing else, so no browser is handed markup of a stranger.
MANIFEST_MEDIA_TYPES: Final = frozenset({OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST})
INDEX_MEDIA_TYPES: Final = frozenset({OCI_INDEX, DOCKER_MANIFEST_LIST})
DOCKER_MEDIA_TYPES: Final = frozenset({DOCKER_MANIFEST, DOCKER_MANIFEST_LIST})

MEDIA_TYPE_CHARACTERS: Final = 255

_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(rf"{_NAME}/{_NAME}", re.ASCII)


def is_media_type(text: str) -> bool:
    """Whether *text* is `type/subtype` as RFC 6838 §4.2 restricts names, without parameters, at most 255 characters."""
    return len(text) <= MEDIA_TYPE_CHARACTERS and _MEDIA_TYPE.fullmatch(text) is not None


def essence(content_type: str | None) -> str:
    """The media type of a `Content-Type` header in lower case, its parameters dropped; "" when there is none."""
    if content_type is None or not content_type.isascii():
        return ""
    return content_type.partition(";")[0].strip(" \t").lower()


def is_distributable(media_type: str) -> bool:
    """False for layers a registry need not hold (image-spec layer.md, "Non-Distributable Layers"), OCI or Docker."""
    return ".nondistributable." not in media_type and ".foreign." not in media_type
