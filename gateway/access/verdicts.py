"""Verdicts remembered: one token asking for one right again and again is judged once, until policy moves."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.access.policy import Need, Verdict
from gateway.access.principals import Caller
from gateway.access.scopes import Access

#: Grants, accounts and tokens expire by the clock, without policy moving: no verdict is older than this.
SECONDS = 1.0
ENTRIES = 10_000


class Verdicts:
    """
    The verdicts on bearer tokens at one policy version, in bounded memory, none older than a second.

    A token is recognised by the very object that its access was read into, which is kept as long as the verdict is.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._version = -1
        self._begun = 0.0
        self._known: dict[tuple[int, Need], tuple[Access, Verdict]] = {}

    def find(self, caller: Caller, need: Need, version: int) -> Verdict | None:
        """What was judged at this *version*, within the last second."""
        if version != self._version or self._clock() - self._begun >= SECONDS:
            return None
        access, verdict = self._known.get((id(caller.access), need), (None, None))
        return verdict if access is caller.access else None

    def keep(self, caller: Caller, need: Need, version: int, verdict: Verdict) -> None:
        """Remembers *verdict*, if the caller is a token's; *version* is one at which nothing was moving."""
        if caller.access is None:
            return
        now = self._clock()
        if version != self._version or now - self._begun >= SECONDS or len(self._known) >= ENTRIES:
            self._known = {}
            self._version, self._begun = version, now
        self._known[id(caller.access), need] = (caller.access, verdict)
