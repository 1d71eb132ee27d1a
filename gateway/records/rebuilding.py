"""Rows made anew from a manifest's bytes, which say everything that is recorded of it."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from gateway.change import Change, Notes
from gateway.oci.digest import Digest
from gateway.oci.manifest import Manifest, load
from gateway.oci.names import Repository
from gateway.records import annotating, content, usage
from gateway.records.schema import blobs, edges, links, manifest_bodies, manifests


def agrees(row: Row[Any], manifest: Manifest) -> bool:
    """Whether the row of a manifest, with its *annotations* as JSON or None, says what its bytes do."""
    told = _told(manifest)
    try:
        annotations = json.loads(row.annotations or "{}")
    except ValueError:
        return False
    return annotations == manifest.annotations and {name: getattr(row, name) for name in told} == told


def rebuild(repository: Repository, digest: Digest) -> Change:
    """Records what the manifest's bytes say of it in *repository*, its edges included; who pushed it when stays."""

    def apply(connection: Connection) -> Notes:
        place = content.repository_id(connection, repository)
        mine = (manifests.c.repository_id == place) & (manifests.c.digest == digest.text)
        statement = select(manifests.c.media_type, manifest_bodies.c.content).join(
            manifest_bodies, manifest_bodies.c.digest == manifests.c.digest
        )
        row = connection.execute(statement.where(mine)).first()
        if row is None or place is None:
            return Notes(digest=digest.text)
        stored = bytes(row.content)
        manifest = load(stored, row.media_type, algorithm=digest.algorithm, limit_bytes=max(1, len(stored)))
        connection.execute(update(manifests).where(mine).values(_told(manifest)))
        annotating.renew(connection, place, manifest)
        _drop_edges(connection, place, digest)
        named = [{"repository_id": place, "target": each.text, "source": digest.text} for each in manifest.references]
        content.insert_all(connection, edges, named)
        return Notes(digest=digest.text)

    return Change(apply, repositories=(repository,))


def drop_body(repository: Repository, digest: Digest) -> Change:
    """Removes bytes that do not have their digest; what is recorded of the manifest stays, and a push heals it."""

    def apply(connection: Connection) -> Notes:
        mine = manifest_bodies.c.digest == digest.text
        row = connection.execute(select(manifest_bodies.c.content).where(mine)).first()
        if row is not None and Digest.of(bytes(row.content), digest.algorithm) != digest:
            connection.execute(delete(manifest_bodies).where(mine))
        return Notes(digest=digest.text)

    return Change(apply, repositories=(repository,))


def link_again(repository: Repository, digest: Digest, now: int) -> Change:
    """Links a blob that a manifest in *repository* needs, and came in with, if the blob is there."""

    def apply(connection: Connection) -> Notes:
        place = content.repository_id(connection, repository)
        there = content.has(connection, blobs, digest=digest.text)
        if place is not None and there and not content.has(connection, links, repository_id=place, digest=digest.text):
            row = {"repository_id": place, "digest": digest.text, "created_at": now}
            connection.execute(insert(links).values(row))
            usage.charge(connection, place, links, [digest.text], bound=False)
        return Notes(digest=digest.text)

    return Change(apply, repositories=(repository,))


def drop_edges(repository: Repository, source: Digest) -> Change:
    """Removes the edges of a manifest that is not in *repository*."""

    def apply(connection: Connection) -> Notes:
        place = content.repository_id(connection, repository)
        if place is not None and not content.has(connection, manifests, repository_id=place, digest=source.text):
            _drop_edges(connection, place, source)
        return Notes(digest=source.text)

    return Change(apply, repositories=(repository,))


def _drop_edges(connection: Connection, place: int, source: Digest) -> None:
    connection.execute(delete(edges).where(edges.c.repository_id == place, edges.c.source == source.text))


def _told(manifest: Manifest) -> dict[str, Any]:
    return {
        "size_bytes": len(manifest.content),
        "artifact_type": manifest.artifact_type,
        "subject": manifest.subject.digest.text if manifest.subject is not None else None,
    }
