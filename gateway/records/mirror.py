"""What is known here of content that another registry keeps: manifests that passed, links, tags hidden here alone.

The other registry is the truth; this is what it cannot be asked: who refers to what, what names what, who pushed, which
tags were removed. Rows go when an act that passed the gate removes what they tell of, and for no other reason.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from gateway.change import Notes
from gateway.errors import ContentReferenced, ManifestBlobUnknown, Unavailable
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import Manifest
from gateway.oci.media import INDEX_MEDIA_TYPES, is_distributable
from gateway.oci.names import Repository, Tag
from gateway.records import content, intents, promises, usage
from gateway.records.behind_tables import twins, untagged
from gateway.records.content import Act
from gateway.records.database import Database
from gateway.records.schema import blobs, edges, links, manifests, repositories, tags

_log = logging.getLogger("gateway.mirror")

_CHUNK: Final = 500
_HIDDEN: Final = (
    select(untagged.c.name, untagged.c.digest)
    .join(repositories, repositories.c.id == untagged.c.repository_id)
    .where(repositories.c.name == bindparam("repository"))
)
_BESIDE: Final = select(twins.c.digest).where(twins.c.sha256 == bindparam("plain"))
_NAMED_BY_IMAGE: Final = (
    select(edges.c.source)
    .join(repositories, repositories.c.id == edges.c.repository_id)
    .join(manifests, (manifests.c.repository_id == edges.c.repository_id) & (manifests.c.digest == edges.c.source))
    .where(
        repositories.c.name == bindparam("repository"),
        edges.c.target == bindparam("target"),
        manifests.c.media_type.not_in(bindparam("indexes", expanding=True)),
    )
    .limit(1)
)


# manifests


def index_manifest(
    connection: Connection, repository: Repository, manifest: Manifest, names: Sequence[Tag], act: Act
) -> Notes:
    """
    Keeps what is to be known of a manifest that the other registry took, and moves the tags; again is no harm.

    The notes say `before` and `after` of each tag, as far as they were known here. Of a manifest digested by another
    algorithm than SHA-256 the bytes are kept as well, because the other registry may not find them by that digest; it
    holds them under their SHA-256, which is what the tags point at.
    """
    place, also = content.ensure_repository(connection, repository, act)
    link_layers(connection, place, [manifest], act)
    content.keep_manifest(connection, place, manifest, act)
    plain = twin(manifest)
    if plain is not manifest:
        content.keep_body(connection, manifest)
        if not content.has(connection, manifests, repository_id=place, digest=plain.digest.text):
            # Listed once as a referrer, under the digest it was pushed by.
            content.keep_manifest(connection, place, replace(plain, subject=None), act)
    before, after = content.move_tags(connection, place, names, plain.digest.text, act)
    for tag in names:
        connection.execute(delete(untagged).where(untagged.c.repository_id == place, untagged.c.name == tag.name))
    return Notes({"tags": before}, {"tags": after}, digest=manifest.digest.text, also=also)


def twin(manifest: Manifest) -> Manifest:
    """*manifest* under the SHA-256 of its bytes, by which every registry has it."""
    if manifest.digest.algorithm is Algorithm.SHA256:
        return manifest
    return replace(manifest, digest=Digest.of(manifest.content))


def drop_manifest(connection: Connection, repository: Repository, digest: Digest) -> Notes:
    """
    Forgets the manifest with its tags, and the blob of the same bytes: the other registry unlinks both. What refers to
    it or lists it stays. Nothing known of it is no harm.
    """
    place = content.repository_id(connection, repository)
    if place is None:
        return Notes({"tags": {}}, {"tags": {}}, digest=digest.text)
    connection.execute(delete(untagged).where(untagged.c.repository_id == place, untagged.c.digest == digest.text))
    content.unlink(connection, place, digest)
    return content.forget_manifest(connection, place, digest)


def pushed_since(connection: Connection, repository: Repository, digest: Digest, moment: int) -> bool:
    """Whether the manifest was pushed after *moment*, in UNIX seconds."""
    wanted = (
        select(manifests.c.pushed_at)
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .where(repositories.c.name == repository.name, manifests.c.digest == digest.text)
    )
    row = connection.execute(wanted).first()
    return row is not None and row.pushed_at > moment


def knows_manifest(connection: Connection, repository: Repository, digest: Digest) -> bool:
    """Whether the manifest has passed here, and was not deleted since."""
    place = content.repository_id(connection, repository)
    return place is not None and content.has(connection, manifests, repository_id=place, digest=digest.text)


def is_coming(connection: Connection, repository: Repository, digest: Digest, but: str) -> bool:
    """Whether a push of the manifest has been begun and is not recorded yet, other than that of the intent *but*."""
    return any(act["digest"] == digest.text for act in intents.begun(connection, repository, "manifest.push", {but}))


def starting_point(
    connection: Connection, repository: Repository, digest: Digest, names: Sequence[Tag], but: Collection[str] = ()
) -> dict[str, object]:
    """
    What there is as a push of the manifest begins, for its intent: whether it is `known`, and of each tag the digests
    at which it is, or may be by then, as far as that is known here (`before`). The intents *but* do not count.
    """
    place = content.repository_id(connection, repository)
    known = place is not None and content.has(connection, manifests, repository_id=place, digest=digest.text)
    before: dict[str, set[str]] = {tag.name: set() for tag in names}
    for table in (tags, untagged):
        for name, found in before.items():
            mine = select(table.c.digest).where(table.c.repository_id == place, table.c.name == name)
            found.update(connection.execute(mine).scalars())
    for act in intents.begun(connection, repository, "manifest.push", but):
        known = known or act["digest"] == digest.text
        for name in before.keys() & set(act["tags"]):
            before[name].add(act["digest"])
    return {"known": known, "before": {name: sorted(found) for name, found in before.items()}}


# tags


def hide_tag(connection: Connection, repository: Repository, tag: Tag, digest: Digest, act: Act) -> Notes:
    """Removes the tag here alone: it stays hidden for as long as the other registry has it at *digest*."""
    place, also = content.ensure_repository(connection, repository, act)
    for table in (untagged, tags):
        connection.execute(delete(table).where(table.c.repository_id == place, table.c.name == tag.name))
    connection.execute(
        insert(untagged).values(repository_id=place, name=tag.name, digest=digest.text, removed_at=act.now)
    )
    return Notes({"tags": {tag.name: digest.text}}, {"tags": {}}, digest=digest.text, also=also)


def hidden_tags(connection: Connection, repository: Repository) -> dict[str, str]:
    """The tags removed here alone, each with the digest at which it is hidden."""
    return {row.name: row.digest for row in connection.execute(_HIDDEN, {"repository": repository.name})}


def hidden_since(connection: Connection, repository: Repository, tag: Tag, digest: Digest, moment: int) -> bool:
    """Whether the tag was removed here alone at *moment*, in UNIX seconds, or later, and is hidden at *digest*."""
    wanted = (
        select(untagged.c.removed_at, untagged.c.digest)
        .join(repositories, repositories.c.id == untagged.c.repository_id)
        .where(repositories.c.name == repository.name, untagged.c.name == tag.name)
    )
    row = connection.execute(wanted).first()
    return row is not None and row.removed_at >= moment and row.digest == digest.text


# blobs


def layer_sizes(images: Iterable[Manifest]) -> dict[str, int]:
    """Digest and size, as they claim it, of what *images* name that the registry keeps as blobs."""
    return {
        entry.digest.text: entry.size
        for image in images
        for entry in (*((image.config,) if image.config is not None else ()), *image.layers)
        if is_distributable(entry.media_type)
    }


def link_layers(connection: Connection, place: int, images: Iterable[Manifest], act: Act) -> None:
    """
    What *images* name is in the repository, or the other registry had refused them.

    How large it is, of what did not come through here, is what they claim, until somebody asks for it.
    """
    sizes = layer_sizes(images)
    missing = sizes.keys() - content.held(connection, links, place, list(sizes))
    unknown = sorted(missing - _known_blobs(connection, list(missing)))
    made = {"created_at": act.now}
    content.insert_all(connection, blobs, [{"digest": each, "size_bytes": sizes[each], **made} for each in unknown])
    content.insert_all(
        connection, links, [{"repository_id": place, "digest": each, **made} for each in sorted(missing)]
    )
    usage.charge(connection, place, links, sorted(missing), bound=not act.done)


def drop_link(connection: Connection, repository: Repository, digest: Digest) -> Notes:
    """Forgets that the blob is in the repository; that it was not known to be is no harm."""
    place = content.repository_id(connection, repository)
    if place is not None:
        content.unlink(connection, place, digest)
    return Notes(digest=digest.text)


def knows_link(connection: Connection, repository: Repository, digest: Digest) -> bool:
    """Whether the blob came into the repository through here, and was not deleted since."""
    return content.find_blob(connection, repository, digest) is not None


def size_known(connection: Connection, digest: Digest) -> int | None:
    """The size of the blob, as a manifest claimed it or as it was learned, if any repository is known to hold it."""
    return connection.execute(select(blobs.c.size_bytes).where(blobs.c.digest == digest.text)).scalar()


def learn_size(database: Database, digest: Digest, size_bytes: int) -> None:
    """
    Puts the size of the blob right, at once and without an event of its own; blocks.

    If that fails it stays as it was, until somebody asks for the blob again.
    """
    failed = f"the size of {digest} stays what a manifest claimed"
    _learn(database, lambda connection: usage.weigh(connection, digest, size_bytes), failed)


# the names of a blob: whatever it was pushed by, the other registry links it by its SHA-256 too, and without that link
# cannot read it by the other digest


def keep_twin(connection: Connection, digest: Digest, plain: Digest) -> None:
    """
    Keeps that the bytes of the blob *digest* have the SHA-256 *plain*, whatever was known before; again is no harm.

    What is kept is deleted along: only what the other registry says of the blob, or took under that digest, may be.
    """
    if digest == plain:
        return
    if not content.has(connection, twins, digest=digest.text):
        connection.execute(insert(twins).values(digest=digest.text, sha256=plain.text))
    elif twin_of(connection, digest) != plain:
        connection.execute(update(twins).where(twins.c.digest == digest.text).values(sha256=plain.text))


def learn_twin(database: Database, digest: Digest, plain: Digest) -> None:
    """As `keep_twin`, at once; blocks. If that fails it is not known, until somebody asks for the blob again."""
    failed = f"the SHA-256 of {digest} is not known"
    _learn(database, lambda connection: keep_twin(connection, digest, plain), failed)


def twin_of(connection: Connection, digest: Digest) -> Digest | None:
    """The SHA-256 of the blob's bytes, if it is known."""
    if digest.algorithm is Algorithm.SHA256:
        return digest
    text = connection.execute(select(twins.c.sha256).where(twins.c.digest == digest.text)).scalar()
    return None if text is None else Digest(text)


