"""Reviews: somebody looks through a period, says of each finding what is to be done, and signs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from gateway.access.policy import Need
from gateway.access.principals import Caller
from gateway.access.scopes import Action
from gateway.administration.evidence import Evidence
from gateway.administration.gathering import earlier, gather
from gateway.administration.horizon import birth, horizon
from gateway.administration.looks import Looks
from gateway.audit.chain import Sealed
from gateway.audit.event import Kind, Outcome, time_text
from gateway.audit.pack import SHOWN, Pack, Told
from gateway.audit.review import RULES, Found, Mark, Policy, Rule, Run, run
from gateway.audit.trail import Search, Trail
from gateway.errors import Conflict, Denied, Invalid, Unknown
from gateway.gate import Gate, Passage
from gateway.oci.names import ProjectName
from gateway.records import reviews as rows
from gateway.records.accounts import find
from gateway.records.database import Database
from gateway.records.projects import get
from gateway.records.reviews import Finding, Review, Sight, Wanted

__all__ = ["Finding", "Pack", "Review", "ReviewDetail", "Reviews"]

NOTE_CHARACTERS: Final = 500
#: Reviews of one list, unless something else is asked for.
LISTED: Final = 500


@dataclass(frozen=True, slots=True)
class ReviewDetail:
    """A review with all that it found; *shown* is the SHA-256 of it as it is here, to be signed off as it was seen."""

    review: Review
    findings: tuple[Finding, ...]
    shown: str


@dataclass(frozen=True, slots=True)
class Reviews:
    """
    For administrators and auditors; a review of one project is its owner's as well, to see and to hand over, if it
    looked at nothing of before that project began: marking and signing it off is for whoever reviews the system, and
    for who began it. Every act is an event.

    Raises `Unknown` for a review that is not there or not theirs to see, `Conflict` for one that was signed off: that
    stays as it is.
    """

    gate: Gate
    database: Database
    trail: Trail
    evidence: Evidence
    looks: Looks
    clock: Callable[[], float] = time.time

    async def begin(
        self,
        caller: Caller,
        since: datetime,
        until: datetime,
        *,
        project: str | None = None,
        policy: Policy | None = None,
    ) -> ReviewDetail:
        """
        Looks through the period (*until* exclusive, UTC) with every rule and keeps what they find.

        A period has whole seconds: both ends are rounded down. One that is not over ends now, and the review says so:
        nobody signs for what has not happened yet. One of a project begins with it, and the review says so, unless the
        name was in use before, and whoever asks may see what happened then.
        Takes some seconds where much happened: of each rule at most the newest 100,000 events are looked at, and the
        review says so. Raises `Invalid` for a period that is empty, has not begun, or ends before anything that the
        caller may see; `Unknown` for a project that there never was: one that was removed can be reviewed.
        """
        name = ProjectName.parse(project) if project else None
        asked = {"since": since.isoformat(), "until": until.isoformat()}
        since, until = _second(since), _second(min(until, datetime.fromtimestamp(self.clock(), UTC)))
        need = Need(Action.REVIEW, name)
        async with self.gate.passage(caller, Kind.REVIEW_BEGIN, need, detail=asked) as passage:
            if since >= until:
                told = "A period begins a second or more before it ends, and has begun already."
                raise Invalid(told, detail={"field": "since"})
            await self._require_project(name)
            rules = policy or Policy()
            scope = name.name if name is not None else ""
            first = await self._horizon(caller, name)
            if first is not None and until <= first:
                told = f"The project began at {first:%Y-%m-%d %H:%M:%S}Z; review a period that ends after that."
                raise Invalid(told, detail={"field": "until"})
            born = first if first is not None or name is None else await birth(self.database, self.trail, name)
            look = partial(self._look, scope, since, until, rules, born, only=first is not None)
            since, picked, runs = await self.looks.run(caller, look)
            passage.note(detail={"since": since.isoformat(), "until": until.isoformat()})
            span = int(since.timestamp()), int(until.timestamp())
            by = caller.principal.name
            change = rows.begin(scope, *span, rules, picked, runs, by=by, now=int(time.time()))
            number = (await passage.commit(change)).result
        return await self.database.read(lambda connection: _detail(connection, number))

    async def list_reviews(
        self,
        caller: Caller,
        project: str | None = None,
        *,
        every_project: bool = False,
        unsigned: bool = False,
        below: int | None = None,
        above: int | None = None,
        limit: int = LISTED,
    ) -> tuple[Review, ...]:
        """
        So many reviews, newest first: those of *project*, those *every_project* was looked at in, or all of them; open
        ones alone if *unsigned*. The newest ones, or the next numbered *below* or *above*.

        Raises `Unknown` as `begin`, `Invalid` for one project and every one.
        """
        name = ProjectName.parse(project) if project else None
        if name is not None and every_project:
            raise Invalid("List the reviews of one project or those of every project.", detail={"field": "project"})
        wanted = Wanted("" if every_project else name.name if name is not None else None, unsigned)
        async with self.gate.passage(caller, Kind.REVIEW_LIST, Need(Action.REVIEW, name)) as passage:
            sight = await self._sight(caller, name)
            found = await self.database.read(
                lambda connection: rows.page(connection, wanted, sight, below=below, above=above, limit=limit)
            )
            if not found:
                await self._require_project(name)
            await passage.seal()
        return found

    async def show(self, caller: Caller, number: int) -> ReviewDetail:
        """The review with its findings."""
        async with self._passage(caller, Kind.REVIEW_SHOW, number, {"review": number}) as passage:
            found = await self.database.read(lambda connection: _detail(connection, number))
            await passage.seal()
        return found

    async def show_finding(self, caller: Caller, number: int, finding: int) -> Finding:
        """A finding of the review. Raises `Unknown`, too, for one that it does not have."""
        asked = {"review": number, "finding": finding}
        async with self._passage(caller, Kind.REVIEW_SHOW, number, asked) as passage:
            found = await self.database.read(lambda connection: rows.get_finding(connection, number, finding))
            await passage.seal()
        return found

    async def mark(self, caller: Caller, number: int, finding: int, mark: str, note: str = "") -> Finding:
        """Says `fine` or `follow_up` of a finding, with a note; again changes it. Raises `Invalid`."""
        asked = {"review": number, "finding": finding}
        async with self._passage(caller, Kind.REVIEW_MARK, number, asked, deciding=True) as passage:
            said, remark = _mark(mark), _note(note)
            if said is Mark.FOLLOW_UP and not remark:
                raise Invalid("Say in the note what is to be followed up.", detail={"field": "note"})
            by = caller.principal.name
            notes = await passage.commit(rows.mark(number, finding, said, remark, by=by, now=int(time.time())))
        assert isinstance(notes.result, Finding)
        return notes.result

    async def sign_off(
        self,
        caller: Caller,
        number: int,
        note: str = "",
        *,
        shown: str = "",
        seen: Callable[[Finding], bool] | None = None,
    ) -> Review:
        """
        Closes the review for good; the event of it holds the SHA-256 of everything that was signed.

        Raises `Conflict` while a finding has no mark, if it is not any more what was *shown* (see `ReviewDetail`), and
        if one of its findings, as it is when the review is closed, was not *seen*, where that is given.
        """
        async with self._passage(caller, Kind.REVIEW_SIGN_OFF, number, {"review": number}, deciding=True) as passage:
            by = caller.principal.name
            change = rows.sign_off(number, _note(note), by=by, now=int(time.time()), shown=shown, seen=seen)
            notes = await passage.commit(change)
        assert isinstance(notes.result, Review)
        return notes.result

    async def export(self, caller: Caller, number: int) -> Pack:
        """
        The evidence pack of a signed review: to be read, and verified, without the gateway.

        Its checkpoint is made now, after the sign-off and after the event of this export, and so proves both; that
        event says with which event the pack begins.
        Its events are read from the database as it is written: write it in a thread where others wait. Raises
        `Conflict` while the review is open.
        """
        async with self._passage(caller, Kind.REVIEW_EXPORT, number, {"review": number}) as passage:
            found = await self.database.read(lambda connection: _detail(connection, number))
            if found.review.signed_at is None:
                raise Conflict(f"Review {number} is open; sign it off before it is handed over.")
            # Made before the event of this export, so that the checkpoint names that, which is in every such pack.
            key = await self.evidence.signing_key(caller)
            project = ProjectName(found.review.project) if found.review.project else None
            first = await self._horizon(caller, project)
            events = partial(self._events, found.review, first)
            begins = await asyncio.to_thread(lambda: next(events(), None))
            passage.note(detail={"review": number, "first": begins.seq if begins is not None else None})
            await passage.seal()
        checkpoint = await self.evidence.fresh(caller, key)
        review = found.review
        told = Told(
            title=f"Review {review.number}",
            scope=review.project or "every project",
            review=rows.content(review, found.findings, review.note),
            content=review.content,
            signed_at=review.signed_at.isoformat() if review.signed_at is not None else "",
            signed_by=review.signed_by,
            whys={rule.name: (rule.title, rule.why) for rule in RULES},
        )
        named = {number for each in found.findings for number in each.events[:SHOWN]}
        shown = await asyncio.to_thread(self._named, named, first)
        return Pack(told, events, shown.get, checkpoint.statement, chained=not review.project)

    async def _require_project(self, name: ProjectName | None) -> None:
        """Raises `Unknown` for a project that is not there and never was, as far back as the trail can be read."""
        if name is None or await self.gate.directory.project(name) is not None:
            return
        if not await asyncio.to_thread(self._was_removed, name):
            await self.database.read(lambda connection: get(connection, name))

    def _was_removed(self, name: ProjectName) -> bool:
        removal = Search(project=name.name, kind=Kind.PROJECT_REMOVE, outcome=Outcome.ALLOWED)
        return bool(self.trail.page(removal, limit=1)) or next(iter(self.trail.older([removal])), None) is not None

    def _look(
        self, scope: str, since: datetime, until: datetime, policy: Policy, born: datetime | None, *, only: bool
    ) -> tuple[datetime, list[tuple[Rule, Found]], list[Run]]:
        """
        Since when it really looked, and what the rules found. Of a project that was *born* then, nothing from before
        is looked at if *only* that may be seen, or if there is nothing: its owner can see such a review as well.
        """
        if born is not None and not only:
            before = since < _second(born) and earlier(self.trail, scope, since, born, policy)
            born = None if before or until <= born else born
        since = since if born is None else max(since, _second(born))
        return since, *run(gather(self.database, self.trail, scope, since, until, policy, born))

    def _named(self, numbers: set[int], first: datetime | None) -> dict[int, Sealed]:
        """The events of these *numbers*, from *first* on."""
        found = self.trail.events(numbers)
        since = time_text(first) if first is not None else ""
        return {number: event for number, event in found.items() if str(event.record()["time"]) >= since}

    def _events(self, review: Review, first: datetime | None) -> Iterator[Sealed]:
        """
        The events from the period's first to now, oldest first: a part of the chain without gaps. Of a review of one
        project, the events of that project alone, from its *first* on.
        """
        if review.project:
            since = review.since if first is None else max(review.since, first)
            yield from self.trail.export(Search(project=review.project, since=since))
            return
        begin = next(iter(self.trail.export(Search(since=review.since))), None)
        if begin is None:
            return
        # Events sealed at one moment may be out of the order of their times: the chain is cut by its numbers.
        yield from self.trail.stretch(begin.seq)

    async def _horizon(self, caller: Caller, project: ProjectName | None) -> datetime | None:
        return await horizon(self.gate, self.database, self.trail, caller, project)

    async def _sight(self, caller: Caller, project: ProjectName | None) -> Sight | None:
        """Which reviews of *project* the caller sees; None for all of them."""
        first, principal = await self._horizon(caller, project), caller.principal
        if first is None:
            return None
        account = await self.database.read(lambda connection: find(connection, principal.name))
        mine = account is not None and (account.kind, account.id) == (principal.kind, principal.id)
        since = int(account.created_at.timestamp()) if account is not None and mine else None
        return Sight(int(first.timestamp()), principal.name, since)

    @asynccontextmanager
    async def _passage(
        self, caller: Caller, kind: Kind, number: int, asked: Mapping[str, object], *, deciding: bool = False
    ) -> AsyncIterator[Passage]:
        """
        A passage for an act on the review *number*, which needs what its scope needs; `Unknown` to all others.

        *deciding* is for who began it, or reviews the system: `Denied` to others.
        """
        review = await self.database.read(lambda connection: rows.find(connection, number))
        name = ProjectName(review.project) if review is not None and review.project else None
        async with AsyncExitStack() as inside:
            unseen = Unknown(f"There is no review {number} that you may see; list those you may.")
            passage = self.gate.passage(caller, kind, Need(Action.REVIEW, name), detail=asked)
            try:
                await inside.enter_async_context(passage)
            except Denied as refusal:
                # It would name the review's project, which may be none that they know of.
                raise unseen from refusal
            sight = await self._sight(caller, name)
            if review is not None and sight is not None:
                if not sight.sees(review):
                    raise unseen
                if deciding and not sight.began(review):
                    told = f"Review {number} is to be marked and signed off by {review.begun_by}, who began it"
                    raise Denied(f"{told}, or by an auditor or administrator.")
            yield passage


def _detail(connection: Any, number: int) -> ReviewDetail:
    review = rows.find(connection, number)
    if review is None:
        raise rows.no_review(number)
    found = rows.findings_of(connection, number)
    return ReviewDetail(review, found, rows.fingerprint(review, found, review.note))


def _second(moment: datetime) -> datetime:
    """The second that *moment* lies in."""
    return moment.astimezone(UTC).replace(microsecond=0)


def _mark(text: str) -> Mark:
    try:
        return Mark(text)
    except ValueError:
        told = f"A mark is one of {', '.join(mark.value.replace('_', '-') for mark in Mark)}."
        raise Invalid(told, detail={"field": "mark"}) from None


def _note(text: str) -> str:
    note = " ".join(text.split())
    if len(note) > NOTE_CHARACTERS or not note.isprintable():
        raise Invalid(f"A note has at most {NOTE_CHARACTERS} printable characters.", detail={"field": "note"})
    return note
