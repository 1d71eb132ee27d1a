"""Acts that are done once: a request repeated under its `Idempotency-Key` is answered as it was the first time.

No secret is kept anywhere but in these answers, so that a client whose connection broke may ask for the one it made.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import Final

import msgspec

from gateway.api.replies import Reply
from gateway.api.request import Request
from gateway.api.routes import Row
from gateway.errors import Conflict, Invalid, Refusal, Unavailable

_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)


class _Answer(msgspec.Struct, frozen=True):
    """A reply as it is kept, with the fingerprint of the body it answered."""

    asked: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


async def run(request: Request, row: Row, content: bytes) -> Reply:
    """
    What the row's endpoint answers to *content*; with a key, what it answered the first time.

    An answer is told again only to the account that got it, within the right that the act needs, and that is an event
    like the act. Raises `Invalid` for a key outside its grammar, and `Conflict` for one that was used for another body,
    or whose first request is under way or broke off.
    """
    if not row.once or "idempotency-key" not in request.headers:
        return await row.endpoint(request)
    key = request.header("idempotency-key")
    if _KEY.fullmatch(key) is None:
        told = "Send as Idempotency-Key 1 to 128 letters, digits, '-' and '_', another one for each thing you do."
        raise Invalid(told, detail={"field": "Idempotency-Key"})
    principal = request.caller.principal
    name = repr((principal.kind.value, principal.id, row.method, request.path, key)).encode()
    kept = await asyncio.to_thread(request.parts.kept.begin, name, _owner(request))
    if kept is None:
        return await _first(request, row, content, name)
    if not kept:
        raise Conflict(
            "The first request under this key is under way, or broke off: look whether it was done before you make "
            "another one under another key."
        )
    answer = msgspec.msgpack.decode(kept, type=_Answer)
    if answer.asked != _fingerprint(content):
        raise Conflict("This key was used for another body: send another key for another request.")
    return await _again(request, row, answer)


async def _first(request: Request, row: Row, content: bytes, name: bytes) -> Reply:
    kept = request.parts.kept
    try:
        reply = await row.endpoint(request)
    except Refusal as refusal:
        # Nothing was done. After anything else nobody knows, and the key stays taken.
        if not (isinstance(refusal, Unavailable) and refusal.uncertain):
            await asyncio.shield(asyncio.to_thread(kept.drop, name, _owner(request)))
        raise
    answer = _Answer(_fingerprint(content), reply.status, reply.headers, reply.body)
    await asyncio.shield(asyncio.to_thread(kept.keep, name, msgspec.msgpack.encode(answer), _owner(request)))
    return reply


async def _again(request: Request, row: Row, answer: _Answer) -> Reply:
    gate = request.administration.gate
    async with gate.passage(request.caller, row.kind, *row.needs(request), detail={"repeated": True}) as passage:
        await passage.seal()
    return Reply(answer.status, answer.headers, answer.body)


def _owner(request: Request) -> bytes:
    principal = request.caller.principal
    return repr((principal.kind.value, principal.id)).encode()


def _fingerprint(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
