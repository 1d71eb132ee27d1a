"""Admission: strangers have bounded tries, whatever blocks they have, and keep nobody out who was there before."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

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
    return Admission(clock)


def tried(admission: Admission, addresses: Iterable[str]) -> int:
    """How many of *addresses* may try a password, one after the other."""
    count = 0
    for address in addresses:
        if not admission.wait(address):
            with admission.trying(address):
                count += 1
    return count


def test_an_address_has_a_hundred_tries_and_earns_them_back(admission: Admission, clock: Seconds) -> None:
    assert tried(admission, ["192.0.2.7"] * 300) == 100
    assert admission.wait("192.0.2.7") == 1
    assert admission.wait("192.0.2.8") == 0
    clock.now += 5
    assert tried(admission, ["192.0.2.7"] * 300) == 10


def test_more_blocks_of_a_subscriber_or_a_site_are_not_many_more_tries(admission: Admission) -> None:
    assert tried(admission, [f"2001:db8:0:{number % 256:x}::1" for number in range(1000)]) == 150
    assert tried(admission, [f"2001:db8:0:{number:x}::1" for number in range(256, 10_000)]) == 150
    assert tried(admission, ["2001:db8:1::1"]) == 1


def test_who_signed_in_lately_is_not_held_to_what_others_around_do(admission: Admission, clock: Seconds) -> None:
    admission.welcome("2001:db8:0:7::1")
    assert tried(admission, [f"2001:db8:0:{number:x}::1" for number in range(256, 20_000)]) == 300
    assert admission.wait("2001:db8:0:8::1") > 0
    assert tried(admission, ["2001:db8:0:7::2"] * 300) == 100
    clock.now += 12 * 3600
    assert not admission.known("2001:db8:0:7::1")


def test_a_subscriber_has_not_all_the_places_at_once(admission: Admission, clock: Seconds) -> None:
    def under_way(address: str) -> bool:
        try:
            trying.enter_context(admission.trying(address))
        except TooManyRequests:
            return False
        return True

    with ExitStack() as trying:
        assert [under_way(f"2001:db8:0:{number:x}::1") for number in range(25)] == [True] * 20 + [False] * 5
        assert [under_way("192.0.2.7") for _ in range(25)] == [True] * 20 + [False] * 5
        assert under_way("2001:db8:1::1")
        # It knows better than to be held to what its neighbours do.
        admission.welcome("2001:db8:0:ff::1")
        assert under_way("2001:db8:0:ff::1")
    assert not admission._under_way
    # What found no place was tried all the same.
    assert tried(admission, ["192.0.2.7"] * 300) == 75


def test_memory_is_bounded(admission: Admission, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Admission, "ENTRIES", 2)
    for number in range(3):
        admission.welcome(f"192.0.2.{number}")
    assert [admission.known(f"192.0.2.{number}") for number in range(3)] == [False, True, True]
