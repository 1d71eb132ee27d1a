"""Reviews: a period looked through, each finding judged, the whole signed off and handed over."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from typing import IO, Final

from gateway.administration import Condition, ReviewDetail
from gateway.administration.reviews import Finding, Pack, Review
from gateway.api.answers import Page
from gateway.api.bodies import NewReview, ReviewsWanted, Said, SignOff
from gateway.api.conditions import acts_if
from gateway.api.replies import Reply, reply, tagged
from gateway.api.request import Request

ZIP: Final = "application/zip"
_PIECE_BYTES: Final = 256 * 1024

__all__ = ["ZIP", "Finding", "Review", "ReviewDetail"]


async def index(request: Request) -> Reply:
    """List the reviews, the newest first: of a project, of every project at once, or all; open ones alone if asked"""
    wanted, position = request.query_as(ReviewsWanted), request.position
    rows = await request.administration.reviews.list_reviews(
        request.caller,
        wanted.project,
        every_project=wanted.every_project,
        unsigned=wanted.open,
        below=int(position) if position else None,
        limit=wanted.limit + 1,
    )
    items, more = list(rows[: wanted.limit]), len(rows) > wanted.limit
    return reply(Page(items, request.cursor_to(str(items[-1].number) if more else "")))


async def begin(request: Request) -> Reply:
    """Look through a period with every rule, and keep what they find"""
    body = request.body_as(NewReview)
    detail = await request.administration.reviews.begin(
        request.caller, body.since, body.until, project=body.project or None
    )
    return reply(detail, 201).and_headers(("Location", f"/api/v1/reviews/{detail.review.number}"))


async def show(request: Request) -> Reply:
    """Show a review with its findings"""
    return reply(await request.administration.reviews.show(request.caller, _number(request)))


async def show_finding(request: Request) -> Reply:
    """Show a finding of a review, with what was said of it"""
    number, finding = _number(request), int(request.values["finding"])
    found = await request.administration.reviews.show_finding(request.caller, number, finding)
    return reply(found).and_headers(tagged(found))


async def mark(request: Request) -> Reply:
    """Say of a finding that it is fine, or to be followed up"""
    body, number, finding = request.body_as(Said), _number(request), int(request.values["finding"])
    reviews = acts_if(request, Condition.on_finding, number, finding).reviews
    marked = await reviews.mark(request.caller, number, finding, body.mark, body.note)
    return reply(marked).and_headers(tagged(marked))


async def sign_off(request: Request) -> Reply:
    """Close a review for good, once every finding is marked; with `shown`, only as it was shown"""
    body, reviews = request.body_as(SignOff), request.administration.reviews
    return reply(await reviews.sign_off(request.caller, _number(request), body.note, shown=body.shown))


async def pack(request: Request) -> Reply:
    """The evidence pack of a signed review, as a zip file to be read and verified without the gateway"""
    with request.administration.exporting.slot(request.caller) as slot:
        found = await request.administration.reviews.export(request.caller, _number(request))
        return Reply(200, (("Content-Type", ZIP),), stream=_zipped(found), slot=slot)


async def _zipped(found: Pack) -> AsyncGenerator[bytes, None]:
    # On the disk first, in a thread: the pack reads the trail, and whoever takes it may take it slowly.
    with tempfile.TemporaryFile() as file:
        await asyncio.to_thread(found.zipped, file)
        file.seek(0)
        while piece := await asyncio.to_thread(_read, file):
            yield piece


def _read(file: IO[bytes]) -> bytes:
    return file.read(_PIECE_BYTES)


def _number(request: Request) -> int:
    return int(request.values["id"])
