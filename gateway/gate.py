"""The one door: decide, run, record.

    async with gate.passage(caller, Kind.MANIFEST_PUSH, needs) as passage:   judged; a refusal is recorded and raised
        change = await engine.manifests.put(…)                               slow, invisible
        await passage.commit(change)                                         change and event: one transaction
        await reply(scope, receive, send)                                    a stream stays inside

A passage that ends without `commit` or `seal` has acknowledged nothing. If the trail cannot take the event, the act is
not acknowledged: `Unavailable`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self, TypeVar

from gateway.access.directory import Directory, View
from gateway.access.policy import Allowed, Need, Refused, Verdict, judge, suspended
from gateway.access.principals import Caller, CredentialKind, PrincipalKind
from gateway.access.refusals import refusal
from gateway.access.throttle import Strangers
from gateway.access.verdicts import Verdicts
from gateway.audit.event import QUIET, STEPS, Event, Kind, Outcome, Repeated
from gateway.change import Change, Elsewhere, Notes
from gateway.errors import (
    AccessRefusal,
    ContentRefusal,
    Denied,
    Refusal,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UpstreamUnavailable,
)
from gateway.oci.names import Repository

T = TypeVar("T")

_CHANGED = "The account, or what it signed in with, was changed or revoked meanwhile: sign in again."
_ENDINGS = (ContentRefusal, UpstreamUnavailable)
_PULLS = frozenset({Kind.BLOB_PULL, Kind.MANIFEST_PULL, Kind.AUDIT_EXPORT})
#: No version of policy: what was judged then is judged again in any case.
_LONG_AGO = -1


@dataclass(frozen=True, slots=True)
class Act:
    """
    What the ledger commits in one transaction: a change (or none) and its event.

    *version* is the policy version the act was judged at. If policy has moved since, *rejudge* decides again inside
    the transaction; on `Refused` the change is not applied, a denied event is kept, and *refusal* of the verdict is
    raised. *otherwise* is applied in place of a change that was refused or failed, with the event that says so.
    *silent* acts leave an event only when refused or failed. *also* are further events, sealed before it.
    *patient* acts wait a moment for others to be committed with: of whoever asks too often, nobody is in a hurry.
    """

    event: Event | Repeated
    change: Change | None = None
    version: int = 0
    rejudge: Callable[[View], Verdict] | None = None
    refusal: Callable[[Refused], Refusal] | None = None
    silent: bool = False
    also: tuple[Event, ...] = ()
    patient: bool = False
    otherwise: Callable[[Any], None] | None = None


class Ledger(Protocol):
    """Where acts become durable, in one order, over all processes. The records implement it."""

    async def commit(self, act: Act) -> Notes:
        """
        Returns when the act is on disk. Whatever the change or the re-judgement refuses is recorded, then raised.

        Raises `Unavailable` when the trail cannot take the event, and nothing was committed, or when nobody can tell.
        """
        ...


@dataclass(frozen=True, slots=True)
class Gate:
    """Every act passes here: judged against token ∩ live policy, and remembered."""

    directory: Directory
    ledger: Ledger
    strangers: Strangers = field(default_factory=Strangers)
    verdicts: Verdicts = field(default_factory=Verdicts)

    def passage(self, caller: Caller, kind: Kind, *needs: Need, **facts: object) -> Passage:
        """One pass through the gate; *facts* are the event's fields known beforehand."""
        return Passage(self, caller, kind, needs, facts)

    def recall(self, caller: Caller, need: Need) -> Allowed | None:
        """The verdict on *caller* and *need*, if it is known to be `Allowed` at this moment: see `Verdicts`."""
        version = self.directory.version()
        verdict = self.verdicts.find(caller, need, version) if version % 2 == 0 else None
        return verdict if isinstance(verdict, Allowed) else None

    async def repeat(self, like: Mapping[str, object], request_id: str, verdict: Allowed) -> None:
        """
        Makes durable that an act was done once more: a read that changes nothing, whose *verdict* was recalled.

        *like* is the record of the event when it was done first. Raises `Unavailable` if it cannot be written.
        """
        await self.ledger.commit(Act(Repeated(like, datetime.now(UTC), request_id, verdict.grant)))

    async def cut(self, event: Event, request_id: str) -> None:
        """Records that a repeated read like *event* did not reach its client."""
        caller = replace(event.caller, origin=replace(event.caller.origin, request_id=request_id))
        ended = event.but(caller=caller, kind=Kind.BLOB_PULL_ENDED, outcome=Outcome.FAILED, bytes=0)
        await asyncio.shield(self.ledger.commit(Act(ended.but(reason="client_disconnected", time=datetime.now(UTC)))))

    async def deny(
        self,
        caller: Caller,
        kind: Kind,
        refusal: Refusal,
        *,
        reason: str,
        change: Change | None = None,
        **facts: object,
    ) -> NoReturn:
        """Records that the gate refused *caller*, for a *reason* found before any passage, and raises *refusal*."""
        event = Event(kind, caller, Outcome.DENIED, reason=reason).but(**facts)
        await self.refuse(Act(event, change))
        raise refusal

    async def refuse(self, act: Act) -> None:
        """Makes a denied event durable, unless it is one of a flood by somebody who proved nothing (`Strangers`)."""
        event = act.event
        if isinstance(event, Event) and act.change is None and event.caller.principal.kind is PrincipalKind.ANONYMOUS:
            number = self.strangers.strike(event.caller.origin.address)
            if not number:
                return
            if number > self.strangers.EVENTS:
                act = Act(event.but(detail={**(event.detail or {}), "refusals": number}))
        await self.ledger.commit(act)


