"""Reading the trail: reads of it are events too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial

from gateway.access.policy import Need
from gateway.access.principals import Caller
from gateway.access.scopes import Action
from gateway.administration.horizon import horizon
from gateway.administration.looks import Looks
from gateway.administration.sight import standing_of
from gateway.audit.chain import GENESIS, Head, Sealed, fault
from gateway.audit.event import Kind, time_text
from gateway.audit.overview import Overview
from gateway.audit.searching import asked, search_of
from gateway.audit.trail import SealedPart, Search, Trail, Verification
from gateway.errors import Denied, Invalid, Unknown
from gateway.gate import Gate
from gateway.oci.names import ProjectName, Repository
from gateway.records import searches
from gateway.records.database import Database
from gateway.records.overview import overview
from gateway.records.searches import SavedSearch

#: The fields every listed event has, in this order; empty where an event says nothing of them.
FIELDS = (
    "id",
    "time",
    "kind",
    "outcome",
    "principal",
    "project",
    "repository",
    "reference",
    "digest",
    "address",
    "reason",
    "request_id",
)
PAGE_LIMIT = 1000
#: Files of sealed events that are looked through for one page: half a million events, some seconds.
FILES = 25
#: Values shown of each facet.
TOP = 10
_NAME_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Place:
    """
    An event, and its place in the chain.

    *previous* and *following* are the numbers of its neighbours, None at either end. *fault* says what is wrong with
    the hashes from the one before to the one after, or is empty: the three follow one another as they were sealed.
    """

    event: Mapping[str, object]
    previous: int | None
    following: int | None
    following_hash: str
    fault: str


@dataclass(frozen=True, slots=True)
class EventPage:
    """
    Events, newest first, each with at least `FIELDS`. More may be found *before* this number; None: that is all.

    *sealed* is the part of the period that was not looked through: it was sealed away, or purged. Of a search since
    some time, sealed months are looked through as well.
    """

    events: Sequence[dict[str, object]]
    before: int | None = None
    sealed: SealedPart | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """Needs an administrator or auditor, or the owner of a project for what happened in that project."""

    gate: Gate
    trail: Trail
    database: Database
    looks: Looks

    async def list_events(
        self, caller: Caller, search: Search, *, before: int | None = None, limit: int = 100
    ) -> Sequence[dict[str, object]]:
        """The events of `find_events`."""
        return (await self.find_events(caller, search, before=before, limit=limit)).events

    async def find_events(
        self,
        caller: Caller,
        search: Search,
        *,
        before: int | None = None,
        limit: int = 100,
        files: int | None = FILES,
    ) -> EventPage:
        """
        The newest events that match, newest first, those numbered below *before*; at most 1,000, and never itself.

        With a *since* that reaches into sealed months these are looked through too, at most so many *files* for one
        answer (None: all there are), some tenths of a second each; a short answer may then not be the last. Raises
        `TooManyRequests` while enough such looks are under way.
        """
        need = Need(Action.REVIEW, _project(search))
        async with self.gate.passage(caller, Kind.AUDIT_LIST, need, detail=_asked(search)) as passage:
            if not 1 <= limit <= PAGE_LIMIT:
                raise Invalid(f"A page has 1 to {PAGE_LIMIT} events; use the export for more.")
            seen = await self._seen(caller, search)
            found, part = await asyncio.to_thread(self._page, seen, before, limit)
            on = found[-1].seq if len(found) == limit else None
            if part is not None and part.files and files != 0 and search.since is not None:
                on = await self.looks.run(caller, self._read_sealed, seen, before, limit, files, found)
                part = part.read()
            await passage.seal()
        return EventPage([shown(event) for event in found], on, part if on is None else None)

    def _page(self, search: Search, before: int | None, limit: int) -> tuple[list[Sealed], SealedPart | None]:
        """What the database has of a page and, if that is not all of it, what was sealed away."""
        found = list(self.trail.page(search, before=before, limit=limit))
        return found, self.trail.sealed(search, before) if len(found) < limit else None

    def _read_sealed(
        self, search: Search, before: int | None, limit: int, files: int | None, found: list[Sealed]
    ) -> int | None:
        """Fills up what was *found* with what so many *files* of sealed months have; the number to go on before."""
        numbers = {event.seq for event in found}
        for each in self.trail.older([search], before=before, files=files):
            if isinstance(each, int):
                return each
            if each.seq not in numbers:
                found.append(each)
                if len(found) == limit:
                    return each.seq
        return None

    async def show_event(self, caller: Caller, seq: int) -> dict[str, object]:
        """The event of this number, with all its fields. Raises `Unknown`, also for one that is not theirs to see."""
        event = await asyncio.to_thread(self.trail.event, seq)
        name = str(event.record().get("project", "")) if event is not None else ""
        need = Need(Action.REVIEW, ProjectName(name) if name else None)
        try:
            async with self.gate.passage(caller, Kind.AUDIT_SHOW, need, detail={"event": seq}) as passage:
                if event is None:
                    raise Unknown(f"There is no event {seq}; list the events to see their numbers.")
                first = await self._horizon(caller, need.project)
                if first is not None and str(event.record()["time"]) < time_text(first):
                    raise Unknown(f"There is no event {seq} that you may see; search for those you may.")
                await passage.seal()
        except Denied as refusal:
            # It would name the event's project, which may be none that they know of.
            raise Unknown(f"There is no event {seq} that you may see; search for those you may.") from refusal
        return shown(event)

    async def locate_event(self, caller: Caller, seq: int) -> Place:
        """As `show_event`, with its place in the chain, of which its two neighbours are checked."""
        event = await self.show_event(caller, seq)
        neighbours = await asyncio.to_thread(lambda: [self.trail.event(near) for near in (seq - 1, seq, seq + 1)])
        previous, sealed, following = neighbours
        assert sealed is not None
        head = Head(previous.seq, previous.hash) if previous is not None else Head(seq - 1, GENESIS)
        wrong = fault(head, sealed)
        if not wrong and following is not None:
            wrong = fault(Head(sealed.seq, sealed.hash), following)
        return Place(
            event,
            previous.seq if previous is not None else None,
            following.seq if following is not None else None,
            following.hash.hex() if following is not None else "",
            wrong,
        )

    async def overview(self, caller: Caller, search: Search) -> Overview:
        """
        When, by whom, from where and where the events that match were; takes some milliseconds however many there are.

        What was counted to keep it so is told in the answer: see `Facets`.
        """
        need = Need(Action.REVIEW, _project(search))
        async with self.gate.passage(caller, Kind.AUDIT_OVERVIEW, need, detail=_asked(search)) as passage:
            now = datetime.now(UTC)
            first = await self._horizon(caller, _project(search))
            seen = _since(search, first)
            found = await asyncio.to_thread(
                self.database.read_now, lambda connection: overview(connection, seen, now, top=TOP, horizon=first)
            )
            await passage.seal()
        return found

    async def save_search(self, caller: Caller, name: str, filters: Mapping[str, str]) -> SavedSearch:
        """
        Keeps a search for the caller, under a name of its own; one of that name is replaced.

        *filters* are texts as they are typed (`FILTERS`): `24h` goes on to mean a day before it is asked. Who may not
        run it may not save it. Raises `Invalid` with the filter in its detail, `Conflict` beyond 100 and for the name
        of one that the caller's token does not reach.
        """
        wanted = {field: text for field, text in filters.items() if text}
        search = search_of(wanted, datetime.now(UTC))
        need = Need(Action.REVIEW, _project(search))
        async with self.gate.passage(caller, Kind.SEARCH_SAVE, need, detail={"name": name}) as passage:
            if not name.strip() or len(name) > _NAME_CHARACTERS or not name.isprintable():
                raise Invalid(
                    f"A saved search has a name of 1 to {_NAME_CHARACTERS} characters.", detail={"field": "name"}
                )
            reached = partial(_reached, caller)
            change = searches.save(caller.principal, name.strip(), wanted, reached, now=int(time.time()))
            notes = await passage.commit(change)
        assert isinstance(notes.result, SavedSearch)
        return notes.result

    async def list_searches(self, caller: Caller) -> tuple[SavedSearch, ...]:
        """What the caller has saved, by name, of what its token may search; nobody sees what others have."""
        async with self.gate.passage(caller, Kind.SEARCH_LIST) as passage:
            await standing_of(self.gate, caller)
            found = await self.database.read(lambda connection: searches.searches_of(connection, caller.principal))
            await passage.seal()
        return tuple(each for each in found if _reached(caller, each.filters))

    async def remove_search(self, caller: Caller, name: str) -> None:
        """Removes one of `list_searches`. Raises `Unknown`."""
        async with self.gate.passage(caller, Kind.SEARCH_REMOVE, detail={"name": name}) as passage:
            await standing_of(self.gate, caller)
            await passage.commit(searches.remove(caller.principal, name, partial(_reached, caller)))

    async def export_events(self, caller: Caller, search: Search) -> Iterator[Sealed]:
        """
        Every event that matches, oldest first, in bounded memory; the export itself is recorded before the first.

        The iterator reads the database as it is advanced: advance it in a thread where others wait.
        """
        need = Need(Action.REVIEW, _project(search))
        async with self.gate.passage(caller, Kind.AUDIT_EXPORT, need, detail=_asked(search)) as passage:
            seen = await self._seen(caller, search)
            await passage.seal()
        return self.trail.export(seen)

    async def export_lines(self, caller: Caller, search: Search) -> Iterator[str]:
        """
        As `export_events`, letter by letter as it was sealed, so that it verifies offline: `Sealed.line` of each event.

        Where events were purged, the signed stub stands.
        """
        need = Need(Action.REVIEW, _project(search))
        async with self.gate.passage(caller, Kind.AUDIT_EXPORT, need, detail=_asked(search)) as passage:
            seen = await self._seen(caller, search)
            await passage.seal()
        return self.trail.lines(seen)

    async def _seen(self, caller: Caller, search: Search) -> Search:
        """*search*, of no more than *caller* sees."""
        return _since(search, await self._horizon(caller, _project(search)))

    async def _horizon(self, caller: Caller, project: ProjectName | None) -> datetime | None:
        return await horizon(self.gate, self.database, self.trail, caller, project)

    async def sealed_away(self) -> tuple[int, str]:
        """The number and time of the last event that no list shows, for it is in a segment; (0, "") without any."""
        return await asyncio.to_thread(self.trail.sealed_away)

    async def verify(self, caller: Caller) -> Verification:
        """Reads the whole chain and says what is wrong with the first bad event, if any; the result is recorded."""
        async with self.gate.passage(caller, Kind.AUDIT_VERIFY, Need(Action.REVIEW)) as passage:
            found = await asyncio.to_thread(self.trail.verify)
            passage.note(
                reason="trail_damaged" if found.fault else "",
                detail={"count": found.count, "head": found.head, "fault": found.fault, "event": found.seq},
            )
            await passage.seal()
        return found


def shown(event: Sealed) -> dict[str, object]:
    """The event as readers see it: `FIELDS` first, always there, then whatever else it says."""
    return {**dict.fromkeys(FIELDS, ""), **event.record()}


def _project(search: Search) -> ProjectName | None:
    """The project that *search* is limited to, if it is."""
    if search.repository:
        repository = Repository.parse(search.repository)
        if search.project and search.project != repository.project.name:
            raise Invalid(f"{repository} is not a repository of {search.project}; give one or the other.")
        return repository.project
    return ProjectName.parse(search.project) if search.project else None


def _reached(caller: Caller, filters: Mapping[str, str]) -> bool:
    """Whether the search that *filters* make lies within what the caller's credential may be used for."""
    if caller.bound is None:
        return True
    return caller.bound.allows(Action.REVIEW, _project(asked(filters, datetime.now(UTC)).search))


def _since(search: Search, first: datetime | None) -> Search:
    """*search*, of nothing that was before *first*."""
    if first is None or (search.since is not None and search.since >= first):
        return search
    return replace(search, since=first)


def _asked(search: Search) -> dict[str, object]:
    given = {name: value for name, value in asdict(search).items() if value}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in given.items()}
