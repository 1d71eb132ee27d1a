"""An act done in the registry behind, with the intent that remembers it until its outcome is recorded.

    begun ─▶ whoever began before on the same tag or digest has recorded it, or given it up ─▶ done there ─▶ recorded
                                       if there was anybody, the rules are asked once more ┘

Who comes first is who was begun first, over all processes: nobody waits for one that came later, nor for the dead.
Those of one process stand in a line in which each waits for the one before it alone, and is told when that is over;
only the first of the line has to look, again and again, whether another process is done.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
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
#: More than that are not waited for: what each moves, and whom it meets, is read as others are begun.
MOST_AHEAD: Final = 100
#: So often it is looked whether another process is done.
_PAUSE_SECONDS: Final = 0.01


def _nothing(connection: Any) -> None:
    pass


class Intention:
    """
    One intent, held by this process from its beginning to its end: meanwhile nobody settles it.

    *kind* and *act* are what `gateway.records.intents` says of them; *check* may refuse before anything is begun, in
    the same transaction, and complete *act*. It is asked again once others went before: what it is given are the ids of
    intents that do not count, its own and those of whoever waits for this one.
    """

    def __init__(
        self,
        holds: Holds,
        kind: str,
        repository: Repository,
        act: Mapping[str, object],
        check: Callable[[Any, Collection[str]], None],
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
        this act (`gateway.records.precedence`), and the rules still let it; if those are more than `MOST_AHEAD`, or
        that takes too long, it is not, and `Unavailable` is raised.
        """

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

        elsewhere = Elsewhere(self._begin, run, undo, self._wait, self._resume)
        return replace(change, apply=apply, elsewhere=elsewhere, release=release)

    def _begin(self, connection: Any, event: Mapping[str, Any]) -> None:
        self._check(connection, ())
        ahead = precedence.meeting(connection, self._repository, self._kind, self._act, self._id)
        if len(self._holds.own(frozenset(ahead))) > MOST_AHEAD:
            raise _busy()
        with self._guard:
            if self._given_up:
                # Nobody would do it: the intent would keep room for what never comes.
                raise _late()
            self._hold = self._holds.take(self._id)
        self._ahead = ahead
        intents.begin(connection, self._id, self._kind, self._repository, self._act, event)

    def _resume(self, connection: Any) -> None:
        with self._guard:
            if self._given_up:
                raise _late()
        meeting = precedence.meeting(connection, self._repository, self._kind, self._act, self._id)
        # Whoever waits for this one is judged when it is over, by what it left.
        self._check(connection, {self._id, *meeting} - set(self._ahead))
        # What it brings is promised to it, and what it met here is how things stood, as of now.
        if not intents.amend(connection, self._id, self._act):
            # Without its hold it was taken for given up, and how it ended has been told.
            raise _late()

    async def _wait(self) -> bool:
        ahead = frozenset(self._ahead)
        if not ahead:
            return False
        try:
            async with asyncio.timeout(WAITING_SECONDS):
                if len(ahead) > MOST_AHEAD and len(await asyncio.to_thread(self._holds.still, ahead)) > MOST_AHEAD:
                    raise _busy()
                await self._outlast(ahead)
        except TimeoutError:
            raise _busy() from None
        return True

    async def _outlast(self, ahead: frozenset[str]) -> None:
        watched = ahead
        while True:
            while own := self._holds.own(ahead):
                await asyncio.wrap_future(own[-1])
            # Of these, too, one that was given up may be held again, by whoever settles it.
            left = await asyncio.to_thread(self._holds.still, watched)
            if not left and watched == ahead:
                return
            # While the last is waited for, nothing has to be known of those before it.
            watched = frozenset([each for each in self._ahead if each in left][-1:]) or ahead
            if left:
                await asyncio.sleep(_PAUSE_SECONDS)

    def _release(self) -> None:
        with self._guard:
            self._given_up = True
            if self._hold is not None:
                self._hold.release()


def _late() -> Unavailable:
    return Unavailable("The gateway took too long to begin; nothing was done, try again shortly.")


def _busy() -> Unavailable:
    return Unavailable("Others are changing the same tag or digest; nothing was done, try again shortly.")
