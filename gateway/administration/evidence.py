"""Evidence: the key that signs checkpoints, checkpoints, how far sinks have got, and old months sealed away.

retain ─▶ events of a month ─▶ a file, on disk and read back ─▶ its row and event ─▶ the events leave, a few at a time
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NoReturn

from gateway.access.policy import Need
from gateway.access.principals import Caller
from gateway.access.scopes import Action
from gateway.access.secrets import Secrets
from gateway.administration.values import MANAGE_SYSTEM
from gateway.audit.chain import Head, Sealed
from gateway.audit.checkpoints import CheckpointKey, statement_of
from gateway.audit.event import Event, Kind, Outcome, time_text
from gateway.audit.offline import fault_of, key_id, read_key
from gateway.audit.trail import Trail, Verification
from gateway.errors import Conflict
from gateway.gate import Act, Gate
from gateway.records import checkpoints, cursors, proving, sealing, segments
from gateway.records.checkpoints import Stored
from gateway.records.cursors import Lag
from gateway.records.database import Database
from gateway.records.sealing import Left
from gateway.records.segments import Month, Segment, Unsealed

__all__ = ["Evidence", "Kept", "Lag", "Month", "Plan", "PublicKey", "Receipt", "Stored", "months_before"]

_REVIEW = Need(Action.REVIEW)
#: So long a segment is kept once it was sealed: a clock that is wrong by years does not seal and purge at once. So long
#: its file is kept once it was purged: a database that takes over without the last seconds still asks for it.
SETTLED = timedelta(days=1)
#: A clock that is further ahead of the newest event is not believed.
AHEAD = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of the key that signs checkpoints, in PEM, and its id."""

    kid: str
    pem: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What `retain` would do: the *months* it would seal, and the files of sealed events that it would *purge*."""

    months: Sequence[Month]
    purge: Sequence[Segment]


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    What `retain` did: so many *events* are in new *segments* now; *purged* events are gone for good.

    So many segments that were to be purged are *waiting* until a day after they were sealed, and so many files of
    purged ones are *lingering* until a day after that.
    """

    segments: Sequence[Segment]
    events: int
    purged: int
    waiting: int
    lingering: int


