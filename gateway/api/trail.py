"""The trail: search, one event, all that match as a stream, and whether it is as it was written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final

from gateway.access.names import parse_principal
from gateway.access.policy import parse_target
from gateway.administration.audit import shown
from gateway.api.answers import Events, Verified
from gateway.api.bodies import Filters, FiltersPaged
from gateway.api.replies import NDJSON, Reply, encoded, reply
from gateway.api.request import Request
from gateway.audit.chain import Sealed
from gateway.audit.searching import BACKWARDS, address_filter, backwards, digest_filter, kind_filter
from gateway.audit.trail import Search
from gateway.errors import Invalid, TooManyRequests

#: Events of one piece of an export: some hundred kilobytes.
_PIECE: Final = 500


async def index(request: Request) -> Reply:
    """Search the trail, the newest events first"""
    asked = request.query_as(FiltersPaged)
    position = request.position
    found = await request.administration.audit.find_events(
        request.caller, search(asked), before=int(position) if position else None, limit=asked.limit
    )
    more = str(found.before) if found.before is not None else ""
    return reply(Events(list(found.events), request.cursor_to(more), found.sealed))


async def show(request: Request) -> Reply:
    """Show one event with everything it says"""
    return reply(await request.administration.audit.show_event(request.caller, int(request.values["id"])))


async def export(request: Request) -> Reply:
    """Every event that matches, the oldest first, one JSON object a line"""
    wanted = search(request.query_as(Filters))
    with request.administration.exporting.slot(request.caller) as slot:
        events = await request.administration.audit.export_events(request.caller, wanted)
        return Reply(200, (("Content-Type", NDJSON),), stream=_lines(events), slot=slot)


async def verify(request: Request) -> Reply:
    """Read the whole trail, and say whether it is as it was written"""
    async with in_turn(request):
        return reply(Verified.of(await request.administration.audit.verify(request.caller)))


@asynccontextmanager
async def in_turn(request: Request) -> AsyncIterator[None]:
    """Lets one request at a time read the whole trail; raises `TooManyRequests` for others."""
    verifying = request.parts.verifying
    if verifying.locked():
        raise TooManyRequests("The trail is being read by another request; try again after it.", retry_after_seconds=10)
    async with verifying:
        yield


def search(asked: Filters) -> Search:
    """What the filters ask for; raises `Invalid` with the filter that cannot be."""
    if backwards(asked.since, asked.until):
        raise Invalid(BACKWARDS, detail={"field": "until"})
    if asked.repository:
        parse_target(asked.repository)
    principal = asked.principal
    return Search(
        project=asked.project or "",
        repository=asked.repository or "",
        principal=parse_principal(principal) if "/" in principal else principal,
        kind=_checked("kind", asked.kind, kind_filter),
        outcome=asked.outcome or "",
        digest=_checked("digest", asked.digest, digest_filter),
        address=_checked("address", asked.address, address_filter),
        since=asked.since,
        until=asked.until,
    )


def _checked(name: str, text: str, check: Callable[[str], str]) -> str:
    try:
        return check(text) if text else ""
    except Invalid as refusal:
        raise Invalid(refusal.message, detail={"field": name}) from refusal


async def _lines(events: Iterator[Sealed]) -> AsyncGenerator[bytes, None]:
    # The database is read where nobody waits for the event loop; no more than one piece is ever in memory.
    while piece := await asyncio.to_thread(_piece, events):
        yield piece


def _piece(events: Iterator[Sealed]) -> bytes:
    return b"".join(encoded(shown(event)) + b"\n" for event in islice(events, _PIECE))
