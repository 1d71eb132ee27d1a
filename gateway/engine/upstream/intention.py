"""An act done in the registry behind, with the intent that remembers it until its outcome is recorded."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gateway.change import Elsewhere
from gateway.oci.names import Repository
from gateway.records import intents


class Intention:
    """
    One intent: `elsewhere` begins it, and `end` is for the change that records the outcome.

    *kind* and *act* are what `gateway.records.intents` says of them; *check* may refuse before anything is begun, in
    the same transaction.
    """

    def __init__(
        self,
        kind: str,
        repository: Repository,
        act: Mapping[str, object],
        check: Callable[[Any], None] | None = None,
    ) -> None:
        self._id = str(uuid.uuid4())
        self._kind = kind
        self._repository = repository
        self._act = act
        self._check = check

    def elsewhere(self, run: Callable[[], Awaitable[None]]) -> Elsewhere:
        return Elsewhere(self._begin, run, self.end)

    def end(self, connection: Any) -> None:
        intents.end(connection, self._id)

    def _begin(self, connection: Any, event: Mapping[str, Any]) -> None:
        if self._check is not None:
            self._check(connection)
        intents.begin(connection, self._id, self._kind, self._repository, self._act, event)
