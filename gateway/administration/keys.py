"""The keys that sign tokens: seen, rotated, revoked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.access.principals import Caller
from gateway.gate import Gate
from gateway.records.database import Database

if TYPE_CHECKING:
    from gateway.records.keys import StoredKeys


@dataclass(frozen=True, slots=True)
class KeyRow:
    """*state* is next, current, previous or revoked; *retires* is when a previous one stops verifying, in UTC."""

    kid: str
    state: str
    created: str
    retires: str | None


@dataclass(frozen=True, slots=True)
class Keys:
    """Needs an administrator. No private half is ever shown."""

    gate: Gate
    database: Database
    stored: StoredKeys

    async def list_keys(self, caller: Caller) -> Sequence[KeyRow]:
        """Every key, the newest first."""
        raise NotImplementedError

    async def rotate_key(self, caller: Caller) -> KeyRow:
        """Signs with the next key from now on; tokens of the old one stay good until they expire. Returns the new."""
        raise NotImplementedError

    async def revoke_key(self, caller: Caller, kid: str) -> None:
        """Tokens signed by this key are worth nothing from now on. Raises `Unknown`."""
        raise NotImplementedError
