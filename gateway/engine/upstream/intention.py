"""An act done in the registry behind, with the intent that remembers it until its outcome is recorded.

    begun ─▶ whoever began before on the same tag or digest has recorded it, or given it up ─▶ done there ─▶ recorded

Who comes first is who was begun first, over all processes: nobody waits for one that came later, nor for the dead.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.change import Change, Elsewhere, Notes
from gateway.engine.upstream.holds import Hold, Holds
from gateway.errors import Unavailable
from gateway.oci.names import Repository
from gateway.records import intents, precedence

#: Said of an act that was done after all when somebody had already told how it ended.
LATE: Final[Mapping[str, object]] = {"settled_before": True}
#: So long an act waits for those before it: more than the registry behind may take to answer one of them.
WAITING_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.002
_LONGEST_PAUSE_SECONDS: Final = 0.1


def _nothing(connection: Any) -> None:
    pass


class Intention:
    """
    One intent, held by this process from its beginning to its end: meanwhile nobody settles it.

    *kind* and *act* are what `gateway.records.intents` says of them; *check* may refuse before anything is begun, in
    the same transaction, and complete *act*.
    """

    def __init__(
        self,
        holds: Holds,
        kind: str,
        repository: Repository,
        act: Mapping[str, object],
        check: Callable[[Any], None] | None = None,
    ) -> None:
        self._holds = holds
        self._id = str(uuid.uuid4())
        self._kind = kind
        self._repository = repository
        self._act = act
        self._check = check
        self._hold: Hold | None = None
        self._ahead: tuple[str, ...] = ()
        self._given_up = False
        self._guard = threading.Lock()

    def around(
        self, change: Change, run: Callable[[], Awaitable[None]], drop: Callable[[Any], None] = _nothing
    ) -> Change:
        """
        *change*, which records that *run* was done; the intent is begun before and ends with it.

        If nothing was done, the intent ends with *drop*. *run* is called when nobody is left who began before and meets
        this act (`gateway.records.precedence`); if that takes too long it is not, and `Unavailable` is raised.
        """

        async def run_in_turn() -> None:
            await self._wait()
            await run()

        def apply(connection: Any) -> Notes:
            first = intents.end(connection, self._id)
            notes = change.apply(connection)
            return notes if first else replace(notes, detail={**(notes.detail or {}), **LATE})

        def undo(connection: Any) -> None:
            intents.end(connection, self._id)
            drop(connection)

        def release() -> None:
            change.release()
            self._release()

        return replace(change, apply=apply, elsewhere=Elsewhere(self._begin, run_in_turn, undo), release=release)

    def _begin(self, connection: Any, event: Mapping[str, Any]) -> None:
        if self._check is not None:
            self._check(connection)
        with self._guard:
            if self._given_up:
                # Nobody would do it: the intent would keep room for what never comes.
                raise Unavailable("The gateway took too long to begin; nothing was done, try again shortly.")
            self._hold = self._holds.take(self._id)
        self._ahead = precedence.meeting(connection, self._repository, self._kind, self._act, self._id)
        intents.begin(connection, self._id, self._kind, self._repository, self._act, event)

    async def _wait(self) -> None:
        patience = time.monotonic() + WAITING_SECONDS
        while ahead := self._holds.still(self._ahead):
            if time.monotonic() > patience:
                raise Unavailable("Others are changing the same tag or digest; nothing was done, try again shortly.")
            await asyncio.sleep(min(_LONGEST_PAUSE_SECONDS, _PAUSE_SECONDS * len(ahead)))

    def _release(self) -> None:
        with self._guard:
            self._given_up = True
            if self._hold is not None:
                self._hold.release()
