"""What projects use: the bytes of what is linked in their repositories, each digest counted once, kept as it changes.

The counter moves in the transaction that links or unlinks; what a digest weighs is gained when the first repository of
a project comes to hold it, and lost with the last. Blobs and manifests are counted apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, Select, Table, bindparam, exists, func, select, update

from gateway.access.rules import over_quota
from gateway.oci.digest import Digest
from gateway.oci.names import ProjectName
from gateway.records import driver
from gateway.records.schema import blobs, links, manifests, projects, repositories

_CHUNK: Final = 500
#: Holders of a digest that are looked at before the project's repositories are.
_NEAR: Final = 64
_PROJECT_OF: Final = select(repositories.c.project_id).where(repositories.c.id == bindparam("place"))
_MOVE: Final = (
    update(projects)
    .where(projects.c.id == _PROJECT_OF.scalar_subquery())
    .values(used_bytes=projects.c.used_bytes + bindparam("more"))
    .returning(projects.c.name, projects.c.quota_bytes, projects.c.used_bytes)
)
_ROOM: Final = select(projects.c.quota_bytes, projects.c.used_bytes).where(projects.c.name == bindparam("project"))
_WEIGHT: Final = select(blobs.c.size_bytes).where(blobs.c.digest == bindparam("named"))
_LINKED: Final = select(blobs.c.digest).where(
    driver.among(blobs.c.digest, "some"), exists().where(links.c.digest == blobs.c.digest)
)
_LOSE: Final = (
    update(projects)
    .where(projects.c.name == bindparam("project"))
    .values(used_bytes=projects.c.used_bytes - bindparam("less"))
    .returning(projects.c.used_bytes)
)
_IN_PROJECT: Final = (
    select(links.c.digest)
    .join(repositories, repositories.c.id == links.c.repository_id)
    .join(projects, projects.c.id == repositories.c.project_id)
    .where(projects.c.name == bindparam("project"), links.c.digest == bindparam("digest"))
    .limit(1)
)


def charge(connection: Connection, place: int, table: Table, digests: Sequence[str], *, bound: bool = True) -> None:
    """
    Counts *digests* that have just come into *table* (links or manifests) for the repository *place*.

    Raises `QuotaExceeded` if its project then holds more than it may, and is *bound* by that.
    """
    gained = _only_here(connection, place, table, digests)
    if not gained:
        return
    [(name, quota_bytes, used)] = driver.rows(connection, _MOVE, {"place": place, "more": gained})
    if bound and quota_bytes is not None and used > quota_bytes:
        raise over_quota(ProjectName(name), quota_bytes, used - gained, gained)


def release(connection: Connection, place: int, table: Table, digests: Sequence[str] | None = None) -> None:
    """Counts *digests* (None: all) that are about to leave *table* for the repository *place*."""
    lost = _only_here(connection, place, table, digests)
    if lost:
        driver.rows(connection, _MOVE, {"place": place, "more": -lost})


def weigh(connection: Connection, digest: Digest, size_bytes: int) -> bool:
    """
    Says how large a blob truly is: where a manifest had claimed another size, that and every counter are put right.

    Whether the blob is known at all. No quota holds the truth off.
    """
    was = connection.execute(_WEIGHT, {"named": digest.text}).scalar()
    if was is None:
        return False
    if was != size_bytes:
        holders = (
            select(repositories.c.project_id)
            .join(links, links.c.repository_id == repositories.c.id)
            .where(links.c.digest == digest.text)
        )
        more = projects.c.used_bytes + (size_bytes - was)
        connection.execute(update(projects).where(projects.c.id.in_(holders)).values(used_bytes=more))
        connection.execute(update(blobs).where(blobs.c.digest == digest.text).values(size_bytes=size_bytes))
    return True


def gone(connection: Connection, project: ProjectName, sizes: Mapping[str, int]) -> None:
    """Counts blobs, with their *sizes*, whose links some repositories of *project* have lost a moment ago."""
    lost = sum(sizes.values())
    # Most are linked nowhere any more; a project may have so many repositories that to ask each would take seconds.
    elsewhere = [digest for (digest,) in driver.rows(connection, _LINKED, {"some": driver.listed(connection, sizes)})]
    if elsewhere:
        number = connection.execute(select(projects.c.id).where(projects.c.name == project.name)).scalar_one()
        lost -= sum(sizes[digest] for digest in elsewhere if _shared(connection, _statements(links), number, 0, digest))
    if lost:
        driver.rows(connection, _LOSE, {"project": project.name, "less": lost})


def require_room(
    connection: Connection, project: ProjectName, wanted_bytes: int = 0, digest: Digest | None = None
) -> None:
    """
    Raises `QuotaExceeded` if the project is full, or a blob of *wanted_bytes* would not fit; one that it holds does.

    A look beforehand: only what `charge` says counts.
    """
    row = connection.execute(_ROOM, {"project": project.name}).first()
    if row is None or row.quota_bytes is None:
        return
    if row.used_bytes < row.quota_bytes and row.used_bytes + wanted_bytes <= row.quota_bytes:
        return
    if digest is not None:
        looked_for = {"project": project.name, "digest": digest.text}
        if wanted_bytes == 0 or connection.execute(_IN_PROJECT, looked_for).first() is not None:
            return
    raise over_quota(project, row.quota_bytes, row.used_bytes, wanted_bytes)


def used_bytes(connection: Connection, project: ProjectName) -> int:
    """What the project uses, by its counter; 0 if there is none."""
    row = connection.execute(_ROOM, {"project": project.name}).first()
    return 0 if row is None else int(row.used_bytes)


def new_sizes(connection: Connection, project: ProjectName, table: Table, sizes: Mapping[str, int]) -> dict[str, int]:
    """Those of the digests, with their *sizes*, that the project has nowhere in *table*."""
    digests, known = list(sizes), set[str]()
    for start in range(0, len(digests), _CHUNK):
        chosen = (
            select(table.c.digest)
            .join(repositories, repositories.c.id == table.c.repository_id)
            .join(projects, projects.c.id == repositories.c.project_id)
            .where(projects.c.name == project.name, table.c.digest.in_(digests[start : start + _CHUNK]))
        )
        known.update(connection.execute(chosen).scalars())
    return {digest: size for digest, size in sizes.items() if digest not in known}


def measured(connection: Connection, project: int) -> tuple[int, int]:
    """How many blobs and manifests the project numbered *project* holds, and their bytes, counted afresh."""
    of_project = select(repositories.c.id).where(repositories.c.project_id == project).scalar_subquery()
    linked = select(blobs.c.digest, blobs.c.size_bytes).join(links, links.c.digest == blobs.c.digest)
    kept = select(manifests.c.digest, manifests.c.size_bytes)
    entries, size_bytes = 0, 0
    for table, statement in ((links, linked), (manifests, kept)):
        each = statement.where(table.c.repository_id.in_(of_project)).distinct().subquery()
        row = connection.execute(select(func.count(), func.coalesce(func.sum(each.c.size_bytes), 0))).one()
        entries, size_bytes = entries + int(row[0]), size_bytes + int(row[1])
    return entries, size_bytes


def recount(connection: Connection, project: int) -> tuple[int, int]:
    """
    Sets the project's counter to what it holds, inside a transaction; answers what it was and what it is.

    The two differ only if something other than the gateway has changed the records.
    """
    mine = projects.c.id == project
    was = int(connection.execute(select(projects.c.used_bytes).where(mine)).scalar_one())
    _, found = measured(connection, project)
    if found != was:
        connection.execute(update(projects).where(mine).values(used_bytes=found))
    return was, found


def _only_here(connection: Connection, place: int, table: Table, digests: Sequence[str] | None) -> int:
    """The bytes of those digests in *table* for *place* that no other repository of its project has there."""
    statements = _statements(table)
    if digests is None:
        return int(connection.execute(statements.all_alone, {"place": place}).scalar_one())
    size_bytes = 0
    for digest in digests:
        found = driver.rows(connection, statements.weight, {"place": place, "digest": digest})
        for project, size, others in found:
            if not others or not _shared(connection, statements, project, place, digest):
                size_bytes += int(size)
    return size_bytes


def _shared(connection: Connection, statements: _Statements, project: int, place: int, digest: str) -> bool:
    """Whether another repository of *project* than *place* holds the digest."""
    wanted = {"project": project, "place": place, "digest": digest}
    near = [found for (found,) in driver.rows(connection, statements.near, wanted)]
    if project in near or len(near) < _NEAR:
        return project in near
    # Half the world may hold it: then the repositories of one project are fewer.
    return bool(driver.rows(connection, statements.far, wanted))


@dataclass(frozen=True, slots=True)
class _Statements:
    """
    *weight* is of which project a place is, what a digest weighs there, and whether another place holds it; *near* the
    projects of some that do; *far* one of the project's that does; *all_alone* what all weigh that a place alone holds.
    """

    weight: Select[Any]
    near: Select[Any]
    far: Select[Any]
    all_alone: Select[Any]


@lru_cache
def _statements(table: Table) -> _Statements:
    source = table.join(blobs, blobs.c.digest == links.c.digest) if table is links else table
    size = blobs.c.size_bytes if table is links else manifests.c.size_bytes
    other, neighbour = table.alias("other"), repositories.alias("neighbour")
    place: BindParameter[int] = bindparam("place")
    digest: BindParameter[str] = bindparam("digest")
    project: BindParameter[int] = bindparam("project")
    beside = (
        select(other.c.digest)
        .select_from(other.join(neighbour, neighbour.c.id == other.c.repository_id))
        .where(
            other.c.digest == table.c.digest,
            other.c.repository_id != place,
            neighbour.c.project_id == _PROJECT_OF.scalar_subquery(),
        )
    )
    elsewhere = select(other.c.digest).where(other.c.digest == table.c.digest, other.c.repository_id != place)
    there = select(other.c.digest).where(other.c.repository_id == neighbour.c.id, other.c.digest == digest)
    return _Statements(
        weight=select(repositories.c.project_id, size, elsewhere.exists())
        .select_from(source.join(repositories, repositories.c.id == table.c.repository_id))
        .where(table.c.repository_id == place, table.c.digest == digest),
        near=select(neighbour.c.project_id)
        .select_from(other.join(neighbour, neighbour.c.id == other.c.repository_id))
        .where(other.c.digest == digest, other.c.repository_id != place)
        .limit(_NEAR),
        far=select(neighbour.c.id)
        .where(
            neighbour.c.project_id == project,
            neighbour.c.id != place,
            there.correlate(neighbour).exists(),
        )
        .limit(1),
        all_alone=select(func.coalesce(func.sum(size), 0))
        .select_from(source)
        .where(table.c.repository_id == place, ~beside.exists()),
    )
