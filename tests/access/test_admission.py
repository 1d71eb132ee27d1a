"""Admission: wrong tries are bounded, right ones cost nothing, and nobody keeps out who was there before."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack, suppress

import pytest

from gateway.access.admission import Admission
from gateway.errors import TooManyRequests


class Seconds:
    """A clock that stands until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def admission(clock: Seconds) -> Admission:
    return Admission(1, 64, clock)


def tried(admission: Admission, addresses: Iterable[str], *, known: bool = False, right: bool = False) -> int:
    """How many of *addresses* may try a password, one after the other."""
    count = 0
    for address in addresses:
        with suppress(TooManyRequests), admission.trying(address, f"pair:{address}", known=known) as was_right:
            count += 1
            if right:
                was_right()
    return count


def test_an_address_has_a_hundred_wrong_tries_and_earns_them_back(admission: Admission, clock: Seconds) -> None:
    assert tried(admission, ["192.0.2.7"] * 300) == 100
    assert admission.wait("192.0.2.7", known=False) == 1
    assert admission.wait("192.0.2.8", known=False) == 0
    clock.now += 5
    assert tried(admission, ["192.0.2.7"] * 300) == 10


def test_right_passwords_cost_no_tries_and_wrong_ones_are_paid_for_all_the_same(admission: Admission) -> None:
    assert tried(admission, ["192.0.2.7"] * 60) == 60
    assert tried(admission, ["192.0.2.7"] * 300, right=True) == 300
    assert tried(admission, ["192.0.2.7"] * 300) == 40


def test_a_known_block_has_a_wider_bound_and_more_threads_are_more_tries(clock: Seconds) -> None:
    admission = Admission(4, 64, clock)
    assert tried(admission, ["192.0.2.7"] * 300, known=True) == 200
    assert tried(admission, ["192.0.2.8"] * 300) == 100
    clock.now += 1
    assert tried(admission, ["192.0.2.7"] * 300, known=True) == 16
    assert tried(admission, ["192.0.2.8"] * 300) == 8


def test_a_block_is_known_for_twelve_hours(admission: Admission, clock: Seconds) -> None:
    admission.welcome("2001:db8:0:7::1")
    assert admission.known("2001:db8:0:7::2")
    assert not admission.known("2001:db8:0:8::1")
    clock.now += 12 * 3600
    assert not admission.known("2001:db8:0:7::1")


def test_a_subscriber_has_not_all_the_places_at_once(admission: Admission, clock: Seconds) -> None:
    def under_way(address: str, *, known: bool = False) -> bool:
        try:
            trying.enter_context(admission.trying(address, f"pair:{address}", known=known))
        except TooManyRequests:
            return False
        return True

    with ExitStack() as trying:
        assert [under_way(f"2001:db8:0:{number:x}::1") for number in range(40)] == [True] * 33 + [False] * 7
        assert [under_way("192.0.2.7") for _ in range(40)] == [True] * 33 + [False] * 7
        assert under_way("2001:db8:1::1")
        # It knows better than to be held to what its neighbours do.
        assert sum(under_way("2001:db8:0:ff::1", known=True) for _ in range(60)) == 49
    assert not admission._under_way
    # What found no place was tried all the same.
    assert tried(admission, ["192.0.2.7"] * 300) == 60


def test_what_was_verified_is_looked_up_a_few_times_for_who_is_turned_away(
    admission: Admission, clock: Seconds
) -> None:
    tried(admission, ["192.0.2.7"] * 104)
    assert admission.looks("pair:192.0.2.7")
    tried(admission, ["192.0.2.7"])
    assert not admission.looks("pair:192.0.2.7")
    assert admission.looks("pair:192.0.2.8")
    clock.now += 15
    assert admission.looks("pair:192.0.2.7")


def test_memory_is_bounded(admission: Admission, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Admission, "ENTRIES", 2)
    for number in range(3):
        admission.welcome(f"192.0.2.{number}")
    assert [admission.known(f"192.0.2.{number}") for number in range(3)] == [False, True, True]
