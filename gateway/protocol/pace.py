"""How much of a reply a connection is given at a time, and when: what its client leaves lying must not lie with us.

A piece that nobody takes is held encrypted, once or twice, for as long as the client likes. Large pieces cost less
processor time. So everybody gets large ones, but for clients found slow and, while many let us wait, strangers: they
get small ones, and only once the system has room for more. It has less for them: left to itself, Linux takes megabytes
for a client that reads nothing, and each of them is read, counted and encrypted in vain.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.protocol.connection import StrictProtocol

LARGE_BYTES: Final = 256 * 1024
SMALL_BYTES: Final = 16 * 1024
#: So many bytes that were not even sent the system holds for who gets small pieces. It asks for more at half of that.
_UNSENT_BYTES: Final = 2 * SMALL_BYTES
#: So much makes a stranger known: more than the systems at both ends keep of a connection that nobody reads (some
#: 4.5 MiB, as Linux comes), so that what only lies there does not count as read.
PROVEN_BYTES: Final = 8 * 1024 * 1024
#: As many connections of a process as may wait for their clients before strangers are given little.
CROWD: Final = 16
#: Who takes less than this while we wait is slow.
_SLOW_BYTES_PER_SECOND: Final = 1024 * 1024
#: Shorter waits say little: another connection may have had its turn.
_JUDGED_SECONDS: Final = 0.1
#: How often it is looked again when no file can be spared to be told.
_LOOK_SECONDS: Final = 0.1


class Pace:
    """What one client has shown of itself: a stranger, then known or slow; who is slow can become known again."""

    __slots__ = ("_sent", "_taken", "_waited", "slow")

    def __init__(self) -> None:
        self.slow = False
        self._sent = 0
        self._taken = 0
        self._waited = 0.0

    def size(self, *, crowded: bool) -> int:
        """How many bytes the next piece should have at most."""
        return SMALL_BYTES if self.slow or (crowded and self._taken < PROVEN_BYTES) else LARGE_BYTES

    def sent(self, size: int) -> None:
        """A piece of *size* bytes was handed over."""
        self._sent += size
        self._taken += size
        if self.slow and self._taken >= PROVEN_BYTES:
            self.slow = False

    def waited(self, seconds: float) -> None:
        """The client was waited for."""
        self._waited += seconds
        if self._waited < _JUDGED_SECONDS:
            return
        if self._sent < _SLOW_BYTES_PER_SECOND * self._waited:
            self.slow = True
            self._taken = 0
        self._sent, self._waited = 0, 0.0


class Outlet:
    """The way out of one connection; *waiting* while it lets us wait."""

    __slots__ = ("_connection", "_narrow", "_vented", "pace", "waiting")

    def __init__(self, connection: StrictProtocol) -> None:
        self._connection = connection
        self._narrow = False
        self._vented: asyncio.Future[None] | None = None
        self.pace = Pace()
        self.waiting = False

    async def room(self) -> int:
        """How many bytes the next piece of a reply should have at most, told once there is room for it."""
        connection = self._connection
        if connection.flow.write_paused:
            await self.drain()
        size = self.pace.size(crowded=connection.edge.waiting >= CROWD)
        if self._narrow != (size == SMALL_BYTES):
            self._narrow = not self._narrow
            connection.watch.bound_unsent(_UNSENT_BYTES if self._narrow else 0)
        if size == SMALL_BYTES:
            # What was written reaches the system when the loop has been round.
            await asyncio.sleep(0)
            if not self._open():
                await self._wait(self._vent)
        return size

    async def drain(self) -> None:
        """Returns once the transport's buffer is empty, or the client gone."""
        await self._wait(self._connection.flow.drain)
        if self._connection.cycle is not None:
            self._connection.cycle.burst = 0

    def wake(self) -> None:
        """There is room, or nobody left to need it."""
        if self._vented is not None and not self._vented.done():
            self._vented.set_result(None)

    async def _wait(self, until: Callable[[], Awaitable[None]]) -> None:
        connection = self._connection
        begun = connection.loop.time()
        connection.edge.waiting += 1
        self.waiting = True
        try:
            await until()
        finally:
            self.waiting = False
            connection.edge.waiting -= 1
            self.pace.waited(connection.loop.time() - begun)

    def _open(self) -> bool:
        """Whether the system takes more now."""
        descriptor = self._connection.watch.descriptor()
        if descriptor < 0:
            return True
        asked = select.poll()
        asked.register(descriptor, select.POLLOUT)
        return bool(asked.poll(0))

    async def _vent(self) -> None:
        # The loop lets nobody watch the descriptor of a transport; a second one it does.
        descriptor = self._connection.watch.descriptor()
        if descriptor < 0:
            return
        try:
            watched = os.dup(descriptor)
        except OSError:
            await asyncio.sleep(_LOOK_SECONDS)
            return
        loop = self._connection.loop
        self._vented = loop.create_future()
        loop.add_writer(watched, self.wake)
        try:
            await self._vented
        finally:
            self._vented = None
            loop.remove_writer(watched)
            os.close(watched)
