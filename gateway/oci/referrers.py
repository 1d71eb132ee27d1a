"""Referrers: the index that lists what is about a manifest, and the tag that stood in for it before."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from gateway.oci.descriptor import Descriptor
from gateway.oci.digest import Digest
from gateway.oci.media import OCI_INDEX
from gateway.oci.names import Tag

_NOT_IN_A_TAG = re.compile(r"[^A-Za-z0-9._-]", re.ASCII)


def referrers_index(entries: Iterable[bytes]) -> bytes:
    """
    The image index that answers "who refers to this?" (distribution-spec, "Listing Referrers"), in the given order.

    `manifests` is always there, empty when there are no *entries*, which `index_entry` made.
    """
    return b'{"schemaVersion":2,"mediaType":"%s","manifests":[%s]}' % (OCI_INDEX.encode(), b",".join(entries))


def index_entry(descriptor: Descriptor) -> bytes:
    """
    What the index says of one manifest: mediaType, size, digest and, where it has them, artifactType and annotations.

    The same descriptor gives the same bytes.
    """
    return json.dumps(_fields(descriptor), ensure_ascii=False, separators=(",", ":")).encode()


def fallback_tag(digest: Digest) -> Tag:
    """
    The tag under which clients keep referrers of *digest* where the API is missing ("Referrers Tag Schema").

    Algorithm and hash are cut at 32 and 64 characters, so a sha512 digest shares its tag with others in theory.
    """
    algorithm, _, hexadecimal = digest.text.partition(":")
    return Tag.parse(_NOT_IN_A_TAG.sub("-", f"{algorithm[:32]}-{hexadecimal[:64]}"))


def _fields(descriptor: Descriptor) -> dict[str, object]:
    fields: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "size": descriptor.size,
        "digest": descriptor.digest.text,
    }
    if descriptor.artifact_type is not None:
        fields["artifactType"] = descriptor.artifact_type
    if descriptor.annotations:
        fields["annotations"] = dict(descriptor.annotations)
    return fields
