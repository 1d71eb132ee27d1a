"""What all connections of one process share: the limits, how many each address holds, and the sweep."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gateway.framing import EdgeLimits
from gateway.protocol.heads import Heads
from gateway.protocol.hops import Address, Hops, plain

if TYPE_CHECKING:
    from gateway.protocol.connection import StrictProtocol

log = logging.getLogger("gateway.edge")

#: A sweep takes its interval, in so many steps. Clients that are cut together come back together, and a burst of
#: handshakes holds up everybody.
_STEPS: Final = 20
#: So long connections are looked at in one turn of the loop: a look is quick, but cutting one is not.
_TURN_SECONDS: Final = 0.001
#: So long others have the loop, and threads the interpreter, before a step that is not done goes on.
_REST_SECONDS: Final = 0.002

OnRefused = Callable[[int, str, str], None]


def whence(peer: str) -> tuple[str, Address | None]:
    """Under which key *peer* is counted (an IPv6 /64 is one household), and its address without mapping and zone."""
    address = plain(peer)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False)), address
    return str(address) if address else peer, address


class Edge:
    """
    The edge of one process: who is knocking, who is connected, and a sweep that visits every connection.

    *on_refused* hears each refusal: a status (0 when a connection is cut without one), the reason, the address.
    """

    def __init__(self, limits: EdgeLimits, on_refused: OnRefused) -> None:
        self.limits = limits
        self.on_refused = on_refused
        self.heads = Heads()
        self.hops = Hops(limits.trusted_proxies)
        self.addresses: Counter[str] = Counter()
        self.knocking: Counter[str] = Counter()
        # Connections in their handshake; each counts once, there or in `addresses`.
        self.knocks: dict[asyncio.BaseProtocol, str] = {}
        self.open: set[StrictProtocol] = set()
        # Connections whose clients take nothing of a reply just now.
        self.waiting = 0
        shortest = min(
            limits.header_seconds,
            limits.first_byte_seconds,
            limits.idle_seconds,
            limits.body_window_seconds,
            limits.write_stall_seconds,
            limits.linger_seconds,
        )
        self.interval_seconds = min(1.0, shortest / 4)
        self._sweeping = False
        self._told: set[str] = set()
        self._told_since = 0.0

    def knock(self, peer: str) -> str | None:
        """Count a handshake for *peer*; None when that address has so many connections that it is not worth one."""
        origin, address = whence(peer)
        if self.hops.trusts(address):
            return self._begin(origin)
        limit = self.limits.connections_per_address
        # A few beyond the limit may shake hands, to be told why they are refused.
        if self.addresses[origin] + self.knocking[origin] > limit + limit // 8:
            self._tell(origin, peer)
            return None
        return self._begin(origin)

    def _tell(self, origin: str, peer: str) -> None:
        # A flood of connections must not become a flood of log lines.
        if time.monotonic() - self._told_since > 1:
            self._told_since = time.monotonic()
            self._told.clear()
        if origin not in self._told:
            self._told.add(origin)
            self.on_refused(0, "too many connections from one address", peer)

    def _begin(self, origin: str) -> str:
        self.knocking[origin] += 1
        return origin

    def unknock(self, connection: asyncio.BaseProtocol) -> None:
        """The handshake ended, well or not; again is no harm."""
        origin = self.knocks.pop(connection, None)
        if origin is not None:
            _decrease(self.knocking, origin)

    def enter(self, connection: StrictProtocol) -> None:
        self.unknock(connection)
        self.open.add(connection)
        self.addresses[connection.origin] += 1
        if not self._sweeping:
            self._sweeping = True
            connection.loop.call_later(self.interval_seconds / _STEPS, self._sweep, connection.loop)

    def leave(self, connection: StrictProtocol) -> None:
        if connection not in self.open:
            return
        self.open.discard(connection)
        _decrease(self.addresses, connection.origin)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._visit(loop, list(self.open), len(self.open), loop.time())

    def _visit(self, loop: asyncio.AbstractEventLoop, left: list[StrictProtocol], number: int, begun: float) -> None:
        now, until = loop.time(), time.perf_counter() + _TURN_SECONDS
        later = max(0.0, number * (1 - (now - begun) / self.interval_seconds))
        while len(left) > later and time.perf_counter() < until:
            connection = left.pop()
            if connection not in self.open:
                continue
            try:
                connection.watch.check(now)
            except Exception:
                log.exception("a connection could not be checked and is cut")
                connection.transport.abort()
        step = self.interval_seconds / _STEPS
        if left:
            loop.call_later(_REST_SECONDS if len(left) > later else step, self._visit, loop, left, number, begun)
            return
        self._sweeping = bool(self.open)
        if self._sweeping:
            loop.call_later(max(step, begun + self.interval_seconds - loop.time()), self._sweep, loop)


def _decrease(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if counts[key] <= 0:
        del counts[key]
