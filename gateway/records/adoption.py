"""What is found in a registry that is being adopted, and how it enters the records: in bulk, and without forgetting.

Nothing here removes a repository, a manifest or a tag: what a registry does not show may be there all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy import Connection, Table, UpdateBase, bindparam, delete, exists, select, update

from gateway.audit.event import Kind, Outcome
from gateway.audit.trail import Search
from gateway.change import Notes
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import Manifest
from gateway.oci.names import Repository
from gateway.records import annotating, usage
from gateway.records.behind_tables import untagged
from gateway.records.content import (
    Act,
    ensure_repository,
    held,
    insert_all,
    manifest_row,
    project_exists,
    repository_id,
)
from gateway.records.mark import recorded
from gateway.records.mirror import keep_twin, link_layers
from gateway.records.schema import edges, links, manifests, repositories, tags
from gateway.records.trail import tail

#: Values in one IN list: below what either database takes.
_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Known:
    """
    What the records hold of a repository before it is read: digests, tags with their digests, and the tags that were
    removed here alone with the digests they had. *project* says whether its project is there.
    """

    manifests: frozenset[str] = frozenset()
    tags: Mapping[str, str] = field(default_factory=dict)
    untagged: Mapping[str, str] = field(default_factory=dict)
    project: bool = False


@dataclass(frozen=True, slots=True)
class Remark:
    """Something of a repository that is not taken over: a tag or digest, or "" for the whole, and why."""

    reference: str
    why: str


@dataclass(frozen=True, slots=True)
class Found:
    """
    A part of a repository that was read: nothing a manifest here lists or is about is missing from the records then,
    if the registry holds it.

    *manifests* are those the records lack; *tags* those that are new or have moved, with their digests, each of a
    manifest that is here or known. *read* counts the tags looked at, which are *names*. *left* can never be taken over
    as it is, *lost* could not be read now; *absent* counts what is named by a manifest and not there. *twins* are the
    SHA-256 of what is named by other digests, as far as the registry says them.
    """

    manifests: tuple[Manifest, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    read: int = 0
    left: tuple[Remark, ...] = ()
    lost: tuple[Remark, ...] = ()
    absent: int = 0
    names: tuple[str, ...] = ()
    twins: Mapping[Digest, Digest] = field(default_factory=dict)

    @property
    def by_sha512(self) -> int:
        """How many of the manifests name something by another digest than its SHA-256."""
        return sum(any(each.algorithm is not Algorithm.SHA256 for each in one.references) for one in self.manifests)


def known(connection: Connection, repository: Repository) -> Known:
    """What the records hold of *repository*."""
    project = project_exists(connection, repository.project)
    place = repository_id(connection, repository)
    if place is None:
        return Known(project=project)
    digests = connection.execute(select(manifests.c.digest).where(manifests.c.repository_id == place)).scalars()
    named, removed = (
        {row.name: row.digest for row in connection.execute(select(table).where(table.c.repository_id == place))}
        for table in (tags, untagged)
    )
    return Known(frozenset(digests), named, removed, project)


def moment(connection: Connection) -> int:
    """The number of the newest event: what is read after this is asked holds all that happened until then."""
    return recorded(connection).head.seq


def is_overtaken(connection: Connection, repository: Repository, found: Found, before: Known, since: int) -> bool:
    """
    Whether something that passed here after the *moment* *since* contradicts what was *found* beyond what was known
    *before*: a manifest that was deleted, or one that is pointed at and was; a tag that was moved or removed; the
    whole project. Whatever else changes in the repository does not count.
    """
    if project_exists(connection, repository.project) is not before.project:
        return True
    place = repository_id(connection, repository)
    came = {manifest.digest.text for manifest in found.manifests}
    there = held(connection, manifests, place, sorted(set(found.tags.values()) - came)) if place is not None else set()
    if not came | there >= set(found.tags.values()):
        return True
    if place is not None and len(_unmoved(connection, place, found.tags, before)) < len(found.tags):
        return True
    return _is_removed(connection, repository, came, since)


def _is_removed(connection: Connection, repository: Repository, digests: Collection[str], since: int) -> bool:
    """Whether one of the manifests, none of which is on record, was deleted after *since*, or the project was."""
    removal = Search(project=repository.project.name, kind=Kind.PROJECT_REMOVE, outcome=Outcome.ALLOWED)
    deletion = Search(repository=repository.name, kind=Kind.MANIFEST_DELETE, outcome=Outcome.ALLOWED)
    if any(True for _ in tail(connection, removal, since, None)):
        return True
    gone = (str(event.record().get("digest", "")) for event in tail(connection, deletion, since, None))
    # By another digest than its SHA-256 any of them may have been meant.
    return any(digest in digests or not digest.startswith("sha256:") for digest in gone)


def known_repositories(connection: Connection) -> tuple[Repository, ...]:
    """The repositories that hold a manifest, by name."""
    held = exists().where(manifests.c.repository_id == repositories.c.id)
    names = connection.execute(select(repositories.c.name).where(held).order_by(repositories.c.name)).scalars()
    return tuple(Repository(name) for name in names)


def holds_content(connection: Connection) -> bool:
    """Whether any blob or manifest is on record."""
    return any(connection.execute(select(next(iter(table.c))).limit(1)).first() for table in (manifests, links))


def index(connection: Connection, repository: Repository, found: Found, before: Known, act: Act) -> Notes:
    """
    Enters what was *found* under *repository*, which is made with its project if it is missing.

    A tag enters only if it is on record, or removed here, as it was *before* the registry was asked: whoever moved or
    removed it since knows better, and who has deleted its manifest. The result is the number of manifests that entered.
    """
    place, also = ensure_repository(connection, repository, act)
    wanted = {manifest.digest.text: manifest for manifest in found.manifests}
    there = held(connection, manifests, place, list(wanted))
    fresh = {digest: manifest for digest, manifest in wanted.items() if digest not in there}
    insert_all(
        connection,
        manifests,
        [
            {"repository_id": place, "digest": digest, **manifest_row(manifest, act)}
            for digest, manifest in fresh.items()
        ],
    )
    annotating.record(connection, place, fresh.values())
    insert_all(
        connection,
        edges,
        [
            {"repository_id": place, "target": named.text, "source": digest}
            for digest, manifest in fresh.items()
            for named in manifest.references
        ],
    )
    usage.charge(connection, place, manifests, list(fresh), bound=False)
    # It is there already, whatever a quota says.
    link_layers(connection, place, fresh.values(), replace(act, done=True))
    for digest, plain in found.twins.items():
        keep_twin(connection, digest, plain)
    named = held(connection, manifests, place, sorted(set(found.tags.values())))
    _move_tags(connection, place, {name: each for name, each in found.tags.items() if each in named}, before, act)
    return Notes(also=also, result=len(fresh))


def _move_tags(connection: Connection, place: int, wanted: Mapping[str, str], before: Known, act: Act) -> None:
    now = _digests_now(connection, tags, place, list(wanted))
    free = _unmoved(connection, place, wanted, before)
    moved = {"moved_at": act.now, "moved_by": act.owner}
    insert_all(
        connection,
        tags,
        [
            {"repository_id": place, "name": name, "digest": digest, **moved}
            for name, digest in free.items()
            if name not in now
        ],
    )
    mine = (tags.c.repository_id == place) & (tags.c.name == bindparam("tag"))
    moving = update(tags).where(mine).values(digest=bindparam("target"), **moved)
    _execute(connection, moving, [{"tag": name, "target": digest} for name, digest in free.items() if name in now])
    # A tag that was removed here is hidden for as long as the registry has it unmoved.
    shown = delete(untagged).where(untagged.c.repository_id == place, untagged.c.name == bindparam("tag"))
    _execute(connection, shown, [{"tag": name} for name in free])


def _unmoved(connection: Connection, place: int, wanted: Mapping[str, str], before: Known) -> dict[str, str]:
    """Of the tags *wanted* those that are on record, or removed here, as they were *before*."""
    now, hidden = (_digests_now(connection, table, place, list(wanted)) for table in (tags, untagged))
    return {
        name: digest
        for name, digest in wanted.items()
        if now.get(name) == before.tags.get(name) and hidden.get(name) == before.untagged.get(name)
    }


def _digests_now(connection: Connection, table: Table, place: int, names: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for start in range(0, len(names), _CHUNK):
        among = table.c.name.in_(names[start : start + _CHUNK])
        chosen = select(table.c.name, table.c.digest).where(table.c.repository_id == place, among)
        found.update({row.name: row.digest for row in connection.execute(chosen)})
    return found


def _execute(connection: Connection, statement: UpdateBase, rows: Sequence[Mapping[str, object]]) -> None:
    if rows:
        connection.execute(statement, rows)
