"""The scrub: every blob's bytes compared with their digest, slowly, in the order of the digests, round after round.

Where it stands is kept in the data directory: a gateway that starts again goes on from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.engine.embedded.integrity import Heard, Integrity
from gateway.engine.embedded.layout import SCRUB
from gateway.engine.stores.folders import Folders
from gateway.oci.digest import Digest
from gateway.records import examination
from gateway.records.database import Database

#: A round begins so long after the one before it began, or later.
ROUND_SECONDS: Final = 86_400
#: Where it stands is kept so often: so much is read again after a stop, and the blob that was in hand.
_STEP_SECONDS: Final = 5.0
_STEP_BLOBS: Final = 256
#: What a blob costs however small it is.
_BLOB_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Step:
    """What a step found damaged; *rest_seconds* is how long there is nothing to do after it."""

    damaged: tuple[Digest, ...] = ()
    looked_at: int = 0
    rest_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Place:
    after: str
    begun: float


class Scrub:
    """The scrub of one data directory; one process at a time."""

    def __init__(
        self, folders: Folders, database: Database, integrity: Integrity, clock: Callable[[], float] = time.time
    ) -> None:
        self._folders = folders
        self._database = database
        self._integrity = integrity
        self._clock = clock

    def step(self, heard: Heard) -> Step:
        """Judges some blobs from where it stands; *heard* makes it as slow as it should be. Blocks."""
        place = self._place()
        coming = self._database.read_now(partial(examination.blobs_after, digest=place.after, limit=_STEP_BLOBS))
        if not coming:
            return self._rest(place)
        damaged: list[Digest] = []
        until = time.monotonic() + _STEP_SECONDS
        looked_at = 0
        for digest in coming:
            heard(_BLOB_BYTES)
            size_bytes = self._database.read_now(partial(examination.blob_size, digest=digest))
            if size_bytes is not None and self._integrity.judge(digest, size_bytes, deep=True, heard=heard):
                damaged.append(digest)
            looked_at += 1
            if time.monotonic() > until:
                break
        self._keep(_Place(coming[looked_at - 1].text, place.begun))
        return Step(tuple(damaged), looked_at)

    def _rest(self, place: _Place) -> Step:
        now = self._clock()
        left = place.begun + ROUND_SECONDS - now
        # A clock that was set back does not put the next round off.
        if place.after and 0 < left <= ROUND_SECONDS:
            return Step(rest_seconds=left)
        self._keep(_Place("", now))
        # Nothing at all is kept here yet, or a round begins with the next step.
        return Step(rest_seconds=0.0 if place.after else 60.0)

    def _place(self) -> _Place:
        try:
            told = json.loads(self._folders.kept(SCRUB))
            return _Place(str(told["after"]), float(told["begun"]))
        except (ValueError, KeyError, TypeError):
            return _Place("", self._clock())

    def _keep(self, place: _Place) -> None:
        self._folders.keep(SCRUB, json.dumps({"after": place.after, "begun": place.begun}).encode())
