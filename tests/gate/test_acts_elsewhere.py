"""Acts done elsewhere: intended durably before, recorded after, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.access.policy import Grant, Need, Project, Reach, Refused, Role, Standing
from gateway.access.principals import Caller, Credential, CredentialKind, Origin, Principal, PrincipalKind
from gateway.access.scopes import Access, Action
from gateway.audit.event import Event, Kind, Outcome
from gateway.change import Change, Elsewhere, Notes
from gateway.errors import (
    AccessRefusal,
    BlobUnknown,
    ContentReferenced,
    ManifestBlobUnknown,
    Refusal,
    Unauthorized,
    Unavailable,
    UpstreamFailed,
    UpstreamSlow,
)
from gateway.gate import Act, Gate
from gateway.oci.names import ProjectName, Repository

UI = Repository("gallery/ui")
GALLERY = ProjectName("gallery")
WRITER = Principal(PrincipalKind.USER, 7, "writer")
CALLER = Caller(
    WRITER,
    Origin("192.0.2.7", "192.0.2.7", "docker", "f" * 32),
    Credential(CredentialKind.BEARER, "jti"),
    Access({UI.name: frozenset({Action.PUSH})}),
    0,
    {"gallery": 1},
)
PUSH = Need(Action.PUSH, UI)


@dataclass
class Policy:
    """Policy as it stands, both as the directory and as a view inside a transaction; it can be taken away."""

    standings: dict[int, Standing] = field(
        default_factory=lambda: {7: Standing(grants=(Grant(Role.PUSHER, Reach(GALLERY)),))}
    )

    def standing(self, principal: Principal) -> Standing | None:
        return self.standings.get(principal.id)

    def project(self, name: ProjectName) -> Project | None:
        return Project(1, name) if name == GALLERY else None


class FakeDirectory:
    """The directory of a *policy*, whose version stands still."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def version(self) -> int:
        return 2

    async def standing(self, principal: Principal, *, offline_token: int = 0) -> Standing | None:
        return self._policy.standing(principal)

    async def project(self, name: ProjectName) -> Project | None:
        return self._policy.project(name)

    async def projects(self, names: Any) -> list[Project]:
        return [Project(1, name) for name in names if name == GALLERY]

    async def public_projects(self) -> list[Project]:
        return []


@dataclass
class FakeLedger:
    """
    Commits as the real one does: judges again if policy moved, keeps the event of what is refused.

    *steps* is what happened, in order; *full* counts the commits after which it takes no more.
    """

    policy: Policy
    steps: list[str]
    events: list[Event] = field(default_factory=list)
    full: int = 1000

    async def commit(self, act: Act) -> Notes:
        await asyncio.sleep(0)
        self.full -= 1
        if self.full < 0:
            raise Unavailable("The audit trail cannot be written now.")
        if act.rejudge is not None and act.refusal is not None:
            verdict = act.rejudge(self.policy)
            if isinstance(verdict, Refused):
                return self._refused(act, act.refusal(verdict))
        try:
            notes = act.change.apply(None) if act.change is not None else Notes()
        except Refusal as refusal:
            return self._refused(act, refusal)
        if not act.silent:
            self._keep(act.event.but(digest=notes.digest or act.event.digest))
        return notes

    def _refused(self, act: Act, refusal: Refusal) -> Notes:
        if act.otherwise is not None:
            act.otherwise(None)
        outcome = Outcome.DENIED if isinstance(refusal, AccessRefusal) else Outcome.FAILED
        self._keep(act.event.but(outcome=outcome, reason=refusal.code.lower()))
        raise refusal

    def _keep(self, event: Event) -> None:
        self.steps.append(f"{event.kind} {event.outcome}")
        self.events.append(event)