def names_of(connection: Connection, digest: Digest) -> tuple[Digest, ...]:
    """
    The digests of the blob's bytes, as far as they are known; a SHA-256 comes last.

    By which of them the repository has it does not matter: it may just be coming by another.
    """
    plain = twin_of(connection, digest)
    return (digest,) if plain is None else (*sorted({digest, *_beside(connection, plain)} - {plain}), plain)


def require_unreferenced(
    connection: Connection, repository: Repository, digests: Iterable[Digest], but: Collection[str] = ()
) -> None:
    """
    Raises `ContentReferenced` if a manifest names a blob: one that is known here, or that is being pushed; the intents
    *but* do not count.
    """
    place = content.repository_id(connection, repository)
    wanted = list(digests)
    coming = promises.named(connection, repository, wanted, but)
    for digest in wanted:
        named = place is not None and content.has(connection, edges, repository_id=place, target=digest.text)
        if named or digest.text in coming:
            raise _referenced(digest)


def require_no_layer(
    connection: Connection, repository: Repository, digests: Iterable[Digest], but: Collection[str] = ()
) -> None:
    """
    Raises `ContentReferenced` if an image names the manifest as its config or a layer, or is being pushed that does, or
    if the repository has it as a blob by another digest: the other registry unlinks the blob of the same bytes along
    with a manifest. Indexes that list it do not count, nor do the intents *but*.
    """
    for digest in digests:
        beside = sorted(_beside(connection, digest))
        coming = promises.named(connection, repository, (digest, *beside), but, by_images=True)
        for name in (digest, *beside):
            asked = {"repository": repository.name, "target": name.text, "indexes": sorted(INDEX_MEDIA_TYPES)}
            if name.text in coming or connection.execute(_NAMED_BY_IMAGE, asked).first() is not None:
                raise _referenced(name)
        for name in beside:
            if knows_link(connection, repository, name):
                raise ContentReferenced(f"Delete the blob {name} first: without {digest} it cannot be read.")


