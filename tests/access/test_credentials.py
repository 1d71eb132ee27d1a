"""Credentials: the right one is believed, and every wrong one gets one answer, at one price, a few times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import bcrypt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.access import throttle
from gateway.access.credentials import Believed, Credentials, Disbelieved, account_name
from gateway.access.passwords import HashingPool, hash_password
from gateway.access.principals import Credential, CredentialKind, PrincipalKind
from gateway.access.secrets import Secrets, keyed_hash, new_offline_token, new_personal_token, new_robot_secret
from gateway.access.turns import LONGEST_LINE
from gateway.errors import TooManyRequests, Unauthorized
from tests.access.keeping import NOW, Clock, KeptAccounts, origin

COST = 4
SECRETS = Secrets(b"s" * 32)
PASSWORD = "correct horse"
ROBOT = "gallery+ci"


class CountingPool(HashingPool):
    """A pool that counts what it was asked to verify, and may say that it is full."""

    verified = 0
    full = False
    full_for_new = False
    known = False

    async def hash_again(self, text: str) -> str:
        if self.full_for_new:
            raise TooManyRequests("Full.", retry_after_seconds=5)
        return await super().hash_again(text)

    async def verify(self, text: str, hashed: str | None, *, known: bool = False) -> bool:
        self.verified += 1
        self.known = known
        if self.full:
            raise TooManyRequests("Full.", retry_after_seconds=5)
        return await super().verify(text, hashed, known=known)


@dataclass(slots=True)
class Door:
    """Credentials over accounts in memory; every belief's change is applied, as the gate would."""

    kept: KeptAccounts
    pool: CountingPool
    clock: Clock = field(default_factory=Clock)
    floor_seconds: float = 0.0
    credentials: Credentials = field(init=False)

    def __post_init__(self) -> None:
        self.credentials = self.process()

    def process(self) -> Credentials:
        """Another process on the same records."""
        kept, floor = self.kept, self.floor_seconds
        return Credentials(kept, kept, SECRETS, self.pool, kept, clock=self.clock, floor_seconds=floor)

    def knock(self, name: str, secret: str, address: str = "192.0.2.7") -> Believed | Disbelieved:
        return self.settled(self.credentials.believe(name, secret, origin(address)))

    def knock_offline(self, token: str, service: str = "registry") -> Believed | Disbelieved:
        return self.settled(self.credentials.believe_offline(token, service, origin()))

    def settled(self, believing: Coroutine[Any, Any, Believed | Disbelieved]) -> Believed | Disbelieved:
        belief = asyncio.run(believing)
        if belief.change is not None:
            belief.change.apply(None)
        return belief

    def offline_token(self, name: str = "writer") -> str:
        account = self.kept.by_name[name]
        token, change = self.credentials.new_offline_token(
            account.principal, account.generation, "registry", "docker", origin()
        )
        change.apply(None)
        return token


@pytest.fixture
def pool() -> Iterator[CountingPool]:
    pool = CountingPool(COST, workers=2)
    yield pool
    pool.close()


@pytest.fixture
def robot_secret() -> str:
    return new_robot_secret()


@pytest.fixture
def door(pool: CountingPool, robot_secret: str) -> Door:
    kept = KeptAccounts()
    kept.add("writer", hash_password(PASSWORD, COST))
    kept.add("gone", hash_password(PASSWORD, COST))
    kept.alter("gone", enabled=False)
    kept.add(ROBOT, keyed_hash(SECRETS.robots, robot_secret), kind=PrincipalKind.ROBOT)
    kept.alter(ROBOT, expires_at=NOW + timedelta(days=90))
    return Door(kept, pool)


def refused(belief: Believed | Disbelieved) -> Disbelieved:
    assert isinstance(belief, Disbelieved)
    return belief


def answers(*beliefs: Believed | Disbelieved) -> set[tuple[type[object], str]]:
    """What callers are told: classes and messages."""
    return {(type(refused(belief).refusal), refused(belief).refusal.message) for belief in beliefs}


def test_a_user_is_believed_by_password(door: Door) -> None:
    belief = door.knock("writer", PASSWORD)

    assert belief == Believed(door.kept.by_name["writer"].principal, Credential(CredentialKind.PASSWORD), 1)


