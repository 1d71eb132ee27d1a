"""Reads that come again, byte for byte: answered from memory, each judged by live policy and recorded like the first.

What is remembered of a read that went well is its reply and the record of its event. It holds for the same token at
the same address, while nothing in the repository has moved; the right to it is recalled from the gate, which knows it
for a second at most and not once policy has moved. Whatever is not plainly so takes the long way.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gateway.access.policy import Need
from gateway.access.tokens import may_be_good
from gateway.audit.event import QUIET, Event, Kind
from gateway.engine.port import Engine
from gateway.errors import Refusal
from gateway.gate import Gate
from gateway.oci.digest import Digest
from gateway.oci.names import Repository
from gateway.registry.replies import ALWAYS, Reply, Send
from gateway.registry.request import Request

#: A larger reply is not remembered.
REPLY_BYTES: Final = 64 * 1024
_READS: Final = frozenset({Kind.MANIFEST_PULL, Kind.MANIFEST_HEAD, Kind.BLOB_PULL, Kind.BLOB_HEAD})


class Head(Protocol):
    """The head of the request, as the edge remembers it: `gateway.protocol.heads.Head`."""

    memory: Any

    def keep(self, memory: Any, size_bytes: int) -> None: ...

    def forget(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Repeat:
    """A read that went well, with what it takes to do it again; *expires* is its token's end, in UNIX seconds."""

    need: Need
    repository: Repository
    version: int
    expires: float
    event: Event
    like: Mapping[str, object]
    lines: bytes
    body: bytes

    def holds(self, engine: Engine, address: str, now: float) -> bool:
        """Whether the repository stands as it stood, for the same caller."""
        return (
            engine.version is not None
            and engine.version(self.repository) == self.version
            and address == self.event.caller.origin.address
            and may_be_good(self.expires, now)
        )


def remember(head: Head, request: Request, need: Need, version: int, event: Event, reply: Reply) -> None:
    """Keeps a read that was just done at the *version* of its repository, if it is one that may be done again so."""
    if (
        event.kind not in _READS
        or version % 2
        or reply.status != 200
        or reply.stream is not None
        or len(reply.body) > REPLY_BYTES
        or (request.engine.tags_move_unseen and event.reference and ":" not in event.reference)
    ):
        return
    lines = b"".join(b"%s: %s\r\n" % header for header in reply.raw_headers(ALWAYS))
    event = event.but(duration_ms=0)
    repeat = Repeat(need, request.repository, version, request.expires, event, event.record(), lines, reply.body)
    head.keep(repeat, len(lines) + len(reply.body))


async def answer(repeat: Repeat, gate: Gate, engine: Engine, request_id: str, send: Send) -> bool:
    """Records and sends the reply once more; False, and nothing done, if the right to it is not known now."""
    verdict = gate.recall(repeat.event.caller, repeat.need)
    if verdict is None or (repeat.event.kind is Kind.BLOB_HEAD and not await _is_there(repeat, engine)):
        return False
    recorded = repeat.event.kind not in QUIET
    if recorded:
        await gate.repeat(repeat.like, request_id, verdict)
    fresh = b"x-request-id: %s\r\n" % request_id.encode()
    try:
        await send(
            {"type": "http.response.repeat", "status": 200, "lines": repeat.lines, "fresh": fresh, "body": repeat.body}
        )
    except OSError:
        if recorded:
            await gate.cut(repeat.event, request_id)
    return True


async def _is_there(repeat: Repeat, engine: Engine) -> bool:
    """Whether the blob is still to be had: whoever is told so does not push it."""
    try:
        await engine.blobs.find(repeat.repository, Digest(repeat.event.digest), spares_push=True)
    except Refusal:
        return False
    return True


def found(scope: MutableMapping[str, Any]) -> Head | None:
    """The head that the edge has put into *scope*, if it is one that can be remembered."""
    head: Head | None = scope["state"].get("head") if "state" in scope else None
    return head
