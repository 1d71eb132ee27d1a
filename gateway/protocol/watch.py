"""What the sweep knows of one connection, and the bound it is held to in each phase."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from gateway.framing import Misframed

if TYPE_CHECKING:
    from gateway.protocol.connection import StrictProtocol

_RESET: Final = struct.pack("ii", 1, 0)
# Linux's struct tcp_info: tcpi_bytes_acked and tcpi_bytes_received are 64-bit numbers at offset 120.
_TCP_INFO: Final = struct.Struct("@120xQQ")


class Phase(IntEnum):
    FIRST = 0
    HEAD = 1
    BODY = 2
    REPLY = 3
    DRAIN = 4
    IDLE = 5
    CLOSING = 6


class Watch:
    """
    Rates are averages over windows of the time the peer is responsible for: while we read, or while bytes wait to be
    taken. What the peer has taken is what TCP says it acknowledged, not what our buffers passed on.
    """

    __slots__ = (
        "_connection",
        "_looked",
        "_socket",
        "got",
        "linger_received",
        "reading_seconds",
        "stall_acked",
        "stall_seconds",
        "window_got",
        "window_seconds",
    )

    def __init__(self, connection: StrictProtocol) -> None:
        self._connection = connection
        self._socket: socket.socket | None = None
        self._looked = 0.0
        self.got = 0
        self.reading_seconds = 0.0
        self.window_got = 0
        self.window_seconds = 0.0
        self.stall_seconds = 0.0
        self.stall_acked = 0
        self.linger_received = 0

    def connected(self, transport: asyncio.Transport) -> None:
        self._socket = transport.get_extra_info("socket")
        self._looked = self._connection.loop.time()

    def lost(self) -> None:
        self._socket = None

    def descriptor(self) -> int:
        """The socket's file; -1 when it is closed."""
        return self._socket.fileno() if self._socket is not None else -1

    def bound_unsent(self, size: int) -> None:
        """Has the system take no more while it holds about *size* bytes that it has not sent; 0: as it comes."""
        if self._socket is not None:
            with contextlib.suppress(OSError, ValueError):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, size)

    def body_begins(self) -> None:
        self.got = self.window_got = 0
        self.reading_seconds = self.window_seconds = 0.0

    def closing_begins(self) -> None:
        self.linger_received = self._progress()[1]

    def check(self, now: float) -> None:
        """Hold this connection to the bound of its phase; *now* is the loop's time."""
        limits, waited = self._connection.edge.limits, now - self._connection.since
        elapsed, self._looked = now - self._looked, now
        match self._connection.phase:
            case Phase.FIRST if waited > limits.first_byte_seconds:
                self._connection.finish()
            case Phase.IDLE if waited > limits.idle_seconds:
                self._connection.finish()
            case Phase.DRAIN if waited > limits.drain_seconds:
                self._connection.finish()
            case Phase.HEAD if waited > limits.header_seconds:
                self._connection.refuse(
                    Misframed(408, f"Send the whole head of a request within {limits.header_seconds:g} s.")
                )
            case Phase.BODY:
                self._check_body(elapsed)
            case Phase.CLOSING:
                self._check_closing(waited)
            case _:
                pass
        self._check_writing(elapsed)

    def _check_body(self, elapsed: float) -> None:
        cycle, limits = self._connection.cycle, self._connection.edge.limits
        if self._connection.flow.read_paused or cycle is None or cycle.continues:
            return
        self.reading_seconds += elapsed
        if self.reading_seconds <= limits.body_grace_seconds:
            self.window_got = self.got
            return
        self.window_seconds += elapsed
        if self.window_seconds < limits.body_window_seconds:
            return
        if self.got - self.window_got < limits.body_min_bytes_per_second * self.window_seconds:
            least = limits.body_min_bytes_per_second
            self._connection.refuse(Misframed(408, f"Send bodies faster than {least} bytes per second."))
        self.window_got = self.got
        self.window_seconds = 0.0

    def _check_writing(self, elapsed: float) -> None:
        connection = self._connection
        waits = connection.flow.write_paused or connection.outlet.waiting
        if not waits and connection.transport.get_write_buffer_size() == 0:
            self.stall_seconds = 0.0
            return
        acked = self._progress()[0]
        if self.stall_seconds == 0.0:
            self.stall_acked = acked
        self.stall_seconds += elapsed
        limits = self._connection.edge.limits
        if self.stall_seconds < limits.write_stall_seconds:
            return
        if acked - self.stall_acked < limits.write_min_bytes_per_second * self.stall_seconds:
            peer = self._connection.client
            self._connection.edge.on_refused(0, "the client takes its reply too slowly", peer[0] if peer else "")
            self._reset()
        self.stall_seconds = 0.0

    def _check_closing(self, waited: float) -> None:
        if self._connection.flushing:
            self._connection.finish()
            return
        limits = self._connection.edge.limits
        acked, received = self._progress()
        if received - self.linger_received > limits.linger_bytes:
            self._reset()
        elif acked != self.stall_acked:
            # The rest of the reply is still on its way, out of the kernel's buffer.
            self.stall_acked = acked
            self._connection.since = self._connection.loop.time()
        elif waited > limits.linger_seconds:
            self._connection.transport.abort()

    def _reset(self) -> None:
        # An ordinary close would leave the kernel to feed megabytes to a peer that takes them by the byte.
        if self._socket is not None:
            with contextlib.suppress(OSError, ValueError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._connection.transport.abort()

    def _progress(self) -> tuple[int, int]:
        """Bytes the peer has acknowledged and bytes it has sent, as TCP counts them."""
        if self._socket is None:
            return 0, 0
        try:
            found: tuple[int, int] = _TCP_INFO.unpack(
                self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            )
        except (OSError, ValueError, struct.error):
            return 0, 0
        return found