class Far:
    """A change with a part elsewhere, which writes down what was called when; *run* and *intend* may fail."""

    def __init__(
        self, run: Callable[[], Awaitable[None]] | None = None, wait: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self.steps: list[str] = []
        self.policy = Policy()
        self.ledger = FakeLedger(self.policy, self.steps)
        self.gate = Gate(FakeDirectory(self.policy), self.ledger)
        self.intended: Mapping[str, Any] = {}
        self.refuses: Refusal | None = None
        self.released = 0
        self.refuses_later: Refusal | None = None
        self._run = run
        self._wait = wait

    def intend(self, connection: Any, record: Mapping[str, Any]) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.steps.append("intend")
        self.intended = record

    async def wait(self) -> bool:
        if self._wait is None:
            return False
        self.steps.append("wait")
        await self._wait()
        return True

    def resume(self, connection: Any) -> None:
        if self.refuses_later is not None:
            raise self.refuses_later
        self.steps.append("resume")

    async def run(self) -> None:
        self.steps.append("run")
        if self._run is not None:
            await self._run()
        self.steps.append("ran")

    def drop(self, connection: Any) -> None:
        self.steps.append("drop")

    def apply(self, connection: Any) -> Notes:
        self.steps.append("apply")
        return Notes(digest="sha256:aa", result=7)

    def change(self) -> Change:
        elsewhere = Elsewhere(self.intend, self.run, self.drop, self.wait, self.resume)
        return Change(self.apply, repositories=(UI,), elsewhere=elsewhere, release=self._release)

    def _release(self) -> None:
        self.released += 1

    async def push(self, kind: Kind = Kind.MANIFEST_PUSH) -> Notes:
        async with self.gate.passage(CALLER, kind, PUSH, reference="v1") as passage:
            return await passage.commit(self.change())

    @property
    def told(self) -> list[tuple[Outcome, str]]:
        return [(event.outcome, event.reason) for event in self.ledger.events]


def failing(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        raise error

    return run


def test_the_intent_is_durable_before_the_act_and_its_record_comes_after() -> None:
    far = Far()

    notes = asyncio.run(far.push())

    assert far.steps == ["intend", "run", "ran", "apply", "manifest.push allowed"]
    assert notes.result == 7
    assert far.intended["kind"] == "manifest.push"
    assert (far.intended["principal"], far.intended["repository"], far.intended["reference"]) == (
        "writer",
        "gallery/ui",
        "v1",
    )
    assert far.ledger.events[0].digest == "sha256:aa"


def test_what_is_refused_elsewhere_takes_its_intent_back_and_is_a_failed_event() -> None:
    refusal = ManifestBlobUnknown("Push the blob first.", missing=("sha256:bb",))
    far = Far(failing(refusal))

    with pytest.raises(ManifestBlobUnknown) as raised:
        asyncio.run(far.push())

    assert raised.value is refusal
    assert far.steps == ["intend", "run", "drop", "manifest.push failed"]
    assert far.told == [(Outcome.FAILED, "manifest_blob_unknown")]


def test_a_registry_that_certainly_did_nothing_takes_the_intent_back() -> None:
    far = Far(failing(UpstreamFailed("The registry behind does not answer.")))

    with pytest.raises(UpstreamFailed):
        asyncio.run(far.push())

    assert far.steps == ["intend", "run", "drop", "manifest.push failed"]
    assert far.told == [(Outcome.FAILED, "upstream_unavailable")]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UpstreamFailed("It broke off.", uncertain=True), "upstream_uncertain"),
        (UpstreamSlow("It took too long.", uncertain=True), "upstream_uncertain"),
        (ZeroDivisionError(), "fault"),
    ],
    ids=["broken", "slow", "fault"],
)
def test_what_may_have_been_done_leaves_its_intent_and_a_failed_event(error: Exception, reason: str) -> None:
    far = Far(failing(error))

    with pytest.raises(type(error)):
        asyncio.run(far.push())

    assert far.steps == ["intend", "run", "manifest.push failed"]
    assert far.told == [(Outcome.FAILED, reason)]


def test_a_caller_that_goes_away_does_not_stop_what_was_begun() -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def slowly() -> None:
        begun.set()
        await release.wait()

    far = Far(slowly)

    async def leave() -> None:
        pushing = asyncio.create_task(far.push())
        await begun.wait()
        pushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pushing
        assert far.steps == ["intend", "run"]
        release.set()
        ourselves = asyncio.current_task()
        await asyncio.wait([task for task in asyncio.all_tasks() if task is not ourselves], timeout=5)

    asyncio.run(leave())

    assert far.steps == ["intend", "run", "ran", "apply", "manifest.push allowed"]


def test_a_right_that_is_gone_when_the_intent_is_written_means_that_nothing_is_done_elsewhere() -> None:
    far = Far()

    async def revoke() -> None:
        async with far.gate.passage(CALLER, Kind.MANIFEST_PUSH, PUSH) as passage:
            far.policy.standings[7] = Standing()
            await passage.commit(far.change())

    with pytest.raises(Unauthorized):
        asyncio.run(revoke())

    assert far.steps == ["manifest.push denied"]


def test_a_right_that_goes_while_the_act_is_under_way_does_not_hide_what_was_done() -> None:
    async def revoke() -> None:
        far.policy.standings.clear()

    far = Far(revoke)

    asyncio.run(far.push())

    assert far.steps == ["intend", "run", "ran", "apply", "manifest.push allowed"]


async def at_once() -> None:
    return None


def test_whoever_waited_is_judged_again_before_the_act_is_done() -> None:
    far = Far(wait=at_once)

    asyncio.run(far.push())

    assert far.steps == ["intend", "wait", "resume", "run", "ran", "apply", "manifest.push allowed"]


