"""Projects in the database, and what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Delete, Row, ScalarSelect, delete, func, insert, or_, select, update

from gateway.change import Change, Notes
from gateway.errors import Conflict, Unknown
from gateway.oci.names import ProjectName, Repository
from gateway.records.content import remove_repository
from gateway.records.schema import (
    accounts,
    blobs,
    grants,
    links,
    manifests,
    offline_tokens,
    projects,
    repositories,
    uploads,
)


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """A project; *id* is never reused, *created_at* is UTC."""

    id: int
    name: str
    public: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a project holds; what is in several of its repositories counts once. *entries* are blobs and manifests."""

    repositories: int
    entries: int
    size_bytes: int


# looking


def find(connection: Connection, name: ProjectName) -> ProjectRow | None:
    row = connection.execute(select(projects).where(projects.c.name == name.name)).first()
    return _project(row) if row is not None else None


def get(connection: Connection, name: ProjectName) -> ProjectRow:
    """The project of this name; raises `Unknown`."""
    project = find(connection, name)
    if project is None:
        raise Unknown(f"There is no project {name}; add it first, or check how it is spelled.")
    return project


def every_project(connection: Connection) -> tuple[ProjectRow, ...]:
    """All projects, by name."""
    return tuple(_project(row) for row in connection.execute(select(projects).order_by(projects.c.name)))


def holdings(connection: Connection, project: int) -> Holdings:
    """What the project numbered *project* holds."""
    of_project = select(repositories.c.id).where(repositories.c.project_id == project).scalar_subquery()
    linked = (
        select(blobs.c.digest, blobs.c.size_bytes)
        .join(links, links.c.digest == blobs.c.digest)
        .where(links.c.repository_id.in_(of_project))
        .distinct()
        .subquery()
    )
    kept = (
        select(manifests.c.digest, manifests.c.size_bytes)
        .where(manifests.c.repository_id.in_(of_project))
        .distinct()
        .subquery()
    )
    count = select(func.count()).select_from(repositories).where(repositories.c.project_id == project)
    entries, size = 0, 0
    for table in (linked, kept):
        row = connection.execute(select(func.count(), func.coalesce(func.sum(table.c.size_bytes), 0))).one()
        entries, size = entries + int(row[0]), size + int(row[1])
    return Holdings(int(connection.execute(count).scalar_one()), entries, size)


def repository_names(connection: Connection, name: ProjectName) -> tuple[Repository, ...]:
    """The repositories of the project, by name; none if there is no such project."""
    wanted = select(repositories.c.name).join(projects, projects.c.id == repositories.c.project_id)
    rows = connection.execute(wanted.where(projects.c.name == name.name).order_by(repositories.c.name))
    return tuple(Repository(row.name) for row in rows)


# changing


def add(name: ProjectName, *, public: bool, now: int) -> Change:
    """A new, empty project; on commit raises `Conflict` if there is one of that name."""

    def apply(connection: Connection) -> Notes:
        if find(connection, name) is not None:
            raise Conflict(f"There is a project {name} already; choose another name, or change that project.")
        connection.execute(insert(projects).values(name=name.name, public=public, created_at=now))
        project = get(connection, name)
        return Notes(after=told(project), result=project)

    return Change(apply, policy=True)


def set_public(name: ProjectName, *, public: bool) -> Change:
    """Opens the project to anonymous pulls, or closes it; on commit raises `Unknown`."""

    def apply(connection: Connection) -> Notes:
        before = get(connection, name)
        connection.execute(update(projects).where(projects.c.id == before.id).values(public=public))
        after = get(connection, name)
        return Notes(before=told(before), after=told(after), result=after)

    return Change(apply, policy=True)


def remove(name: ProjectName, held: Sequence[Repository], *, force: bool) -> Change:
    """
    Removes the project with its repositories, uploads, robots and grants; *held* are the repositories it was seen with.

    On commit raises `Unknown`; `Conflict` while it holds content unless *force*, or if it has gained a repository
    since *held* was read: every process must learn of each that goes.
    """

    def apply(connection: Connection) -> Notes:
        before = get(connection, name)
        holds = holdings(connection, before.id)
        if holds.entries and not force:
            raise Conflict(
                f"Project {name} still holds content (repositories: {holds.repositories}); remove them first, or "
                "remove the project with all it holds: --force."
            )
        if not set(repository_names(connection, name)) <= set(held):
            raise Conflict(f"A repository was added to project {name} meanwhile; try again.")
        for repository in repository_names(connection, name):
            remove_repository(connection, repository)
        removed = {"repositories_removed": holds.repositories, "size_bytes": holds.size_bytes}
        detail = {**removed, **_remove_rows(connection, before)}
        return Notes(before=told(before), detail=detail, result=before)

    return Change(apply, policy=True, repositories=tuple(held))


def told(project: ProjectRow) -> dict[str, object]:
    """The project as events tell it."""
    return {"project": project.name, "public": project.public}


def _remove_rows(connection: Connection, project: ProjectRow) -> dict[str, object]:
    """Removes the project and all that hangs on it beside repositories, and says how much of each there was."""
    robots = _robots(project)
    removed: dict[str, Delete] = {
        "uploads": delete(uploads).where(
            or_(
                uploads.c.repository == project.name,
                uploads.c.repository.startswith(f"{project.name}/", autoescape=True),
            )
        ),
        "grants": delete(grants).where(or_(grants.c.project_id == project.id, grants.c.account_id.in_(robots))),
        "offline_tokens": delete(offline_tokens).where(offline_tokens.c.account_id.in_(robots)),
        "robots": delete(accounts).where(accounts.c.project_id == project.id),
        "project": delete(projects).where(projects.c.id == project.id),
    }
    counts = {noun: connection.execute(statement).rowcount for noun, statement in removed.items()}
    return {f"{noun}_removed": count for noun, count in counts.items() if noun != "project"}


def _robots(project: ProjectRow) -> ScalarSelect[Any]:
    return select(accounts.c.id).where(accounts.c.project_id == project.id).scalar_subquery()


def _project(row: Row[Any]) -> ProjectRow:
    return ProjectRow(row.id, row.name, row.public, datetime.fromtimestamp(row.created_at, UTC))
