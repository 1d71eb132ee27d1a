"""Waiting: one act that was handed to the ledger, from then until whoever handed it over is told how it ended."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Final

from gateway.audit.event import Event, Kind
from gateway.change import Notes
from gateway.errors import Unavailable
from gateway.gate import Act

_log = logging.getLogger("gateway.ledger")

UNKNOWN: Final = "The database does not say whether this was done; look whether it was before you try again."


@dataclass(slots=True, eq=False)
class Waiting:
    """An *act*, and the *future* of whoever waits for it in *loop*: its *notes*, or the *error* that it ended with."""

    act: Act
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Notes]
    notes: Notes = field(default_factory=Notes)
    error: BaseException | None = None

    def give_up(self) -> None:
        """Ends the wait: the act may still be committed when the lock is free, and is not acknowledged."""
        if not self.future.done():
            self.future.set_exception(Unavailable(UNKNOWN, uncertain=True))

    def release(self) -> None:
        """Lets go of what the change holds."""
        if self.act.change is None:
            return
        try:
            self.act.change.release()
        except Exception:
            # How the act ended is settled, and others wait for the thread that this may be.
            _log.exception("what a change held could not be let go of")

    def told(self, event: Event) -> list[Event]:
        """All that is recorded of the act, which was done: *event*, its own, with what came of it, as the last."""
        notes = self.notes
        caused = [
            Event(Kind(kind), event.caller, time=event.time, grant=event.grant).but(**fields)
            for kind, fields in notes.also
        ]
        if self.act.silent:
            return [*caused, *self.act.also]
        detail = {**(event.detail or {}), **notes.detail} if notes.detail is not None else None
        told = {"before": notes.before, "after": notes.after, "detail": detail, "digest": notes.digest or None}
        found = event.but(**{name: value for name, value in told.items() if value is not None})
        return [*caused, *self.act.also, found]

    def wake(self) -> None:
        """Tells how the act ended; in the loop of whoever waits."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.notes)
        else:
            self.future.set_exception(self.error)