@pytest.mark.parametrize("name", ["gallery+ci", "gallery/ci"])
def test_a_robot_is_believed_in_either_spelling_without_hashing(door: Door, robot_secret: str, name: str) -> None:
    belief = door.knock(name, robot_secret)

    account = door.kept.by_name[ROBOT]
    assert isinstance(belief, Believed)
    assert (belief.principal, belief.credential) == (account.principal, Credential(CredentialKind.ROBOT_SECRET))
    assert (belief.generation, account.used_at) == (1, NOW)
    assert door.pool.verified == 0


def test_wrong_unknown_and_disabled_are_one_answer_with_a_reason_for_the_trail(door: Door) -> None:
    beliefs = [
        door.knock("writer", "wrong password"),
        door.knock("nobody", PASSWORD),
        door.knock("gone", PASSWORD),
        door.knock("gone", "wrong password"),
        door.knock("writer", "x" * 73),
        door.knock("writer", ""),
        door.knock("", ""),
        door.knock("\0", "\0"),
        door.knock(ROBOT, PASSWORD),
        door.knock("gallery+nobody", new_robot_secret()),
    ]

    assert len(answers(*beliefs)) == 1
    assert isinstance(refused(beliefs[0]).refusal, Unauthorized)
    assert [refused(belief).reason for belief in beliefs[:4]] == [
        "wrong_secret",
        "unknown_account",
        "account_disabled",
        "account_disabled",
    ]


def test_an_expired_robot_is_not_believed(door: Door, robot_secret: str) -> None:
    door.clock.move(days=90)

    belief = door.knock(ROBOT, robot_secret)

    assert refused(belief).reason == "account_expired"
    assert answers(belief) == answers(door.knock("writer", "wrong password"))


def test_a_disabled_robot_is_not_believed(door: Door, robot_secret: str) -> None:
    door.kept.alter(ROBOT, enabled=False)

    assert refused(door.knock(ROBOT, robot_secret)).reason == "account_disabled"


def test_a_users_name_opens_nothing_with_a_robots_secret_nor_the_other_way(door: Door, robot_secret: str) -> None:
    hashed, keyed = hash_password(PASSWORD, COST), keyed_hash(SECRETS.robots, robot_secret)
    door.kept.add("gallery+odd", keyed)
    door.kept.add("gallery+old", hashed)
    door.kept.add("odd", hashed, kind=PrincipalKind.ROBOT)
    door.kept.add("old", keyed, kind=PrincipalKind.ROBOT)

    for name in ("gallery+odd", "gallery+old", "odd", "old"):
        assert isinstance(door.knock(name, PASSWORD), Disbelieved)
        assert isinstance(door.knock(name, robot_secret), Disbelieved)
    assert isinstance(door.knock("writer", robot_secret), Disbelieved)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.characters(codec=None)), secret=st.text(st.characters(codec=None)))
def test_no_name_or_secret_breaks_anything_and_only_names_are_looked_up(door: Door, name: str, secret: str) -> None:
    door.kept.asked.clear()

    assert isinstance(door.knock(name, secret), Disbelieved)
    assert all(asked == account_name(name) for asked in door.kept.asked)


@pytest.mark.parametrize(
    "name",
    [new_robot_secret(), new_offline_token(), new_personal_token(), "Correct Horse!", "", "a" * 300],
    ids=["robot secret", "offline token", "personal token", "password", "nothing", "long"],
)
def test_a_secret_typed_in_the_names_place_is_not_told(door: Door, name: str) -> None:
    assert refused(door.knock(name, PASSWORD)).name == "(not a name)"


def test_every_failure_costs_one_verification(door: Door) -> None:
    for number, (name, secret) in enumerate(
        [("writer", "wrong"), ("nobody", PASSWORD), ("gone", PASSWORD), ("writer", "x" * 73), ("\0", "x")], 1
    ):
        door.knock(name, secret)
        assert door.pool.verified == number


