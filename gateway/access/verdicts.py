"""Verdicts remembered: one token asking for one right again and again is judged once, until policy moves."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.access.policy import Need, Verdict
from gateway.access.principals import Caller, CredentialKind

#: Grants, accounts and tokens expire by the clock, without policy moving: no verdict is older than this.
SECONDS = 1.0
ENTRIES = 10_000


class Verdicts:
    """
    The verdicts on bearer tokens at one policy version, in bounded memory, none older than a second.

    A token's id stands for all it carries: whoever asks here has verified it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._version = -1
        self._begun = 0.0
        self._known: dict[tuple[str, Need], Verdict] = {}

    def find(self, caller: Caller, need: Need, version: int) -> Verdict | None:
        """What was judged at this *version*, within the last second."""
        if version != self._version or self._clock() - self._begun >= SECONDS:
            return None
        return self._known.get((caller.credential.id, need))

    def keep(self, caller: Caller, need: Need, version: int, verdict: Verdict) -> None:
        """Remembers *verdict*, if the caller is a token's; *version* is one at which nothing was moving."""
        if caller.credential.kind is not CredentialKind.BEARER:
            return
        now = self._clock()
        if version != self._version or now - self._begun >= SECONDS or len(self._known) >= ENTRIES:
            self._known = {}
            self._version, self._begun = version, now
        self._known[caller.credential.id, need] = verdict
