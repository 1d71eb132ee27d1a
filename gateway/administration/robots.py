"""Robots: the accounts of programs, each of one project."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.access.names import RobotName
from gateway.access.policy import Need, Role
from gateway.access.principals import Caller
from gateway.access.scopes import Action
from gateway.access.secrets import Secrets, keyed_hash, new_robot_secret
from gateway.administration.grants import expiry
from gateway.administration.sight import reading
from gateway.administration.values import NewSecret
from gateway.audit.event import Kind
from gateway.errors import Invalid
from gateway.gate import Gate
from gateway.oci.names import ProjectName
from gateway.records import robots as rows
from gateway.records.accounts import Account, remove, robots_of, set_secret
from gateway.records.accounts import get as get_account
from gateway.records.database import Database
from gateway.records.projects import get

ROBOT_LIFE = timedelta(days=90)
#: Two secrets that are both good are twice as likely to leak: it should not last.
OVERLAP_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Robots:
    """
    Acts on a project's robots need its owner. A robot is spelled `PROJECT+NAME` or `PROJECT/NAME`, shown with '+'.

    Its secret is shown once and kept as a keyed hash; every robot expires, at most ten years from now.
    """

    gate: Gate
    database: Database
    secrets: Secrets

    async def add_robot(self, caller: Caller, name: str, role: str, *, expires: timedelta = ROBOT_LIFE) -> NewSecret:
        """
        A new robot that holds *role* on its whole project, with its secret.

        Raises `Conflict` if it exists, `Unknown` if the project does not.
        """
        robot = RobotName.parse(name)
        asked = {"account": str(robot), "role": role}
        needs = Need(Action.MANAGE, robot.project)
        async with self.gate.passage(caller, Kind.ROBOT_ADD, needs, detail=asked) as passage:
            held, expires_at = Role.parse(role), expiry(expires)
            secret, hashed = self._new_secret()
            await passage.commit(rows.add(robot, hashed, held, expires_at=expires_at, now=int(time.time())))
        return NewSecret(str(robot), secret, datetime.fromtimestamp(expires_at, UTC))

    async def list_robots(self, caller: Caller, project: str) -> tuple[Account, ...]:
        """The project's robots by name, expired and disabled ones included; for auditors too. Raises `Unknown`."""
        name = ProjectName.parse(project)
        need = await reading(self.gate, caller, name)
        async with self.gate.passage(caller, Kind.ROBOT_LIST, need) as passage:
            row = await self.database.read(lambda connection: get(connection, name))
            found = await self.database.read(lambda connection: robots_of(connection, row.id))
            await passage.seal()
        return found

    async def show_robot(self, caller: Caller, name: str) -> Account:
        """One robot, as `list_robots` has it. Raises `Unknown`."""
        robot = RobotName.parse(name)
        need = await reading(self.gate, caller, robot.project)
        async with self.gate.passage(caller, Kind.ROBOT_LIST, need, detail={"account": str(robot)}) as passage:
            found = await self.database.read(lambda connection: get_account(connection, str(robot)))
            await passage.seal()
        return found

    async def rotate_robot(
        self, caller: Caller, name: str, *, expires: timedelta = ROBOT_LIFE, overlap_seconds: int = 0
    ) -> NewSecret:
        """
        Another secret and another expiry; the old secret, and all tokens got with it, are worth nothing any more.

        With *overlap_seconds*, at most 30 days, both secrets are good for so long: programs change over one by one.
        Raises `Unknown`, and `Invalid` for a longer overlap.
        """
        if not 0 <= overlap_seconds <= OVERLAP_SECONDS:
            raise Invalid(f"Two secrets are good at once for at most {OVERLAP_SECONDS // 86400} days.")
        robot = RobotName.parse(name)
        needs = Need(Action.MANAGE, robot.project)
        async with self.gate.passage(caller, Kind.ROBOT_ROTATE, needs, detail={"account": str(robot)}) as passage:
            expires_at = expiry(expires)
            secret, hashed = self._new_secret()
            now = int(time.time())
            if overlap_seconds:
                change = rows.rotate(robot, hashed, expires_at=expires_at, now=now, overlap_seconds=overlap_seconds)
            else:
                number = (await self.database.read(lambda connection: get_account(connection, str(robot)))).id
                change = set_secret(number, hashed, now=now, expires_at=expires_at)
            notes = await passage.commit(change)
        account = notes.result
        assert isinstance(account, Account)
        until = datetime.fromtimestamp(expires_at, UTC)
        return NewSecret(str(robot), secret, until, former_until=account.former_until, account=account)

    async def end_overlap(self, caller: Caller, name: str) -> Account:
        """
        Ends the old secret before its time; tokens got with either secret are worth nothing any more.

        Raises `Unknown`, and `Conflict` if the robot has one secret only.
        """
        robot = RobotName.parse(name)
        needs = Need(Action.MANAGE, robot.project)
        async with self.gate.passage(caller, Kind.ROBOT_ROTATE, needs, detail={"account": str(robot)}) as passage:
            notes = await passage.commit(rows.end_overlap(robot, int(time.time())))
        assert isinstance(notes.result, Account)
        return notes.result

    async def remove_robot(self, caller: Caller, name: str) -> None:
        """Removes the robot with its grants and offline tokens; one added again under the name is another."""
        robot = RobotName.parse(name)
        needs = Need(Action.MANAGE, robot.project)
        async with self.gate.passage(caller, Kind.ROBOT_REMOVE, needs, detail={"account": str(robot)}) as passage:
            await passage.commit(remove(str(robot)))

    def _new_secret(self) -> tuple[str, str]:
        secret = new_robot_secret()
        return secret, keyed_hash(self.secrets.robots, secret)
