"""Users: who may sign in, and what they are in the system."""

from __future__ import annotations

import time
from dataclasses import dataclass

from gateway.access.names import AccountName, is_robot, parse_principal
from gateway.access.passwords import HashingPool, generate_password
from gateway.access.principals import Caller
from gateway.administration.sight import reading
from gateway.administration.values import MANAGE_SYSTEM, AccountDetail, NewSecret
from gateway.audit.event import Kind
from gateway.errors import Invalid
from gateway.gate import Gate
from gateway.records import accounts as rows
from gateway.records.accounts import Account
from gateway.records.database import Database
from gateway.records.grants import grants_of


@dataclass(frozen=True, slots=True)
class Accounts:
    """
    Every act is recorded. Accounts are an auditor's to see too; every other act needs an administrator.

    `Invalid` for a name outside the grammar, `Unknown` for one nobody has. The last enabled administrator can be
    neither disabled, demoted nor removed: `Conflict`.
    """

    gate: Gate
    database: Database
    hashing: HashingPool

    async def add_user(
        self,
        caller: Caller,
        name: str,
        *,
        administrator: bool = False,
        auditor: bool = False,
        password: str | None = None,
    ) -> NewSecret:
        """
        A new user; without *password* one is generated and returned, this once.

        Raises `Conflict` if the name is taken, `Invalid` for a password that is empty, too short or too long.
        """
        async with self.gate.passage(caller, Kind.ACCOUNT_ADD, MANAGE_SYSTEM, detail={"account": name}) as passage:
            account = AccountName.parse(name)
            secret = generate_password() if password is None else password
            hashed = await self.hashing.hash(secret)
            change = rows.add_user(account, hashed, administrator=administrator, auditor=auditor, now=int(time.time()))
            await passage.commit(change)
        return NewSecret(account.name, secret if password is None else None)

    async def set_user(
        self, caller: Caller, name: str, *, administrator: bool | None = None, auditor: bool | None = None
    ) -> Account:
        """Gives or takes system roles; None leaves one as it is. Returns the account as it is then."""
        async with self.gate.passage(caller, Kind.ACCOUNT_SET, MANAGE_SYSTEM, detail={"account": name}) as passage:
            change = rows.set_roles(_user(name), administrator=administrator, auditor=auditor)
            notes = await passage.commit(change)
        return _account(notes.result)

    async def list_accounts(self, caller: Caller) -> tuple[Account, ...]:
        """Every user and robot, by name."""
        need = await reading(self.gate, caller)
        async with self.gate.passage(caller, Kind.ACCOUNT_LIST, need) as passage:
            found = await self.database.read(rows.every_account)
            await passage.seal()
        return found

    async def show_account(self, caller: Caller, name: str) -> AccountDetail:
        """A user or robot, with its grants (expired ones included) and the number of its offline tokens."""
        need = await reading(self.gate, caller)
        async with self.gate.passage(caller, Kind.ACCOUNT_SHOW, need, detail={"account": name}) as passage:
            canonical = parse_principal(name)
            account = await self.database.read(lambda connection: rows.find(connection, canonical))
            if account is None:
                raise rows.no_account(canonical)
            grants = await self.database.read(lambda connection: grants_of(connection, account=account.id))
            tokens = await self.database.read(lambda connection: rows.offline_token_count(connection, account.id))
            await passage.seal()
        return AccountDetail(account, grants, tokens)

    async def disable(self, caller: Caller, name: str) -> Account:
        """Suspends everything the user or robot could do, its tokens included, within one second everywhere."""
        return await self._set_enabled(caller, Kind.ACCOUNT_DISABLE, name, enabled=False)

    async def enable(self, caller: Caller, name: str) -> Account:
        """Undoes `disable`: what the account held is as it was."""
        return await self._set_enabled(caller, Kind.ACCOUNT_ENABLE, name, enabled=True)

    async def set_password(self, caller: Caller, name: str, password: str | None = None) -> NewSecret:
        """
        Another password; without *password* one is generated and returned, this once.

        The user's offline tokens are revoked, and the tokens already issued are worth nothing any more.
        """
        async with self.gate.passage(caller, Kind.ACCOUNT_PASSWORD, MANAGE_SYSTEM, detail={"account": name}) as passage:
            user = _user(name)
            secret = generate_password() if password is None else password
            # Whose it is is settled before the slow part: an account added again under the name gets nothing.
            number = (await self.database.read(lambda connection: rows.get(connection, user))).id
            hashed = await self.hashing.hash(secret)
            await passage.commit(rows.set_secret(number, hashed, now=int(time.time())))
        return NewSecret(user, secret if password is None else None)

    async def remove_user(self, caller: Caller, name: str) -> None:
        """Removes the user with its grants and offline tokens; one added again under the name is another."""
        async with self.gate.passage(caller, Kind.ACCOUNT_REMOVE, MANAGE_SYSTEM, detail={"account": name}) as passage:
            await passage.commit(rows.remove(_user(name)))

    async def _set_enabled(self, caller: Caller, kind: Kind, name: str, *, enabled: bool) -> Account:
        async with self.gate.passage(caller, kind, MANAGE_SYSTEM, detail={"account": name}) as passage:
            notes = await passage.commit(rows.set_enabled(parse_principal(name), enabled=enabled))
        return _account(notes.result)


def _user(name: str) -> str:
    if is_robot(name):
        raise Invalid(f"{parse_principal(name)} is a robot; use the robot's own commands for it.")
    return AccountName.parse(name).name


def _account(result: object) -> Account:
    assert isinstance(result, Account)
    return result
