"""What content exists and who holds it: repositories, links to blobs, manifests with their edges, tags.

The functions that change something run inside the ledger's transaction, under the writers' lock: what they look up
stays true until they commit, so looking first and inserting afterwards races with nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Select, Table, bindparam, delete, exists, func, insert, select, update

from gateway.change import Notes
from gateway.errors import BlobUnknown, ContentReferenced, ManifestBlobUnknown, ManifestUnknown, Unavailable
from gateway.oci.digest import Digest
from gateway.oci.manifest import Manifest
from gateway.oci.names import ProjectName, Reference, Repository, Tag
from gateway.records import annotating, nesting, rules, trash, usage
from gateway.records.schema import (
    blobs,
    edges,
    links,
    manifest_bodies,
    manifests,
    projects,
    repositories,
    tags,
)

Also: TypeAlias = tuple[tuple[str, Mapping[str, object]], ...]

#: Values in one IN list: below what either database takes, and few enough to keep a statement cheap.
_CHUNK: Final = 500

# Built once: building a statement costs more than running it.
_PROJECT: Final = select(projects.c.id).where(projects.c.name == bindparam("name"))
_REPOSITORY: Final = select(repositories.c.id).where(repositories.c.name == bindparam("name"))
_NEW_BLOB: Final = insert(blobs)
_NEW_LINK: Final = insert(links)
_RENEWED: Final = (
    update(links)
    .where(links.c.repository_id == bindparam("place"), links.c.digest == bindparam("named"))
    .values(created_at=bindparam("now"))
)
_LINKED: Final = (
    select(blobs.c.size_bytes)
    .join(links, links.c.digest == blobs.c.digest)
    .join(repositories, repositories.c.id == links.c.repository_id)
    .where(repositories.c.name == bindparam("repository"), links.c.digest == bindparam("digest"))
)
_BODIES: Final = (
    select(manifests.c.digest, manifests.c.media_type, manifest_bodies.c.content)
    .join(repositories, repositories.c.id == manifests.c.repository_id)
    .join(manifest_bodies, manifest_bodies.c.digest == manifests.c.digest)
    .where(repositories.c.name == bindparam("repository"))
)
_BY_DIGEST: Final = _BODIES.where(manifests.c.digest == bindparam("reference"))
_BY_TAG: Final = _BODIES.join(
    tags, (tags.c.repository_id == manifests.c.repository_id) & (tags.c.digest == manifests.c.digest)
).where(tags.c.name == bindparam("reference"))


@dataclass(frozen=True, slots=True)
class Act:
    """What a change of content needs beside its nouns: UNIX seconds, `kind:id` of who acts, and whether a missing
    project may be made (only a change that was declared to move policy may).

    *done* says that it has been done elsewhere already: it is recorded, and no rule holds it off any more."""

    now: int
    owner: str = ""
    makes_project: bool = False
    done: bool = False


# reading


def project_exists(connection: Connection, name: ProjectName) -> bool:
    return connection.execute(_PROJECT, {"name": name.name}).first() is not None


def find_blob(connection: Connection, repository: Repository, digest: Digest) -> int | None:
    """The size of the blob, if it is linked in *repository*."""
    row = connection.execute(_LINKED, {"repository": repository.name, "digest": digest.text}).first()
    return None if row is None else int(row.size_bytes)


def find_manifest(
    connection: Connection, repository: Repository, reference: Reference
) -> tuple[Digest, str, bytes] | None:
    """Digest, media type and bytes of what *reference* names in *repository*."""
    statement, text = (_BY_TAG, reference.name) if isinstance(reference, Tag) else (_BY_DIGEST, reference.text)
    row = connection.execute(statement, {"repository": repository.name, "reference": text}).first()
    return None if row is None else (Digest(row.digest), row.media_type, bytes(row.content))


# projects and repositories come into being with their first content


def ensure_project(connection: Connection, name: ProjectName, act: Act) -> tuple[int, Also]:
    """
    The project's id, and the event of its making if it was missing; who may make one has been judged.

    Raises `Unavailable` if it is missing and the change was not declared to make it: it was removed meanwhile.
    """
    row = connection.execute(_PROJECT, {"name": name.name}).first()
    if row is not None:
        return int(row.id), ()
    if not act.makes_project:
        raise Unavailable(f"Project {name} was removed while this was under way; try again.", retry_after_seconds=1)
    found = connection.execute(
        insert(projects).values(name=name.name, public=False, created_at=act.now).returning(projects.c.id)
    ).scalar_one()
    return int(found), (("project.add", {"project": name.name, "after": {"public": False}}),)


def ensure_repository(connection: Connection, repository: Repository, act: Act) -> tuple[int, Also]:
    """The repository's id; it and its project are made if they are missing, as by `ensure_project`."""
    found = repository_id(connection, repository)
    if found is not None:
        return found, ()
    project_id, also = ensure_project(connection, repository.project, act)
    made = connection.execute(
        insert(repositories)
        .values(project_id=project_id, name=repository.name, created_at=act.now)
        .returning(repositories.c.id)
    ).scalar_one()
    return int(made), also


