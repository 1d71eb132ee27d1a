"""Personal access tokens: made by the user they stand for, seen, and revoked."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.access.names import AccountName
from gateway.access.personal import check_days, parse_bound, parse_name
from gateway.access.policy import Need
from gateway.access.principals import Caller, CredentialKind, PrincipalKind
from gateway.access.secrets import Secrets, keyed_hash, new_personal_token
from gateway.administration.sight import require_own
from gateway.administration.values import MANAGE_SYSTEM, NewSecret
from gateway.audit.event import Kind
from gateway.errors import Denied
from gateway.gate import Gate
from gateway.records import personal_tokens as rows
from gateway.records.accounts import get
from gateway.records.database import Database
from gateway.records.personal_tokens import PersonalTokenRow

_DAY_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class PersonalTokens:
    """
    A user's own are its own to make, see and revoke; an administrator sees and revokes everybody's.

    The token itself is shown once, when it is made. No token makes tokens: what it made would outlive it.
    """

    gate: Gate
    database: Database
    secrets: Secrets

    async def issue(
        self,
        caller: Caller,
        name: str,
        actions: Iterable[str],
        projects: Iterable[str] | None,
        days: int,
        *,
        account: str | None = None,
    ) -> NewSecret:
        """
        A new token called *name*, for *actions* in *projects* (None: all), that lives for *days*, at most 365.

        It may do what lies in that bound and its user may do, at each moment. *account* is for the operator on the
        host, who may make one for any user. Raises `Invalid`, `Conflict` when the user has a token of that name, and
        `Denied` to a caller that came with a token.
        """
        owner = AccountName.parse(account).name if account is not None else caller.principal.name
        needs = _needs(caller, owner)
        asked = {"account": owner, "name": name}
        async with self.gate.passage(caller, Kind.PERSONAL_TOKEN_ISSUE, *needs, detail=asked) as passage:
            await self._require_maker(caller, owner)
            label, bound = parse_name(name), parse_bound(actions, projects)
            now = int(time.time())
            expires_at = now + check_days(days) * _DAY_SECONDS
            token = new_personal_token()
            hashed = keyed_hash(self.secrets.personal_tokens, token)
            number, generation = await self._owner(caller, owner)
            notes = await passage.commit(
                rows.add(number, owner, hashed, label, bound, expires_at=expires_at, now=now, generation=generation)
            )
        row = notes.result
        assert isinstance(row, PersonalTokenRow)
        return NewSecret(row.name, token, datetime.fromtimestamp(expires_at, UTC), row.id)

    async def list(self, caller: Caller, account: str | None = None) -> tuple[PersonalTokenRow, ...]:
        """
        The tokens of the user *account*, those that are over for less than a month included, by number.

        Without *account* they are the caller's own, or, for the operator, everybody's. Raises `Unknown`.
        """
        everybody = account is None and caller.principal.kind is PrincipalKind.OPERATOR
        owner = None if everybody else AccountName.parse(account or caller.principal.name).name
        asked = {"account": owner} if owner is not None else {}
        needs = _needs(caller, owner)
        async with self.gate.passage(caller, Kind.PERSONAL_TOKEN_LIST, *needs, detail=asked) as passage:
            if not needs:
                await require_own(self.gate, caller)
            found = await self.database.read(lambda connection: rows.tokens_of(connection, owner))
            await passage.seal()
        return found

    async def revoke(self, caller: Caller, number: int) -> PersonalTokenRow:
        """
        Revokes the token of this number; it, and every bearer got with it, is worth nothing from then on.

        Raises `Unknown`, also for somebody else's unless the caller is an administrator. Every token may end itself.
        """
        mine = await self._is_mine(caller, number)
        needs = () if mine else (MANAGE_SYSTEM,)
        asked = {"personal_token": number}
        async with self.gate.passage(caller, Kind.PERSONAL_TOKEN_REVOKE, *needs, detail=asked) as passage:
            if mine and caller.personal_token != number:
                await require_own(self.gate, caller)
            notes = await passage.commit(rows.revoke(number, owner=caller.principal.id if mine else None))
        assert isinstance(notes.result, PersonalTokenRow)
        return notes.result

    async def revoke_all(self, caller: Caller, account: str) -> int:
        """Revokes every token of the user *account*; returns how many there were. Raises `Unknown`."""
        owner = AccountName.parse(account).name
        needs = _needs(caller, owner)
        async with self.gate.passage(caller, Kind.PERSONAL_TOKEN_REVOKE, *needs, detail={"account": owner}) as passage:
            if not needs:
                await require_own(self.gate, caller)
            notes = await passage.commit(rows.revoke_all(owner))
        assert isinstance(notes.result, int)
        return notes.result

    async def _require_maker(self, caller: Caller, owner: str) -> None:
        if caller.personal_token or caller.credential.kind is CredentialKind.PERSONAL_TOKEN:
            raise Denied("A token makes no tokens: sign in to the console to make another one.")
        if caller.principal.kind is PrincipalKind.OPERATOR:
            return
        if not _own(caller, owner):
            raise Denied("Everybody makes their own tokens: ask the user to sign in to the console and make one.")
        await require_own(self.gate, caller)

    async def _owner(self, caller: Caller, owner: str) -> tuple[int, int | None]:
        """The number of the account, and at which generation it asks if it asks itself."""
        if _own(caller, owner):
            return caller.principal.id, caller.generation
        return (await self.database.read(lambda connection: get(connection, owner))).id, None

    async def _is_mine(self, caller: Caller, number: int) -> bool:
        if caller.principal.kind is not PrincipalKind.USER:
            return False
        row = await self.database.read(lambda connection: rows.find(connection, number))
        return row is not None and row.account == caller.principal.name


def _own(caller: Caller, owner: str | None) -> bool:
    return caller.principal.kind is PrincipalKind.USER and caller.principal.name == owner


def _needs(caller: Caller, owner: str | None) -> tuple[Need, ...]:
    return () if _own(caller, owner) else (MANAGE_SYSTEM,)
