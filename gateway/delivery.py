"""Delivery: what the trail gains is read in batches and handed to a sink, in order, at least once, by one courier each.

    cursor ─▶ events after it ─▶ checkpoints about them ─▶ the sink has them ─▶ cursor moves, durably ─▶ …

Reading and sending happen in the courier's own thread: no request waits for either. A sink that refuses is tried again,
less and less often; its lag and its trouble are kept where everybody can see them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from gateway.access.principals import Caller
from gateway.audit.checkpoints import gap
from gateway.audit.event import Event, Kind, Outcome
from gateway.audit.sinks.port import Shipment, Sink, SinkFailed
from gateway.change import Change
from gateway.errors import Unavailable
from gateway.gate import Act, Ledger
from gateway.records import cursors
from gateway.records.cursors import Cursor
from gateway.records.database import Database
from gateway.records.trail import SqlTrail

_log = logging.getLogger("gateway.delivery")
T = TypeVar("T")

#: How often a courier looks for something new.
LOOK_SECONDS: Final = 1.0
_FIRST_REST_SECONDS: Final = 1.0
_LONGEST_REST_SECONDS: Final = 300.0
#: A failure that lasts so long is an event; a shorter one is only seen in the sink's state.
_LASTING_SECONDS: Final = 60
#: So many checkpoints are sent at once.
_STATEMENTS: Final = 100
_PURGED: Final = "purged before delivery"
_MISSING: Final = "missing from the trail"


@dataclass(frozen=True, slots=True)
class _Read:
    """A shipment, and where the cursor stands once it is delivered."""

    shipment: Shipment
    then: Cursor


class Courier:
    """Delivers to the sink called *name*, at most *batch* events at once; *caller* is whom events name."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        database: Database,
        trail: SqlTrail,
        ledger: Ledger,
        caller: Callable[[], Caller],
        *,
        batch: int = 500,
    ) -> None:
        self._name = name
        self._sink = sink
        self._database = database
        self._trail = trail
        self._ledger = ledger
        self._caller = caller
        self._batch = batch
        self._rest_seconds = _FIRST_REST_SECONDS
        self._told = False
        self._ending: bool | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"courier-{name}")

    async def run(self) -> None:
        """Delivers until it is cancelled; whatever goes wrong, it goes on."""
        try:
            while True:
                rest = await self._turn()
                if rest:
                    await asyncio.sleep(rest)
        finally:
            # Nobody uses it any more: what was under way was awaited.
            self._sink.close()
            self._thread.shutdown(wait=False)

    async def _turn(self) -> float:
        """One shipment, if there is something to ship; how long to rest after it."""
        try:
            if self._ending is None:
                self._ending = await self._aside(self._was_failing)
            at = await self._aside(self._cursor)
            read = await self._aside(lambda: self._next(at))
            if read is None:
                return LOOK_SECONDS
            await self._aside(lambda: self._sink.deliver(read.shipment))
            await self._commit(cursors.move(self._name, read.then))
            await self._recovered()
        except SinkFailed as failed:
            return await self._failed(str(failed), failed.retry_after_seconds)
        except Unavailable as refusal:
            return await self._failed(refusal.message, 0.0)
        except Exception:
            _log.exception("delivering to the sink %s failed", self._name)
            return await self._failed("a fault of the gateway's own; see its log", 0.0)
        # With more to ship, others have their turn first.
        return 0.01 if len(read.shipment.lines) >= self._batch else LOOK_SECONDS

    def _cursor(self) -> Cursor:
        return self._database.read_now(lambda connection: cursors.cursor(connection, self._name))

    def _was_failing(self) -> bool:
        """Whether the sink has failed for a while already, under a courier before this one."""
        now = time.time()
        found = self._database.read_now(lambda connection: cursors.lags(connection, now))
        since = next((lag.failing_since for lag in found if lag.name == self._name), None)
        return since is not None and now - since >= _LASTING_SECONDS

    def _next(self, at: Cursor) -> _Read | None:
        """What follows the cursor, in the thread."""
        found = self._trail.following(at.seq, self._batch)
        lines = [event.line() for event in found.events]
        first, last = (found.events[0].seq, found.events[-1].seq) if found.events else (0, 0)
        if found.purged:
            lines.insert(0, gap(at.seq + 1, found.purged, _PURGED))
        if found.missing:
            lines.insert(0, gap(at.seq + 1, found.missing, _MISSING))
            _log.error(
                "events %d to %d are missing from the trail; run: gateway audit verify", at.seq + 1, found.missing
            )
        then = replace(at, seq=max(last, found.purged, found.missing, at.seq))
        stored = self._trail.statements(at.checkpoint, then.seq, _STATEMENTS)
        lines += [each.line for each in stored]
        if not lines:
            return None
        statements = (stored[0].number, stored[-1].number) if stored else (0, 0)
        then = replace(then, checkpoint=stored[-1].number) if stored else then
        return _Read(Shipment(lines, first, last, statements), then)

    async def _failed(self, trouble: str, wanted_seconds: float) -> float:
        rest = max(self._rest_seconds, wanted_seconds)
        self._rest_seconds = min(self._rest_seconds * 2, _LONGEST_REST_SECONDS)
        try:
            lasting = await self._commit(cursors.fail(self._name, trouble))
            if isinstance(lasting, int) and lasting >= _LASTING_SECONDS and not self._told:
                self._told = self._ending = True
                await self._note(Outcome.FAILED, trouble)
        except Unavailable as refusal:
            _log.warning("the trouble of the sink %s could not be kept: %s", self._name, refusal.message)
        _log.warning("the sink %s takes nothing, it is tried again in %d s: %s", self._name, rest, trouble)
        return rest * random.uniform(0.8, 1.2)  # noqa: S311 - no secret depends on it

    async def _recovered(self) -> None:
        self._rest_seconds = _FIRST_REST_SECONDS
        if self._ending:
            await self._note(Outcome.ALLOWED, "")
        self._told = self._ending = False

    async def _note(self, outcome: Outcome, trouble: str) -> None:
        """Records that the sink has failed for a while, or takes events again."""
        told = {"sink": self._name, **({"trouble": trouble} if trouble else {})}
        event = Event(Kind.AUDIT_DELIVERY, self._caller(), outcome, reason="sink_failed" if trouble else "")
        await self._ledger.commit(Act(event.but(detail=told)))

    async def _commit(self, change: Change) -> object:
        event = Event(Kind.AUDIT_DELIVERY, self._caller(), detail={"sink": self._name})
        return (await self._ledger.commit(Act(event, change, silent=True))).result

    async def _aside(self, job: Callable[[], T]) -> T:
        """What *job* answers in the thread; cancelled, the sink is told to end, and the thread is awaited."""
        work = asyncio.get_running_loop().run_in_executor(self._thread, job)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            self._sink.abort()
            await asyncio.gather(work, return_exceptions=True)
            raise