def test_a_right_that_goes_while_the_act_waits_ends_the_intent_with_the_denied_event_and_nothing_is_done() -> None:
    async def revoke() -> None:
        far.policy.standings[7] = Standing()

    far = Far(wait=revoke)

    with pytest.raises(Unauthorized):
        asyncio.run(far.push())

    assert far.steps == ["intend", "wait", "drop", "manifest.push denied"]
    assert far.released == 1
    assert far.ledger.events[0].caller is CALLER


def test_what_the_rules_refuse_after_the_wait_ends_the_intent_with_its_event_and_nothing_is_done() -> None:
    far = Far(wait=at_once)
    far.refuses_later = ContentReferenced("Delete the manifests first.")

    with pytest.raises(ContentReferenced):
        asyncio.run(far.push(Kind.BLOB_DELETE))

    assert far.steps == ["intend", "wait", "drop", "blob.delete failed"]
    assert far.released == 1


def test_who_waits_too_long_ends_its_intent_and_has_done_nothing() -> None:
    far = Far(wait=failing(Unavailable("Others are changing the same tag.")))

    with pytest.raises(Unavailable):
        asyncio.run(far.push())

    assert far.steps == ["intend", "wait", "drop", "manifest.push failed"]
    assert far.released == 1


def test_nothing_is_done_elsewhere_if_the_second_judgement_cannot_be_kept() -> None:
    far = Far(wait=at_once)
    far.ledger.full = 1

    with pytest.raises(Unavailable):
        asyncio.run(far.push())

    assert far.steps == ["intend", "wait"]
    assert far.released == 1


def test_what_our_own_records_refuse_is_not_asked_for_elsewhere() -> None:
    far = Far()
    far.refuses = ContentReferenced("Delete the manifests first.")

    with pytest.raises(ContentReferenced):
        asyncio.run(far.push(Kind.BLOB_DELETE))

    assert far.steps == ["blob.delete failed"]


def test_without_a_durable_intent_nothing_is_done_elsewhere() -> None:
    far = Far()
    far.ledger.full = 0

    with pytest.raises(Unavailable):
        asyncio.run(far.push())

    assert far.steps == []


def test_what_was_done_is_not_acknowledged_when_its_record_cannot_be_kept() -> None:
    far = Far()
    far.ledger.full = 1

    with pytest.raises(Unavailable):
        asyncio.run(far.push())

    assert far.steps == ["intend", "run", "ran"]


def test_a_step_of_an_upload_leaves_no_event_unless_it_fails() -> None:
    far = Far()
    asyncio.run(far.push(Kind.UPLOAD_CANCEL))
    assert far.steps == ["intend", "run", "ran", "apply"]

    far = Far(failing(BlobUnknown("There is no such upload.")))
    with pytest.raises(BlobUnknown):
        asyncio.run(far.push(Kind.UPLOAD_CANCEL))
    assert far.told == [(Outcome.FAILED, "blob_unknown")]


@pytest.mark.parametrize("full", [0, 1], ids=["the intent", "the failure"])
def test_what_cannot_be_recorded_on_the_way_lets_go_of_what_the_change_holds(full: int) -> None:
    far = Far(failing(BlobUnknown("There is no such blob.")))
    far.ledger.full = full

    with pytest.raises(Unavailable):
        asyncio.run(far.push())

    assert far.released == 1


@pytest.mark.parametrize(
    "error",
    [BlobUnknown("There is no such blob."), UpstreamSlow("It took too long.", uncertain=True), ZeroDivisionError()],
    ids=["refused", "uncertain", "fault"],
)
def test_what_fails_elsewhere_lets_go_of_what_the_change_holds(error: Exception) -> None:
    far = Far(failing(error))

    with pytest.raises(type(error)):
        asyncio.run(far.push())

    assert far.released == 1


def test_what_is_refused_before_its_intent_lets_go_of_what_the_change_holds() -> None:
    ruled = Far()
    ruled.refuses = ContentReferenced("Delete the manifests first.")
    with pytest.raises(ContentReferenced):
        asyncio.run(ruled.push())

    revoked = Far()

    async def revoke() -> None:
        async with revoked.gate.passage(CALLER, Kind.MANIFEST_PUSH, PUSH) as passage:
            revoked.policy.standings.clear()
            await passage.commit(revoked.change())

    with pytest.raises(Unauthorized):
        asyncio.run(revoke())
    assert (ruled.released, revoked.released) == (1, 1)


def test_what_an_act_elsewhere_raises_is_gone_without_the_garbage_collector() -> None:
    class Lost(BlobUnknown):
        """A refusal that can be watched."""

    raised: list[weakref.ref[Lost]] = []

    async def refuse() -> None:
        try:
            raise Lost("There is no such blob.")
        except Lost as error:
            raised.append(weakref.ref(error))
            raise

    async def push() -> bool:
        with contextlib.suppress(Lost):
            await Far(refuse).push()
        for _ in range(10):
            await asyncio.sleep(0)
        return raised[0]() is None

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(push())
    finally:
        gc.enable()
