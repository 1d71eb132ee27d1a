"""The trash: what was deleted stays for a while, with who and when, and with all that is needed to bring it back.

delete ─▶ trash (a manifest: its bytes, and what it names) ─▶ restored, or after its time: gone with the next sweep
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, bindparam, delete, exists, func, insert, literal, select, tuple_, update

from gateway.oci.digest import Digest
from gateway.oci.names import ProjectName, Repository
from gateway.records import driver, rules
from gateway.records.schema import (
    edges,
    manifest_bodies,
    manifests,
    projects,
    repositories,
    tags,
    trash,
    trash_bodies,
    trash_targets,
)

_PAGE: Final = 1000

# Built once: a retention throws thousands away.
_BODY: Final = (
    select(manifests.c.media_type, manifest_bodies.c.content)
    .join(manifest_bodies, manifest_bodies.c.digest == manifests.c.digest)
    .where(manifests.c.repository_id == bindparam("place"), manifests.c.digest == bindparam("named"))
)
_FORMER: Final = select(trash.c.id).where(
    trash.c.repository_id == bindparam("place"), trash.c.digest == bindparam("named"), trash.c.tag == ""
)
_TARGETS: Final = select(edges.c.target).where(
    edges.c.repository_id == bindparam("place"), edges.c.source == bindparam("named")
)
_TAGS: Final = select(tags.c.name).where(
    tags.c.repository_id == bindparam("place"), tags.c.digest == bindparam("named")
)
_NEW: Final = insert(trash).returning(trash.c.id)
_NEW_TAGS: Final = insert(trash)
_NEW_BODY: Final = insert(trash_bodies)
_NEW_TARGETS: Final = insert(trash_targets)
_ROOM: Final = (
    select(projects.c.quota_bytes, projects.c.trash_bytes)
    .join(repositories, repositories.c.project_id == projects.c.id)
    .where(repositories.c.id == bindparam("place"))
)
_HOME: Final = select(repositories.c.project_id).where(repositories.c.id == bindparam("place"))
_COUNT: Final = (
    update(projects)
    .where(projects.c.id == _HOME.scalar_subquery())
    .values(trash_bytes=projects.c.trash_bytes + bindparam("more"))
)
_GONE_TARGETS: Final = (
    delete(trash_targets).where(driver.among(trash_targets.c.trash_id, "some")).returning(trash_targets.c.trash_id)
)
_GONE: Final = (
    delete(trash).where(driver.among(trash.c.id, "some")).returning(trash.c.repository_id, trash.c.size_bytes)
)


@dataclass(frozen=True, slots=True)
class Bin:
    """Who (`kind:id`) throws away, when (UNIX seconds), and for how long it can be had back; 0 for not at all."""

    now: int = 0
    owner: str = ""
    seconds: int = 0


NO_BIN: Final = Bin()


@dataclass(frozen=True, slots=True)
class Trashed:
    """One thing in the trash: a tag, or a manifest (*tag* is "")."""

    id: int
    repository: str
    tag: str
    digest: str
    media_type: str
    size_bytes: int
    deleted_at: int
    deleted_by: str
    until: int


# into the trash


def keep_manifest(connection: Connection, place: int, digest: Digest, bin: Bin) -> bool:
    """
    Keeps the manifest of the repository *place*, and its tags; before it is forgotten. False if there is no room.

    The manifests in the trash of a project have as much room as its quota, beside what it uses: whoever pushes and
    deletes again and again would fill the database by way of the trash otherwise. Of what was thrown away several
    times, the last is kept.
    """
    if not bin.seconds:
        return True
    mine = {"place": place, "named": digest.text}
    found = connection.execute(_BODY, mine).first()
    if found is None:
        return True
    older = list(connection.execute(_FORMER, mine).scalars())
    if older:
        _drop(connection, older)
    else:
        [(quota_bytes, taken)] = driver.rows(connection, _ROOM, {"place": place})
        if quota_bytes is not None and taken + len(found.content) > quota_bytes:
            return False
    content = bytes(found.content)
    _count(connection, place, len(content))
    row = {**_row(place, digest.text, bin), "tag": "", "media_type": found.media_type, "size_bytes": len(content)}
    number = connection.execute(_NEW, row).scalar_one()
    connection.execute(_NEW_BODY, {"trash_id": number, "content": content})
    named = connection.execute(_TARGETS, mine).scalars().all()
    targets = [{"repository_id": place, "target": target, "trash_id": number} for target in named]
    if targets:
        connection.execute(_NEW_TARGETS, targets)
    keep_tags(connection, place, connection.execute(_TAGS, mine).scalars().all(), digest.text, bin)
    return True


def keep_tags(connection: Connection, place: int | None, names: Sequence[str], digest: str, bin: Bin) -> None:
    """Keeps tags of the repository *place* that pointed at *digest*; before they are forgotten."""
    if bin.seconds and names:
        row = {**_row(place, digest, bin), "media_type": "", "size_bytes": 0}
        connection.execute(_NEW_TAGS, [{**row, "tag": name} for name in names])


def _row(place: int | None, digest: str, bin: Bin) -> dict[str, object]:
    told = {"deleted_at": bin.now, "deleted_by": bin.owner, "until": bin.now + bin.seconds}
    return {"repository_id": place, "digest": digest, **told}


# looking


def listed(
    connection: Connection, *, repository: Repository | None = None, project: ProjectName | None = None, limit: int
) -> list[Trashed]:
    """The newest *limit* things in the trash: of one repository, of a project, or of all."""
    statement = _listed().order_by(trash.c.id.desc()).limit(limit)
    if repository is not None:
        statement = statement.where(repositories.c.name == repository.name)
    if project is not None:
        mine = select(projects.c.id).where(projects.c.name == project.name).scalar_subquery()
        statement = statement.where(repositories.c.project_id == mine)
    return [_trashed(row) for row in connection.execute(statement)]


def of_tag(connection: Connection, repository: Repository, tag: str) -> list[Trashed]:
    """What the trash has of a tag, newest first."""
    statement = _listed().where(repositories.c.name == repository.name, trash.c.tag == tag)
    return [_trashed(row) for row in connection.execute(statement.order_by(trash.c.id.desc()).limit(_PAGE))]


def manifest(connection: Connection, place: int, digest: str) -> tuple[Trashed, bytes] | None:
    """The manifest as it was thrown away last, and its bytes."""
    statement = _listed(trash_bodies.c.content).join(trash_bodies, trash_bodies.c.trash_id == trash.c.id)
    statement = statement.where(trash.c.repository_id == place, trash.c.digest == digest, trash.c.tag == "")
    row = connection.execute(statement.order_by(trash.c.id.desc()).limit(1)).first()
    return None if row is None else (_trashed(row), bytes(row.content))


def tags_with(connection: Connection, place: int, thrown: Trashed) -> list[str]:
    """The tags that went with the manifest *thrown*."""
    statement = select(trash.c.tag).where(
        trash.c.repository_id == place,
        trash.c.digest == thrown.digest,
        trash.c.tag != "",
        trash.c.deleted_at == thrown.deleted_at,
    )
    return list(connection.execute(statement.order_by(trash.c.tag)).scalars())


def _listed(*more: Any) -> Select[Any]:
    columns = (trash.c.id, repositories.c.name, trash.c.tag, trash.c.digest, trash.c.media_type, trash.c.size_bytes)
    told = (trash.c.deleted_at, trash.c.deleted_by, trash.c.until)
    return select(*columns, *told, *more).join(repositories, repositories.c.id == trash.c.repository_id)


def _trashed(row: Row[Any]) -> Trashed:
    return Trashed(
        row.id,
        row.name,
        row.tag,
        row.digest,
        row.media_type,
        row.size_bytes,
        row.deleted_at,
        row.deleted_by,
        row.until,
    )


def at_hand(connection: Connection, repository: Repository, digests: Sequence[str]) -> set[str]:
    """Those of *digests* that a tag of the repository could be pointed at: they are there, or in the trash."""
    found: set[str] = set()
    for table in (manifests, trash):
        statement = select(table.c.digest).join(repositories, repositories.c.id == table.c.repository_id)
        statement = statement.where(repositories.c.name == repository.name, table.c.digest.in_(digests))
        if table is trash:
            statement = statement.where(trash.c.tag == "")
        found |= set(connection.execute(statement).scalars())
    return found


# out of the trash


def take_out(connection: Connection, place: int, digest: str, names: Sequence[str]) -> None:
    """What was restored is not in the trash any more: the manifest *digest* and its tags *names*."""
    mine = (trash.c.repository_id == place) & (trash.c.digest == digest) & trash.c.tag.in_(["", *names])
    _drop(connection, list(connection.execute(select(trash.c.id).where(mine)).scalars()))


@dataclass(frozen=True, slots=True)
class Going:
    """
    What is to go for good: of *repository* (None: of all), what has been there for its time at *until* (None: all).

    If *spares*, what is read-only keeps its trash; otherwise nothing goes while something is.
    """

    repository: Repository | None = None
    until: int | None = None
    spares: bool = False


@dataclass(frozen=True, slots=True)
class Heap:
    """How many things there are, the bytes they have, and the id of the last: what comes later is none of them."""

    count: int
    bytes: int
    last: int


@dataclass(frozen=True, slots=True)
class Thing:
    """One of them; *key* and *id* say where it is in their order."""

    id: int
    key: str | int
    repository: str
    size_bytes: int


def heap(connection: Connection, going: Going) -> Heap:
    """What is to go now."""
    summed = select(
        func.count(), func.coalesce(func.sum(trash.c.size_bytes), 0), func.coalesce(func.max(trash.c.id), 0)
    )
    [(count, size, last)] = driver.rows_once(connection, _going(summed.select_from(trash), going))
    return Heap(int(count), int(size), int(last))


def any_of(connection: Connection, going: Going) -> bool:
    """Whether there is any of what is to go."""
    return bool(driver.rows_once(connection, _going(select(trash.c.id), going).limit(1)))


def page(connection: Connection, going: Going, last: int, after: Thing | None, limit: int) -> list[Thing]:
    """The next *limit* of what is to go after *after*, of those up to the id *last*, in the order of an index."""
    key = trash.c.digest if going.repository is not None else trash.c.until
    statement = _going(select(trash.c.id, key, repositories.c.name, trash.c.size_bytes), going).where(
        trash.c.id <= last
    )
    statement = statement.join(repositories, repositories.c.id == trash.c.repository_id)
    if after is not None:
        statement = statement.where(tuple_(key, trash.c.id) > tuple_(literal(after.key), literal(after.id)))
    found = driver.rows_once(connection, statement.order_by(key, trash.c.id).limit(limit))
    return [Thing(*row) for row in found]


def _going(statement: Select[Any], going: Going) -> Select[Any]:
    if going.repository is not None:
        mine = select(repositories.c.id).where(repositories.c.name == going.repository.name)
        statement = statement.where(trash.c.repository_id == mine.scalar_subquery())
    if going.until is not None:
        statement = statement.where(trash.c.until <= going.until)
    return statement.where(~rules.keeping(trash.c.repository_id)) if going.spares else statement


def require_droppable(connection: Connection, going: Going) -> None:
    """Raises `ReadOnly` while a project that something of it would be dropped of keeps its content as it is."""
    if going.repository is not None:
        rules.require_writable(connection, going.repository.project)
        return
    filled = exists().where(trash.c.repository_id == repositories.c.id)
    held = select(repositories.c.name).where(filled, rules.keeping(repositories.c.id)).limit(1)
    for name in connection.execute(held).scalars():
        rules.require_writable(connection, Repository(name).project)


def drop(connection: Connection, going: Going, things: Sequence[Thing]) -> tuple[int, int]:
    """Drops those of *things*, a page, that are still there: how many, and their bytes. Raises `ReadOnly`."""
    mine: defaultdict[ProjectName, list[int]] = defaultdict(list)
    for thing in things:
        mine[Repository(thing.repository).project].append(thing.id)
    count, size = 0, 0
    for project, ids in mine.items():
        held = rules.read(connection, project)
        if going.spares and (held.frozen or held.read_only):
            continue
        held.require_writable(project)
        gone = _drop(connection, ids)
        count, size = count + gone[0], size + gone[1]
    return count, size


def forget(connection: Connection, place: int) -> None:
    """The repository *place* goes, and with it what of it is in the trash."""
    held = select(func.coalesce(func.sum(trash.c.size_bytes), 0)).where(trash.c.repository_id == place)
    _count(connection, place, -int(connection.execute(held).scalar_one()))
    for table in (trash_targets, trash):
        connection.execute(delete(table).where(table.c.repository_id == place))


def _drop(connection: Connection, ids: Sequence[int]) -> tuple[int, int]:
    some = {"some": driver.listed(connection, ids)}
    driver.rows(connection, _GONE_TARGETS, some)
    gone = driver.rows(connection, _GONE, some)
    lost: Counter[int] = Counter()
    for place, size in gone:
        lost[place] += size
    for place, size in lost.items():
        _count(connection, place, -size)
    return len(gone), lost.total()


def _count(connection: Connection, place: int, more: int) -> None:
    """The counter of the project that the repository *place* is in moves by so many bytes of manifests."""
    if more:
        connection.execute(_COUNT, {"place": place, "more": more})
