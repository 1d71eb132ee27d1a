"""Projects in the database, and what they hold."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Delete, Row, ScalarSelect, delete, func, insert, or_, select, update

from gateway.access.rules import Rules
from gateway.change import Change, Notes
from gateway.errors import Conflict, Unknown
from gateway.oci.names import ProjectName, Repository
from gateway.records.content import discard_repository
from gateway.records.rules import of_row, require_writable
from gateway.records.schema import accounts, grants, offline_tokens, projects, repositories, uploads
from gateway.records.usage import measured


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """A project; *id* is never reused, *created_at* is UTC. *used_bytes* is what its quota counts."""

    id: int
    name: str
    public: bool
    created_at: datetime
    rules: Rules = field(default_factory=Rules)
    used_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Wishes:
    """
    What is to be changed of a project; None leaves a thing as it is.

    *quota_bytes* takes its place unless *unlimited*, *immutable* replaces all patterns, "" for *read_only* ends it.
    """

    public: bool | None = None
    quota_bytes: int | None = None
    unlimited: bool = False
    immutable: tuple[str, ...] | None = None
    read_only: str | None = None

    @property
    def values(self) -> dict[str, object]:
        """The columns that change, with their new values."""
        values: dict[str, object] = {}
        if self.public is not None:
            values["public"] = self.public
        if self.unlimited or self.quota_bytes is not None:
            values["quota_bytes"] = None if self.unlimited else self.quota_bytes
        if self.immutable is not None:
            values["immutable"] = "\n".join(self.immutable)
        if self.read_only is not None:
            values["read_only"] = self.read_only
        return values


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


def visible(
    connection: Connection,
    *,
    held: Collection[str] | None = None,
    within: Collection[str] | None = None,
    after: str = "",
    limit: int | None = None,
) -> tuple[ProjectRow, ...]:
    """
    The projects that are public or among *held* (None: all), and among *within* (None: all), by name.

    Those after the name *after* ("" for the first), at most *limit* of them.
    """
    wanted = select(projects).order_by(projects.c.name).limit(limit)
    if after:
        wanted = wanted.where(projects.c.name > after)
    if held is not None:
        wanted = wanted.where(or_(projects.c.public, projects.c.name.in_(sorted(held))))
    if within is not None:
        wanted = wanted.where(projects.c.name.in_(sorted(within)))
    return tuple(_project(row) for row in connection.execute(wanted))


def public_names(connection: Connection, limit: int) -> list[str]:
    """The names of the public projects, at most *limit* of them."""
    return list(connection.execute(select(projects.c.name).where(projects.c.public).limit(limit)).scalars())


def holdings(connection: Connection, project: int) -> Holdings:
    """What the project numbered *project* holds, counted one by one: seconds, where there is much."""
    entries, size = measured(connection, project)
    return Holdings(repository_count(connection, project), entries, size)


def repository_count(connection: Connection, project: int) -> int:
    """How many repositories the project numbered *project* has."""
    count = select(func.count()).select_from(repositories).where(repositories.c.project_id == project)
    return int(connection.execute(count).scalar_one())


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


def set_project(name: ProjectName, wishes: Wishes) -> Change:
    """Changes the project as it is wished; on commit raises `Unknown`. *wishes* are not empty."""

    def apply(connection: Connection) -> Notes:
        before = get(connection, name)
        connection.execute(update(projects).where(projects.c.id == before.id).values(wishes.values))
        after = get(connection, name)
        return Notes(before=_ruled(before), after=_ruled(after), result=after)

    return Change(apply, policy=True)


def remove(name: ProjectName, held: Sequence[Repository], *, force: bool) -> Change:
    """
    Removes the project with its repositories, uploads, robots and grants; *held* are the repositories it was seen with.

    On commit raises `Unknown`; `Conflict` while it holds content unless *force*, or if it has gained a repository
    since *held* was read: every process must learn of each that goes; `ReadOnly` while it may not lose its content.
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
        if holds.entries:
            require_writable(connection, name)
        for repository in repository_names(connection, name):
            discard_repository(connection, repository)
        removed = {"repositories_removed": holds.repositories, "size_bytes": holds.size_bytes}
        detail = {**removed, **_remove_rows(connection, before)}
        return Notes(before=told(before), detail=detail, result=before)

    return Change(apply, policy=True, repositories=tuple(held))


def told(project: ProjectRow) -> dict[str, object]:
    """The project as events tell it."""
    return {"project": project.name, "public": project.public}


def _ruled(project: ProjectRow) -> dict[str, object]:
    """The project with its rules."""
    rules = project.rules
    told_rules = {"quota_bytes": rules.quota_bytes, "immutable": rules.immutable, "read_only": rules.read_only}
    return {**told(project), **told_rules}


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
    created_at = datetime.fromtimestamp(row.created_at, UTC)
    return ProjectRow(row.id, row.name, row.public, created_at, of_row(row), row.used_bytes)
