"""Robots in the database: accounts of a project, which go with it."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from gateway.access.names import RobotName
from gateway.access.policy import Role
from gateway.access.principals import PrincipalKind
from gateway.change import Change, Notes
from gateway.errors import Conflict
from gateway.records.accounts import find, get, insert_account, told
from gateway.records.projects import get as get_project
from gateway.records.schema import accounts, grants


def add(name: RobotName, secret: str, role: Role, *, expires_at: int, now: int) -> Change:
    """
    A new, enabled robot that holds *role* on its project; *secret* is the hash.

    On commit raises `Unknown` without the project, `Conflict` if there is such a robot.
    """

    def apply(connection: Connection) -> Notes:
        project = get_project(connection, name.project)
        if find(connection, str(name)) is not None:
            raise Conflict(f"There is a robot {name} already; choose another name, or rotate its secret.")
        values = {"project_id": project.id, "expires_at": expires_at}
        account = insert_account(connection, PrincipalKind.ROBOT, str(name), secret, now=now, **values)
        grant = {"account_id": account, "project_id": project.id, "pattern": "", "role": role.value}
        connection.execute(insert(grants).values(**grant, created_at=now))
        robot = get(connection, str(name))
        return Notes(after={**told(robot), "role": role.value}, result=robot)

    return Change(apply, policy=True)


def rotate(name: RobotName, secret: str, *, expires_at: int, now: int, overlap_seconds: int) -> Change:
    """
    Another secret, given as its hash, and another expiry; the secret that was good is good as well for a while.

    That is *overlap_seconds*, and never longer than it would have been. Tokens got with it stay good too: the
    generation does not move. One from before it ends here. On commit raises `Unknown`.
    """

    def apply(connection: Connection) -> Notes:
        before = get(connection, str(name))
        mine = accounts.c.id == before.id
        former = connection.execute(select(accounts.c.secret).where(mine)).scalar_one()
        until = min(now + overlap_seconds, int(before.expires_at.timestamp()) if before.expires_at else now)
        row = {"secret": secret, "changed_at": now, "expires_at": expires_at, "used_at": None}
        used_at = int(before.used_at.timestamp()) if before.used_at is not None else None
        row |= {"former_secret": former, "former_until": until, "former_used_at": used_at}
        connection.execute(update(accounts).where(mine).values(row))
        after = get(connection, str(name))
        overlap = {"former_until": after.former_until.isoformat()} if after.former_until is not None else {}
        return Notes(before=told(before), after=told(after), detail={"account": str(name), **overlap}, result=after)

    return Change(apply, policy=True)


def end_overlap(name: RobotName, now: int) -> Change:
    """
    Ends the secret before the one that is good, with every token got by either; on commit raises `Unknown`.

    `Conflict` when there is no such secret any more.
    """

    def apply(connection: Connection) -> Notes:
        before = get(connection, str(name))
        if before.former_until is None or before.former_until.timestamp() <= now:
            raise Conflict(f"{name} has one secret only; rotate it to give it another one.")
        cleared = {"former_secret": None, "former_until": None, "former_used_at": None}
        moved = {"generation": accounts.c.generation + 1}
        connection.execute(update(accounts).where(accounts.c.id == before.id).values(cleared | moved))
        return Notes(detail={"account": str(name), "overlap": "ended"}, result=get(connection, str(name)))

    return Change(apply, policy=True)
