"""An act done in the registry behind, with the intent that remembers it until its outcome is recorded."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.change import Change, Elsewhere, Notes
from gateway.engine.upstream.holds import Hold, Holds
from gateway.errors import Unavailable
from gateway.oci.names import Repository
from gateway.records import intents

#: Said of an act that was done after all when somebody had already told how it ended.
LATE: Final[Mapping[str, object]] = {"settled_before": True}


def _nothing(connection: Any) -> None:
    pass


class Intention:
    """
    One intent, held by this process from its beginning to its end: meanwhile nobody settles it.

    *kind* and *act* are what `gateway.records.intents` says of them; *check* may refuse before anything is begun, in
    the same transaction.
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
        self._given_up = False
        self._guard = threading.Lock()

    def around(
        self, change: Change, run: Callable[[], Awaitable[None]], drop: Callable[[Any], None] = _nothing
    ) -> Change:
        """
        *change*, which records that *run* was done; the intent is begun before and ends with it.

        If nothing was done, the intent ends with *drop*.
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

        return replace(change, apply=apply, elsewhere=Elsewhere(self._begin, run, undo), release=release)

    def _begin(self, connection: Any, event: Mapping[str, Any]) -> None:
        if self._check is not None:
            self._check(connection)
        with self._guard:
            if self._given_up:
                # Nobody would do it: the intent would keep room for what never comes.
                raise Unavailable("The gateway took too long to begin; nothing was done, try again shortly.")
            self._hold = self._holds.take(self._id)
        intents.begin(connection, self._id, self._kind, self._repository, self._act, event)

    def _release(self) -> None:
        with self._guard:
            self._given_up = True
            if self._hold is not None:
                self._hold.release()
