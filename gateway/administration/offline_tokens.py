"""Offline tokens: what clients keep instead of a password, seen and revoked."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.access.names import RobotName, is_robot, parse_principal
from gateway.access.policy import Need
from gateway.access.principals import Caller
from gateway.access.scopes import Action
from gateway.administration.values import MANAGE_SYSTEM
from gateway.audit.event import Kind
from gateway.gate import Gate
from gateway.records import accounts as rows
from gateway.records.accounts import OfflineTokenRow
from gateway.records.database import Database


@dataclass(frozen=True, slots=True)
class OfflineTokens:
    """Needs an administrator; a robot's tokens are its project's owner's too. The token itself is never shown."""

    gate: Gate
    database: Database

    async def list_tokens(self, caller: Caller, principal: str | None = None) -> tuple[OfflineTokenRow, ...]:
        """The live offline tokens of *principal*, or of all, by number. Raises `Unknown`."""
        name = parse_principal(principal) if principal is not None else None
        asked = {"account": name} if name is not None else {}
        async with self.gate.passage(caller, Kind.OFFLINE_TOKEN_LIST, _need(name), detail=asked) as passage:
            found = await self.database.read(lambda connection: rows.offline_tokens_of(connection, name))
            await passage.seal()
        return found

    async def revoke_token(self, caller: Caller, token_id: int) -> OfflineTokenRow:
        """Revokes one token by its number; it and every bearer got with it are worth nothing then. Raises `Unknown`."""
        asked = {"offline_token": token_id}
        async with self.gate.passage(caller, Kind.OFFLINE_TOKEN_REVOKE, MANAGE_SYSTEM, detail=asked) as passage:
            notes = await passage.commit(rows.revoke_token(token_id))
        assert isinstance(notes.result, OfflineTokenRow)
        return notes.result

    async def revoke_tokens(self, caller: Caller, principal: str) -> int:
        """Revokes every offline token of *principal*; returns how many there were. Raises `Unknown`."""
        name = parse_principal(principal)
        async with self.gate.passage(
            caller, Kind.OFFLINE_TOKEN_REVOKE, _need(name), detail={"account": name}
        ) as passage:
            notes = await passage.commit(rows.revoke_tokens(name))
        assert isinstance(notes.result, int)
        return notes.result


def _need(principal: str | None) -> Need:
    if principal is not None and is_robot(principal):
        return Need(Action.MANAGE, RobotName.parse(principal).project)
    return MANAGE_SYSTEM
