"""Evidence: the key that checkpoints are verified with, checkpoints, sinks, and the trail held against checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.api.answers import Page, Verified
from gateway.api.bodies import Against, Paging
from gateway.api.kept import Checkpoint, PublicKey, Sink
from gateway.api.replies import Reply, reply
from gateway.api.request import Request
from gateway.api.trail import in_turn
from gateway.audit.offline import Unreadable
from gateway.errors import Invalid

_TEXTS: Final = ("type", "hash", "time", "key", "signature")


async def key(request: Request) -> Reply:
    """Show the public key that checkpoints are verified with"""
    found = await request.administration.evidence.public_key(request.caller)
    return reply(PublicKey(found.kid, found.pem))


async def index(request: Request) -> Reply:
    """List the checkpoints that are kept, the newest first"""
    limit, position = request.query_as(Paging).limit, request.position
    evidence = request.administration.evidence
    rows = await evidence.newest(request.caller, before=int(position) if position else None, limit=limit + 1)
    items, more = [Checkpoint.of(row) for row in rows[:limit]], len(rows) > limit
    return reply(Page(items, request.cursor_to(str(items[-1].seq) if more else "")))


async def make(request: Request) -> Reply:
    """Make a checkpoint of the chain as it is now"""
    return reply(Checkpoint.of(await request.administration.evidence.checkpoint(request.caller)), 201)


async def sinks(request: Request) -> Reply:
    """List the sinks, how far each has got, and what keeps it"""
    rows = await request.administration.evidence.sinks(request.caller)
    return request.page(rows, lambda row: row.name, Sink.of)


async def verify_against(request: Request) -> Reply:
    """Read the whole trail, and say whether it holds what checkpoints from elsewhere say of it"""
    body = request.body_as(Against)
    statements = _statements(body.checkpoints)
    async with in_turn(request):
        try:
            found = await request.administration.evidence.verify_against(request.caller, statements, body.key)
        except Unreadable:
            told = "Send as key the Ed25519 public key in PEM that /api/v1/audit/key showed."
            raise Invalid(told, detail={"field": "key"}) from None
    return reply(Verified.of(found))


def _statements(given: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    for number, each in enumerate(given):
        seq = each.get("seq")
        whole = isinstance(seq, int) and not isinstance(seq, bool) and 0 < seq < 2**53
        if not whole or not all(isinstance(each.get(name), str) for name in _TEXTS):
            told = "Send checkpoints as they were made: the statement of each, with its signature."
            raise Invalid(told, detail={"field": f"checkpoints[{number}]"})
    return given
