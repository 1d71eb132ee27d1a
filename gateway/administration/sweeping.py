"""Sweeps: content that nothing references is removed, with an event before anything goes and a receipt after."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from gateway.access.principals import Caller
from gateway.administration.emptying import Emptying
from gateway.administration.values import MANAGE_SYSTEM
from gateway.audit.event import Kind
from gateway.change import Change, Notes
from gateway.engine.sweeping import Amount, Plan, Receipt, Stock, Swept
from gateway.gate import Act, Gate, Passage
from gateway.records import sweeping, trash
from gateway.records.database import Database
from gateway.records.trash import Going

__all__ = ["Amount", "Plan", "Receipt", "Stock", "Sweeper", "Sweeps", "Swept"]

_HOUR_SECONDS = 3600


class Sweeper(Protocol):
    """What removes content; the engine that keeps content implements it."""

    @property
    def swept(self) -> Swept: ...

    def alone(self) -> AbstractContextManager[None]: ...

    async def plan(self) -> Plan: ...

    async def sweep(self, plan: Plan, commit: Callable[[Change], Awaitable[Notes]]) -> Receipt: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Sweeps:
    """
    Sweeping needs an administrator. *sweeper* makes what sweeps once, told for how many seconds to keep what is loose.

    Raises `Conflict` while another sweep or an import is under way, `Unavailable` when nothing can be written: what
    went until then is gone, and another sweep goes on from there.
    """

    gate: Gate
    database: Database
    sweeper: Callable[[int], Sweeper]
    clock: Callable[[], float] = time.time

    async def plan(self, caller: Caller, grace_seconds: int) -> Plan:
        """What `sweep` would do now; one event, and nothing changes."""
        sweeper = self.sweeper(grace_seconds)
        try:
            async with self.gate.passage(caller, Kind.STORAGE_SWEEP, MANAGE_SYSTEM) as passage:
                plan = await sweeper.plan()
                passage.note(detail={"plan": True, "grace_seconds": grace_seconds, **told(plan.going)})
                await passage.seal()
            return plan
        finally:
            sweeper.close()

    async def sweep(self, caller: Caller, grace_seconds: int) -> Receipt:
        """
        Removes what nothing references and nobody has needed for *grace_seconds*.

        If anything is to go, an event with the plan is on disk before it does; the receipt is the event of the act.
        """
        sweeper = self.sweeper(grace_seconds)
        try:
            async with self.gate.passage(caller, Kind.STORAGE_SWEEP, MANAGE_SYSTEM) as passage:
                with sweeper.alone():
                    receipt = await self._swept(passage, sweeper, grace_seconds)
                    await passage.commit(Change(self._ended))
            return receipt
        finally:
            sweeper.close()

    async def due(self, hours: int) -> bool:
        """Whether the last sweep ended at least *hours* ago, or there was none."""
        last = await self.database.read(sweeping.last_sweep)
        return last is None or self.clock() >= last + hours * _HOUR_SECONDS

    async def _swept(self, passage: Passage, sweeper: Sweeper, grace_seconds: int) -> Receipt:
        ledger = self.gate.ledger

        async def commit(change: Change) -> Notes:
            return await ledger.commit(Act(passage.event(), change, silent=True))

        await self._clear_trash(passage.caller)
        plan = await sweeper.plan()
        facts = {"grace_seconds": grace_seconds}
        if not plan.empty:
            begun = passage.event().but(kind=Kind.STORAGE_SWEEP_BEGUN, detail={**facts, **told(plan.going)})
            await ledger.commit(Act(begun))
        try:
            receipt = await sweeper.sweep(plan, commit)
        except BaseException:
            passage.note(bytes=sweeper.swept.freed_bytes, detail={**facts, **told(sweeper.swept)})
            raise
        detail = {**facts, **told(receipt.gone), "busy": receipt.busy, "balanced": receipt.after.balanced}
        passage.note(bytes=receipt.gone.freed_bytes, detail=detail)
        return receipt

    async def _clear_trash(self, caller: Caller) -> None:
        """What has been in the trash for its time goes for good, unless it is read-only, with events of its own."""
        going = Going(until=int(self.clock()), spares=True)
        if await asyncio.to_thread(self.database.read_now, partial(trash.any_of, going=going)):
            async with self.gate.passage(caller, Kind.TRASH_EMPTY, MANAGE_SYSTEM) as passage:
                await Emptying(passage, self.database, going, overdue=True).run()

    def _ended(self, connection: Any) -> Notes:
        sweeping.keep_time(connection, int(self.clock()))
        return Notes()


def told(swept: Swept) -> dict[str, object]:
    """What goes, for events and for programs."""
    names = ("links", "blobs", "files", "strays", "uploads", "spools", "leftovers")
    amounts: dict[str, Amount] = {name: getattr(swept, name) for name in names}
    shown = {name: {"count": amount.count, "bytes": amount.bytes} for name, amount in amounts.items()}
    return {**shown, "freed_bytes": swept.freed_bytes}