def require_undeleted(
    connection: Connection, repository: Repository, manifest: Manifest, but: Collection[str] = ()
) -> None:
    """
    Raises `ManifestBlobUnknown` if a blob that *manifest* requires is being deleted; the intents *but* do not count.

    Deleted as a manifest it goes as well, by its SHA-256.
    """
    going = _going(connection, repository, "blob.delete", but)
    if not manifest.is_index:
        going |= _going(connection, repository, "manifest.delete", but)
    missing = tuple(each.text for each in manifest.required if each.text in going)
    if missing:
        raise ManifestBlobUnknown(f"Push {missing[0]} to {repository} again: it is being deleted.", missing=missing)


def _referenced(digest: Digest) -> ContentReferenced:
    return ContentReferenced(f"Delete the manifests that reference {digest} first.")


def _beside(connection: Connection, plain: Digest) -> list[Digest]:
    return [Digest(text) for text in connection.execute(_BESIDE, {"plain": plain.text}).scalars()]


def _going(connection: Connection, repository: Repository, kind: str, but: Collection[str] = ()) -> set[str]:
    begun = intents.begun(connection, repository, kind, but)
    return {act[name] for act in begun for name in ("digest", "twin") if name in act}.union(
        *(act.get("twins", ()) for act in begun)
    )


def _learn(database: Database, write: Callable[[Connection], object], failed: str) -> None:
    try:
        with database.lock(), database.writer() as connection:
            database.begin(connection)
            write(connection)
            connection.exec_driver_sql("COMMIT")
    except (SQLAlchemyError, Unavailable) as error:
        # That the database is away is told once, where it was found.
        _log.error(failed, exc_info=not isinstance(error, Unavailable))


def _known_blobs(connection: Connection, digests: Sequence[str]) -> set[str]:
    known: set[str] = set()
    for start in range(0, len(digests), _CHUNK):
        chosen = select(blobs.c.digest).where(blobs.c.digest.in_(digests[start : start + _CHUNK]))
        known.update(connection.execute(chosen).scalars())
    return known
