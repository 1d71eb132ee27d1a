"""What the rules say of an act that is about to be done in a registry behind the gateway: it cannot be undone after.

Room is counted with what other acts, begun and not recorded yet, have promised to bring: together they never exceed a
quota.

An act that waited for others is asked about again: the intents *but*, its own and those of whoever waits for it, do not
count then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from gateway.access.rules import immovable, over_quota
from gateway.errors import TagImmutable, Unavailable
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import Manifest
from gateway.oci.names import ProjectName, Repository, Tag
from gateway.records import content, intents, mirror, nesting, promises, rules, usage
from gateway.records.schema import links, manifests, tags


@dataclass(frozen=True, slots=True)
class Coming:
    """
    What there is to say of a push that may begin.

    *unseen* are the tags that may not be moved and are not known here, each with its pattern: where they point has to
    be asked. *layers* is what the manifest names and a project with a quota does not hold yet, with the sizes that it
    claims.
    """

    unseen: tuple[tuple[Tag, str], ...]
    layers: Mapping[str, int]


def blob_comes(
    connection: Connection, repository: Repository, digest: Digest, size_bytes: int, but: Collection[str] = ()
) -> None:
    """Raises `ReadOnly`, `QuotaExceeded` if the blob has no room in its project, `Unavailable` if others push much."""
    found = rules.require_writable(connection, repository.project)
    _require_room(connection, repository.project, found.quota_bytes, {digest.text: size_bytes}, {}, but)


def blob_goes(connection: Connection, repository: Repository) -> None:
    """Raises `ReadOnly`."""
    rules.require_writable(connection, repository.project)


def manifest_comes(
    connection: Connection,
    repository: Repository,
    manifest: Manifest,
    names: Iterable[Tag],
    but: Collection[str] = (),
) -> Coming:
    """
    What there is to say of a push of *manifest* under the tags *names*.

    Raises `ReadOnly`, `QuotaExceeded`, `ManifestInvalid` for indexes nested too deep, `TagImmutable` for a tag that
    points elsewhere, or is about to, and `Unavailable` while others push much into a project with a quota.
    """
    found = rules.require_writable(connection, repository.project)
    plain = mirror.twin(manifest)
    digest = plain.digest.text
    weights = dict.fromkeys((digest, manifest.digest.text), len(manifest.content))
    sizes = mirror.layer_sizes([manifest])
    layers = _require_room(connection, repository.project, found.quota_bytes, sizes, weights, but)
    place = content.repository_id(connection, repository)
    if place is not None:
        nesting.require_shallow(connection, place, manifest)
    held = [(tag, pattern) for tag in names if (pattern := found.holding(tag.name))]
    if not held:
        return Coming((), layers)
    if place is not None:
        rules.require_movable(connection, found, place, repository, [tag for tag, _ in held], digest)
    for act in intents.begun(connection, repository, "manifest.push", but):
        for tag, pattern in held:
            if tag.name in act["tags"] and act["digest"] != digest:
                raise immovable(repository, tag.name, pattern)
    unseen = [
        (tag, pattern)
        for tag, pattern in held
        if place is None or not content.has(connection, tags, repository_id=place, name=tag.name)
    ]
    return Coming(tuple(unseen), layers)


def taken(repository: Repository, tag: Tag, pattern: str) -> TagImmutable:
    """What to raise when a tag that `manifest_comes` answered turns out to point elsewhere."""
    return immovable(repository, tag.name, pattern)


def manifest_goes(
    connection: Connection, repository: Repository, digest: Digest, but: Collection[str] = ()
) -> dict[str, object]:
    """
    What goes with it, as its intent says: `tags`, and its `twin`.

    Raises `ReadOnly`, and `TagImmutable` while a tag names it, or is about to, that may not be removed.
    """
    found = rules.require_writable(connection, repository.project)
    going = {"digest": digest.text}
    if digest.algorithm is not Algorithm.SHA256:
        kept = content.find_manifest(connection, repository, digest)
        going |= {} if kept is None else {"twin": Digest.of(kept[2]).text}
    names: set[str] = set()
    for act in intents.begun(connection, repository, "manifest.push", but):
        if not {act["digest"], act.get("pushed")}.isdisjoint(going.values()):
            names.update(act["tags"])
    for name in sorted(names):
        rules.require_unheld(found, repository, Tag(name))
    place = content.repository_id(connection, repository)
    if place is not None:
        for text in going.values():
            rules.require_removable(connection, found, place, repository, Digest(text))
        mine = (tags.c.repository_id == place) & tags.c.digest.in_(going.values())
        names.update(connection.execute(select(tags.c.name).where(mine)).scalars())
    return {**going, "tags": sorted(names)}


def tag_goes(connection: Connection, repository: Repository, tag: Tag) -> None:
    """Raises `ReadOnly`, and `TagImmutable` if the tag may not be removed, wherever it points."""
    found = rules.require_writable(connection, repository.project)
    rules.require_unheld(found, repository, tag)


def _require_room(
    connection: Connection,
    project: ProjectName,
    quota_bytes: int | None,
    blob_sizes: Mapping[str, int],
    manifest_sizes: Mapping[str, int],
    but: Collection[str],
) -> dict[str, int]:
    """The blobs that the project does not hold yet, if room is counted; raises `QuotaExceeded`, `Unavailable`."""
    if quota_bytes is None:
        return {}
    layers = usage.new_sizes(connection, project, links, blob_sizes)
    bodies = usage.new_sizes(connection, project, manifests, manifest_sizes)
    wanted = sum(layers.values()) + sum(bodies.values())
    if not wanted:
        return {}
    _require_few(connection, project, len(layers) + len(bodies), but)
    used = usage.used_bytes(connection, project)
    used += promises.bytes_beside(connection, project, links, layers, but)
    used += promises.bytes_beside(connection, project, manifests, bodies, but)
    if used + wanted > quota_bytes:
        raise over_quota(project, quota_bytes, used, wanted)
    return layers


def _require_few(connection: Connection, project: ProjectName, count: int, but: Collection[str]) -> None:
    """
    Raises `Unavailable` if others have promised so much that *count* promises more would be too many to count for each.

    Half of the room is for whoever comes, however many these are: a large manifest does not wait until nobody pushes.
    """
    if promises.count(connection, project, but) + min(count, promises.MOST_PROMISED // 2) > promises.MOST_PROMISED:
        raise Unavailable(f"Others are pushing much to {project}; nothing was done, try again shortly.")
