"""Who holds something in a project, and who holds something everywhere: a page at a time, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, Connection, select

from gateway.access.policy import Grant, Reach, Role, Standing
from gateway.access.principals import Principal, PrincipalKind
from gateway.oci.names import ProjectName
from gateway.records.directory import moment
from gateway.records.schema import accounts, grants

_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Holder:
    """An account, and how it stands as far as one project goes: its grants elsewhere are left out."""

    principal: Principal
    standing: Standing


def of_project(connection: Connection, project: int, name: ProjectName, after: str, limit: int) -> list[Holder]:
    """Up to *limit* accounts that hold a grant in the project, expired ones included, by name after *after*."""
    held = (
        select(accounts.c.id)
        .join(grants, grants.c.account_id == accounts.c.id)
        .where(grants.c.project_id == project, accounts.c.name > after)
        .group_by(accounts.c.id, accounts.c.name)
        .order_by(accounts.c.name)
        .limit(limit)
    )
    return _holders(connection, project, name, list(connection.execute(held).scalars()))


def of_account(connection: Connection, account: int, project: int, name: ProjectName) -> Holder | None:
    """The account numbered *account*, as far as the project goes; None if it is gone."""
    found = _holders(connection, project, name, [account])
    return found[0] if found else None


def administrators(connection: Connection, limit: int) -> list[Holder]:
    """Up to *limit* administrators, by name; no grants are told."""
    return _everywhere(connection, accounts.c.administrator, limit)


def auditors(connection: Connection, limit: int) -> list[Holder]:
    """Up to *limit* auditors, as above."""
    return _everywhere(connection, accounts.c.auditor, limit)


def _everywhere(connection: Connection, role: Column[bool], limit: int) -> list[Holder]:
    wanted = select(accounts).where(role.is_(True)).order_by(accounts.c.name).limit(limit)
    return [_holder(row, ()) for row in connection.execute(wanted)]


def _holders(connection: Connection, project: int, name: ProjectName, numbers: Sequence[int]) -> list[Holder]:
    by_account: dict[int, list[Grant]] = {number: [] for number in numbers}
    rows: list[Any] = []
    for start in range(0, len(numbers), _CHUNK):
        some = numbers[start : start + _CHUNK]
        rows += connection.execute(select(accounts).where(accounts.c.id.in_(some)))
        mine = select(grants).where(grants.c.project_id == project, grants.c.account_id.in_(some))
        for row in connection.execute(mine.order_by(grants.c.id)):
            held = Grant(Role(row.role), Reach(name, row.pattern), moment(row.expires_at))
            by_account[row.account_id].append(held)
    return [_holder(row, tuple(by_account[row.id])) for row in sorted(rows, key=lambda row: str(row.name))]


def _holder(row: Any, held: tuple[Grant, ...]) -> Holder:
    standing = Standing(row.enabled, row.generation, row.administrator, row.auditor, moment(row.expires_at), held)
    return Holder(Principal(PrincipalKind(row.kind), row.id, row.name), standing)