def repository_id(connection: Connection, repository: Repository) -> int | None:
    row = connection.execute(_REPOSITORY, {"name": repository.name}).first()
    return None if row is None else int(row.id)


# blobs


def link_blob(connection: Connection, repository: Repository, digest: Digest, size_bytes: int, act: Act) -> Notes:
    """
    Links a blob whose bytes are in place into *repository*; again is no harm. Raises `AgainstRule`.

    *size_bytes* is what was counted, not what somebody claims: see `usage.weigh`.
    """
    rules.require_writable(connection, repository.project, act)
    place, also = ensure_repository(connection, repository, act)
    if not usage.weigh(connection, digest, size_bytes):
        connection.execute(_NEW_BLOB, {"digest": digest.text, "size_bytes": size_bytes, "created_at": act.now})
    _link(connection, place, digest, act)
    return Notes(digest=digest.text, also=also)


def mount_blob(connection: Connection, source: Repository, target: Repository, digest: Digest, act: Act) -> Notes:
    """Links *source*'s blob into *target*; the result is its size. Raises `BlobUnknown`, `AgainstRule`."""
    rules.require_writable(connection, target.project, act)
    size_bytes = find_blob(connection, source, digest)
    if size_bytes is None:
        raise BlobUnknown(f"Push the blob; {source} holds no {digest}.")
    place, also = ensure_repository(connection, target, act)
    _link(connection, place, digest, act)
    return Notes(digest=digest.text, detail={"from": source.name}, result=size_bytes, also=also)


def unlink_blob(connection: Connection, repository: Repository, digest: Digest) -> Notes:
    """Raises `BlobUnknown`, `ContentReferenced` while a manifest of the repository names the blob, `ReadOnly`."""
    rules.require_writable(connection, repository.project)
    place = repository_id(connection, repository)
    if place is None or not has(connection, links, repository_id=place, digest=digest.text):
        raise BlobUnknown(f"{repository} holds no blob {digest}.")
    if has(connection, edges, repository_id=place, target=digest.text):
        raise ContentReferenced(f"Delete the manifests that reference {digest} first.")
    unlink(connection, place, digest)
    return Notes(digest=digest.text)


def unlink(connection: Connection, place: int, digest: Digest) -> None:
    """The blob is no longer in the repository *place*; that it was not is no harm."""
    usage.release(connection, place, links, [digest.text])
    connection.execute(delete(links).where(links.c.repository_id == place, links.c.digest == digest.text))


# manifests


def put_manifest(
    connection: Connection, repository: Repository, manifest: Manifest, names: Sequence[Tag], act: Act
) -> Notes:
    """
    Keeps *manifest* and moves the tags.

    Raises `ManifestBlobUnknown` naming all that is missing, `ManifestInvalid` for indexes nested too deep,
    `AgainstRule`.
    """
    held_tags = rules.require_writable(connection, repository.project, act)
    place, also = ensure_repository(connection, repository, act)
    rules.require_movable(connection, held_tags, place, repository, names, manifest.digest.text)
    _require(connection, place, repository, manifest)
    if not act.done:
        nesting.require_shallow(connection, place, manifest)
    keep_body(connection, manifest)
    keep_manifest(connection, place, manifest, act)
    digest = manifest.digest.text
    before, after = move_tags(connection, place, names, digest, act)
    return Notes({"tags": before}, {"tags": after}, digest=digest, also=also)


