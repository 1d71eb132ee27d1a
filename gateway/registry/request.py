"""The request as the endpoints see it: names already parsed, query and body under limits; and what they work with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from gateway.access.credentials import Credentials
from gateway.access.principals import Caller, Origin
from gateway.access.throttle import Budget
from gateway.access.tokens import Tokens
from gateway.engine.port import Appetite, Engine, Interrupted, greedy
from gateway.errors import BodyTooLarge, BodyTooSlow, Invalid, Refusal, SizeInvalid
from gateway.gate import Gate
from gateway.oci.manifest import LIMIT_BYTES
from gateway.oci.names import Repository

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]

#: Fields of one query string or form; honest ones have a dozen.
FIELDS = 100
#: How long a body that is kept in memory may take.
BODY_SECONDS = 30


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Parts:
    """
    What the registry edge is joined of.

    *realm_for* gives the token endpoint's absolute address for a request's `Host`; *service* is the audience of our
    tokens; *jwks* the public keys they are signed with. *anonymous* bounds how often an address may ask for a token
    without signing in, *lasting* how often a user may have an offline token made.
    """

    gate: Gate
    engine: Engine
    credentials: Credentials
    tokens: Tokens
    jwks: Callable[[], Mapping[str, object]]
    realm_for: Callable[[str], str]
    service: str
    manifest_bytes: int = LIMIT_BYTES
    containerd_push_seconds: int = 900
    anonymous: Budget = field(default_factory=Budget)
    lasting: Budget = field(default_factory=lambda: Budget(per_second=1, burst=100))
    now: Callable[[], datetime] = _now


@dataclass(slots=True)
class Request:
    """
    One request. *repository*, *reference* and *upload_id* are what its path names; *caller* is who it proved to be.

    Header names are lower case. *query* holds the parameters in the order they came, decoded.
    """

    parts: Parts
    method: str
    path: str
    headers: Mapping[str, tuple[str, ...]]
    query: tuple[tuple[str, str], ...]
    receive: Receive
    origin: Origin
    repository: Repository = field(init=False)
    reference: str = ""
    caller: Caller = field(init=False)
    expires: float = 0.0
    """Until when the caller's token is believed, in UNIX seconds."""
    appetite: Appetite = greedy
    """How much of a reply's stream the client takes at a time, by the way it took what came before."""

    @property
    def gate(self) -> Gate:
        return self.parts.gate

    @property
    def engine(self) -> Engine:
        return self.parts.engine

    @property
    def owner(self) -> str:
        """In whose name content is brought here: for anybody else an upload does not exist."""
        return f"{self.caller.principal.kind.value}:{self.caller.principal.id}"

    def header(self, name: str) -> str:
        """The header's value, the first if it came twice; "" if it did not come."""
        return self.headers.get(name, ("",))[0]

    def parameter(self, name: str) -> str:
        """The query parameter's value, the first if it came twice; "" if it did not come."""
        return next((value for key, value in self.query if key == name), "")

    def parameters(self, name: str) -> tuple[str, ...]:
        return tuple(value for key, value in self.query if key == name)

    @property
    def length_bytes(self) -> int | None:
        """The body's length as promised; None when it is not told beforehand. Raises `SizeInvalid` if garbled."""
        text = self.header("content-length")
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            raise SizeInvalid("Send Content-Length as a whole number of bytes.")
        return int(text)

    async def pieces(self, exactly: int | None = None) -> AsyncIterator[bytes]:
        """
        The body as it comes in.

        Raises `Interrupted` when the client stops before its end, `SizeInvalid` when it is not as long as its
        Content-Length says, nor as *exactly* does.
        """
        wanted = [length for length in (self.length_bytes, exactly) if length is not None]
        got = 0
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Interrupted("the client stopped before the end of its body")
            piece: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            got += len(piece)
            if any(got > length or (not more and got < length) for length in wanted):
                raise SizeInvalid("Send as many bytes as Content-Length and Content-Range say.")
            if piece:
                yield piece

    async def body(self, limit_bytes: int, too_large: Callable[[str], Refusal] = BodyTooLarge) -> bytes:
        """
        The whole body; refuses with *too_large* over *limit_bytes*, before it is read if its length tells.

        Raises `BodyTooSlow` when it is not there within 30 seconds: only blobs take their time.
        """
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._body(limit_bytes, too_large)
        except TimeoutError:
            raise BodyTooSlow(f"Send this body within {BODY_SECONDS} seconds.") from None

    async def _body(self, limit_bytes: int, too_large: Callable[[str], Refusal]) -> bytes:
        promised = self.length_bytes
        if promised is not None and promised > limit_bytes:
            raise too_large(f"Send at most {limit_bytes} bytes here; this body has {promised}.")
        content = bytearray()
        async for piece in self.pieces():
            content += piece
            if len(content) > limit_bytes:
                raise too_large(f"Send at most {limit_bytes} bytes here.")
        return bytes(content)


def read_fields(text: str) -> tuple[tuple[str, str], ...]:
    """The fields of a query string or form, in order; raises `Invalid` for more than 100."""
    if not text:
        return ()
    try:
        return tuple(parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS))
    except ValueError:
        raise Invalid(f"Send at most {FIELDS} parameters.") from None


def read_headers(raw: list[tuple[bytes, bytes]]) -> Mapping[str, tuple[str, ...]]:
    """The headers by lower-case name, each with all its values in order."""
    headers: dict[str, tuple[str, ...]] = {}
    for raw_name, raw_value in raw:
        name = raw_name.decode("latin-1").lower()
        headers[name] = (*headers.get(name, ()), raw_value.decode("latin-1"))
    return headers
