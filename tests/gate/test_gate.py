"""The gate: decided before anything runs, recorded whatever happens, and never acknowledged without its event."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from gateway.access.policy import Grant, Need, Project, Reach, Refused, Role, Standing
from gateway.access.principals import (
    ANONYMOUS,
    NO_CREDENTIAL,
    Caller,
    Credential,
    CredentialKind,
    Origin,
    Principal,
    PrincipalKind,
)
from gateway.access.scopes import Access, Action
from gateway.access.throttle import Strangers
from gateway.audit.event import Event, Kind, Outcome
from gateway.change import Change, Elsewhere, Notes
from gateway.engine.port import Interrupted
from gateway.errors import BlobUnknown, Denied, ManifestInvalid, Unauthorized, Unavailable, UpstreamFailed
from gateway.gate import Act, Gate
from gateway.oci.names import ProjectName, Repository

UI = Repository("gallery/ui")
READER = Principal(PrincipalKind.USER, 7, "reader")
ORIGIN = Origin("192.0.2.7", "192.0.2.7", "docker", "f" * 32)
PULL, PUSH = Need(Action.PULL, UI), Need(Action.PUSH, UI)
NOTHING = Change(lambda connection: Notes())


@dataclass
class FakeLedger:
    """Keeps acts in order; *full* makes it refuse them, as when a disk is full."""

    acts: list[Act] = field(default_factory=list)
    full: bool = False

    async def commit(self, act: Act) -> Notes:
        await asyncio.sleep(0)
        if self.full:
            raise Unavailable("The audit trail cannot be written now.")
        self.acts.append(act)
        return act.change.apply(None) if act.change is not None else Notes()

    @property
    def events(self) -> list[Event]:
        return [act.event for act in self.acts if not act.silent]


@dataclass
class FakeDirectory:
    """Policy as two mappings; *moves* counts its versions."""

    standings: dict[int, Standing]
    known: dict[ProjectName, Project]
    moves: int = 0

    def version(self) -> int:
        return self.moves

    async def standing(self, principal: Principal, *, offline_token: int = 0) -> Standing | None:
        return self.standings.get(principal.id)

    async def project(self, name: ProjectName) -> Project | None:
        return self.known.get(name)

    async def projects(self, names: Iterable[ProjectName]) -> Sequence[Project]:
        return [self.known[name] for name in names if name in self.known]

    async def public_projects(self) -> Sequence[Project]:
        return [project for project in self.known.values() if project.public]


@dataclass
class World:
    ledger: FakeLedger
    directory: FakeDirectory
    gate: Gate


@pytest.fixture
def world() -> World:
    grant = Grant(Role.PULLER, Reach(ProjectName("gallery")))
    directory = FakeDirectory(
        {7: Standing(grants=(grant,))}, {ProjectName("gallery"): Project(1, ProjectName("gallery"))}
    )
    ledger = FakeLedger()
    return World(ledger, directory, Gate(directory, ledger))


def bearer(*actions: Action) -> Caller:
    access = Access({UI.name: frozenset(actions)})
    return Caller(READER, ORIGIN, Credential(CredentialKind.BEARER, "jti"), access, 0, {"gallery": 1})


def test_an_allowed_read_is_recorded_before_it_answers(world: World) -> None:
    async def read() -> list[Event]:
        async with world.gate.passage(bearer(Action.PULL), Kind.MANIFEST_PULL, PULL, reference="v1") as passage:
            passage.note(digest="sha256:aa")
            await passage.seal()
            return list(world.ledger.events)

    [event] = asyncio.run(read())

    assert (event.outcome, event.repository, event.project) == (Outcome.ALLOWED, "gallery/ui", "gallery")
    assert (event.reference, event.digest, event.grant) == ("v1", "sha256:aa", "puller on gallery")


def test_a_right_the_token_lacks_is_refused_and_recorded_with_what_is_missing(world: World) -> None:
    async def push() -> None:
        async with world.gate.passage(bearer(Action.PULL), Kind.MANIFEST_PUSH, PULL, PUSH):
            raise AssertionError("nothing runs inside a refused passage")

    with pytest.raises(Unauthorized) as refused:
        asyncio.run(push())

    assert refused.value.error == "insufficient_scope"
    assert refused.value.scope == "repository:gallery/ui:pull,push"
    assert refused.value.message == "push on gallery/ui is missing; reader holds puller on gallery."
    assert [(event.outcome, event.reason) for event in world.ledger.events] == [(Outcome.DENIED, "insufficient_scope")]


def test_a_right_taken_away_makes_the_token_invalid_not_too_narrow(world: World) -> None:
    world.directory.standings[7] = Standing()

    async def pull() -> None:
        async with world.gate.passage(bearer(Action.PULL), Kind.MANIFEST_PULL, PULL):
            raise AssertionError("nothing runs inside a refused passage")

    with pytest.raises(Unauthorized) as refused:
        asyncio.run(pull())

    assert refused.value.error == "invalid_token"
    assert "holds" not in refused.value.message


def test_whoever_is_not_signed_in_is_told_so(world: World) -> None:
    nobody = replace(bearer(Action.PULL), principal=ANONYMOUS)

    async def pull() -> None:
        async with world.gate.passage(nobody, Kind.MANIFEST_PULL, PULL):
            raise AssertionError("nothing runs inside a refused passage")

    with pytest.raises(Unauthorized, match="pull on gallery/ui is missing; nobody is signed in: log in first"):
        asyncio.run(pull())


def test_a_caller_without_any_right_is_not_told_whether_the_repository_exists(world: World) -> None:
    world.directory.standings[7] = Standing()
    hidden, absent = Repository("gallery/ui"), Repository("nowhere/ui")
    messages = set()
    for repository in (hidden, absent):
        caller = replace(bearer(), access=Access())

        async def pull(repository: Repository = repository, caller: Caller = caller) -> None:
            async with world.gate.passage(caller, Kind.MANIFEST_PULL, Need(Action.PULL, repository)):
                raise AssertionError("nothing runs inside a refused passage")

        with pytest.raises(Unauthorized) as refused:
            asyncio.run(pull())
        messages.add(refused.value.message.replace(repository.name, "X"))

    assert len(messages) == 1


def test_a_caller_no_token_bounds_is_denied_for_good(world: World) -> None:
    caller = Caller(READER, ORIGIN)

    async def manage() -> None:
        async with world.gate.passage(caller, Kind.GRANT_ADD, Need(Action.MANAGE, ProjectName("gallery"))):
            raise AssertionError("nothing runs inside a refused passage")

    with pytest.raises(Denied):
        asyncio.run(manage())


def test_an_act_carries_what_it_takes_to_judge_it_again(world: World) -> None:
    world.directory.moves = 4

    class Gone:
        def standing(self, principal: Principal) -> Standing | None:
            return None

        def project(self, name: ProjectName) -> Project | None:
            return None

    async def act() -> None:
        async with world.gate.passage(bearer(Action.PULL), Kind.BLOB_PULL, PULL) as passage:
            await passage.commit(NOTHING)

    asyncio.run(act())
    [act_] = world.ledger.acts

    assert act_.version == 4
    assert act_.rejudge is not None
    verdict = act_.rejudge(Gone())
    assert isinstance(verdict, Refused)
    assert act_.refusal is not None
    assert isinstance(act_.refusal(verdict), Unauthorized)


@pytest.mark.parametrize(
    ("kind", "credential", "told"),
    [
        (Kind.PERSONAL_TOKEN_ISSUE, CredentialKind.SESSION, Denied),
        (Kind.TOKEN_ISSUE, CredentialKind.OFFLINE_TOKEN, Unauthorized),
        (Kind.TOKEN_ISSUE, CredentialKind.PASSWORD, Unauthorized),
        (Kind.UPLOAD_APPEND, CredentialKind.BEARER, Unauthorized),
    ],
)
def test_an_act_that_needs_no_right_is_judged_again_by_whether_its_caller_is_live(
    world: World, kind: Kind, credential: CredentialKind, told: type[Exception]
) -> None:
    @dataclass
    class Meanwhile:
        found: Standing | None

        def standing(self, principal: Principal) -> Standing | None:
            return self.found

        def project(self, name: ProjectName) -> Project | None:
            return None

    async def act() -> None:
        async with world.gate.passage(Caller(READER, ORIGIN, Credential(credential)), kind) as passage:
            await passage.commit(NOTHING)

    asyncio.run(act())
    [act_] = world.ledger.acts
    assert act_.rejudge is not None
    assert act_.refusal is not None
    assert not isinstance(act_.rejudge(Meanwhile(Standing())), Refused)
    dated = credential in {CredentialKind.SESSION, CredentialKind.BEARER}
    assert isinstance(act_.rejudge(Meanwhile(Standing(generation=1))), Refused) is dated
    for found in (None, Standing(enabled=False)):
        verdict = act_.rejudge(Meanwhile(found))
        assert isinstance(verdict, Refused)
        assert type(act_.refusal(verdict)) is told


def test_a_read_that_the_trail_cannot_take_is_not_answered(world: World) -> None:
    world.ledger.full = True
    answered = False

    async def read() -> None:
        nonlocal answered
        async with world.gate.passage(bearer(Action.PULL), Kind.MANIFEST_PULL, PULL) as passage:
            await passage.seal()
            answered = True

    with pytest.raises(Unavailable):
        asyncio.run(read())
    assert not answered


def test_a_denial_that_the_trail_cannot_take_is_not_answered_as_one(world: World) -> None:
    world.ledger.full = True

    async def push() -> None:
        async with world.gate.passage(bearer(Action.PULL), Kind.MANIFEST_PUSH, PUSH):
            raise AssertionError("nothing runs inside a refused passage")

    with pytest.raises(Unavailable):
        asyncio.run(push())


def test_a_content_refusal_is_a_failed_event(world: World) -> None:
    async def read() -> None:
        async with world.gate.passage(bearer(Action.PULL), Kind.MANIFEST_PULL, PULL):
            raise ManifestInvalid("It is not JSON.")

    with pytest.raises(ManifestInvalid):
        asyncio.run(read())
    assert [(event.outcome, event.reason) for event in world.ledger.events] == [(Outcome.FAILED, "manifest_invalid")]


def test_a_fault_is_a_failed_event(world: World) -> None:
    async def read() -> None:
        async with world.gate.passage(bearer(Action.PULL), Kind.MANIFEST_PULL, PULL):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(read())
    assert [(event.outcome, event.reason) for event in world.ledger.events] == [(Outcome.FAILED, "fault")]


@pytest.mark.parametrize("kind", [Kind.BLOB_HEAD, Kind.MANIFEST_HEAD, Kind.REGISTRY_PING])
def test_a_look_is_no_event_whether_or_not_it_finds_anything(world: World, kind: Kind) -> None:
    async def look(find: bool) -> None:
        async with world.gate.passage(bearer(Action.PULL), kind, PULL) as passage:
            if not find:
                raise BlobUnknown("There is no such blob here.")
            await passage.seal()

    asyncio.run(look(True))
    with pytest.raises(BlobUnknown):
        asyncio.run(look(False))
    assert world.ledger.events == []


def test_a_look_that_is_refused_is_an_event(world: World) -> None:
    async def look() -> None:
        async with world.gate.passage(bearer(), Kind.BLOB_HEAD, PULL):
            raise AssertionError("nothing runs inside a refused passage")

    with pytest.raises(Unauthorized):
        asyncio.run(look())
    assert [event.outcome for event in world.ledger.events] == [Outcome.DENIED]


def test_an_upload_step_is_an_event_only_when_it_fails(world: World) -> None:
    async def step(fail: bool) -> None:
        async with world.gate.passage(bearer(Action.PULL), Kind.UPLOAD_APPEND, PULL) as passage:
            if fail:
                raise ManifestInvalid("No.")
            await passage.commit(NOTHING)

    asyncio.run(step(False))
    assert world.ledger.events == []
    with pytest.raises(ManifestInvalid):
        asyncio.run(step(True))
    assert [event.outcome for event in world.ledger.events] == [Outcome.FAILED]


def test_a_step_to_an_act_is_no_event_and_its_refusal_the_only_one(world: World) -> None:
    def full(connection: object) -> Notes:
        raise Denied("Nothing more fits.")

    async def push(step: Change) -> None:
        async with world.gate.passage(bearer(Action.PULL), Kind.BLOB_PUSH, PULL) as passage:
            await passage.step(step)
            await passage.commit(NOTHING)

    asyncio.run(push(NOTHING))
    assert [(act.event.kind, act.silent) for act in world.ledger.acts] == [
        (Kind.BLOB_PUSH, True),
        (Kind.BLOB_PUSH, False),
    ]
    del world.ledger.acts[:]
    with pytest.raises(Denied):
        asyncio.run(push(Change(full)))
    assert [act.silent for act in world.ledger.acts] == [True], "the ledger tells of it: see `Act`"


def test_what_acts_elsewhere_is_no_step(world: World) -> None:
    async def nothing() -> None:
        raise AssertionError("nothing is done elsewhere")

    elsewhere = Elsewhere(lambda connection, record: None, nothing, lambda connection: None)

    async def push() -> None:
        async with world.gate.passage(bearer(Action.PULL), Kind.BLOB_PUSH, PULL) as passage:
            await passage.step(replace(NOTHING, elsewhere=elsewhere))

    with pytest.raises(ValueError, match="elsewhere"):
        asyncio.run(push())
    assert [event.outcome for event in world.ledger.events] == [Outcome.FAILED]


def test_what_ends_after_a_step_is_recorded_as_any_act(world: World) -> None:
    async def push() -> None:
        async with world.gate.passage(bearer(Action.PULL), Kind.BLOB_PUSH, PULL) as passage:
            await passage.step(NOTHING)
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        asyncio.run(push())
    assert [(event.kind, event.outcome, event.reason) for event in world.ledger.events] == [
        (Kind.BLOB_PUSH, Outcome.FAILED, "client_disconnected")
    ]


@pytest.mark.parametrize(
    "error",
    [ConnectionResetError(), asyncio.CancelledError(), Interrupted(), UpstreamFailed("No."), BlobUnknown("No.")],
)
@pytest.mark.parametrize("kind", [Kind.BLOB_PULL, Kind.MANIFEST_PULL, Kind.AUDIT_EXPORT])
def test_a_stream_that_is_cut_adds_one_event(world: World, kind: Kind, error: BaseException) -> None:
    async def stream() -> None:
        async with world.gate.passage(bearer(Action.PULL), kind, PULL) as passage:
            await passage.seal()
            passage.note(bytes=65536)
            raise error

    with pytest.raises(type(error)):
        asyncio.run(stream())

    assert [(event.kind, event.outcome, event.bytes) for event in world.ledger.events] == [
        (kind, Outcome.ALLOWED, None),
        (Kind.BLOB_PULL_ENDED, Outcome.FAILED, 65536),
    ]


def test_a_passage_that_forgets_to_record_is_a_fault(world: World) -> None:
    async def forget() -> None:
        async with world.gate.passage(bearer(Action.PULL), Kind.MANIFEST_PULL, PULL):
            pass

    with pytest.raises(RuntimeError, match="without commit or seal"):
        asyncio.run(forget())


def test_an_optional_need_does_not_refuse_but_is_not_met(world: World) -> None:
    source = Need(Action.PULL, Repository("secret/base"), optional=True)

    async def mount() -> frozenset[Need]:
        async with world.gate.passage(bearer(Action.PULL), Kind.BLOB_MOUNT, PULL, source) as passage:
            await passage.seal()
            return passage.met

    assert asyncio.run(mount()) == frozenset()


def test_an_optional_need_that_was_met_is_judged_again(world: World) -> None:
    pusher = Standing(grants=(Grant(Role.PUSHER, Reach(ProjectName("gallery"))),))
    puller = Standing(grants=(Grant(Role.PULLER, Reach(ProjectName("gallery"))),))
    world.directory.standings[7] = pusher

    @dataclass
    class Meanwhile:
        found: Standing

        def standing(self, principal: Principal) -> Standing | None:
            return self.found

        def project(self, name: ProjectName) -> Project | None:
            return world.directory.known[name]

    async def act() -> None:
        caller, also = bearer(Action.PULL, Action.PUSH), replace(PUSH, optional=True)
        async with world.gate.passage(caller, Kind.BLOB_MOUNT, PULL, also) as passage:
            assert passage.met == {also}
            await passage.commit(NOTHING)

    asyncio.run(act())
    [act_] = world.ledger.acts

    assert act_.rejudge is not None
    assert not isinstance(act_.rejudge(Meanwhile(pusher)), Refused)
    assert isinstance(act_.rejudge(Meanwhile(puller)), Refused)


def test_what_is_judged_while_policy_moves_is_judged_again_by_the_next_passage(world: World) -> None:
    caller = bearer(Action.PULL)
    world.directory.moves = 3

    async def pull() -> None:
        async with world.gate.passage(caller, Kind.MANIFEST_PULL, PULL) as passage:
            await passage.seal()

    asyncio.run(pull())
    # Committed, and still not at rest.
    world.directory.standings[7] = Standing()

    with pytest.raises(Unauthorized):
        asyncio.run(pull())


def test_a_denial_found_before_any_passage_is_recorded_then_raised(world: World) -> None:
    refusal = Unauthorized("No.", error="invalid_token")

    with pytest.raises(Unauthorized) as raised:
        asyncio.run(world.gate.deny(bearer(), Kind.MANIFEST_PULL, refusal, reason="invalid_token"))

    assert raised.value is refusal
    assert [(event.outcome, event.reason) for event in world.ledger.events] == [(Outcome.DENIED, "invalid_token")]


def test_in_a_flood_by_strangers_nothing_is_left_out_that_a_refusal_changes(world: World) -> None:
    """Failed sign-ins are counted in it: a flood must not make them free."""
    counted: list[int] = []

    async def knock(number: int) -> None:
        def count(connection: object) -> Notes:
            counted.append(number)
            return Notes()

        with pytest.raises(Unauthorized):
            await world.gate.deny(
                Caller(ANONYMOUS, ORIGIN, NO_CREDENTIAL),
                Kind.SIGN_IN,
                Unauthorized("No."),
                reason="wrong_secret",
                change=Change(count),
            )

    async def flood() -> None:
        for number in range(Strangers.EVENTS + 2):
            await knock(number)

    asyncio.run(flood())

    assert len(counted) == len(world.ledger.events) == Strangers.EVENTS + 2
