"""What was thrown away comes back as it was, by the rules that hold for a push now."""

from __future__ import annotations

from sqlalchemy import Connection, select

from gateway.change import Notes
from gateway.errors import Conflict, ManifestBlobUnknown, ManifestUnknown, Unknown
from gateway.oci.digest import Digest
from gateway.oci.manifest import NESTING, Manifest, load
from gateway.oci.names import Repository, Tag
from gateway.records import content, rules, trash
from gateway.records.content import Act, Also
from gateway.records.schema import manifests, tags


def restore_manifest(connection: Connection, repository: Repository, digest: Digest, act: Act) -> Notes:
    """
    Brings a manifest back with those of its tags that went with it and name nothing now; the result is their names.
    What it lists and the trash has comes back before it.

    Raises `Unknown` if it is not in the trash, `ManifestBlobUnknown` if something it needs is gone, `AgainstRule`.
    """
    place, thrown, stored = _thrown(connection, repository, digest)
    taken = set(connection.execute(select(tags.c.name).where(tags.c.repository_id == place)).scalars())
    names = [Tag(name) for name in trash.tags_with(connection, place, thrown) if name not in taken]
    return _put(connection, repository, place, (thrown, stored), names, act)


def restore_tag(
    connection: Connection,
    repository: Repository,
    tag: Tag,
    to: Digest | None,
    act: Act,
    *,
    force: bool,
    seen: str | None = None,
) -> Notes:
    """
    Points *tag* at what it named when it was removed last, or at *to*; with its manifest, if that is in the trash.

    Raises `Unknown` if there is nothing to restore, `Conflict` if the tag names something else now and neither *to* nor
    *force* say that it may move, `AgainstRule`, and what `restore_manifest` does. With *seen*, the digest that the tag
    was seen to name ("" for nothing), `Conflict` also if it names something else by now.
    """
    place = content.repository_id(connection, repository)
    digest = to or _last(connection, repository, tag)
    now = connection.execute(
        select(tags.c.digest).where(tags.c.repository_id == place, tags.c.name == tag.name)
    ).scalar()
    if place is None or now == digest.text:
        raise Conflict(f"{repository}:{tag} names {digest} already; there is nothing to restore.")
    if seen is not None and (now or "") != seen:
        raise Conflict(f"{repository}:{tag} names {now or 'nothing'} now; look again before you move it.")
    if now is not None and to is None and not force:
        raise Conflict(f"{repository}:{tag} names {now} now; say --force to move it back to {digest}.")
    if not content.has(connection, manifests, repository_id=place, digest=digest.text):
        place, thrown, stored = _thrown(connection, repository, digest)
        return _put(connection, repository, place, (thrown, stored), [tag], act)
    held = rules.require_writable(connection, repository.project)
    rules.require_movable(connection, held, place, repository, [tag], digest.text)
    before, after = content.move_tags(connection, place, [tag], digest.text, act)
    trash.take_out(connection, place, digest.text, [tag.name])
    return Notes({"tags": before}, {"tags": after}, digest=digest.text, result=(tag.name,))


def _last(connection: Connection, repository: Repository, tag: Tag) -> Digest:
    found = trash.of_tag(connection, repository, tag.name)
    if not found:
        raise Unknown(
            f"The trash has no tag {repository}:{tag}. gateway tag history says where it pointed; --to names a digest."
        )
    return Digest(found[0].digest)


def _thrown(connection: Connection, repository: Repository, digest: Digest) -> tuple[int, trash.Trashed, bytes]:
    place = content.repository_id(connection, repository)
    found = trash.manifest(connection, place, digest.text) if place is not None else None
    if place is None or found is None:
        raise Unknown(f"The trash of {repository} has no manifest {digest}; see: gateway trash list {repository}")
    return place, *found


def _put(
    connection: Connection,
    repository: Repository,
    place: int,
    found: tuple[trash.Trashed, bytes],
    names: list[Tag],
    act: Act,
    depth: int = 0,
) -> Notes:
    thrown, stored = found
    digest = Digest(thrown.digest)
    if Digest.of(stored, digest.algorithm) != digest:
        raise ManifestUnknown(f"What the trash has of {digest} is damaged; push it again.")
    manifest = load(stored, thrown.media_type, algorithm=digest.algorithm, limit_bytes=max(1, len(stored)))
    also = _put_required(connection, repository, place, manifest, act, depth)
    if missing := content.missing_of(connection, place, manifest):
        raise ManifestBlobUnknown(
            f"{digest} cannot be restored: it needs {content.few(missing)}, and neither {repository} nor its trash has "
            "that any more. Push it, then restore this.",
            missing=missing,
        )
    notes = content.put_manifest(connection, repository, manifest, names, act)
    restored = tuple(tag.name for tag in names)
    trash.take_out(connection, place, thrown.digest, restored)
    return Notes(notes.before, notes.after, digest=thrown.digest, result=restored, also=(*notes.also, *also))


def _put_required(
    connection: Connection, repository: Repository, place: int, manifest: Manifest, act: Act, depth: int
) -> Also:
    """Brings back first what an index lists and the trash has, without tags; an event for each."""
    also: Also = ()
    if not manifest.is_index or depth >= NESTING:
        return also
    for text in content.missing_of(connection, place, manifest):
        found = trash.manifest(connection, place, text)
        # One index may have brought back what the next one lists as well.
        if found is not None and not content.has(connection, manifests, repository_id=place, digest=text):
            also += _put(connection, repository, place, found, [], act, depth + 1).also
            told = {"project": repository.project.name, "repository": repository.name, "digest": text}
            also += (("manifest.restore", told),)
    return also
