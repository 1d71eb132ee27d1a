"""Robots in the database: accounts of a project, which go with it."""

from __future__ import annotations

from sqlalchemy import Connection, insert

from gateway.access.names import RobotName
from gateway.access.policy import Role
from gateway.access.principals import PrincipalKind
from gateway.change import Change, Notes
from gateway.errors import Conflict
from gateway.records.accounts import find, get, insert_account, told
from gateway.records.projects import get as get_project
from gateway.records.schema import grants


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