@dataclass(frozen=True, slots=True)
class Kept:
    """
    The *newest* checkpoint, if one was made, and the *segments* that old events are in.

    *edited* is what stands in the newest one's place in the database, if that is no statement.
    """

    newest: Stored | None
    segments: Sequence[Segment]
    edited: Stored | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Looking needs an administrator or auditor, sealing and purging an administrator."""

    gate: Gate
    database: Database
    trail: Trail
    secrets: Secrets

    async def public_key(self, caller: Caller) -> PublicKey:
        """The key that checkpoints are verified with; the pair is made if there is none yet."""
        async with self.gate.passage(caller, Kind.AUDIT_KEY, _REVIEW) as passage:
            notes = await passage.commit(checkpoints.make_key(self.secrets))
        key: CheckpointKey = notes.result
        return PublicKey(key.kid, key.public_pem)

    async def checkpoint(self, caller: Caller) -> Stored:
        """A checkpoint of the chain as it is now. Raises `Conflict` while nothing has happened yet."""
        async with self.gate.passage(caller, Kind.AUDIT_CHECKPOINT, _REVIEW) as passage:
            key = await self.signing_key(caller)
            notes = await passage.commit(checkpoints.make(key, always=True))
        if notes.result is None:
            raise Conflict("There is no event yet, and so nothing to make a checkpoint of.")
        made: Stored = notes.result
        return made

    async def checkpoints(self, caller: Caller) -> Sequence[Stored]:
        """All that are kept, in their order."""
        async with self.gate.passage(caller, Kind.AUDIT_CHECKPOINT, _REVIEW, detail={"all": True}) as passage:
            found: list[Stored] = []
            while page := await self._read(partial(checkpoints.between, after=_last_of(found), until=2**62)):
                found += page
            await passage.seal()
        return found

    async def kept(self, caller: Caller) -> Kept:
        """The newest checkpoint, and the segments that old events were sealed into, the oldest first."""
        async with self.gate.passage(caller, Kind.AUDIT_CHECKPOINT, _REVIEW, detail={"newest": True}) as passage:
            newest: Stored | None = await self._read(checkpoints.newest)
            last: Stored | None = await self._read(checkpoints.newest_row)
            sealed: Sequence[Segment] = await self._read(segments.every)
            await passage.seal()
        return Kept(newest, sealed, last if last is not None and not last.is_statement else None)

    async def newest(self, caller: Caller, *, before: int | None = None, limit: int) -> Sequence[Stored]:
        """The newest *limit* checkpoints that are kept, of those about events before *before*."""
        asked = {"before": before} if before is not None else {}
        async with self.gate.passage(
            caller, Kind.AUDIT_CHECKPOINT, _REVIEW, detail={"newest": limit, **asked}
        ) as passage:
            found: Sequence[Stored] = await self._read(partial(checkpoints.latest, before=before or 2**62, most=limit))
            await passage.seal()
        return found

    async def sinks(self, caller: Caller) -> Sequence[Lag]:
        """How far each sink has got, and what keeps it."""
        async with self.gate.passage(caller, Kind.AUDIT_SINKS, _REVIEW) as passage:
            found: Sequence[Lag] = await self._read(partial(cursors.lags, now=time.time()))
            await passage.seal()
        return found

    async def verify_against(
        self, caller: Caller, statements: Sequence[Mapping[str, Any]], key_pem: str | None = None
    ) -> Verification:
        """
        Reads the whole trail, and whether it holds what the *statements*, checkpoints from elsewhere, say of it.

        They, and the stubs of what was purged, must be signed by *key_pem*, an exported public key; without one, by a
        key of this data directory, which whoever rules that could have put there. Raises
        `gateway.audit.offline.Unreadable` for no key.
        """
        given = read_key(key_pem) if key_pem is not None else None
        async with self.gate.passage(caller, Kind.AUDIT_VERIFY, _REVIEW) as passage:
            known = await self._own_keys()
            found = _foreign(statements, known, given)
            if found is None:
                only = key_id(given) if given is not None else ""
                found = await asyncio.to_thread(self.trail.verify, statements, only)
            told = {"count": found.count, "head": found.head, "fault": found.fault, "event": found.seq}
            told |= {"statements": len(statements), "uncompared": found.uncompared}
            passage.note(reason="trail_damaged" if found.fault else "", detail=told)
            await passage.seal()
        return found

    async def plan(self, caller: Caller, cut: datetime, purge: datetime | None = None) -> Plan:
        """What `retain` would do now."""
        told = _told(cut, purge, plan=True)
        async with self.gate.passage(caller, Kind.AUDIT_RETAIN, MANAGE_SYSTEM, detail=told) as passage:
            months = await self._read(partial(segments.months, cut=cut))
            going = [each for each in await self._read(segments.every) if _is_purged(each, purge)]
            going = [each for each in going if not await self._is_waiting(each)]
            await passage.seal()
        return Plan(months, going)

    async def retain(self, caller: Caller, cut: datetime, purge: datetime | None = None) -> Receipt:
        """
        Seals events before *cut* into segments, and takes them out of the database; *purge* removes older segments.

        Both are counted back from `moment`, not from the clock. None is purged less than a day after it was sealed, nor
        its file removed less than a day after that. Each segment sealed or purged is an event; what was interrupted is
        finished first. Raises `Occupied` while others are at it, `Conflict` when the events to seal are damaged or a
        segment is not as it was sealed, and `Unavailable` when a file cannot be written.
        """
        async with AsyncExitStack() as stack:
            async with self.gate.passage(caller, Kind.AUDIT_RETAIN, MANAGE_SYSTEM, detail=_told(cut, purge)) as passage:
                held = await asyncio.to_thread(sealing.alone, self.database)
                stack.push_async_callback(asyncio.to_thread, held.close)
                await passage.seal()
            return await self._retain(caller, cut, purge)

    async def _retain(self, caller: Caller, cut: datetime, purge: datetime | None) -> Receipt:
        key = await self.signing_key(caller)
        await self._leave(caller)
        await self._finish_purges(caller)
        made: list[Segment] = []
        while found := await self._read(partial(segments.next_events, cut=cut)):
            made.append(await self._seal(caller, key, found))
            await self._leave(caller)
        old = [each for each in await self._read(segments.every) if _is_purged(each, purge)]
        gone = [segment for segment in old if await self._purge(caller, key, segment)]
        purged = sum(each.count for each in gone)
        lingering = await self._finish_purges(caller)
        return Receipt(made, sum(each.count for each in made), purged, len(old) - len(gone), lingering)

    async def moment(self) -> datetime:
        """
        Now, for whoever counts back the ages of events, but no later than a day after the newest event.

        Those that sealing and purging left are not looked at, though the table have no other, for then the sealed ones
        are: a clock that is ahead does not vouch for itself.
        """
        newest = await asyncio.to_thread(proving.newest_of_others, self.database, await self._own_keys())
        return believed(datetime.now(UTC), newest)

    async def newest_time(self) -> datetime | None:
        """When the newest event happened; for the gateway's own work."""
        found: datetime | None = await self._read(proving.newest_time)
        return found

    async def fresh(self, caller: Caller, key: CheckpointKey) -> Stored:
        """A checkpoint of everything up to the event that was just made; part of that act, and no event of its own."""
        act = Act(Event(Kind.AUDIT_CHECKPOINT, caller), checkpoints.make(key, always=True), silent=True)
        made: Stored = (await self.gate.ledger.commit(act)).result
        return made

    async def signing_key(self, caller: Caller) -> CheckpointKey:
        """The key that signs, made if there is none yet; for the gateway's own work."""
        found = await self._read(partial(checkpoints.current_key, secrets=self.secrets))
        if found is None:
            event = Event(Kind.KEY_ADD, caller, detail={"purpose": "checkpoints"})
            found = (await self.gate.ledger.commit(Act(event, checkpoints.make_key(self.secrets)))).result
        key: CheckpointKey = found
        return key

    async def _seal(self, caller: Caller, key: CheckpointKey, found: Sequence[Sealed]) -> Segment:
        previous: Head = await self._read(segments.end_of)
        last = await asyncio.to_thread(sealing.checked, found, previous)
        statement = key.segment(found[0].seq, previous, last, datetime.now(UTC))
        data = self.database.data
        segment = await asyncio.to_thread(sealing.write, data, found, previous, statement)
        await asyncio.to_thread(sealing.read_back, data, segment)
        async with self.gate.passage(caller, Kind.AUDIT_RETAIN, MANAGE_SYSTEM) as passage:
            await passage.commit(sealing.record(data, segment))
        return segment

    async def _purge(self, caller: Caller, key: CheckpointKey, segment: Segment) -> bool:
        """Whether the segment was purged: it is not as long as it was sealed a short while ago."""
        proven = await self._prove(caller, segment)
        if not _is_settled(proven.sealed_at):
            return False
        stub = proving.stub_of(segment, proven, key, datetime.now(UTC))
        async with self.gate.passage(caller, Kind.AUDIT_RETAIN, MANAGE_SYSTEM) as passage:
            await passage.commit(sealing.purge(segment, stub))
        return True

    async def _is_waiting(self, segment: Segment) -> bool:
        try:
            proven = await asyncio.to_thread(proving.prove, self.database.data, segment, await self._own_keys())
        except Unsealed:
            return False
        return not _is_settled(proven.sealed_at)

    async def _leave(self, caller: Caller) -> None:
        """Takes out of the table what is in segments; whoever else wants to write has turns in between."""
        event = Event(Kind.AUDIT_RETAIN, caller)
        until, hashes = await self._proven(caller)
        left = Left(1)
        while left.events:
            left = (await self.gate.ledger.commit(Act(event, sealing.leave(until, hashes), silent=True))).result
        if left.foreign is not None:
            await self._refuse_event(caller, left.foreign)
        # The statement at the end of each segment says what the checkpoints before it said.
        await self.gate.ledger.commit(Act(event, checkpoints.thin(until), silent=True))

    async def _proven(self, caller: Caller) -> tuple[int, dict[int, bytes]]:
        """The number up to which events are in segments, and the hashes, from files, of those that are here as well."""
        oldest: int | None = await self._read(proving.oldest_event)
        head = Head()
        hashes: dict[int, bytes] = {}
        for segment in await self._read(segments.every):
            near = oldest is not None and segment.last_seq >= oldest
            if near and await self._read(partial(proving.is_here, segment=segment)):
                if segment.previous != head:
                    await self._refuse(caller, segment, "it does not follow the segment before it")
                if segment.stub:
                    await self._refuse(caller, segment, "it is told to be purged, and its events are there")
                await self._prove(caller, segment, hashes)
            head = segment.head
        return head.seq, hashes

    async def _finish_purges(self, caller: Caller) -> int:
        """Removes the files of segments that were purged a day ago; how many others there are."""
        keys, data = await self._own_keys(), self.database.data
        lingering = 0
        for segment in await self._read(segments.every):
            if segment.stub:
                try:
                    if wrong := proving.stub_fault(segment, keys):
                        raise Unsealed(wrong)
                    if _is_settled(datetime.fromisoformat(statement_of(segment.stub)["time"])):
                        await asyncio.to_thread(sealing.remove_file, data, segment)
                    else:
                        lingering += segments.path_of(data, segment).exists()
                except Unsealed as error:
                    await self._refuse(caller, segment, str(error))
        return lingering

    async def _prove(self, caller: Caller, segment: Segment, hashes: dict[int, bytes] | None = None) -> proving.Proven:
        """What the segment's file proves, which is read; raises `Conflict` unless it is as it was sealed."""
        keys = await self._own_keys()
        try:
            return await asyncio.to_thread(proving.prove, self.database.data, segment, keys, hashes)
        except Unsealed as error:
            await self._refuse(caller, segment, str(error))

    async def _refuse(self, caller: Caller, segment: Segment, fault: str) -> NoReturn:
        """Records that the segment is not as it was sealed, and raises `Conflict`: nothing is removed on its word."""
        place = {"segment": segment.file, "first": segment.first_seq, "last": segment.last_seq, "fault": fault}
        event = Event(Kind.INTEGRITY_FAILURE, caller, Outcome.FAILED, reason="segment_damaged", detail=place)
        await self.gate.ledger.commit(Act(event))
        which = f"The segment {segment.file!r} of events {segment.first_seq} to {segment.last_seq}"
        raise Conflict(f"{which} is not as it was sealed: {fault}; nothing was removed. Run: gateway audit verify")

    async def _refuse_event(self, caller: Caller, seq: int) -> NoReturn:
        """As `_refuse`, of an event in the table that is not the one that was sealed."""
        segment = await self._read(partial(segments.containing, seq=seq))
        wrong = f"event {seq} in the database is not the one that was sealed away"
        if segment is not None:
            await self._refuse(caller, segment, wrong)
        told = {"event": seq, "fault": wrong}
        event = Event(Kind.INTEGRITY_FAILURE, caller, Outcome.FAILED, reason="segment_damaged", detail=told)
        await self.gate.ledger.commit(Act(event))
        raise Conflict(f"The trail is damaged: {wrong}; nothing was removed. Run: gateway audit verify")

    async def _own_keys(self) -> proving.Keys:
        found: proving.Keys = await self._read(partial(proving.owned_keys, secret=self.secrets.checkpoints))
        return found

    async def _read(self, query: Any) -> Any:
        return await asyncio.to_thread(self.database.read_now, query)


