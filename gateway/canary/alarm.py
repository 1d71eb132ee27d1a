"""The alarm: the probe looks every few minutes; what it finds is an event, a warning of readiness and a log line."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from gateway.audit.event import Event, Kind, Outcome
from gateway.canary.probe import Finding, LeakProbe
from gateway.errors import Unavailable
from gateway.gate import Act, Gate
from gateway.initialisation import gateway_itself

_log = logging.getLogger("gateway.canary")
#: So long a process that has just started is left alone.
_FIRST_SECONDS: Final = 10.0
#: A leak that goes on is an event again after so many looks.
_AGAIN: Final = 12
#: More findings than these are counted, not named: one hole shows in many rows.
_NAMED: Final = 10


class LeakAlarm:
    """
    What the *probe* found when it last looked, told to whoever asks for readiness; recorded through *gate*.

    The event `leak.found` comes with the first look that finds something else than the one before, and every twelfth
    after it while that lasts.
    """

    def __init__(self, probe: LeakProbe, gate: Gate) -> None:
        self.found: tuple[Finding, ...] = ()
        self._probe = probe
        self._gate = gate
        self._looks = 0

    def warnings(self) -> list[str]:
        """The one warning while something leaks; nothing of it helps whoever would use the leak."""
        if not self.found:
            return []
        return ["The leak probe was answered what nobody may see; see: gateway audit list --kind leak.found"]

    async def watch(self, seconds: float) -> None:
        """Looks every so many *seconds*, until it is cancelled."""
        await asyncio.sleep(min(_FIRST_SECONDS, seconds))
        while True:
            try:
                await self.look()
            except Unavailable as refusal:
                _log.warning("whether anything leaks could not be seen: %s", refusal.message)
            except Exception:
                # A probe that fails is no reason to stop serving, nor to stop probing.
                _log.exception("the leak probe failed; it is tried again")
            await asyncio.sleep(seconds)

    async def look(self) -> None:
        """One look; raises `Unavailable` when it cannot be done, or not recorded."""
        found = await self._probe.look()
        before, self.found = self.found, found
        self._looks = self._looks + 1 if found and found == before else 0
        if not found:
            if before:
                _log.warning("the leak probe finds nothing any more")
            return
        _log.critical("LEAK: %d answers to the leak probe that nobody may have, among them: %s", len(found), found[0])
        if self._looks % _AGAIN == 0:
            await self._gate.ledger.commit(Act(_event(found)))


def _event(found: tuple[Finding, ...]) -> Event:
    told = {"answers": len(found), "first": [str(each) for each in found[:_NAMED]]}
    return Event(Kind.LEAK_FOUND, gateway_itself(), Outcome.FAILED, reason="canary_answered", detail=told)
