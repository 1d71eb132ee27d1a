"""Grants in the database: who holds which role where."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select, update

from gateway.access.policy import Reach, Role
from gateway.change import Change, Notes
from gateway.errors import Unknown
from gateway.oci.names import ProjectName
from gateway.records.accounts import find as find_account
from gateway.records.accounts import get as get_account
from gateway.records.directory import moment
from gateway.records.projects import find as find_project
from gateway.records.projects import get as get_project
from gateway.records.schema import accounts, grants, projects


@dataclass(frozen=True, slots=True)
class GrantRow:
    """*principal* holds *role* on *reach*, `PROJECT[/PATTERN]`, until *expires_at* if given; times are UTC."""

    id: int
    principal: str
    role: str
    reach: str
    created_at: datetime
    expires_at: datetime | None


# looking


def grants_of(
    connection: Connection, *, account: int | None = None, project: int | None = None
) -> tuple[GrantRow, ...]:
    """The grants of an account, of a project (by their ids), of both or all, expired ones included; by name, reach."""
    wanted = _grants()
    if account is not None:
        wanted = wanted.where(grants.c.account_id == account)
    if project is not None:
        wanted = wanted.where(grants.c.project_id == project)
    ordered = wanted.order_by(accounts.c.name, projects.c.name, grants.c.pattern)
    return tuple(_grant(row) for row in connection.execute(ordered))


def find(connection: Connection, principal: str, reach: Reach) -> GrantRow | None:
    """What the account of this canonical name holds on exactly this reach."""
    account, project = find_account(connection, principal), find_project(connection, reach.project)
    if account is None or project is None:
        return None
    return _find(connection, account.id, project.id, reach.pattern)


# changing


def add(principal: str, role: Role, reach: Reach, *, expires_at: int | None, now: int) -> Change:
    """
    Gives *principal* the role; what it holds on the very same reach is replaced, expiry included.

    On commit raises `Unknown` for an account or project that does not exist.
    """

    def apply(connection: Connection) -> Notes:
        account = get_account(connection, principal).id
        project = get_project(connection, reach.project).id
        before = _find(connection, account, project, reach.pattern)
        held = {"role": role.value, "expires_at": expires_at}
        if before is None:
            key = {"account_id": account, "project_id": project, "pattern": reach.pattern}
            connection.execute(insert(grants).values(**key, **held, created_at=now))
        else:
            connection.execute(update(grants).where(grants.c.id == before.id).values(held))
        after = _find(connection, account, project, reach.pattern)
        assert after is not None
        return Notes(before=told(before) if before is not None else None, after=told(after), result=after)

    return Change(apply, policy=True)


def remove(principal: str, reach: Reach) -> Change:
    """Takes away what *principal* holds on exactly this reach; on commit raises `Unknown`."""

    def apply(connection: Connection) -> Notes:
        account = get_account(connection, principal).id
        project = get_project(connection, reach.project).id
        before = _find(connection, account, project, reach.pattern)
        if before is None:
            raise Unknown(
                f"{principal} holds no grant on {reach}; list the grants of project {reach.project} to see how they "
                "are spelled."
            )
        connection.execute(delete(grants).where(grants.c.id == before.id))
        return Notes(before=told(before), result=before)

    return Change(apply, policy=True)


def told(grant: GrantRow) -> dict[str, object]:
    """The grant as events tell it."""
    expires = grant.expires_at.isoformat() if grant.expires_at is not None else None
    return {"account": grant.principal, "role": grant.role, "reach": grant.reach, "expires_at": expires}


def _find(connection: Connection, account: int, project: int, pattern: str) -> GrantRow | None:
    wanted = _grants().where(grants.c.account_id == account, grants.c.project_id == project)
    row = connection.execute(wanted.where(grants.c.pattern == pattern)).first()
    return _grant(row) if row is not None else None


def _grants() -> Select[Any]:
    joined = grants.join(accounts, accounts.c.id == grants.c.account_id)
    joined = joined.join(projects, projects.c.id == grants.c.project_id)
    columns = (grants.c.id, grants.c.role, grants.c.pattern, grants.c.created_at, grants.c.expires_at)
    return select(*columns, accounts.c.name.label("principal"), projects.c.name.label("project")).select_from(joined)


def _grant(row: Row[Any]) -> GrantRow:
    reach = str(Reach(ProjectName(row.project), row.pattern))
    created = datetime.fromtimestamp(row.created_at, UTC)
    return GrantRow(row.id, row.principal, row.role, reach, created, moment(row.expires_at))