def delete_manifest(
    connection: Connection, repository: Repository, digest: Digest, bin: trash.Bin = trash.NO_BIN
) -> Notes:
    """
    Removes the manifest with its tags, into the *bin* (or not, say the notes); what refers to it or lists it stays.

    Raises `ManifestUnknown`, `ReadOnly`, and `TagImmutable` while a tag that may not be removed names it.
    """
    held_tags = rules.require_writable(connection, repository.project)
    place = repository_id(connection, repository)
    if place is None or not has(connection, manifests, repository_id=place, digest=digest.text):
        raise ManifestUnknown(f"{repository} holds no manifest {digest}.")
    rules.require_removable(connection, held_tags, place, repository, digest)
    told = None if trash.keep_manifest(connection, place, digest, bin) else {"trashed": False}
    return replace(forget_manifest(connection, place, digest), detail=told)


def forget_manifest(connection: Connection, place: int, digest: Digest) -> Notes:
    """Removes what is known of the manifest in the repository *place*, its tags included; nothing known is no harm."""
    mine = (tags.c.repository_id == place) & (tags.c.digest == digest.text)
    names = [row.name for row in connection.execute(select(tags.c.name).where(mine).order_by(tags.c.name))]
    connection.execute(delete(tags).where(mine))
    connection.execute(delete(edges).where(edges.c.repository_id == place, edges.c.source == digest.text))
    usage.release(connection, place, manifests, [digest.text])
    connection.execute(delete(manifests).where(manifests.c.repository_id == place, manifests.c.digest == digest.text))
    if not has(connection, manifests, digest=digest.text):
        connection.execute(delete(manifest_bodies).where(manifest_bodies.c.digest == digest.text))
    return Notes({"tags": dict.fromkeys(names, digest.text)}, {"tags": {}}, digest=digest.text)


def untag(connection: Connection, repository: Repository, tag: Tag, bin: trash.Bin = trash.NO_BIN) -> Notes:
    """Removes the tag alone, into the *bin*; raises `ManifestUnknown`, `ReadOnly`, `TagImmutable`."""
    held_tags = rules.require_writable(connection, repository.project)
    place = repository_id(connection, repository)
    mine = (tags.c.repository_id == place) & (tags.c.name == tag.name)
    row = None if place is None else connection.execute(select(tags.c.digest).where(mine)).first()
    if row is None:
        raise ManifestUnknown(f"{repository} has no tag {tag}.")
    rules.require_unheld(held_tags, repository, tag)
    trash.keep_tags(connection, place, [tag.name], row.digest, bin)
    connection.execute(delete(tags).where(mine))
    return Notes({"tags": {tag.name: row.digest}}, {"tags": {}}, digest=row.digest)


def remove_repository(connection: Connection, repository: Repository) -> Notes | None:
    """
    Removes the repository with all it holds; None if there is none. The notes count what went.

    Raises `ReadOnly`, and `TagImmutable` while it has a tag that may not be removed; see `discard_repository`.
    """
    held_tags = rules.require_writable(connection, repository.project)
    place = repository_id(connection, repository)
    if place is not None:
        rules.require_removable(connection, held_tags, place, repository)
    return discard_repository(connection, repository)


def discard_repository(connection: Connection, repository: Repository) -> Notes | None:
    """As `remove_repository`, whatever the rules of its project say: for who removes those as well."""
    place = repository_id(connection, repository)
    if place is None:
        return None
    counts = {
        table.name: connection.execute(select(func.count()).where(table.c.repository_id == place)).scalar_one()
        for table in (tags, manifests, links)
    }
    elsewhere = manifests.alias("elsewhere")
    only_here = select(manifests.c.digest).where(
        manifests.c.repository_id == place,
        ~exists().where(elsewhere.c.digest == manifests.c.digest, elsewhere.c.repository_id != place),
    )
    connection.execute(delete(manifest_bodies).where(manifest_bodies.c.digest.in_(only_here)))
    for table in (links, manifests):
        usage.release(connection, place, table)
    trash.forget(connection, place)
    for table in (tags, edges, manifests, links):
        connection.execute(delete(table).where(table.c.repository_id == place))
    connection.execute(delete(repositories).where(repositories.c.id == place))
    before = {"tags": counts["tags"], "manifests": counts["manifests"], "blobs": counts["links"]}
    return Notes(before=before, result=before)


def _require(connection: Connection, place: int, repository: Repository, manifest: Manifest) -> None:
    if missing := missing_of(connection, place, manifest):
        raise ManifestBlobUnknown(f"Push {few(missing)} to {repository} first, then this manifest.", missing=missing)


def missing_of(connection: Connection, place: int, manifest: Manifest) -> tuple[str, ...]:
    """What *manifest* requires and the repository *place* does not hold."""
    wanted = [digest.text for digest in manifest.required]
    tables = (links, manifests) if manifest.is_index else (links,)
    found = {text for table in tables for text in held(connection, table, place, wanted)}
    return tuple(text for text in wanted if text not in found)


