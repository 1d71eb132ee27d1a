"""The keys that sign tokens: seen, rotated, revoked."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.access.keys import SigningKey
from gateway.access.principals import Caller
from gateway.administration.values import MANAGE_SYSTEM
from gateway.audit.event import Kind
from gateway.gate import Gate
from gateway.records.keys import StoredKeys


@dataclass(frozen=True, slots=True)
class KeyRow:
    """
    A signing key without its private half. *state* is next, current, previous or revoked.

    *created* and *retires* are UTC in ISO 8601; *retires* is when a previous key stops verifying, None before that.
    """

    kid: str
    state: str
    created: str
    retires: str | None


@dataclass(frozen=True, slots=True)
class Keys:
    """Needs an administrator. No private half is ever shown."""

    gate: Gate
    stored: StoredKeys

    async def list_keys(self, caller: Caller) -> tuple[KeyRow, ...]:
        """Every key, the newest first."""
        async with self.gate.passage(caller, Kind.KEY_LIST, MANAGE_SYSTEM) as passage:
            found = await asyncio.to_thread(self.stored.read)
            await passage.seal()
        return tuple(_row(key) for key in found)

    async def rotate_key(self, caller: Caller) -> KeyRow:
        """The next key signs from now on; tokens of the old one stay good until they expire. Returns what signs now."""
        async with self.gate.passage(caller, Kind.KEY_ROTATE, MANAGE_SYSTEM) as passage:
            notes = await passage.commit(self.stored.rotate(datetime.now(UTC)))
        assert isinstance(notes.result, SigningKey)
        return _row(notes.result)

    async def revoke_key(self, caller: Caller, kid: str) -> None:
        """
        Tokens signed by this key are worth nothing from now on; if it was the current key, the next one signs.

        Raises `Unknown`, or `Conflict` if it is revoked already.
        """
        async with self.gate.passage(caller, Kind.KEY_REVOKE, MANAGE_SYSTEM, detail={"kid": kid}) as passage:
            await passage.commit(self.stored.revoke(kid, datetime.now(UTC)))


def _row(key: SigningKey) -> KeyRow:
    retires = key.retires_at.isoformat() if key.retires_at is not None else None
    return KeyRow(key.kid, key.state.value, key.created_at.isoformat(), retires)
