"""Reviews: begun, looked through finding by finding, signed off, and handed over."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Generator
from datetime import UTC, datetime
from typing import IO, Final

from starlette.responses import Response

from gateway.access.scopes import Action
from gateway.administration import ReviewDetail
from gateway.audit.moments import moment
from gateway.audit.review import RULES
from gateway.console.download import Download
from gateway.console.frame import render
from gateway.console.leaves import leaf, newest
from gateway.console.plan import Group, Page, Place
from gateway.console.visit import Visit
from gateway.errors import Unknown
from gateway.oci.names import ProjectName

#: A pack is kept in memory up to so many bytes while it is written, and in a file beyond.
_IN_MEMORY_BYTES: Final = 8 * 1024 * 1024
_PIECE_BYTES: Final = 64 * 1024
_NO_REVIEW: Final = "There is no such review that you may see; see the list of them."


async def index(visit: Visit, status: int = 200) -> Response:
    """The reviews, and a form to begin one; an owner who names no project is shown those it may review."""
    project = (visit.query.text("project") or visit.form.text("project")) if "project" not in visit.form.errors else ""
    projects = [] if project or Action.REVIEW in await visit.rights() else await _reviewable(visit)
    found = await visit.acts.reviews.list_reviews(visit.caller, project or None) if not projects else ()
    shown = leaf(found, lambda review: newest(review.number), visit.query)
    return await render(visit, "reviews.html", status, leaf=shown, project=project, projects=projects)


async def begin(visit: Visit) -> Response:
    """Looks through the period with every rule."""
    form, now = visit.form, datetime.now(UTC)
    since = form.parsed("since", lambda text: moment(text, now))
    until = form.parsed("until", lambda text: moment(text, now)) if form.text("until") else now
    named = form.parsed("project", ProjectName.parse) if form.text("project") else None
    if since is not None and until is not None and form.sound:
        with form.blaming("since"):
            project = named.name if named is not None else None
            detail = await visit.acts.reviews.begin(visit.caller, since, until, project=project)
            return visit.go(f"/reviews/{detail.review.number}")
    return await index(visit, 422)


async def show(visit: Visit) -> Response:
    detail = await visit.acts.reviews.show(visit.caller, _number(visit))
    return await _page(visit, detail)


async def mark(visit: Visit) -> Response:
    """Says of one finding what was decided; a note that cannot be is told beside it, and kept."""
    number, form = _number(visit), visit.form
    finding = int(form.text("finding")) if _is_number(form.text("finding")) else 0
    with form.blaming(f"note-{finding}"):
        note = form.text(f"note-{finding}")
        await visit.acts.reviews.mark(visit.caller, number, finding, form.text("mark"), note)
        return visit.go(f"/reviews/{number}", said="saved")
    return await _page(visit, await visit.acts.reviews.show(visit.caller, number), 422)


async def sign_off(visit: Visit) -> Response:
    """Closes the review for good."""
    number, form = _number(visit), visit.form
    # A form that says nothing of it is none of ours.
    shown = form.value("shown") or "-"
    with form.blaming("note"):
        await visit.acts.reviews.sign_off(visit.caller, number, form.text("note"), shown=shown)
        return visit.go(f"/reviews/{number}", said="signed-off")
    return await _page(visit, await visit.acts.reviews.show(visit.caller, number), 422)


async def export(visit: Visit) -> Response:
    """The evidence pack, as a file to keep."""
    number = _number(visit)
    with visit.acts.exporting.slot(visit.caller) as slot:
        pack = await visit.acts.reviews.export(visit.caller, number)
        stream = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - closed when it was sent
        await asyncio.to_thread(pack.zipped, stream)
        stream.seek(0)
        return Download(slot, _pieces(stream), f"review-{number}.zip", "application/zip")


async def _page(visit: Visit, detail: ReviewDetail, status: int = 200) -> Response:
    runs = {run.rule: run for run in detail.review.runs}
    rules = [
        (rule, runs[rule.name], [found for found in detail.findings if found.rule == rule.name])
        for rule in RULES
        if rule.name in runs
    ]
    # What is to be looked at comes before what found nothing.
    rules.sort(key=lambda row: not row[2])
    unmarked = sum(not found.mark for found in detail.findings)
    begun = detail.review.begun_by == visit.caller.principal.name
    deciding = detail.review.signed_at is None and (begun or Action.REVIEW in await visit.rights())
    return await render(
        visit,
        "review.html",
        status,
        review=detail.review,
        rules=rules,
        unmarked=unmarked,
        shown=detail.shown,
        deciding=deciding,
    )


async def _reviewable(visit: Visit) -> list[str]:
    """The projects whose trail a grant lets the caller review, by name."""
    standing = await visit.parts.gate.directory.standing(visit.caller.principal)
    names = {grant.reach.project for grant in standing.grants} if standing is not None else set()
    return sorted([name.name for name in names if Action.REVIEW in await visit.rights(name)])


def _pieces(stream: IO[bytes]) -> Generator[bytes, None, None]:
    with stream:
        while piece := stream.read(_PIECE_BYTES):
            yield piece


def _number(visit: Visit) -> int:
    text = visit.path["number"]
    if not _is_number(text):
        raise Unknown(_NO_REVIEW)
    return int(text)


def _is_number(text: str) -> bool:
    """Whether *text* can number a review or finding: no longer than either database has room for."""
    return text.isdecimal() and len(text) <= 18


GROUP = Group(
    pages=(
        Page("/reviews", index, begin),
        Page("/reviews/{number}", show),
        Page("/reviews/{number}/mark", post=mark),
        Page("/reviews/{number}/sign-off", post=sign_off),
        Page("/reviews/{number}/pack", export),
    ),
    places=(Place("Reviews", "/reviews", Action.REVIEW),),
)
