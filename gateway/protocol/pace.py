"""How much of a reply a connection is given at a time: little, until its client has shown that it keeps up.

What a client that does not read holds here is some three pieces: one with the system, one encrypted, one in hand. Large
pieces cost less processor time, so they are for those who take them.
"""

from __future__ import annotations

from typing import Final

#: As large as pieces, and as full as the transport, are for a client that is slow or not known yet.
SLOW_BYTES: Final = 32 * 1024
#: So much must have been taken before anything larger is given: more than the systems at both ends keep of a connection
#: that nobody reads (some 4.5 MiB, as Linux comes), so that what only lies there does not count as read.
PROVEN_BYTES: Final = 8 * 1024 * 1024
#: Who takes less than this while we wait is slow.
_SLOW_BYTES_PER_SECOND: Final = 1024 * 1024
#: Shorter waits say little: another connection may have had its turn.
_JUDGED_SECONDS: Final = 0.1


class Pace:
    """The size of pieces for one connection: 32 KiB, or *most_bytes* once 8 MiB were taken at 1 MiB/s or more."""

    __slots__ = ("_most_bytes", "_sent", "_taken", "_waited", "bytes")

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.bytes = min(SLOW_BYTES, most_bytes)
        self._sent = 0
        self._taken = 0
        self._waited = 0.0

    def appetite(self) -> int:
        """How many bytes the next piece should have at most."""
        return self.bytes

    def sent(self, size: int) -> bool:
        """A piece was handed over; whether that makes the client a fast one, and `bytes` larger."""
        self._sent += size
        self._taken += size
        if self._taken < PROVEN_BYTES or self.bytes == self._most_bytes:
            return False
        self.bytes = self._most_bytes
        return True

    def waited(self, seconds: float) -> bool:
        """The client was waited for; whether that makes it a slow one, and `bytes` smaller."""
        self._waited += seconds
        if self._waited < _JUDGED_SECONDS:
            return False
        slow = self._sent < _SLOW_BYTES_PER_SECOND * self._waited
        self._sent, self._waited = 0, 0.0
        if not slow:
            return False
        self._taken = 0
        before, self.bytes = self.bytes, min(SLOW_BYTES, self._most_bytes)
        return self.bytes != before
