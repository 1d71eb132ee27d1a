"""A peer that fails again and again is left alone for a while, so that nobody waits for it in vain.

five failures in a row ─▶ it opens
some of them may be the fault of what was asked for (a 500 of the registry's own, a cut body) ─▶ in doubt: ask first
open: one request now and then may try, and its owner greets by itself ─▶ the first sound answer closes it
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from gateway.errors import UpstreamUnavailable

FAILURES = 5
WITHIN_SECONDS = 30.0
REST_SECONDS = 5.0


class Turn(Enum):
    """What a failure has come to."""

    NONE = auto()
    DOUBTFUL = auto()
    OPENED = auto()


class Circuit:
    """
    Opens after five failures in a row within 30 seconds; while it is open one request each 5 seconds may try.

    It stays closed, and in doubt, if any of the five may be the fault of what was asked for. Any answer that makes
    sense closes it. It belongs to one thread.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: deque[tuple[float, bool]] = deque(maxlen=FAILURES)
        self._next_try = 0.0
        self._heard = -math.inf
        self.trouble = ""
        """Why it is open, as a sentence of our own; "" while it is closed."""

    def enter(self) -> None:
        """Raises `UpstreamUnavailable` at once while the peer is left alone."""
        if not self.trouble:
            return
        now = self._clock()
        if now < self._next_try:
            wait = max(1, math.ceil(self._next_try - now))
            raise UpstreamUnavailable(f"{self.trouble} Try again in {wait} s.", retry_after_seconds=wait)
        # Whoever comes now tries; whatever is heard of that, but an answer, the next one does after another rest.
        self._next_try = now + REST_SECONDS

    def failed(self, why: str, *, particular: bool = False) -> Turn:
        """
        Counts a failure, told in the sentence *why*, and says what it has come to.

        *particular* is one that says nothing of other requests: whoever may push a manifest that the peer stumbles
        over, or pull what is damaged there, would otherwise keep everybody else out.
        """
        now = self._clock()
        self._failures.append((now, particular))
        if self.trouble:
            # The rest goes on as it is: it began with the try, and failures would put the next one off for ever.
            self.trouble = self.trouble if particular else why
            return Turn.NONE
        if len(self._failures) < FAILURES or now - self._failures[0][0] > WITHIN_SECONDS:
            return Turn.NONE
        if any(each for _, each in self._failures):
            return Turn.DOUBTFUL
        self.open(why)
        return Turn.OPENED

    @property
    def doubtful(self) -> bool:
        """Whether it is closed, and nothing has been answered since as many failed as open it."""
        return not self.trouble and len(self._failures) == FAILURES

    @property
    def silent_seconds(self) -> float:
        """How long the peer has begun no answer that makes sense; infinite as long as it never has."""
        return self._clock() - self._heard

    def open(self, why: str) -> None:
        """Leaves the peer alone from now on."""
        self.trouble, self._next_try = why, self._clock() + REST_SECONDS

    def alive(self) -> None:
        """The peer has begun to answer: an open circuit closes; failures in the middle of answers still count."""
        self._heard = self._clock()
        if self.trouble:
            self.answered()

    def answered(self) -> None:
        """The peer has answered to the end: nothing is held against it any more."""
        self._heard = self._clock()
        self.trouble = ""
        self._failures.clear()