def test_failures_take_one_time_whatever_their_reason(door: Door, robot_secret: str) -> None:
    door.floor_seconds = 0.15
    credentials = door.process()

    def seconds(name: str, secret: str) -> float:
        begun = time.monotonic()
        asyncio.run(credentials.believe(name, secret, origin(f"192.0.2.{len(taken)}")))
        return time.monotonic() - begun

    taken: list[float] = []
    cases = [("writer", "wrong"), ("nobody", "wrong"), ("gone", PASSWORD), ("writer", "x" * 80), (ROBOT, "wrong")]
    for name, secret in cases * 2:
        taken.append(seconds(name, secret))
    assert min(taken) >= 0.15
    assert max(taken) - min(taken) < 0.15
    assert seconds(ROBOT, robot_secret) < 0.1


def test_after_five_failures_right_and_wrong_are_one_answer_and_nothing_is_hashed(door: Door) -> None:
    for number in range(5):
        assert isinstance(refused(door.knock("writer", f"guess {number}")).refusal, Unauthorized)
    hashed = door.pool.verified

    wrong, right = door.knock("writer", "guess"), door.knock("writer", PASSWORD)

    assert len(answers(wrong, right)) == 1
    refusal = refused(right).refusal
    assert isinstance(refusal, TooManyRequests)
    assert refusal.retry_after_seconds == 15
    assert door.pool.verified == hashed


def test_failures_before_a_right_password_count_no_more_after_it(door: Door) -> None:
    for attempt in range(2):
        for number in range(4):
            assert isinstance(refused(door.knock("writer", f"guess {attempt}{number}")).refusal, Unauthorized)

        assert isinstance(door.knock("writer", PASSWORD), Believed)


def test_a_password_verified_a_moment_ago_does_not_pass_the_throttle(door: Door) -> None:
    door.knock("writer", PASSWORD)
    for number in range(5):
        door.knock("writer", f"guess {number}")

    assert refused(door.knock("writer", PASSWORD)).reason == "throttled"


def test_the_owner_still_signs_in_from_elsewhere_and_again_from_there_after_the_wait(door: Door) -> None:
    for number in range(20):
        door.knock("writer", f"guess {number}")

    assert isinstance(door.knock("writer", PASSWORD, "198.51.100.1"), Believed)
    assert isinstance(door.knock("writer", PASSWORD), Disbelieved)
    door.clock.move(seconds=15)
    assert isinstance(door.knock("writer", PASSWORD), Believed)
    # And the slate is clean: five more are free.
    door.clock.move(seconds=1)
    assert refused(door.knock("writer", "guess")).reason == "wrong_secret"


def test_an_unknown_account_is_throttled_like_a_known_one(door: Door) -> None:
    known = [door.knock("writer", f"guess {number}", "192.0.2.1") for number in range(7)]
    unknown = [door.knock("nobody", f"guess {number}", "192.0.2.2") for number in range(7)]

    assert [answers(belief) for belief in known] == [answers(belief) for belief in unknown]


def test_the_throttle_survives_a_restart_and_is_shared(door: Door) -> None:
    for number in range(5):
        door.knock("writer", f"guess {number}")
    door.credentials = door.process()

    assert refused(door.knock("writer", PASSWORD)).reason == "throttled"


def test_guesses_sent_all_at_once_are_no_more_than_guesses_in_a_row(door: Door) -> None:
    async def flood() -> list[Believed | Disbelieved]:
        return await asyncio.gather(
            *(door.credentials.believe("writer", f"guess {number}", origin()) for number in range(50))
        )

    # No change was committed yet: what is refused is refused by what this process remembers.
    beliefs = asyncio.run(flood())

    assert sum(refused(belief).reason == "wrong_secret" for belief in beliefs) == 5
    assert door.pool.verified == 5


def test_many_right_sign_ins_at_once_are_all_believed_and_hash_once(door: Door) -> None:
    async def crowd() -> list[Believed | Disbelieved]:
        return await asyncio.gather(*(door.credentials.believe("writer", PASSWORD, origin()) for _ in range(1000)))

    assert all(isinstance(belief, Believed) for belief in asyncio.run(crowd()))
    assert door.pool.verified == 1


def test_an_address_that_fails_at_many_accounts_is_stopped_without_stopping_robots(
    door: Door, robot_secret: str
) -> None:
    for number in range(50):
        door.knock(f"user{number}", "guess")

    assert refused(door.knock("writer", PASSWORD)).reason == "throttled"
    assert isinstance(door.knock(ROBOT, robot_secret), Believed)
    assert isinstance(door.knock("writer", PASSWORD, "198.51.100.1"), Believed)


