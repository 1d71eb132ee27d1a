"""What goes back: a reply as a value, whole or streamed, sent as plain ASGI messages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import msgspec

from gateway.administration.editions import Edited, edition_of
from gateway.administration.exports import Slot

Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header: TypeAlias = tuple[str, str]
RawHeader: TypeAlias = tuple[bytes, bytes]

JSON: Final = ("Content-Type", "application/json")
NDJSON: Final = "application/x-ndjson"
#: What every reply carries: nobody keeps it, and no browser makes anything else of it.
ALWAYS: Final[tuple[RawHeader, ...]] = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)

_ENCODER: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Reply:
    """
    A reply: *body* whole, or a *stream* whose length nobody knows yet; one that breaks off has no proper end.

    The *slot* of a stream is given back when it was delivered, or was not.
    """

    status: int
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    stream: AsyncGenerator[bytes, None] | None = None
    slot: Slot | None = None

    def and_headers(self, *headers: Header) -> Reply:
        """This reply with more headers."""
        return replace(self, headers=(*self.headers, *headers))

    async def deliver(self, send: Send, more: Sequence[RawHeader], *, headless: bool = False) -> None:
        """Sends the reply with *more* headers; with *headless*, as to a HEAD, without a body."""
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers]
        raw += more
        if self.stream is None and self.status != 204:
            raw.append((b"content-length", b"%d" % len(self.body)))
        begin = {"type": "http.response.start", "status": self.status, "headers": raw}
        if self.stream is None:
            await send(begin)
            await send({"type": "http.response.body", "body": b"" if headless else self.body, "more_body": False})
            return
        if self.slot is not None:
            send = self.slot.bounded(send)
        with self.slot or nullcontext():
            await self._stream(send, begin, self.stream, headless=headless)

    @staticmethod
    async def _stream(
        send: Send, begin: MutableMapping[str, Any], stream: AsyncGenerator[bytes, None], *, headless: bool
    ) -> None:
        async with aclosing(stream) as pieces:
            # Until the first piece is there, what keeps it from coming can still be told.
            first = b"" if headless else await anext(pieces, b"")
            await send(begin)
            if not headless:
                await send({"type": "http.response.body", "body": first, "more_body": True})
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def encoded(value: object) -> bytes:
    """*value* as JSON."""
    return _ENCODER.encode(value)


def reply(value: object, status: int = 200) -> Reply:
    """*value* as a JSON reply."""
    return Reply(status, (JSON,), encoded(value))


def done(remark: str = "") -> Reply:
    """It is done, and there is nothing to show; a *remark* is told as a warning, as clients show it to people."""
    quotable = "".join(letter for letter in remark if " " <= letter <= "~" and letter not in '"\\')
    return Reply(204, (("Warning", f'299 - "{quotable}"'),) if quotable else ())


def tagged(thing: Edited) -> Header:
    """The entity tag that an edit of *thing* is made on: it differs whenever anything differs that can be edited."""
    return "ETag", f'"{edition_of(thing)}"'