def few(digests: Sequence[str]) -> str:
    """The first of *digests*, and how many more there are, for a message."""
    return ", ".join(digests[:3]) + (f" and {len(digests) - 3} more" if len(digests) > 3 else "")


def held(connection: Connection, table: Table, place: int, wanted: Sequence[str]) -> set[str]:
    """Which of the digests *wanted* the repository *place* has in *table*."""
    found: set[str] = set()
    for start in range(0, len(wanted), _CHUNK):
        statement = select(table.c.digest).where(
            table.c.repository_id == place, table.c.digest.in_(wanted[start : start + _CHUNK])
        )
        found.update(connection.execute(statement).scalars())
    return found


def keep_body(connection: Connection, manifest: Manifest) -> None:
    """Keeps the bytes of *manifest* by its digest."""
    digest = manifest.digest.text
    if not has(connection, manifest_bodies, digest=digest):
        connection.execute(insert(manifest_bodies).values(digest=digest, content=manifest.content))


def keep_manifest(connection: Connection, place: int, manifest: Manifest, act: Act) -> None:
    """Keeps what is to be known of *manifest* in the repository *place*: its row, and an edge to all it names."""
    digest, row = manifest.digest.text, manifest_row(manifest, act)
    if has(connection, manifests, repository_id=place, digest=digest):
        mine = (manifests.c.repository_id == place) & (manifests.c.digest == digest)
        connection.execute(update(manifests).where(mine).values(row))
        annotating.renew(connection, place, manifest)
        return
    connection.execute(insert(manifests).values(repository_id=place, digest=digest, **row))
    annotating.record(connection, place, [manifest])
    usage.charge(connection, place, manifests, [digest], bound=not act.done)
    # The bytes say what they name: edges of a manifest that is held already are right already.
    insert_all(
        connection,
        edges,
        [{"repository_id": place, "target": named.text, "source": digest} for named in manifest.references],
    )


def manifest_row(manifest: Manifest, act: Act) -> dict[str, object]:
    """What is kept of *manifest* wherever it is."""
    return {
        "media_type": manifest.media_type,
        "size_bytes": len(manifest.content),
        "artifact_type": manifest.artifact_type,
        "subject": manifest.subject.digest.text if manifest.subject is not None else None,
        "pushed_at": act.now,
        "pushed_by": act.owner,
    }


def move_tags(
    connection: Connection, place: int, names: Sequence[Tag], digest: str, act: Act
) -> tuple[dict[str, str], dict[str, str]]:
    """Points the tags *names* of the repository *place* at *digest*; where they pointed before, and after."""
    before: dict[str, str] = {}
    for tag in dict.fromkeys(names):
        mine = (tags.c.repository_id == place) & (tags.c.name == tag.name)
        row = connection.execute(select(tags.c.digest).where(mine)).first()
        moved = {"digest": digest, "moved_at": act.now, "moved_by": act.owner}
        if row is None:
            connection.execute(insert(tags).values(repository_id=place, name=tag.name, **moved))
            continue
        before[tag.name] = row.digest
        if row.digest != digest:
            connection.execute(update(tags).where(mine).values(moved))
    return before, {tag.name: digest for tag in names}


def _link(connection: Connection, place: int, digest: Digest, act: Act) -> None:
    # What is pushed or mounted again is needed again: its grace begins anew.
    if not connection.execute(_RENEWED, {"place": place, "named": digest.text, "now": act.now}).rowcount:
        connection.execute(_NEW_LINK, {"repository_id": place, "digest": digest.text, "created_at": act.now})
        usage.charge(connection, place, links, [digest.text], bound=not act.done)


def has(connection: Connection, table: Table, **where: Any) -> bool:
    """Whether *table* has a row whose columns are *where*."""
    return connection.execute(_presence(table, tuple(where)), where).first() is not None


@lru_cache
def _presence(table: Table, names: tuple[str, ...]) -> Select[Any]:
    return select(next(iter(table.c))).where(*(table.c[name] == bindparam(name) for name in names)).limit(1)


def insert_all(connection: Connection, table: Table, rows: Iterable[Mapping[str, object]]) -> None:
    """Inserts *rows*, of which there may be none."""
    found = list(rows)
    if found:
        connection.execute(insert(table), found)