def test_no_number_of_wrong_guesses_locks_a_robot(door: Door, robot_secret: str) -> None:
    reasons = [refused(door.knock(ROBOT, f"guess {number}")).reason for number in range(60)]

    assert reasons[:5] == ["wrong_secret"] * 5
    assert set(reasons[5:]) == {"throttled"}
    assert isinstance(door.knock(ROBOT, robot_secret), Believed)


def test_a_robots_wrong_secrets_do_not_stop_people_at_the_same_address(door: Door) -> None:
    for number in range(60):
        door.knock(f"gallery+ci{number}", "guess")

    assert isinstance(door.knock("writer", PASSWORD), Believed)


def test_an_account_guessed_at_from_everywhere_is_slow_but_open(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "SLOWED_SECONDS", 0.05)
    for number in range(100):
        door.knock("writer", "guess", f"198.51.{number}.1")
    begun = time.monotonic()

    belief = door.knock("writer", PASSWORD)

    assert isinstance(belief, Believed)
    assert time.monotonic() - begun >= 0.05


@pytest.mark.alone
def test_sign_ins_at_once_to_a_slowed_account_are_slowed_beside_each_other(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "SLOWED_SECONDS", 0.5)
    for number in range(100):
        door.knock("writer", "guess", f"198.51.{number}.1")
    begun = time.monotonic()

    beliefs = asyncio.run(at_once(door, *[PASSWORD] * 10))

    assert all(isinstance(belief, Believed) for belief in beliefs)
    assert 0.5 <= time.monotonic() - begun < 2.5


def test_a_line_of_slowed_sign_ins_has_an_end_for_right_and_wrong_alike(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "SLOWED_SECONDS", 0.5)
    for number in range(100):
        door.knock("writer", "guess", f"198.51.{number}.1")
    beliefs = asyncio.run(at_once(door, *[PASSWORD, "guess"] * 55))

    turned_away = [belief for belief in beliefs[LONGEST_LINE:] if isinstance(belief, Disbelieved)]
    assert len(turned_away) == 10
    assert {belief.reason for belief in turned_away} == {"throttled"}
    assert len(answers(*turned_away)) == 1
    assert "at once" in turned_away[0].refusal.message
    assert isinstance(door.knock("reader", "guess"), Disbelieved)


async def at_once(door: Door, *secrets: str) -> list[Believed | Disbelieved]:
    return list(await asyncio.gather(*(door.credentials.believe("writer", secret, origin()) for secret in secrets)))


def test_a_login_that_is_tried_again_another_way_fails_once(door: Door) -> None:
    for number in range(4):
        assert refused(door.knock("writer", f"guess {number}")).change is not None
        assert refused(door.knock("writer", f"guess {number}")).change is None

    assert door.kept.counters[throttle.user_keys(SECRETS.throttle, "writer", "192.0.2.7").pair].failures == 4


def test_a_throttled_flood_is_one_event_a_minute_that_counts_the_rest(door: Door) -> None:
    for number in range(5):
        door.knock("writer", f"guess {number}")
    flood = []
    for _ in range(90):
        flood.append(refused(door.knock("writer", "guess")))
        door.clock.move(seconds=0.1)

    assert [belief.aggregated for belief in flood] == [False] + [True] * 89
    assert all(belief.change is None for belief in flood[1:])
    door.clock.move(seconds=60)
    assert refused(door.knock("writer", "another guess")).reason == "wrong_secret"
    told = refused(door.knock("writer", "guess"))
    assert not told.aggregated
    assert told.change is not None
    assert told.change.apply(None).detail == {"suppressed": 89}


def test_a_change_of_the_account_counts_against_a_verified_password_at_once(door: Door) -> None:
    assert isinstance(door.knock("writer", PASSWORD), Believed)
    assert isinstance(door.knock("writer", PASSWORD), Believed)
    assert door.pool.verified == 1

    door.kept.alter("writer", enabled=False)
    assert refused(door.knock("writer", PASSWORD)).reason == "account_disabled"
    door.kept.alter("writer", enabled=True, secret=hash_password("another horse", COST), generation=2)
    assert refused(door.knock("writer", PASSWORD)).reason == "wrong_secret"
    belief = door.knock("writer", "another horse")
    assert isinstance(belief, Believed)
    assert belief.generation == 2


