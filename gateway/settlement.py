"""Intents that are still open are settled: what became of them is found out, and recorded once, with its event.

What some process still does or is about to record is left to it, however long that takes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gateway.audit.event import Event, Outcome
from gateway.audit.recollection import recollected
from gateway.change import Change, Notes
from gateway.errors import UpstreamUnavailable
from gateway.gate import Act, Ledger
from gateway.records import intents
from gateway.records.database import Database
from gateway.records.intents import Intent

if TYPE_CHECKING:
    from gateway.engine.upstream.settling import Finding, Settling

_log = logging.getLogger("gateway.settlement")

#: What nobody waits for any more, the registry behind may be doing yet: so long its end is waited for.
PATIENCE_SECONDS = 60.0
NOT_DONE = "not_done"


@dataclass(frozen=True, slots=True)
class Settlement:
    """Settles the open intents of one database; several may, and each intent is recorded once."""

    database: Database
    ledger: Ledger
    settling: Settling
    clock: Callable[[], float] = time.time

    async def settle(self, *, after_seconds: float = PATIENCE_SECONDS) -> int:
        """
        Settles what was begun more than *after_seconds* ago and is held by nobody; returns how many intents were.

        What has not been done is said to be so only of intents older than a minute, and than what large blobs take: it
        may be done yet. What the registry behind does not say now, it is asked again the next time. `Unavailable`
        without a trail, or room for a hold.
        """
        now = self.clock()
        found = await self.database.read(lambda connection: intents.open_intents(connection, now - after_seconds))
        under_way = self.settling.under_way()
        return sum([await self._settle(intent, now) for intent in found if intent.id not in under_way])

    async def _settle(self, intent: Intent, now: float) -> bool:
        hold = await self.settling.hold(intent)
        if hold is None:
            return False
        try:
            finished = await self._found_out(intent, now)
        except BaseException:
            hold.release()
            raise
        if finished is None:
            hold.release()
            return False
        event, change = finished
        # Held until it is recorded, even if nobody waits for the trail any more.
        notes = await self.ledger.commit(Act(event, replace(change, release=hold.release), silent=True))
        return bool(notes.result)

    async def _found_out(self, intent: Intent, now: float) -> tuple[Event, Change] | None:
        """The event that tells how *intent* ended, and what ends it; None if that cannot be said now."""
        try:
            finding = await self.settling.find_out(intent)
        except UpstreamUnavailable as refusal:
            _log.warning(
                "what became of %s on %s is not known yet: %s", intent.kind, intent.repository, refusal.message
            )
            return None
        except Exception:
            # One that cannot be read must not keep the others from being settled.
            _log.exception("how %s on %s ended cannot be found out", intent.kind, intent.repository)
            return None
        if not finding.happened and now - intent.begun_at < PATIENCE_SECONDS + self.settling.lasting_seconds(intent):
            return None
        outcome = Outcome.ALLOWED if finding.happened else Outcome.FAILED
        event = recollected(intent.event, outcome, "" if finding.happened else NOT_DONE)
        return event, _change(intent, finding, event)


def _change(intent: Intent, finding: Finding, event: Event) -> Change:
    """What ends *intent*, and is an event only if nobody has ended it before."""

    def apply(connection: Any) -> Notes:
        if not intents.end(connection, intent.id):
            return Notes(result=False)
        notes = finding.apply(connection)
        told = {**_fields(event), "before": notes.before, "after": notes.after}
        told["digest"] = notes.digest or event.digest
        told["detail"] = {**(notes.detail or {}), **(event.detail or {})}
        return replace(notes, also=(*notes.also, (event.kind.value, told)), result=True)

    return Change(apply, repositories=(intent.repository,))


def _fields(event: Event) -> dict[str, object]:
    names = ("outcome", "project", "repository", "reference", "action", "reason", "grant", "bytes")
    return {name: getattr(event, name) for name in names}
