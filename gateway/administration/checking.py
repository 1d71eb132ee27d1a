"""Checks: whether all that is kept is whole, what can be mended mended, and damage put aside and recorded.

check ─▶ flaw ─▶ mend (blocks, looks again) ─▶ its event is committed, with its change ─▶ files follow
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, Self, TypeVar

from gateway.access.principals import Caller
from gateway.administration.values import MANAGE_SYSTEM
from gateway.audit.event import Event, Kind, Outcome
from gateway.audit.trail import Trail
from gateway.errors import DatabaseDamaged, Unavailable
from gateway.flaws import DAMAGE, REMARKS, Flaw, FlawKind, Mend, Progress, Stopped
from gateway.gate import Act, Gate
from gateway.oci.digest import Digest
from gateway.oci.names import Repository
from gateway.records.agreement import damaged, record_flaws
from gateway.records.database import Database, is_damage

__all__ = ["Checks", "Fate", "Flaw", "FlawKind", "Keeper", "Pace", "Progress", "Report", "Step"]

Tell = Callable[[Progress], None]
#: Hears of bytes as they were read; what it raises ends the reading.
Heard = Callable[[int], None]
T = TypeVar("T")


class Step(Protocol):
    """What a step of the scrub found damaged, and how long there is nothing to do after it."""

    @property
    def damaged(self) -> tuple[Digest, ...]: ...

    @property
    def rest_seconds(self) -> float: ...


class Keeper(Protocol):
    """What keeps content whole, every verb blocking; the engine that keeps content implements it."""

    def flaws(self, *, deep: bool, tell: Tell) -> Iterator[Flaw]: ...

    def suspects(self) -> Sequence[Digest]: ...

    def condemn(self, digest: Digest, heard: Heard) -> Mend | None: ...

    def scrub(self, heard: Heard) -> Step: ...

    def turn(self) -> AbstractContextManager[None]: ...


@dataclass(frozen=True, slots=True)
class Fate:
    """A flaw and what was done about it, "" for nothing; *mended* says that nothing is wrong any more."""

    flaw: Flaw
    done: str = ""
    mended: bool = False

    @property
    def remark(self) -> bool:
        """Whether this is told, but nothing is wrong."""
        return self.flaw.kind in REMARKS


@dataclass(slots=True)
class Report:
    """What a check found. Unless *content*, another registry keeps that, and records and trail alone were looked at."""

    content: bool
    deep: bool
    fates: list[Fate] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """How many `blobs`, `bytes`, `manifests` and `events` were looked at."""
    seconds: float = 0.0

    @classmethod
    def of_damage(cls, refusal: DatabaseDamaged, *, deep: bool) -> Self:
        """The report where the database is too damaged to be opened, as *refusal* says."""
        return cls(True, deep, [Fate(Flaw(FlawKind.DATABASE, "gateway.db", refusal.message))])

    @property
    def well(self) -> bool:
        return all(fate.mended or fate.remark for fate in self.fates)


class Pace:
    """Makes whoever tells it of bytes as slow as so many a second; raises `Stopped` in them once stopped."""

    def __init__(self, bytes_per_second: int) -> None:
        self._rate = bytes_per_second
        self._due = time.monotonic()
        self._stop = threading.Event()

    def __call__(self, count: int) -> None:
        now = time.monotonic()
        self._due = max(self._due, now - 0.5) + count / self._rate
        if self._stop.wait(max(0.0, self._due - now)):
            raise Stopped

    def stop(self) -> None:
        self._stop.set()


@dataclass(frozen=True, slots=True)
class Checks:
    """
    Checking needs an administrator. *keeper* is None where another registry keeps the content.

    `settle` and `scrub` are the gateway's own work, in its own name.
    """

    gate: Gate
    database: Database
    trail: Trail
    keeper: Keeper | None

    async def check(
        self, caller: Caller, *, deep: bool = False, repair: bool = False, tell: Tell = lambda _: None
    ) -> Report:
        """
        Looks at everything; with *deep* reads every byte, with *repair* mends what can be. *tell* is told in threads.

        One event says what was found, and one of its own each repair and each damaged blob. What users may leave
        behind is a remark and no flaw.
        """
        begun = time.monotonic()
        report = Report(self.keeper is not None, deep)
        async with self.gate.passage(caller, Kind.CHECK_RUN, MANAGE_SYSTEM) as passage:
            await self._through(caller, report, repair, tell)
            report.seconds = time.monotonic() - begun
            left = Counter(fate.flaw.kind.value for fate in report.fates if not fate.mended)
            mended = sum(fate.mended for fate in report.fates)
            detail = {"deep": deep, "repair": repair, **report.counts, "mended": mended, "left": dict(left)}
            passage.note(reason="" if report.well else "flawed", detail=detail)
            try:
                await passage.seal()
            except Unavailable as refusal:
                # Whoever asked is told what was found, above all that this cannot be recorded.
                if not is_damage(refusal):
                    raise
                report.fates.append(Fate(damaged("this check could not be recorded in it")))
        return report

    async def settle(self, caller: Caller) -> int:
        """Judges what readers met damaged; puts it aside and records it, once. Returns how many were."""
        if self.keeper is None:
            return 0
        found = await asyncio.to_thread(self.keeper.suspects)
        return sum([bool(await self._condemn(caller, digest)) for digest in found])

    async def scrub(self, caller: Caller, pace: Pace) -> float:
        """A few seconds' worth of the scrub; returns how many seconds there is nothing to do after it."""
        if self.keeper is None:
            return float("inf")
        step = await _stoppable(partial(self.keeper.scrub, pace), pace.stop)
        for digest in step.damaged:
            await self._condemn(caller, digest)
        return step.rest_seconds

    async def _through(self, caller: Caller, report: Report, repair: bool, tell: Tell) -> None:
        stopped = threading.Event()

        def heard(progress: Progress) -> None:
            if stopped.is_set():
                raise Stopped
            report.counts[progress.part] = progress.done
            tell(progress)

        found = self._flaws(report.deep, heard)
        try:
            while (flaw := await asyncio.to_thread(next, found, None)) is not None:
                mended = await self._tried(caller, flaw) if repair else None
                report.fates.append(mended or Fate(flaw))
            report.fates += await self._chain(report, heard)
        finally:
            stopped.set()
            # A thread may still be in it, when this is being cancelled; it ends with its next word.
            with suppress(ValueError):
                found.close()

    def _flaws(self, deep: bool, tell: Tell) -> Generator[Flaw]:
        if self.keeper is None:
            yield from record_flaws(self.database, whole=False, tell=tell)
            return
        try:
            yield from self.keeper.flaws(deep=deep, tell=tell)
        except Exception as error:
            # Which files there should be cannot be read; the records are looked at all the same.
            if not is_damage(error):
                raise
            yield damaged("which blobs there are cannot be read")
            yield from record_flaws(self.database, whole=True, tell=tell)

    async def _chain(self, report: Report, tell: Tell) -> list[Fate]:
        try:
            found = await asyncio.to_thread(self.trail.verify)
        except Exception as error:
            if not is_damage(error):
                raise
            return [Fate(Flaw(FlawKind.TRAIL, "", "The audit trail cannot be read: the database is damaged."))]
        tell(Progress("events", found.count, found.count))
        if not found.fault:
            return []
        text = f"The audit trail is damaged: {found.fault}; keep a copy of the database, and restore it."
        return [Fate(Flaw(FlawKind.TRAIL, str(found.seq), text))]

    # mending

    async def _tried(self, caller: Caller, flaw: Flaw) -> Fate | None:
        """As `_mend`; None as well where the database is too damaged for it."""
        try:
            return await self._mend(caller, flaw)
        except Exception as error:
            if is_damage(error):
                return None
            raise

    async def _mend(self, caller: Caller, flaw: Flaw) -> Fate | None:
        if flaw.kind in DAMAGE and flaw.kind is not FlawKind.MANIFEST_BYTES:
            mend = await self._condemn(caller, Digest(flaw.what))
        else:
            mend = await asyncio.to_thread(flaw.mend)
            if mend is not None:
                await self._commit(caller, flaw, mend)
        return Fate(flaw, mend.text, mend.whole) if mend is not None else None

    async def _commit(self, caller: Caller, flaw: Flaw, mend: Mend) -> None:
        place: dict[str, object] = {}
        if flaw.repository:
            repository = Repository(flaw.repository)
            place = {"project": repository.project.name, "repository": repository.name}
        detail = {"flaw": flaw.kind.value, "what": flaw.what, "done": mend.text, **mend.detail}
        async with self.gate.passage(caller, Kind.CHECK_REPAIR, MANAGE_SYSTEM, **place, detail=detail) as passage:
            await passage.commit(mend.change, *_failures(caller, flaw, place))
        await asyncio.to_thread(mend.after)

    async def _condemn(self, caller: Caller, digest: Digest) -> Mend | None:
        """Puts a damaged blob aside and records it; None if there is nothing to record."""
        keeper = self.keeper
        if keeper is None:
            return None
        turn = keeper.turn()
        await asyncio.to_thread(turn.__enter__)
        try:
            stop = threading.Event()
            mend = await _stoppable(partial(keeper.condemn, digest, partial(_unless, stop)), stop.set)
            if mend is not None:
                reason = str(mend.detail["fault"])
                event = Event(Kind.INTEGRITY_FAILURE, caller, Outcome.FAILED, digest=digest.text, reason=reason)
                await self.gate.ledger.commit(Act(event.but(detail=mend.detail), mend.change))
                await asyncio.to_thread(mend.after)
        finally:
            turn.__exit__(None, None, None)
        return mend


async def _stoppable(job: Callable[[], T], stop: Callable[[], None]) -> T:
    """
    What *job* answers in a thread; cancelled, it is told to *stop*, and ends first.

    Nothing it uses may be closed under it.
    """
    work = asyncio.ensure_future(asyncio.to_thread(job))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop()
        await asyncio.gather(work, return_exceptions=True)
        raise


def _unless(stopped: threading.Event, _: int) -> None:
    if stopped.is_set():
        raise Stopped


def _failures(caller: Caller, flaw: Flaw, place: dict[str, object]) -> tuple[Event, ...]:
    """The event of lost bytes that mending *flaw* is about, if it is."""
    if flaw.kind not in DAMAGE:
        return ()
    event = Event(Kind.INTEGRITY_FAILURE, caller, Outcome.FAILED, digest=flaw.what, reason=flaw.kind.value)
    return (event.but(**place),)
