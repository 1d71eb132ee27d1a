"""Reviews: begun, looked through finding by finding, signed off, and handed over."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter, defaultdict
from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import IO, Final

from starlette.responses import Response

from gateway.access.scopes import Action
from gateway.administration import Condition, ReviewDetail, edition_of
from gateway.administration.reviews import Finding, Review
from gateway.audit.moments import moment
from gateway.audit.review import RULES
from gateway.console import notes
from gateway.console.download import Download
from gateway.console.form import Form
from gateway.console.frame import SAID, render
from gateway.console.leaves import ROWS, Leaf, leaf
from gateway.console.plan import Group, Page, Place
from gateway.console.sights import Sight
from gateway.console.visit import Visit, address
from gateway.errors import Stale, Unknown
from gateway.oci.names import ProjectName

#: A pack is kept in memory up to so many bytes while it is written, and in a file beyond.
_IN_MEMORY_BYTES: Final = 8 * 1024 * 1024
_PIECE_BYTES: Final = 64 * 1024
#: A note on each finding of a leaf, of the longest letters as browsers encode them, and what is sent along with it: of
#: the 3,500 findings that a review has at most, what was shown.
_NOTES_BYTES: Final = 384 * 1024
_WAYS: Final = ("before", "after")
_NO_REVIEW: Final = "There is no such review that you may see; see the list of them."


async def index(visit: Visit, status: int = 200) -> Response:
    """The reviews, and a form to begin one; an owner who names no project is shown those it may review."""
    project = (visit.query.text("project") or visit.form.text("project")) if "project" not in visit.form.errors else ""
    everywhere = Action.REVIEW in await visit.rights()
    projects = [] if project or everywhere else await _reviewable(visit)
    scope = {"project": project} if project else {}
    choices = [("All", scope), ("Open", {**scope, "open": "yes"})]
    if everywhere and not project:
        every = {"every": "yes"}
        choices += [("Of every project", every), ("Of every project, open", {**every, "open": "yes"})]
    asked = {**scope, **{name: "yes" for name in ("every", "open") if visit.query.checked(name)}}
    chosen = next((filters for _, filters in choices if filters == asked), scope)
    shown = await _listed(visit, project, chosen) if not projects else Leaf((), 0, "", "")
    values = {"project": project, "projects": projects, "choices": choices, "chosen": chosen}
    return await render(visit, "reviews.html", status, leaf=shown, **values)


async def _listed(visit: Visit, project: str, chosen: Mapping[str, str]) -> Leaf[Review]:
    """
    The leaf of the reviews, newest first, that the query asks for: numbered below `after`, or above `before`. The first
    one where there are none of these.
    """
    list_reviews = partial(
        visit.acts.reviews.list_reviews,
        visit.caller,
        project or None,
        every_project="every" in chosen,
        unsigned="open" in chosen,
    )
    above, below = (int(text) if _is_number(text := visit.query.value(name)) else None for name in ("before", "after"))
    found = await list_reviews(above=above, below=below, limit=ROWS + 1)
    if not found and (above, below) != (None, None):
        above = below = None
        found = await list_reviews(limit=ROWS + 1)
    more = len(found) > ROWS
    rows = found[1:] if more and above is not None else found[:ROWS]
    newer, older = below is not None, more
    if above is not None:
        newer, older = more, bool(await list_reviews(below=rows[-1].number, limit=1))
    first, last = (str(rows[0].number), str(rows[-1].number)) if rows else ("", "")
    return Leaf(rows, len(rows), first if newer else "", last if older else "")


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
    """
    Says of one finding what was decided, unless somebody else has since the page was opened; once, if sent twice.

    A note that cannot be is told beside it, and kept, and so is what was typed beside the others.
    """
    number, form = _number(visit), visit.form
    if form.text("turn") or form.text("look"):
        return await _turned(visit, number)
    said, _, text = form.text("mark").partition(":")
    if not said:
        return await _unsaid(visit, await visit.acts.reviews.show(visit.caller, number))
    finding = int(text) if _is_number(text) else 0
    seen = Condition.on_finding(number, finding, frozenset({form.text(f"version-{finding}")}))
    note = form.text(f"note-{finding}")
    try:
        with form.blaming(f"note-{finding}"):
            await visit.acts.expecting(seen).reviews.mark(visit.caller, number, finding, said, note)
            return await _marked(visit, await visit.acts.reviews.show(visit.caller, number), finding)
    except Stale as stale:
        if stale.present is None:
            raise Unknown(stale.message) from stale
        detail = await visit.acts.reviews.show(visit.caller, number)
        sent_twice = _is_said(visit, stale.present, said, note)
        return await (_marked if sent_twice else _overtaken)(visit, detail, finding)
    return await _page(visit, await visit.acts.reviews.show(visit.caller, number), 422)


async def _marked(visit: Visit, detail: ReviewDetail, finding: int) -> Response:
    """On to the finding that was marked; with notes that were typed beside others, and not sent off, still there."""
    unsent = tuple(number for number in notes.typed(visit.form, detail.findings) if number != finding)
    if not unsent and not visit.form.text("note") and not _carries(visit, detail):
        return visit.go(f"/reviews/{detail.review.number}", said="saved", fragment=f"finding-{finding}", **_leaf(visit))
    return await _page(visit, detail, form=notes.kept(visit.form, unsent), said=SAID["saved"])


async def _turned(visit: Visit, number: int) -> Response:
    """
    On to the leaf that was asked for; not while notes are there that were typed, and not sent off. To `look` at what
    keeps a review from being signed, what was typed for the sign-off goes along.
    """
    form, look = visit.form, visit.form.text("look")
    way, _, name = (look or form.text("turn")).partition(":")
    there = {way: name} if way in _WAYS and name else {}
    if notes.changed(form) or form.text("note") or form.text("shown"):
        detail = await visit.acts.reviews.show(visit.caller, number)
        if notes.typed(form, detail.findings) or (form.text("note") and not look):
            return await _unsaid(visit, detail, signing=bool(look))
        visit.query = Form(there.items())
        if form.text("note") or _carries(visit, detail):
            return await _page(visit, detail)
    return visit.go(f"/reviews/{number}", **there)


def _sight(visit: Visit, number: int) -> Sight:
    """What the form that was sent says was shown; an address says nothing of it, for anybody may have made that."""
    sent = visit.form.value("shown") if visit.request.method == "POST" else ""
    return Sight.read(number, visit.caller.principal, sent)


def _carries(visit: Visit, detail: ReviewDetail) -> bool:
    """Whether other leaves than the one to be shown were shown before: only a page that a form leads to knows of it."""
    sight, here = _sight(visit, detail.review.number), {each.number for each in _leaf_of(visit, detail).rows}
    return any(sight.saw(each) for each in detail.findings if each.number not in here)


async def _unsaid(visit: Visit, detail: ReviewDetail, *, signing: bool = False) -> Response:
    """What was typed says nothing yet, as after Enter in a note: the page again, with all of it."""
    form, unsent = visit.form, notes.typed(visit.form, detail.findings)
    for number in unsent:
        form.blame(f"note-{number}", "Choose Fine or Follow up; nothing was saved yet.")
    if form.text("note") and not signing:
        form.blame("note", "Press Sign off when everything has a mark; nothing was signed yet.")
    if form.sound:
        form.blame("", "Choose Fine or Follow up beside a finding; nothing was changed.")
    return await _page(visit, detail, 422, asked=min(unsent, default=0))


async def _overtaken(visit: Visit, detail: ReviewDetail, finding: int) -> Response:
    """The page again, with what was typed in it, beside what somebody else said of the finding meanwhile."""
    told = {f"version-{finding}", f"was-{finding}"}
    form = Form([(name, value) for name, value in visit.form.pairs if name not in told])
    form = notes.kept(form, (*notes.typed(visit.form, detail.findings), finding))
    if detail.review.signed_at is not None:
        form.blame("", f"The review was signed off by {detail.review.signed_by} meanwhile, and stays as it is.")
    return await _page(visit, detail, 409, form=form, changed=finding)


def _is_said(visit: Visit, present: object, said: str, note: str) -> bool:
    """Whether the caller has said just this of the finding *present*: two clicks, or a page that was loaded again."""
    told = (said, " ".join(note.split()), visit.caller.principal.name)
    return isinstance(present, Finding) and (present.mark, present.note, present.marked_by) == told


async def back(visit: Visit) -> Response:
    """To the review, from the address of a form that was sent: a page that tells what is wrong with it has that."""
    return visit.go(f"/reviews/{_number(visit)}", **_leaf(visit))


async def sign_off(visit: Visit) -> Response:
    """Closes the review for good; not while notes are there that were typed beside findings, and not sent off."""
    number, form = _number(visit), visit.form
    if notes.changed(form):
        detail = await visit.acts.reviews.show(visit.caller, number)
        if notes.typed(form, detail.findings):
            return await _unsaid(visit, detail, signing=True)
    with form.blaming("note"):
        await visit.acts.reviews.sign_off(visit.caller, number, form.text("note"), seen=_sight(visit, number).saw)
        return visit.go(f"/reviews/{number}", said="signed-off")
    return await _page(visit, await visit.acts.reviews.show(visit.caller, number), 422, signing=True)


async def export(visit: Visit) -> Response:
    """The evidence pack, as a file to keep."""
    number = _number(visit)
    with visit.acts.exporting.slot(visit.caller) as slot:
        pack = await visit.acts.reviews.export(visit.caller, number)
        stream = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - closed when it was sent
        await asyncio.to_thread(pack.zipped, stream)
        stream.seek(0)
        return Download(slot, _pieces(stream), f"review-{number}.zip", "application/zip")


async def _page(
    visit: Visit,
    detail: ReviewDetail,
    status: int = 200,
    *,
    form: Form | None = None,
    said: str = "",
    asked: int = 0,
    changed: int = 0,
    signing: bool = False,
) -> Response:
    """
    A leaf of the findings; *asked* is the one to go on with, *changed* the one that somebody else has marked; *signing*
    tells what was not shown before this page, which keeps the review from being signed, and not what is left.

    Of a form that was sent, what was typed is kept; everything else is as it is now.
    """
    if form is None:
        sent = visit.request.method == "POST"
        form = notes.kept(visit.form, notes.typed(visit.form, detail.findings)) if sent else Form()
    number, shown = detail.review.number, _leaf_of(visit, detail)
    editions = {found.number: edition_of(found) for found in shown.rows}
    overtaken = {each for each, now in editions.items() if form.value(f"version-{each}", now) != now or each == changed}
    listed = Counter(found.rule for found in detail.findings)
    runs = {run.rule: run for run in detail.review.runs}
    rules = [
        (rule, runs[rule.name], [found for found in shown.rows if found.rule == rule.name], listed[rule.name])
        for rule in RULES
        if rule.name in runs
    ]
    # What is to be looked at comes before what found nothing, which is told once all that was found was.
    rules = [row for row in rules if row[2]] + [row for row in rules if not (row[3] or shown.after)]
    unmarked = sum(not found.mark for found in detail.findings)
    # Beside a note that hides what is kept now, what was seen stays what was seen: it is not to be signed unseen.
    before = _sight(visit, number)
    sight = before.and_of(
        each
        for _, _, found, _ in rules
        for each in found
        if each.number not in overtaken and form.value(f"note-{each.number}", each.note) == each.note
    )
    signable = detail.review.signed_at is None and not unmarked
    # In a thread: of thousands of findings, it takes a while to compare them.
    unseen = await asyncio.to_thread(_unseen, detail, before if signing else sight, shown) if signable else []
    begun = detail.review.begun_by == visit.caller.principal.name
    deciding = detail.review.signed_at is None and (begun or Action.REVIEW in await visit.rights())
    return await render(
        visit,
        "review.html",
        status,
        review=detail.review,
        rules=rules,
        leaf=shown,
        mark=address(f"/reviews/{number}/mark", **_leaf(visit)),
        here_on=_leaf(visit),
        editions=editions,
        was=notes.was,
        asked=asked,
        changed=changed,
        overtaken=overtaken,
        form=form,
        said=said,
        unmarked=unmarked,
        shown=sight.text,
        unseen=unseen,
        deciding=deciding,
    )


def _unseen(detail: ReviewDetail, sight: Sight, here: Leaf[Finding]) -> list[tuple[str, list[int]]]:
    """The findings that were not shown as they are, by leaf: what to `look` at it with; "" for the one *here*."""
    ordered, found = sorted(detail.findings, key=_name), defaultdict[str, list[int]](list)
    on_it = {each.number for each in here.rows}
    for place, each in enumerate(ordered):
        if not sight.saw(each):
            first = place - place % ROWS
            there = f"after:{_name(ordered[first - 1])}" if first else "after:"
            found["" if each.number in on_it else there].append(each.number)
    return list(found.items())


def _leaf_of(visit: Visit, detail: ReviewDetail) -> Leaf[Finding]:
    return leaf(detail.findings, _name, visit.query)


def _name(finding: Finding) -> str:
    return f"{finding.number:09}"


def _leaf(visit: Visit) -> dict[str, str]:
    """What the address says of which leaf is shown."""
    return {name: visit.query.value(name) for name in _WAYS if visit.query.value(name)}


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
        Page("/reviews/{number}/mark", back, mark, form_bytes=_NOTES_BYTES),
        Page("/reviews/{number}/sign-off", back, sign_off, form_bytes=_NOTES_BYTES),
        Page("/reviews/{number}/pack", export),
    ),
    places=(Place("Reviews", "/reviews", Action.REVIEW),),
)
