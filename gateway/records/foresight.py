"""What the rules say of an act that is about to be done in a registry behind the gateway: it cannot be undone after.

Room is counted with what other acts, begun and not recorded yet, will bring, each digest once: together they never
exceed a quota.

An act that waited for others is asked about again: the intents *but*, its own and those of whoever waits for it, do not
count then.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, or_, select

from gateway.access.rules import immovable, over_quota
from gateway.errors import TagImmutable
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import Manifest
from gateway.oci.names import ProjectName, Repository, Tag
from gateway.records import content, mirror, nesting, rules, usage
from gateway.records.schema import intents, links, manifests, tags

_OF_REPOSITORY: Final = select(intents.c.id, intents.c.kind, intents.c.act).where(
    intents.c.repository == bindparam("repository")
)


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
    """Raises `ReadOnly`, or `QuotaExceeded` if the blob has no room in its project."""
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

    Raises `ReadOnly`, `QuotaExceeded`, `ManifestInvalid` for indexes nested too deep, and `TagImmutable` for a tag that
    points elsewhere, or is about to.
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
    for act in _begun(connection, repository, "manifest.push", but):
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
    for act in _begun(connection, repository, "manifest.push", but):
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
    """The blobs that the project does not hold yet, if room is counted; raises `QuotaExceeded`."""
    if quota_bytes is None:
        return {}
    layers = usage.new_sizes(connection, project, links, blob_sizes)
    wanted = _sum(layers) + _sum(usage.new_sizes(connection, project, manifests, manifest_sizes))
    if not wanted:
        return {}
    coming_blobs, coming_manifests = _promised(connection, project, but)
    _promise(coming_blobs, blob_sizes)
    _promise(coming_manifests, manifest_sizes)
    together = _sum(usage.new_sizes(connection, project, links, coming_blobs))
    together += _sum(usage.new_sizes(connection, project, manifests, coming_manifests))
    used = usage.used_bytes(connection, project) + together - wanted
    if used + wanted > quota_bytes:
        raise over_quota(project, quota_bytes, used, wanted)
    return layers


def _promised(
    connection: Connection, project: ProjectName, but: Collection[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """The blobs and the manifests, with their sizes, that acts will bring which are begun and not recorded yet."""
    below = intents.c.repository.startswith(f"{project.name}/", autoescape=True)
    mine = or_(intents.c.repository == project.name, below)
    coming: dict[str, int] = {}
    pushed: dict[str, int] = {}
    for row in connection.execute(select(intents.c.id, intents.c.kind, intents.c.act).where(mine)):
        if row.id in but:
            continue
        act = json.loads(row.act)
        size_bytes = int(act.get("size_bytes", 0))
        if row.kind == "manifest.push":
            _promise(pushed, dict.fromkeys((act["digest"], act.get("pushed", act["digest"])), size_bytes))
            _promise(coming, act.get("layers", {}))
        elif size_bytes:
            _promise(coming, {act["digest"]: size_bytes})
    return coming, pushed


def _promise(promised: dict[str, int], sizes: Mapping[str, int]) -> None:
    """
    Adds to what is *promised*; a digest that is there is worth the larger of its sizes.

    One of them may be a lie: a manifest says what it likes of its layers, an upload under which digest it came. A lie
    that is too large holds room until its act is over, as one about a digest that nobody has does.
    """
    for digest, size_bytes in sizes.items():
        promised[digest] = max(size_bytes, promised.get(digest, 0))


def _sum(sizes: Mapping[str, int]) -> int:
    return sum(sizes.values())


def _begun(connection: Connection, repository: Repository, kind: str, but: Collection[str]) -> Iterator[dict[str, Any]]:
    rows: Sequence[Any] = connection.execute(_OF_REPOSITORY, {"repository": repository.name}).all()
    yield from (json.loads(row.act) for row in rows if row.kind == kind and row.id not in but)
