"""The doctor: what of a gateway an operator would want mended, each thing looked at and said in a line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from gateway.access.principals import Caller
from gateway.access.secrets import Secrets
from gateway.administration.values import MANAGE_SYSTEM
from gateway.audit.event import Kind
from gateway.gate import Gate
from gateway.records.condition import Condition, condition
from gateway.records.database import Database

#: Clocks of several hosts that share a database differ by less.
_AHEAD = timedelta(seconds=60)
#: What was begun elsewhere is under way for so long, and then nobody knows what became of it.
_UNSETTLED_SECONDS = 300
#: Searches read the events that lag behind one by one.
_LAG = 10_000


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: *text* says how it is, *mend* what to do; a sentence each, without secrets."""

    name: str
    state: State
    text: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Doctor:
    """Needs an administrator."""

    gate: Gate
    database: Database
    secrets: Secrets

    async def examine(
        self, caller: Caller, others: Callable[[], Awaitable[Sequence[Finding]]], now: datetime | None = None
    ) -> tuple[Finding, ...]:
        """What *others* find, and then what the records show; the names of what is not well stand in the event."""
        async with self.gate.passage(caller, Kind.DOCTOR_RUN, MANAGE_SYSTEM) as passage:
            moment = now or datetime.now(UTC)
            before = int(moment.timestamp()) - _UNSETTLED_SECONDS
            key = self.secrets.trail
            mark = self.database.mark.read(key)
            read = await self.database.read(lambda connection: condition(connection, key, mark, begun_before=before))
            found = (*await others(), *of_records(read, moment))
            unwell = {state.value: [each.name for each in found if each.state is state] for state in State}
            passage.note(detail={state: names for state, names in unwell.items() if state != State.OK})
            await passage.seal()
        return found


def of_records(read: Condition, now: datetime) -> tuple[Finding, ...]:
    """What the records' condition means to an operator at *now*."""
    return (_trail(read), _durability(read), _clock(read, now), _search(read), _unsettled(read))


def _trail(read: Condition) -> Finding:
    if read.fault:
        return Finding(
            "trail",
            State.BAD,
            f"The audit trail is damaged: {read.fault}.",
            "Keep a copy of the database as it is, see how far it goes with: gateway audit verify, and restore it.",
        )
    return Finding("trail", State.OK, f"The audit trail's end is whole ({read.checked} events were read).")


def _durability(read: Condition) -> Finding:
    if read.lossy:
        off = " and ".join(f"{name} = off" for name in read.lossy)
        return Finding(
            "durability",
            State.WARN,
            f"The database server has {off}: its crash may take acts that were acknowledged, or all records.",
            f"Set {' and '.join(read.lossy)} to on in its configuration, and reload it.",
        )
    return Finding("durability", State.OK, "What the database says to be on disk survives a crash of its server.")


def _clock(read: Condition, now: datetime) -> Finding:
    ahead = read.newest - now if read.newest is not None else timedelta()
    if ahead > _AHEAD:
        return Finding(
            "clock",
            State.BAD,
            f"This machine's clock is {ahead - timedelta(microseconds=ahead.microseconds)} behind the newest event.",
            "Let a time service set the clock: tokens and certificates are judged by it, and events dated.",
        )
    return Finding("clock", State.OK, "The clock is not behind the newest event.")


def _search(read: Condition) -> Finding:
    if read.unprojected > _LAG:
        return Finding(
            "search",
            State.WARN,
            f"{read.unprojected} events are not in the search's entries yet, so that searches are slow.",
            "Leave the gateway running: the entries follow when it has nothing else to do.",
        )
    return Finding("search", State.OK, f"The search's entries follow the trail ({read.unprojected} events behind).")


def _unsettled(read: Condition) -> Finding:
    if read.unsettled:
        begun = datetime.fromtimestamp(read.oldest, UTC)
        return Finding(
            "unsettled acts",
            State.WARN,
            f"{read.unsettled} acts in the registry behind have an unknown outcome, the oldest begun at "
            f"{begun:%Y-%m-%dT%H:%M:%SZ}.",
            "Run the gateway while the registry behind answers: it asks what became of them and records that.",
        )
    return Finding("unsettled acts", State.OK, "No act in a registry behind is left with an unknown outcome.")
