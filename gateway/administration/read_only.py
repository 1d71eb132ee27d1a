"""The switch that makes the whole gateway read-only: pulls and administration go on, content stays as it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.access.policy import Need
from gateway.access.principals import Caller
from gateway.access.rules import parse_reason
from gateway.access.scopes import Action
from gateway.administration.values import MANAGE_SYSTEM, Freeze
from gateway.audit.event import Kind
from gateway.gate import Gate
from gateway.records import rules
from gateway.records.database import Database


@dataclass(frozen=True, slots=True)
class ReadOnlySwitch:
    """Turning it needs an administrator; every process obeys from the moment it is turned."""

    gate: Gate
    database: Database

    async def turn_on(self, caller: Caller, reason: str) -> None:
        """Nothing is pushed, mounted or deleted any more, for a *reason* that clients are told. Raises `Invalid`."""
        await self._set(caller, parse_reason(reason))

    async def turn_off(self, caller: Caller) -> None:
        """The gateway takes changes again; projects that are read-only themselves do not."""
        await self._set(caller, "")

    async def show(self, caller: Caller) -> Freeze:
        """How the switch stands; for administrators and auditors."""
        async with self.gate.passage(caller, Kind.READ_ONLY_SHOW, Need(Action.REVIEW)) as passage:
            reason, since = await self.database.read(rules.freeze)
            await passage.seal()
        return Freeze(bool(reason), reason, datetime.fromtimestamp(since, UTC) if reason else None)

    async def _set(self, caller: Caller, reason: str) -> None:
        async with self.gate.passage(caller, Kind.READ_ONLY_SET, MANAGE_SYSTEM) as passage:
            await passage.commit(rules.set_freeze(reason, int(time.time())))
