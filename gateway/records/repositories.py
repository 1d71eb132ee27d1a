"""Repositories as administrators see them: what each holds, in one query for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, func, or_, select

from gateway.oci.names import ProjectName, Repository
from gateway.records.schema import blobs, links, manifests, projects, repositories, tags


@dataclass(frozen=True, slots=True)
class RepositoryRow:
    """
    A repository that holds something: how many tags, manifests and blobs; *created_at* is UTC.

    *size_bytes* is that of its blobs and manifests, shared with other repositories or not.
    """

    name: str
    tags: int
    manifests: int
    blobs: int
    size_bytes: int
    created_at: datetime


def rows_of(
    connection: Connection,
    *,
    project: ProjectName | None = None,
    repository: Repository | None = None,
    names: Sequence[str] | None = None,
) -> tuple[RepositoryRow, ...]:
    """The repositories (of *project*; of that name; of these at most 1,000 names) that hold anything, by name."""
    here = repositories.c.id
    tagged = select(func.count()).where(tags.c.repository_id == here).scalar_subquery()
    kept = select(func.count()).where(manifests.c.repository_id == here).scalar_subquery()
    kept_bytes = select(func.sum(manifests.c.size_bytes)).where(manifests.c.repository_id == here).scalar_subquery()
    linked = select(func.count()).where(links.c.repository_id == here).scalar_subquery()
    linked_bytes = (
        select(func.sum(blobs.c.size_bytes))
        .join_from(links, blobs, links.c.digest == blobs.c.digest)
        .where(links.c.repository_id == here)
        .scalar_subquery()
    )
    size = func.coalesce(kept_bytes, 0) + func.coalesce(linked_bytes, 0)
    wanted = select(repositories.c.name, tagged, kept, linked, size, repositories.c.created_at)
    wanted = wanted.where(or_(kept > 0, linked > 0)).order_by(repositories.c.name)
    if project is not None:
        wanted = wanted.join(projects, projects.c.id == repositories.c.project_id)
        wanted = wanted.where(projects.c.name == project.name)
    if repository is not None:
        wanted = wanted.where(repositories.c.name == repository.name)
    if names is not None:
        wanted = wanted.where(repositories.c.name.in_(names))
    return tuple(
        RepositoryRow(name, tag_count, kept_count, blob_count, int(size_bytes), datetime.fromtimestamp(created, UTC))
        for name, tag_count, kept_count, blob_count, size_bytes, created in connection.execute(wanted)
    )


def names_after(connection: Connection, after: str, limit: int, within: Sequence[str] | None) -> list[str]:
    """
    The next *limit* names of repositories after *after* ("" for the first), in the order of `rows_of`.

    *within* are the names of at most 1,000 projects; None: all.
    """
    wanted = select(repositories.c.name).where(repositories.c.name > after).order_by(repositories.c.name).limit(limit)
    if within is not None:
        wanted = wanted.join(projects, projects.c.id == repositories.c.project_id).where(projects.c.name.in_(within))
    return list(connection.execute(wanted).scalars())
