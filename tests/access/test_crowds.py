"""Crowds at one address: honest ones are believed, guesses are bounded, and neighbours keep nobody out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from gateway.access import throttle
from gateway.access.admission import Admission
from gateway.access.credentials import Believed, Disbelieved
from gateway.access.directory import StoredPersonalToken
from gateway.access.passwords import hash_password
from gateway.access.personal import Bound
from gateway.access.principals import PrincipalKind
from gateway.access.secrets import keyed_hash, new_personal_token, new_robot_secret
from tests.access.keeping import NOW, KeptAccounts, origin
from tests.access.test_credentials import COST, PASSWORD, ROBOT, SECRETS, CountingPool, Door, answers, refused


@pytest.fixture
def door() -> Iterator[Door]:
    pool = CountingPool(COST, workers=1)
    kept = KeptAccounts()
    hashed = hash_password(PASSWORD, COST)
    for name in ("writer", *(f"user{number}" for number in range(180))):
        kept.add(name, hashed)
    yield Door(kept, pool)
    pool.close()


def standing(door: Door) -> None:
    """Has the tries of *door* come back never."""
    door.credentials._admission = Admission(door.pool.workers, door.pool.queue, lambda: 0.0)


def crowded(door: Door, address: str = "192.0.2.7") -> None:
    """Has others at *address* use up what may be tried there, with tries that find no room and are no failures."""
    door.pool.full = True
    for number in range(300):
        assert refused(door.knock(f"nobody{number}", "guess", address)).reason == "throttled"
    door.pool.full = False
    assert not door.kept.counters


def test_thirty_users_at_once_behind_one_address_are_all_believed(door: Door) -> None:
    async def crowd() -> list[Believed | Disbelieved]:
        believing = (door.credentials.believe(f"user{number}", PASSWORD, origin()) for number in range(30))
        return list(await asyncio.gather(*believing))

    assert all(isinstance(belief, Believed) for belief in asyncio.run(crowd()))


def test_any_number_of_users_behind_one_address_are_believed_one_after_the_other(door: Door) -> None:
    standing(door)
    assert all(isinstance(door.knock(f"user{number}", PASSWORD), Believed) for number in range(180))
    assert isinstance(door.knock("user3", PASSWORD), Believed)
    # And a password that is wrong costs as much as before.
    crowded(door)
    assert refused(door.knock("user3", "guess")).reason == "throttled"


def test_who_was_verified_a_moment_ago_is_believed_whatever_others_at_the_address_do(door: Door) -> None:
    assert isinstance(door.knock("writer", PASSWORD), Believed)
    standing(door)
    door.credentials._admission.welcome("192.0.2.7")
    crowded(door)
    hashed = door.pool.verified

    assert all(isinstance(door.knock("writer", PASSWORD), Believed) for _ in range(20))
    assert refused(door.knock("user1", PASSWORD)).reason == "throttled"
    assert door.pool.verified == hashed
    assert isinstance(door.knock("user1", PASSWORD, "192.0.2.8"), Believed)


def test_where_there_is_no_room_a_password_verified_a_moment_ago_is_guessed_at_five_times(door: Door) -> None:
    assert isinstance(door.knock("writer", PASSWORD), Believed)
    standing(door)
    crowded(door)

    guesses = [door.knock("writer", f"guess {number}") for number in range(5)]

    assert len(answers(*guesses, door.knock("writer", PASSWORD))) == 1
    assert isinstance(door.knock("writer", PASSWORD, "192.0.2.8"), Believed)


def test_a_right_password_of_a_disabled_account_costs_a_try_like_a_wrong_one(door: Door) -> None:
    door.kept.alter("writer", enabled=False)
    standing(door)
    for number in range(40):
        door.knock("writer", PASSWORD)
        door.clock.move(hours=25)
        assert door.credentials._admission._tries[0]._left["192.0.2.7"][1] == 99 - number


def failing(door: Door, most: int, blocks: int, stride: int = 1) -> int:
    """How many passwords somebody may try from *blocks* of a /48, up to *most* in each, each at another worker."""
    tried, worker = 0, door.credentials
    for block in range(blocks):
        door.credentials = door.process()
        for number in range(most):
            belief = door.knock(f"n{block}-{number}", "guess", f"2001:db8:0:{block * stride:x}::1")
            tried += refused(belief).reason == "unknown_account"
    door.credentials = worker
    return tried


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "SLOWED_SECONDS", 0.01)


@pytest.mark.usefixtures("soon")
def test_a_subscriber_with_many_blocks_has_no_more_tries_than_150_and_one_for_each_other_block(door: Door) -> None:
    assert failing(door, 50, 20) == 150 + 17
    assert refused(door.knock("writer", PASSWORD, "2001:db8:0:13::1")).reason == "throttled"


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("stride", [1, 256])
def test_neighbours_that_fail_refuse_nobody_who_has_not_failed(door: Door, stride: int) -> None:
    assert isinstance(door.knock("writer", PASSWORD, "2001:db8:0:ff::1"), Believed)
    failing(door, 50, 12, stride)

    # Neither in the worker that saw her before, nor in one that did not, or after a restart.
    assert isinstance(door.knock("writer", PASSWORD, "2001:db8:0:ff::1"), Believed)
    door.credentials = door.process()
    assert isinstance(door.knock("writer", PASSWORD, "2001:db8:0:ff::1"), Believed)
    assert isinstance(door.knock("user1", PASSWORD, "2001:db8:0:fe::1"), Believed)


@pytest.mark.usefixtures("soon")
def test_where_somebody_signed_in_a_few_failures_are_free_and_count_around(door: Door) -> None:
    assert isinstance(door.knock("writer", PASSWORD, "2001:db8:0:ff::1"), Believed)
    failing(door, 50, 4)
    for number in range(throttle.KNOWN_FAILURES):
        assert refused(door.knock(f"a{number}", "guess", "2001:db8:0:ff::1")).reason == "unknown_account"
    assert refused(door.knock("writer", PASSWORD, "2001:db8:0:ff::1")).reason == "throttled"
    assert door.kept.counters["address:2001:db8::/48"].failures == 151 + throttle.KNOWN_FAILURES


@pytest.mark.usefixtures("soon")
def test_a_secret_or_token_makes_no_block_known(door: Door) -> None:
    secret, token = new_robot_secret(), new_personal_token()
    door.kept.add(ROBOT, keyed_hash(SECRETS.robots, secret), kind=PrincipalKind.ROBOT)
    bound = Bound(frozenset(), frozenset())
    stored = StoredPersonalToken(1, door.kept.by_name["writer"], bound, NOW + timedelta(days=1))
    door.kept.personal[keyed_hash(SECRETS.personal_tokens, token)] = stored
    offline = door.offline_token()

    assert isinstance(door.knock(ROBOT, secret), Believed)
    assert isinstance(door.knock("writer", token), Believed)
    assert isinstance(door.knock_offline(offline), Believed)
    assert not door.credentials._admission.known("192.0.2.7")
    assert isinstance(door.knock("writer", PASSWORD), Believed)
    assert door.credentials._admission.known("192.0.2.7")


@pytest.mark.usefixtures("soon")
def test_a_known_block_that_fails_is_hashed_behind_the_others(door: Door) -> None:
    assert isinstance(door.knock("writer", PASSWORD), Believed)
    for number in range(throttle.KNOWN_FAILURES):
        door.knock(f"nobody{number}", "guess")
        assert door.pool.known
    door.knock("nobody", "guess")
    assert not door.pool.known