class Passage:
    """One pass through the gate; collects what the event needs. Used once, as an asynchronous context manager."""

    __slots__ = ("_begun", "_done", "_facts", "_gate", "_kind", "_needs", "_version", "caller", "met")

    def __init__(
        self, gate: Gate, caller: Caller, kind: Kind, needs: tuple[Need, ...], facts: Mapping[str, object]
    ) -> None:
        self._gate = gate
        self._kind = kind
        self._needs = needs
        self._version = 0
        self._done = False
        self._begun = time.monotonic()
        self.caller = caller
        self.met: frozenset[Need] = frozenset()
        """The optional needs that the caller meets."""
        # The event's fields; the event itself is made once, when the passage closes.
        self._facts: dict[str, Any] = {}
        described = next((need for need in needs if not need.optional), None)
        if described is not None:
            project = described.project
            self._facts = {
                "action": described.action.value,
                "project": project.name if project is not None else "",
                "repository": described.target.name if isinstance(described.target, Repository) else "",
            }
        self._facts.update(facts)

    async def __aenter__(self) -> Self:
        """Judges; what is refused is recorded and raised (`Unauthorized`, `Denied`)."""
        self._version = self._gate.directory.version()
        verdicts = {need: await self._judge(need) for need in self._needs}
        for need, verdict in verdicts.items():
            if isinstance(verdict, Refused) and not need.optional:
                self._done = True
                event = self._closed(Outcome.DENIED, verdict.reason.value)
                await self._gate.refuse(Act(event))
                raise self._refusal(verdict)
        allowed = {need: verdict for need, verdict in verdicts.items() if isinstance(verdict, Allowed)}
        self.met = frozenset(need for need in allowed if need.optional)
        decisive = [verdict.grant for need, verdict in allowed.items() if not need.optional]
        if decisive:
            self._facts["grant"] = decisive[-1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Records what ended badly: a failed act, or a stream that was cut after it was recorded."""
        if error is None:
            if not self._done and self._kind not in QUIET and self._kind not in STEPS:
                raise RuntimeError(f"a passage of {self._kind} ended without commit or seal")
            return
        if self._done:
            # A refusal of the trail's own could not be recorded either; those of content ended what was recorded.
            if self._kind in _PULLS and (not isinstance(error, Refusal) or isinstance(error, _ENDINGS)):
                ended = self._closed(Outcome.FAILED, _reason(error)).but(kind=Kind.BLOB_PULL_ENDED)
                await self._keep(Act(ended))
            return
        if isinstance(error, ContentRefusal) and self._kind in QUIET:
            return
        outcome = Outcome.DENIED if isinstance(error, AccessRefusal) else Outcome.FAILED
        await self._keep(Act(self._closed(outcome, _reason(error)), patient=isinstance(error, TooManyRequests)))

    def note(self, **facts: object) -> None:
        """Adds to the event: `digest`, `reference`, `bytes`, `status`, `before`, `after`, `detail`, …"""
        self._facts.update(facts)

    async def commit(self, change: Change, *also: Event) -> Notes:
        """
        Makes *change* and this passage's event durable in one transaction; policy is judged again if it has moved.

        What the change does elsewhere is done in between: judged again and intended durably before, and judged once
        more if others went first; recorded after, even if the caller is gone by then. Raises what the change refuses,
        `Unauthorized` or `Denied` if the right is gone, `Unavailable` if nothing could be written.
        """
        self._done = True
        silent = self._kind in STEPS
        if change.elsewhere is not None:
            carrying = asyncio.ensure_future(self._carry_out(change, change.elsewhere, also))
            # Whoever waits may be cancelled; what was begun elsewhere is brought to its end, and its event written.
            carrying.add_done_callback(_heard)
            try:
                return await asyncio.shield(carrying)
            finally:
                # What it raises holds this frame: without a way back to it, what is dropped ends here and now.
                del carrying
        return await self._gate.ledger.commit(
            Act(self._closed(), change, self._version, self._rejudge, self._refusal, silent, also)
        )

    async def step(self, change: Change) -> Notes:
        """
        Makes durable what is only a step to this passage's act. It leaves an event only if it is refused, and that is
        the passage's own, then closed. Policy is judged again if it has moved; raises as `commit` does. It does nothing
        elsewhere: `ValueError` for a change that would.
        """
        if change.elsewhere is not None:
            raise ValueError("what is done elsewhere is the act itself, and no step to it")
        act = Act(self._closed(), change, self._version, self._rejudge, self._refusal, silent=True)
        try:
            return await self._gate.ledger.commit(act)
        except Exception:
            self._done = True
            raise

    async def _carry_out(self, change: Change, elsewhere: Elsewhere, also: tuple[Event, ...]) -> Notes:
        silent = self._kind in STEPS
        record = self._closed().record()
        try:
            await self._get_ready(lambda connection: elsewhere.intend(connection, record), self._version)
            if await self._attempt(elsewhere, elsewhere.wait):
                # Rights end with time as well as with policy.
                await self._get_ready(elsewhere.resume, _LONG_AGO, elsewhere.drop)
            await self._attempt(elsewhere, elsewhere.run)
        except BaseException:
            # The ledger never sees the change: whoever tries again finds nothing in the way.
            change.release()
            raise
        return await self._gate.ledger.commit(Act(self._closed(), change, silent=silent, also=also))

    async def _get_ready(
        self, apply: Callable[[Any], None], version: int, otherwise: Callable[[Any], None] | None = None
    ) -> None:
        """Judges again what was judged at *version*; a refusal is the passage's event, and goes with *otherwise*."""
        change = Change(_without_notes(apply))
        judged = (version, self._rejudge, self._refusal)
        await self._gate.ledger.commit(Act(self._closed(), change, *judged, silent=True, otherwise=otherwise))

    async def _attempt(self, elsewhere: Elsewhere, step: Callable[[], Awaitable[T]]) -> T:
        """What *step* gives; how it fails is the passage's event, and ends the intent if nothing can have been done."""
        try:
            return await step()
        except BaseException as error:
            outcome = Outcome.DENIED if isinstance(error, AccessRefusal) else Outcome.FAILED
            uncertain = not isinstance(error, Refusal) or getattr(error, "uncertain", False)
            undone = None if uncertain else Change(_without_notes(elsewhere.drop))
            await self._gate.ledger.commit(Act(self._closed(outcome, _reason(error)), undone))
            raise

    async def seal(self, *also: Event) -> None:
        """Makes the event durable before the first byte of an answer; nothing if that was done, or is not an event."""
        if self._done:
            return
        self._done = True
        if self._kind not in QUIET and self._kind not in STEPS:
            await self._gate.ledger.commit(Act(self._closed(), also=also))

    def event(self) -> Event:
        """The event of this passage if it has been sealed."""
        return self._closed()

    async def _judge(self, need: Need) -> Verdict:
        known = self._gate.verdicts.find(self.caller, need, self._version)
        if known is not None:
            return known
        directory = self._gate.directory
        standing = await directory.standing(self.caller.principal, offline_token=self.caller.offline_token)
        project = await directory.project(need.project) if need.project is not None else None
        verdict = judge(self.caller, need, standing, project, datetime.now(UTC))
        if self._version % 2 == 0 and directory.version() == self._version:
            self._gate.verdicts.keep(self.caller, need, self._version, verdict)
        return verdict

    def _rejudge(self, view: View) -> Verdict:
        verdict: Verdict = Allowed(self._facts.get("grant", ""))
        standing, now = view.standing(self.caller.principal), datetime.now(UTC)
        # What is everybody's own needs no right, and still a caller that is live.
        reason = suspended(self.caller, standing, now)
        if reason is not None:
            return Refused(reason, next((need for need in self._needs if not need.optional), None))
        for need in self._needs:
            if need.optional and need not in self.met:
                continue
            project = view.project(need.project) if need.project is not None else None
            verdict = judge(self.caller, need, standing, project, now)
            if isinstance(verdict, Refused):
                return verdict
        return verdict

    def _refusal(self, verdict: Refused) -> Refusal:
        bearer = self.caller.credential.kind is CredentialKind.BEARER
        if verdict.missing is not None or bearer:
            return refusal(self.caller, self._needs, verdict)
        # Whoever asks for a token is told to sign in, as when the account had been so from the start.
        return Unauthorized(_CHANGED) if self._kind is Kind.TOKEN_ISSUE else Denied(_CHANGED)

    def _closed(self, outcome: Outcome = Outcome.ALLOWED, reason: str = "") -> Event:
        facts = self._facts
        if reason:
            facts = {**facts, "reason": reason}
        elapsed = int((time.monotonic() - self._begun) * 1000)
        return Event(self._kind, self.caller, outcome, datetime.now(UTC), duration_ms=elapsed, **facts)

    async def _keep(self, act: Act) -> None:
        # The passage may be closing because its task is being cancelled: what happened is written all the same.
        await asyncio.shield(self._gate.ledger.commit(act))


def _without_notes(apply: Callable[[Any], None]) -> Callable[[Any], Notes]:
    # It moves nothing that the repository holds: what is remembered of that stays true.
    def applied(connection: Any) -> Notes:
        apply(connection)
        return Notes()

    return applied


def _heard(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _reason(error: BaseException) -> str:
    match error:
        case UpstreamUnavailable():
            return "upstream_uncertain" if error.uncertain else "upstream_unavailable"
        case Unavailable():
            return "unavailable"
        case Refusal():
            return error.reason
        case asyncio.CancelledError():
            return "cancelled"
        case ConnectionError() | TimeoutError() | EOFError():
            return "client_disconnected"
        case _:
            return "fault"
