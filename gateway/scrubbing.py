"""What the first worker does unasked: damage that readers met is put aside and recorded, the rest is looked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.access.principals import Caller
from gateway.administration.checking import Checks, Pace
from gateway.errors import Unavailable

_log = logging.getLogger("gateway.integrity")

#: So long damage that was met goes unrecorded, and pushes that look first are told that the blob is here.
_WATCH_SECONDS: Final = 1.0
_TROUBLE_SECONDS: Final = 30.0
_REST_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Scrubbing:
    """Both go on until they are cancelled; without a trail, or with a disk that fails, they wait and try again."""

    checks: Checks
    caller: Callable[[], Caller]

    async def watch(self) -> None:
        """Settles what readers met damaged."""
        while True:
            try:
                count = await self.checks.settle(self.caller())
            except (Unavailable, OSError) as trouble:
                _log.warning("damage that was met could not be recorded: %s", trouble)
                await asyncio.sleep(_TROUBLE_SECONDS)
                continue
            if count:
                _log.error("%d damaged blobs were put aside; see: gateway audit list --kind integrity.failure", count)
            await asyncio.sleep(_WATCH_SECONDS)

    async def scrub(self, bytes_per_second: int) -> None:
        """Reads everything that is kept, at this rate, once a day at most."""
        pace = Pace(bytes_per_second)
        while True:
            try:
                rest = await self.checks.scrub(self.caller(), pace)
            except (Unavailable, OSError) as trouble:
                _log.warning("the scrub could not go on: %s", trouble)
                rest = _TROUBLE_SECONDS
            await asyncio.sleep(min(rest, _REST_SECONDS))