def months_before(now: datetime, months: int) -> datetime:
    """The beginning of the month that *now* lay in so many *months* ago: what was before is older, in whole months."""
    number = now.year * 12 + now.month - 1 - months
    return datetime(max(1, number // 12), number % 12 + 1, 1, tzinfo=UTC)


def believed(clock: datetime, newest: datetime | None) -> datetime:
    """What the *clock* says, as far as that is no more than a day after the *newest* event."""
    return min(clock, newest + AHEAD) if newest is not None else clock


def _last_of(found: Sequence[Stored]) -> int:
    return found[-1].seq if found else 0


def _is_purged(segment: Segment, purge: datetime | None) -> bool:
    """Whether *segment* is to be purged: all of it is older, and it has not been yet."""
    return purge is not None and not segment.stub and segment.last_time < time_text(purge)


def _is_settled(sealed_at: datetime) -> bool:
    return datetime.now(UTC) - sealed_at >= SETTLED


def _told(cut: datetime, purge: datetime | None, *, plan: bool = False) -> dict[str, object]:
    told: dict[str, object] = {"before": time_text(cut), **({"plan": True} if plan else {})}
    return {**told, **({"purge_before": time_text(purge)} if purge is not None else {})}


def _foreign(
    statements: Sequence[Mapping[str, Any]], known: Mapping[str, bytes], given: bytes | None
) -> Verification | None:
    """What is wrong with the signatures of the *statements*, if anything."""
    for statement in statements:
        key = given if given is not None else known.get(str(statement.get("key")), bytes(32))
        wrong = fault_of(statement, key)
        if wrong:
            return Verification(0, "", wrong, int(statement["seq"]))
    return None
