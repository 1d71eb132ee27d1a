"""Annotations: what pushers wrote on manifests, apart from what is listed, for it can be most of their bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from sqlalchemy import ColumnElement, Connection, bindparam, delete, insert

from gateway.oci.manifest import Manifest
from gateway.records.schema import manifest_annotations, manifests

#: Joins a manifest with its annotations; most have none.
OF_MANIFEST: Final[ColumnElement[bool]] = (manifest_annotations.c.repository_id == manifests.c.repository_id) & (
    manifest_annotations.c.digest == manifests.c.digest
)

_NEW: Final = insert(manifest_annotations)
_OLD: Final = delete(manifest_annotations).where(
    manifest_annotations.c.repository_id == bindparam("place"), manifest_annotations.c.digest == bindparam("named")
)


def record(connection: Connection, place: int, annotated: Iterable[Manifest]) -> None:
    """Records the annotations of manifests that are new in the repository *place*."""
    rows = [
        {
            "repository_id": place,
            "digest": manifest.digest.text,
            "content": json.dumps(dict(manifest.annotations), ensure_ascii=False),
        }
        for manifest in annotated
        if manifest.annotations
    ]
    if rows:
        connection.execute(_NEW, rows)


def renew(connection: Connection, place: int, manifest: Manifest) -> None:
    """Records the annotations of *manifest*, which the repository *place* holds, anew."""
    connection.execute(_OLD, {"place": place, "named": manifest.digest.text})
    record(connection, place, [manifest])
