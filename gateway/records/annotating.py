"""Annotations: what pushers wrote on manifests, apart from what is listed, for it can be most of their bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, insert

from gateway.oci.manifest import Manifest
from gateway.records.schema import manifest_annotations, manifests

#: Joins a manifest with its annotations; most have none.
OF_MANIFEST: Final[ColumnElement[bool]] = (manifest_annotations.c.repository_id == manifests.c.repository_id) & (
    manifest_annotations.c.digest == manifests.c.digest
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
        connection.execute(insert(manifest_annotations), rows)


def renew(connection: Connection, place: int, manifest: Manifest) -> None:
    """Records the annotations of *manifest*, which the repository *place* holds, anew."""
    mine = (manifest_annotations.c.repository_id == place) & (manifest_annotations.c.digest == manifest.digest.text)
    connection.execute(delete(manifest_annotations).where(mine))
    record(connection, place, [manifest])
