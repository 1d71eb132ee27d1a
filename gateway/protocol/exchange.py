"""One request and its reply, as the application sees them: ASGI's `receive` and `send`, without its silences."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, cast

from uvicorn._types import ASGI3Application, ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE

from gateway.framing import Misframed

if TYPE_CHECKING:
    from gateway.protocol.connection import StrictProtocol

log = logging.getLogger("gateway.edge")

#: The type of a message of ours: a whole reply like one that was sent before.
REPEAT: Final = "http.response.repeat"
_BURST_BYTES: Final = 256 * 1024
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientDisconnected(OSError):
    """The client went away before it had the whole reply; nothing sent from here on reaches it."""


class Exchange:
    """One request and its reply, as the application sees them: the ASGI `receive` and `send`."""

    __slots__ = (
        "buffered",
        "burst",
        "chunked",
        "chunks",
        "complete",
        "continues",
        "delivered",
        "disconnected",
        "head",
        "headless",
        "keep_alive",
        "left",
        "more_body",
        "news",
        "protocol",
        "scope",
        "started",
    )

    def __init__(self, protocol: StrictProtocol, scope: dict[str, Any], continues: bool, keep_alive: bool) -> None:
        self.protocol = protocol
        self.scope = scope
        self.continues = continues
        self.keep_alive = keep_alive
        self.chunks: list[bytes] = []
        self.buffered = 0
        self.burst = 0
        self.more_body = True
        self.delivered = False
        self.disconnected = False
        self.started = False
        self.complete = False
        self.news: asyncio.Event | None = None
        self.head: bytes | None = None
        self.headless = scope["method"] == "HEAD"
        self.chunked = False
        self.left = 0

    async def run(self, app: ASGI3Application) -> None:
        try:
            await app(self.scope, self.receive, self.send)  # type: ignore[arg-type]
        except Exception as problem:
            if not self.disconnected and not isinstance(problem, ClientDisconnected):
                log.exception("the application failed on %s %r", self.scope["method"], self.scope["path"])
                self._fail()
        except BaseException:
            self.protocol.transport.abort()
            raise
        else:
            if not self.complete and not self.disconnected:
                log.error("the application left %s %r without a whole reply", self.scope["method"], self.scope["path"])
                self._fail()
        finally:
            if self.disconnected:
                log.info("client_disconnected %s %r", self.scope["method"], self.scope["path"])

    def _fail(self) -> None:
        if self.started and self.head is None:
            self.protocol.transport.abort()
        elif not self.disconnected and not self.complete:
            self.complete = True
            self.protocol.refuse(Misframed(500, "Try again; if it stays, ask the operator.", "UNKNOWN"))

    def wake(self) -> None:
        if self.news is not None:
            self.news.set()

    def disconnect(self) -> None:
        if not self.complete:
            self.disconnected = True
        self.wake()
        self.protocol.outlet.wake()

    async def receive(self) -> ASGIReceiveEvent:
        """The next piece of the body; `http.disconnect` once the client is gone or the reply is complete."""
        if self.continues:
            self.continues = False
            if not self.started and not self.chunks and self.more_body:
                self.protocol.transport.write(_CONTINUE)
        while not (self.disconnected or self.complete):
            if self.chunks or (not self.more_body and not self.delivered):
                return self._take()
            self.protocol.resume()
            if self.news is None:
                self.news = asyncio.Event()
            self.news.clear()
            await self.news.wait()
        return {"type": "http.disconnect"}

    def _take(self) -> ASGIReceiveEvent:
        body = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
        self.chunks.clear()
        self.buffered = 0
        self.delivered = not self.more_body
        if self.more_body:
            self.protocol.resume()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: ASGISendEvent) -> None:
        """Hand the reply to the transport, waiting while its buffer is full; raises `ClientDisconnected`."""
        protocol = self.protocol
        if protocol.flow.write_paused and not self.disconnected:
            await protocol.outlet.drain()
        elif self.burst > _BURST_BYTES:
            # A TLS transport whose peer has gone takes bytes into nowhere until the loop has run.
            self.burst = 0
            await asyncio.sleep(0)
        if self.disconnected or (not self.complete and protocol.transport.is_closing()):
            self.disconnected = True
            raise ClientDisconnected("the client closed the connection before the end of the reply")
        kind: str = message["type"]
        if kind == REPEAT:
            self._repeat(cast(dict[str, Any], message))
            return
        if not self.started:
            if kind != "http.response.start":
                raise RuntimeError(f"a reply begins with http.response.start, not with {kind}")
            self.head = self._begin(message)  # type: ignore[arg-type]
            self.started = True
        elif self.complete or kind != "http.response.body":
            raise RuntimeError(f"{kind} has no place here in the reply")
        else:
            self._write(message.get("body", b""), message.get("more_body", False))  # type: ignore[arg-type]

    def _begin(self, message: dict[str, Any]) -> bytes:
        status: int = message["status"]
        lines = [STATUS_LINE[status]]
        framed = False
        for raw_name, value in (*self.protocol.server_state.default_headers, *message.get("headers", ())):
            if HEADER_RE.search(raw_name) or HEADER_VALUE_RE.search(value):
                raise RuntimeError("a reply's header holds a character that no header may hold")
            name = raw_name.lower()
            if name == b"content-length":
                framed = True
                self.left = int(value)
            elif name == b"transfer-encoding":
                raise RuntimeError("the edge chooses the transfer encoding of replies")
            elif name == b"connection":
                self.keep_alive = self.keep_alive and b"close" not in value.lower()
                continue
            lines += (name, b": ", value, b"\r\n")
        if self.headless or status in {204, 304}:
            self.headless = True
        elif not framed and self.scope["http_version"] == "1.1":
            self.chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        elif not framed:
            self.left = -1
        if not self.keep_alive or not self.protocol.may_outlive(self):
            self.keep_alive = False
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _repeat(self, message: dict[str, Any]) -> None:
        """
        A whole reply in one message, an extension of ours: *lines* are header lines that were sent before, and judged
        then, *fresh* those that are new, which are the application's own.
        """
        if self.started:
            raise RuntimeError("a reply that has begun cannot be a repeated one")
        protocol = self.protocol
        lines = [STATUS_LINE[message["status"]]]
        for name, value in protocol.server_state.default_headers:
            lines += (name, b": ", value, b"\r\n")
        lines += (message["lines"], message["fresh"])
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        if not self.headless:
            lines.append(message["body"])
        self.started = self.complete = True
        protocol.write(lines)
        self.wake()
        protocol.on_response_complete()

    def _write(self, body: bytes, more: bool) -> None:
        parts: list[bytes] = []
        if self.head is not None:
            parts.append(self.head)
            self.head = None
        if self.headless:
            pass
        elif self.chunked:
            if body:
                parts += (b"%x\r\n" % len(body), body, b"\r\n")
            if not more:
                parts.append(b"0\r\n\r\n")
        else:
            if self.left >= 0:
                self._count(len(body), more)
            parts.append(body)
        self.burst += len(body)
        if parts:
            self.protocol.write(parts)
        if more:
            self.protocol.outlet.pace.sent(len(body))
        else:
            self.complete = True
            self.wake()
            self.protocol.on_response_complete()

    def _count(self, size: int, more: bool) -> None:
        self.left -= size
        if self.left < 0 or (self.left and not more):
            self.protocol.transport.abort()
            raise RuntimeError("the reply's body is not as long as its Content-Length says")