def imported(door: Door, password: str = PASSWORD) -> str:
    """A hash as another program made it, of a lower cost, and an account that is kept with it."""
    hashed = "$2y$" + bcrypt.hashpw(password.encode(), bcrypt.gensalt(COST))[4:].decode()
    door.kept.add("jane", hashed)
    return hashed


@pytest.mark.parametrize("password", [PASSWORD, "short"])
def test_a_password_hashed_elsewhere_is_kept_as_new_ones_are_once_it_was_right(door: Door, password: str) -> None:
    hashed = imported(door, password)
    assert isinstance(door.knock("jane", "a wrong one"), Disbelieved)
    assert door.kept.by_name["jane"].secret == hashed

    assert isinstance(door.knock("jane", password), Believed)

    account = door.kept.by_name["jane"]
    assert account.secret.startswith(f"$2b${COST:02d}$")
    assert account.generation == 1
    door.credentials = door.process()
    again = door.knock("jane", password)
    assert isinstance(again, Believed)
    assert again.change is None


def test_a_password_is_believed_though_there_is_no_room_to_hash_it_again(door: Door) -> None:
    hashed = imported(door)
    door.pool.full_for_new = True
    assert isinstance(door.knock("jane", PASSWORD), Believed)
    assert door.kept.by_name["jane"].secret == hashed


def test_a_full_pool_is_too_many_requests_and_no_failure(door: Door) -> None:
    door.pool.full = True

    belief = refused(door.knock("writer", PASSWORD))

    assert isinstance(belief.refusal, TooManyRequests)
    assert not door.kept.counters


def test_who_signed_in_lately_is_hashed_in_the_room_that_is_kept(door: Door) -> None:
    assert isinstance(door.knock("writer", PASSWORD), Believed)
    assert door.pool.known is False
    door.knock("writer", "guess")
    assert door.pool.known is True
    door.knock("writer", "guess", "192.0.2.8")
    assert door.pool.known is False


def test_an_offline_token_is_believed_for_its_service_and_account(door: Door) -> None:
    token = door.offline_token()

    belief = door.knock_offline(token)

    assert isinstance(belief, Believed)
    assert belief.principal == door.kept.by_name["writer"].principal
    assert belief.credential == Credential(CredentialKind.OFFLINE_TOKEN, "1")
    assert belief.change is not None
    assert token not in str(door.kept.tokens)


def test_wrong_offline_tokens_are_one_answer(door: Door) -> None:
    other = door.knock_offline(door.offline_token(), "another service")
    gone = door.offline_token("gone")
    beliefs = [other, door.knock_offline(gone), door.knock_offline(new_offline_token()), door.knock_offline("\ud800")]

    assert answers(*beliefs) == answers(door.knock("writer", "wrong password"))
    assert [refused(belief).reason for belief in beliefs] == [
        "wrong_service",
        "account_disabled",
        "unknown_token",
        "unknown_token",
    ]


def test_wrong_offline_tokens_never_stop_a_right_one(door: Door) -> None:
    token = door.offline_token()
    reasons = [refused(door.knock_offline(new_offline_token())).reason for _ in range(60)]

    assert reasons == ["unknown_token"] * 50 + ["throttled"] * 10
    assert isinstance(door.knock_offline(token), Believed)


def test_an_offline_token_got_with_a_password_that_changed_meanwhile_is_refused(door: Door) -> None:
    account = door.kept.by_name["writer"]
    _, change = door.credentials.new_offline_token(account.principal, 1, "registry", "docker", origin())
    door.kept.alter("writer", generation=2)

    with pytest.raises(Unauthorized):
        change.apply(None)


def test_offline_tokens_and_robot_secrets_are_not_each_other(door: Door, robot_secret: str) -> None:
    assert isinstance(door.knock_offline(robot_secret), Disbelieved)
    assert isinstance(door.knock(ROBOT, door.offline_token()), Disbelieved)
    assert isinstance(door.knock("writer", door.offline_token()), Disbelieved)
