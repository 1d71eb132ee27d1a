"""The throttle: few failures cost nothing, many cost time, and nobody locks somebody else out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.directory import Attempts
from gateway.access.throttle import (
    Budget,
    Keys,
    Recent,
    Wait,
    address_block,
    after_failure,
    failures,
    offline_keys,
    robot_keys,
    user_keys,
    wait,
)

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEYS = Keys("pair:a:192.0.2.7", "address:192.0.2.7", "account:a")
counts = st.integers(0, 10_000)
ages = st.integers(-100_000, 100_000)


def seen(count: int, first_ago: float = 0, last_ago: float = 0) -> Attempts | None:
    return Attempts(count, NOW - timedelta(seconds=first_ago), NOW - timedelta(seconds=last_ago)) if count else None


def pair_wait(count: int, last_ago: float = 0) -> int:
    return wait(KEYS, seen(count, last_ago, last_ago), None, None, NOW).refused_seconds


def test_five_failures_are_free_then_each_costs_twice_the_last_up_to_a_quarter_of_an_hour() -> None:
    assert [pair_wait(count) for count in range(5)] == [0] * 5
    assert [pair_wait(count) for count in range(5, 13)] == [15, 30, 60, 120, 240, 480, 900, 900]


def test_the_wait_is_over_when_it_is_over() -> None:
    assert pair_wait(5, last_ago=14.5) == 1
    assert pair_wait(5, last_ago=15) == 0


def test_an_address_with_fifty_failures_waits_for_the_end_of_its_quarter_of_an_hour() -> None:
    assert wait(KEYS, None, seen(49, 60), None, NOW).refused_seconds == 0
    refused = wait(KEYS, None, seen(50, 60), None, NOW)
    assert (refused.refused_seconds, refused.key) == (14 * 60, KEYS.address)
    assert wait(KEYS, None, seen(50, 15 * 60), None, NOW).refused_seconds == 0


def test_the_many_blocks_of_one_subscriber_or_site_are_not_as_many_chances() -> None:
    keys = user_keys(b"k" * 32, "writer", "2001:db8:0:7::1")
    assert keys.wider == ("address:2001:db8::/56", "address:2001:db8::/48")
    assert user_keys(b"k" * 32, "writer", "192.0.2.7").wider == ()

    def waits(subscriber: int, site: int, own: int = 1) -> Wait:
        return wait(keys, None, seen(own, 60), None, NOW, (seen(subscriber, 60), seen(site, 60)))

    assert waits(149, 499) == Wait()
    assert (waits(150, 150).refused_seconds, waits(150, 150).key) == (14 * 60, keys.wider[0])
    assert (waits(149, 500).refused_seconds, waits(149, 500).key) == (14 * 60, keys.wider[1])
    assert wait(keys, None, None, None, NOW).refused_seconds == 0
    # Who has not failed is slowed by what others of the block did, and no more.
    assert waits(10_000, 10_000, own=0) == Wait(slowed_seconds=2.0)
    assert waits(149, 499, own=0) == Wait()


def test_a_guessed_at_account_is_slow_but_open_to_an_address_that_has_not_failed() -> None:
    slowed = wait(KEYS, None, None, seen(100_000, 60), NOW)
    assert (slowed.refused_seconds, slowed.slowed_seconds) == (0, 2.0)
    assert wait(KEYS, seen(1), None, seen(100, 60), NOW).refused_seconds == 15
    assert wait(KEYS, None, None, seen(100, 3600), NOW).slowed_seconds == 0


@given(counts, counts, counts, ages, ages)
def test_no_wait_is_negative_or_longer_than_a_quarter_of_an_hour(
    pair: int, address: int, account: int, first: int, last: int
) -> None:
    found = wait(KEYS, seen(pair, first, last), seen(address, first, last), seen(account, first, last), NOW)

    assert 0 <= found.refused_seconds <= 900
    assert bool(found.key) == (found.refused_seconds > 0)


@given(counts, st.integers(0, 1000))
def test_more_failures_never_make_the_wait_shorter(count: int, ago: int) -> None:
    assert pair_wait(count, ago) <= pair_wait(count + 1, ago)


@given(counts, counts, ages)
def test_failures_of_others_alone_never_refuse_an_account(address: int, account: int, ago: int) -> None:
    mine = wait(KEYS, None, None, seen(account, ago, ago), NOW)

    assert mine.refused_seconds == 0


@given(st.lists(st.integers(0, 2000), max_size=60))
def test_counting_is_what_the_windows_say(pauses: list[int]) -> None:
    stored, now = None, NOW
    for pause in pauses:
        now += timedelta(seconds=pause)
        before = failures(KEYS.address, stored, now)
        stored = after_failure(KEYS.address, stored, now)
        assert failures(KEYS.address, stored, now) == before + 1
        assert (now - stored.first_at).total_seconds() < 15 * 60


def test_one_household_is_one_address() -> None:
    assert address_block("192.0.2.7") == "192.0.2.7"
    assert address_block("::ffff:192.0.2.7") == "192.0.2.7"
    assert address_block("2001:db8:1:2:3::4") == address_block("2001:db8:1:2::") == "2001:db8:1:2::/64"
    assert address_block("2001:db8:1:2::") != address_block("2001:db8:1:3::")
    assert address_block("fe80::1%eth0") == "fe80::/64"


@given(st.text(), st.text())
def test_keys_fit_their_column_and_tell_no_name(name: str, address: str) -> None:
    keys = (*user_keys(b"k", name, address).all(), *robot_keys(b"k", name, address).all(), *offline_keys(address).all())

    assert all(len(key) <= 200 for key in keys)
    assert len(set(keys)) == 6


def test_users_robots_and_offline_tokens_do_not_count_against_each_other() -> None:
    user, robot, offline = user_keys(b"k", "a", "::1"), robot_keys(b"k", "a", "::1"), offline_keys("::1")

    assert not set(user.all()) & set(robot.all()) & set(offline.all())
    assert not robot.account
    assert robot.address != user.address != offline.address


def test_a_failure_counts_here_before_it_is_stored() -> None:
    recent = Recent()
    for count in range(1, 4):
        recent.count("pair:a", recent.merged("pair:a", None, NOW), NOW)
        merged = recent.merged("pair:a", None, NOW)
        assert merged is not None
        assert merged.failures == count
    assert recent.merged("pair:a", seen(7), NOW) == seen(7)
    assert recent.merged("pair:a", seen(2), NOW + timedelta(seconds=11)) == seen(2)


def test_what_is_forgotten_counts_no_more() -> None:
    recent = Recent()
    recent.count("pair:a", None, NOW)
    recent.forget("pair:a")

    assert recent.merged("pair:a", None, NOW) is None


@pytest.mark.parametrize(("pause", "repeated"), [(0, True), (10, True), (11, False)])
def test_the_same_wrong_secret_sent_twice_at_once_is_one_failure(pause: int, repeated: bool) -> None:
    recent = Recent()

    assert not recent.repeated("pair:a", "guess", NOW)
    assert recent.repeated("pair:a", "guess", NOW + timedelta(seconds=pause)) is repeated


def test_a_third_time_another_secret_or_another_pair_is_another_failure() -> None:
    recent = Recent()
    assert [recent.repeated("pair:a", "guess", NOW) for _ in range(4)] == [False, True, False, True]
    assert not recent.repeated("pair:a", "other", NOW)
    assert not recent.repeated("pair:b", "other", NOW)


def test_a_flood_is_one_event_a_minute_and_none_is_uncounted() -> None:
    recent = Recent()
    due = [recent.event_due("pair:a", NOW + timedelta(seconds=second)) for second in range(121)]

    assert [second for second, count in enumerate(due) if count is not None] == [0, 60, 120]
    assert [count for count in due if count is not None] == [0, 59, 59]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recent, "ENTRIES", 3)
    recent = Recent()
    for number in range(100):
        recent.count(f"pair:{number}", None, NOW)
        recent.repeated(f"pair:{number}", "x", NOW)
        recent.event_due(f"pair:{number}", NOW)

    assert len(recent._counted) == len(recent._wrong) == len(recent._told) == 3


def test_a_stranger_spends_a_burst_and_earns_it_back() -> None:
    now = 100.0
    budget = Budget(per_second=2.0, burst=3.0, clock=lambda: now)
    assert [budget.spend("192.0.2.1") for _ in range(4)] == [0, 0, 0, 1]
    assert budget.spend("192.0.2.2") == 0

    now += 0.5

    assert [budget.spend("192.0.2.1") for _ in range(2)] == [0, 1]


def test_a_budget_never_grows_over_its_burst_nor_its_memory() -> None:
    now = 100.0
    budget = Budget(per_second=2.0, burst=3.0, clock=lambda: now)
    budget.spend("192.0.2.1")
    now += 3600
    assert [budget.spend("192.0.2.1") for _ in range(4)] == [0, 0, 0, 1]

    for number in range(Budget.ENTRIES + 10):
        budget.spend(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(budget._left) <= Budget.ENTRIES
