"""The strict HTTP edge: uvicorn's protocol with each head judged, each phase bounded, and a `send` that raises.

A connection is always in one phase, and each phase has its bound:

    FIRST ──▶ HEAD ──▶ BODY ──▶ REPLY ──▶ IDLE ──▶ HEAD …      FIRST, HEAD, IDLE, DRAIN: a deadline
                         └──▶ DRAIN ──▶ IDLE                    BODY: a minimum rate while we read
                                   any ──▶ CLOSING              BODY, REPLY, CLOSING: a minimum rate while we write

One sweep per process visits all connections about once a second; a request that behaves pays for no timer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.utils import get_local_addr, get_remote_addr

from gateway.framing import CHUNKED, Chunks, EdgeLimits, Framing, Misframed, judge, judge_part, judge_size
from gateway.protocol.edge import Edge, OnRefused, whence
from gateway.protocol.exchange import Exchange
from gateway.protocol.heads import HEAD_BYTES, Head
from gateway.protocol.lost import LOST
from gateway.protocol.pace import Outlet
from gateway.protocol.watch import Phase, Watch

log = logging.getLogger("gateway.edge")


_HIGH_WATER_BYTES: Final = 64 * 1024
_JOIN_BYTES: Final = 32 * 1024


class StrictProtocol(HttpToolsProtocol):
    """One connection; made by the class that `strict_protocol` returns."""

    edge: Edge
    cycle: Exchange | None  # type: ignore[assignment]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.cycle = None
        self.phase = Phase.FIRST
        self.since = 0.0
        self.origin = ""
        self._proxied = False
        self._held = b""
        self._framing: Framing | None = None
        self._chunks: Chunks | None = None
        self._left = 0
        self._discarded = 0
        self.flushing = False
        self.watch = Watch(self)
        self.outlet = Outlet(self)

    # the connection's life

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server = get_local_addr(transport)
        self.scheme = "https"
        self.watch.connected(transport)
        peer = get_remote_addr(transport) or ("", 0)
        transport.set_write_buffer_limits(high=self.edge.limits.write_buffer_bytes)
        self._locate(peer)
        self.edge.enter(self)
        self._turn(Phase.FIRST)
        limit = self.edge.limits.connections_per_address
        if not self._proxied and self.edge.addresses[self.origin] > limit:
            self.refuse(Misframed(429, "Close some of your connections to this gateway first.", "TOOMANYREQUESTS"))

    def _locate(self, peer: tuple[str, int]) -> None:
        self.origin, address = whence(peer[0])
        self.client = (str(address) if address else peer[0], peer[1])
        self._proxied = self.edge.hops.trusts(address)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        self.edge.leave(self)
        if self.cycle is not None:
            self.cycle.disconnect()
        if self.flow is not None:
            self.flow.resume_writing()
        self.phase = Phase.CLOSING
        self._held = b""
        self.parser = None  # type: ignore[assignment]
        # A lost transport holds the buffers of its TLS: let go of, they are freed now, not when garbage is collected.
        self.transport = LOST
        self.flow = FlowControl(LOST)
        self.watch.lost()

    def eof_received(self) -> None:
        # Over TLS nothing can be written after the peer's close_notify: a half-closed client is a gone client.
        if self.cycle is not None:
            self.cycle.disconnect()
        self.flow.resume_writing()

    def shutdown(self) -> None:
        """Close as soon as the request in hand, if any, is answered."""
        if self.cycle is not None and not self.cycle.complete:
            self.cycle.keep_alive = False
        else:
            self.finish()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.flushing:
            self.finish()

    def finish(self) -> None:
        """Close once the transport has taken all that was written, reading and discarding meanwhile."""
        if self.phase is not Phase.CLOSING:
            self._turn(Phase.CLOSING)
            self.watch.closing_begins()
        self._held = b""
        self.flushing = self.transport.get_write_buffer_size() > 0
        if not self.flushing and not self.transport.is_closing():
            self.transport.close()
        elif self.flushing:
            self.flow.resume_reading()

    def _turn(self, phase: Phase) -> None:
        self.phase = phase
        self.since = self.loop.time()

    # reading

    def data_received(self, data: bytes) -> None:
        if self._held:
            data = self._held + data
            self._held = b""
        elif (self.phase is Phase.IDLE or self.phase is Phase.FIRST) and not self._proxied:
            head = self.edge.heads.find(data)
            if head is not None:
                self._repeat(head)
                return
        try:
            self._read(data)
        except Misframed as misframed:
            self.refuse(misframed)
        except httptools.HttpParserError:
            self.refuse(Misframed(400, "Send a well-formed HTTP/1.1 request."))
        except httptools.HttpParserUpgrade:
            self.refuse(Misframed(400, "Ask for no other protocol than HTTP/1.1."))

    def _read(self, data: bytes) -> None:
        at, size = 0, len(data)
        while at < size:
            phase = self.phase
            if phase is Phase.CLOSING:
                return
            if phase is Phase.BODY or phase is Phase.DRAIN:
                at = self._read_body(data, at)
            elif phase is Phase.REPLY:
                # One request at a time: what follows waits, unread, until the reply is complete.
                self._held = data[at:]
                self.flow.pause_reading()
                return
            else:
                at = self._read_head(data, at)

    def _read_head(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            self._held = data[at:]
            if self.phase is not Phase.HEAD:
                self._turn(Phase.HEAD)
            judge_part(self._held, self.edge.limits)
            return len(data)
        end += 4
        head = data if at == 0 and end == len(data) else data[at:end]
        limits = self.edge.limits
        judge_size(len(head), head, limits)
        self._framing = framing = judge(head, limits)
        self._open_body(framing.length)
        self.parser.feed_data(framing.head)
        self._agree(framing.length == 0)
        return end

    def _repeat(self, head: Head) -> None:
        """A request that is, byte for byte, one that was judged, parsed and answered before."""
        self.phase = Phase.REPLY
        self._discarded = self._left = 0
        self._chunks = None
        state = {**self.app_state, "host": head.host, "head": head, "appetite": self.outlet.room}
        scope = {**head.scope, "server": self.server, "client": self.client, "state": state}
        self.cycle = cycle = Exchange(self, scope, False, True)
        cycle.more_body = False
        self._begin(cycle)

    def _begin(self, cycle: Exchange) -> None:
        task = self.loop.create_task(cycle.run(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _open_body(self, length: int) -> None:
        self.phase = Phase.BODY
        self._discarded = 0
        if length:
            self.watch.body_begins()
        self._left = length
        self._chunks = Chunks() if length == CHUNKED else None

    def _read_body(self, data: bytes, at: int) -> int:
        if self._chunks is not None:
            end = self._chunks.scan(data, at)
            over = end >= 0
            end = end if over else len(data)
        else:
            end = min(len(data), at + self._left)
            self._left -= end - at
            over = self._left == 0
        self.watch.got += end - at
        self.parser.feed_data(data if at == 0 and end == len(data) else memoryview(data)[at:end])
        self._agree(over)
        if self.phase is Phase.DRAIN:
            self._discarded += end - at
            if self._discarded > self.edge.limits.drain_bytes:
                self.finish()
        return end

    def _agree(self, over: bool) -> None:
        # Two readings of one message that end it at different bytes are the beginning of a smuggled request.
        if over == (self.phase is Phase.BODY or self.phase is Phase.DRAIN):
            raise Misframed(400, "Frame the body plainly.")

    # what the parser reports

    def on_message_begin(self) -> None:
        self.headers = []

    def on_url(self, url: bytes) -> None:
        """The target was judged and kept with the head."""

    def on_header(self, name: bytes, value: bytes) -> None:
        # After the head come trailers, which nobody may mistake for headers.
        if self._framing is not None:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        framing, parser = self._framing, self.parser
        assert framing is not None
        self._framing = None
        raw_path, _, query = framing.target.partition(b"?")
        path = raw_path.decode("ascii")
        version = parser.get_http_version()
        state = self.app_state.copy()
        state["host"] = framing.host
        state["appetite"] = self.outlet.room
        if self._proxied and self.client is not None:
            state["peer_address"] = self.client[0]
        constant: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "scheme": "https",
            "root_path": "",
            "method": parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self.headers,
        }
        client = self.edge.hops.client(self.client, self.headers) if self._proxied else self.client
        scope = {**constant, "server": self.server, "client": client, "state": state}
        keep_alive = version == "1.1" and parser.should_keep_alive()
        if framing.length == 0 and keep_alive and len(framing.head) <= HEAD_BYTES and not self._proxied:
            state["head"] = Head(self.edge.heads, framing.head, framing.host, constant)
        self.cycle = cycle = Exchange(self, scope, framing.continues, keep_alive)
        self._begin(cycle)

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if cycle is None or cycle.complete or cycle.disconnected:
            return
        cycle.chunks.append(body)
        cycle.buffered += len(body)
        if cycle.buffered > _HIGH_WATER_BYTES:
            self.flow.pause_reading()
        cycle.wake()

    def on_message_complete(self) -> None:
        cycle = self.cycle
        if self.phase is Phase.DRAIN or cycle is None:
            self._turn(Phase.IDLE)
            return
        self.phase = Phase.REPLY
        cycle.more_body = False
        cycle.wake()

    # replying

    def write(self, parts: list[bytes]) -> None:
        if len(parts) == 1:
            self.transport.write(parts[0])
        elif sum(map(len, parts)) <= _JOIN_BYTES:
            self.transport.write(b"".join(parts))
        else:
            self.transport.writelines(parts)

    def resume(self) -> None:
        """Read on, unless a request that came too early is already held."""
        if not self._held or self.phase is Phase.BODY:
            self.flow.resume_reading()

    def may_outlive(self, cycle: Exchange) -> bool:
        """Whether the connection can serve another request: the body is here, or its little rest is sure to come."""
        if not cycle.more_body:
            return True
        return self._chunks is None and not cycle.continues and self._left <= self.edge.limits.drain_bytes

    def on_response_complete(self) -> None:
        cycle = self.cycle
        assert cycle is not None
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if not cycle.keep_alive:
            self.finish()
            return
        self._turn(Phase.DRAIN if cycle.more_body else Phase.IDLE)
        self.flow.resume_reading()
        if self._held:
            held, self._held = self._held, b""
            self.data_received(held)

    def refuse(self, misframed: Misframed) -> None:
        """Answer at the edge, without the application, and close; silently once a reply has begun."""
        status = misframed.status
        peer = self.client[0] if self.client else ""
        if self.phase is Phase.CLOSING:
            return
        self.edge.on_refused(status, f"{misframed.message} {misframed.advice}".rstrip(), peer)
        cycle = self.cycle
        if cycle is not None and not cycle.complete:
            begun = cycle.started and cycle.head is None
            cycle.disconnect()
        else:
            begun = False
        if not begun:
            self.transport.write(self._envelope(misframed))
        self.finish()

    def _envelope(self, misframed: Misframed) -> bytes:
        error = {"code": misframed.code, "message": misframed.message, "detail": {}}
        body = json.dumps({"errors": [error]}, separators=(",", ":")).encode()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"docker-distribution-api-version", b"registry/2.0"),
            (b"x-request-id", secrets.token_hex(16).encode()),
            (b"connection", b"close"),
        ]
        lines = [b"%s: %s\r\n" % pair for pair in headers]
        return b"".join((STATUS_LINE[misframed.status], *lines, b"\r\n", body))


def _unheard(status: int, reason: str, peer: str) -> None:
    log.info("refused %d %s: %s", status, peer, reason)


def strict_protocol(limits: EdgeLimits, on_refused: OnRefused = _unheard) -> type[StrictProtocol]:
    """
    A class for uvicorn's `http=`, held to *limits*; connections, counts and sweep are those of this class alone.

    *on_refused* hears every refusal at the edge: status (0 when the connection was cut without one), reason, address.
    """
    return type("StrictProtocol", (StrictProtocol,), {"edge": Edge(limits, on_refused)})
