"""What a worker counts of itself and tells: each request on its way through, and the figures of all on `/metrics`."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from gateway.app import Rooms
from gateway.certificates import LivePair
from gateway.front import Application, Front, Receive, Scope, Send
from gateway.metrics.board import Board
from gateway.records import cursors, stock

if TYPE_CHECKING:
    from gateway.metrics.exposition import State

#: The first parts of paths that are told apart; everything else is "other".
_EDGES: Final = frozenset({"v2", "token", "api", "console", "health", "metrics"})
_POST_SECONDS: Final = 1.0
#: So long what is counted in the records is told again without counting.
_COUNT_SECONDS: Final = 60.0


class Metering:
    """Counts the requests to *front* for `/metrics`, which it makes *front* answer."""

    def __init__(self, rooms: Rooms, front: Front, seat: int, live: LivePair) -> None:
        self._rooms = rooms
        self._front = front
        self._seat = seat
        self._live = live
        self._board = Board(rooms.settings.data)
        self._stock: stock.Stock | None = None
        self._counted_at = -_COUNT_SECONDS
        front.open("metrics", self._application)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        counted = _Counted(receive, send)
        meters = self._rooms.meters
        begun = time.perf_counter()
        meters.under_way += 1
        try:
            await self._front(scope, counted.receive, counted.send)
        finally:
            meters.under_way -= 1
            meters.received_bytes += counted.received_bytes
            meters.sent_bytes += counted.sent_bytes
            edge = scope["path"][1:].partition("/")[0]
            elapsed = time.perf_counter() - begun
            meters.answered(edge if edge in _EDGES else "other", scope["method"], counted.status, elapsed)

    async def post(self) -> None:
        """Posts what was counted, each second, until cancelled."""
        while True:
            await asyncio.to_thread(self._board.post, self._seat, self._told())
            await asyncio.sleep(_POST_SECONDS)

    def _application(self) -> Application:
        # With the library that writes the text: a worker that is never asked does without.
        from gateway.metrics.application import application

        return application(
            self._rooms.settings.metrics.token,
            self._board,
            self._seat,
            self._told,
            self._rooms.engine.look,
            self._state,
        )

    def _told(self) -> dict[str, object]:
        return {**self._rooms.meters.told(), "memory_bytes": _memory_bytes()}

    def _state(self) -> State:
        from gateway.metrics.exposition import State

        rooms = self._rooms
        now = time.monotonic()
        if self._stock is None or now - self._counted_at > _COUNT_SECONDS:
            self._stock, self._counted_at = rooms.database.read_now(stock.counted), now
        disk = shutil.disk_usage(rooms.settings.data)
        behind = [lag for lag in rooms.database.read_now(partial(cursors.lags, now=time.time())) if lag.wanted]
        return State(
            version=version("registry-gateway"),
            ready=not (self._front.draining or rooms.ledger.broken or rooms.engine.trouble()),
            events=self._stock.events,
            certificate_until=self._live.pair.not_after.timestamp(),
            disk_free_bytes=disk.free,
            disk_size_bytes=disk.total,
            blobs=self._stock.blobs,
            blob_bytes=self._stock.blob_bytes,
            open_uploads=self._stock.uploads,
            sink_lag_events={lag.name: lag.events for lag in behind},
            sink_lag_seconds={lag.name: float(lag.seconds) for lag in behind},
        )


class _Counted:
    """A request's `receive` and `send`, which count what goes through them."""

    __slots__ = ("_receive", "_send", "received_bytes", "sent_bytes", "status")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.received_bytes = 0
        self.sent_bytes = 0
        self.status = 0

    async def receive(self) -> Any:
        message = await self._receive()
        self.received_bytes += len(message.get("body", b""))
        return message

    async def send(self, message: Any) -> None:
        await self._send(message)
        # Whole replies, in one message of the edge's own, have both.
        self.status = message.get("status", self.status)
        self.sent_bytes += len(message.get("body", b""))


def _memory_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
