"""The circuit in front of a peer that fails."""

from __future__ import annotations

import pytest

from gateway.engine.upstream.circuit import FAILURES, REST_SECONDS, Circuit, Turn
from gateway.errors import UpstreamFailed, UpstreamUnavailable

WHY = "The registry behind takes no connection."


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Circuit:
    circuit = Circuit(clock)
    for _ in range(FAILURES):
        circuit.failed(WHY)
    return circuit


def test_a_circuit_opens_with_the_fifth_failure_in_a_row() -> None:
    circuit = Circuit(Clock())
    assert [circuit.failed(WHY) for _ in range(FAILURES)] == [Turn.NONE] * (FAILURES - 1) + [Turn.OPENED]
    assert circuit.trouble == WHY
    with pytest.raises(UpstreamUnavailable) as refused:
        circuit.enter()
    assert not isinstance(refused.value, UpstreamFailed)
    assert 1 <= refused.value.retry_after_seconds <= REST_SECONDS
    assert not refused.value.uncertain


def test_an_answer_in_between_forgives_what_failed_before() -> None:
    circuit = Circuit(Clock())
    for _ in range(FAILURES - 1):
        circuit.failed(WHY)
    circuit.answered()
    assert circuit.failed(WHY) is Turn.NONE
    circuit.enter()


def test_failures_that_are_far_apart_do_not_open_it() -> None:
    clock = Clock()
    circuit = Circuit(clock)
    for _ in range(3 * FAILURES):
        assert circuit.failed(WHY) is Turn.NONE
        clock.now += 7.6


def test_five_failures_in_half_a_minute_open_it() -> None:
    clock = Clock()
    circuit = Circuit(clock)
    for _ in range(4):
        assert circuit.failed(WHY) is Turn.NONE
        clock.now += 7.5
    assert circuit.failed(WHY) is Turn.OPENED
    clock.now += 4.9
    with pytest.raises(UpstreamUnavailable):
        circuit.enter()
    clock.now += 0.1
    circuit.enter()


def test_answers_that_begin_well_and_break_off_open_it_all_the_same() -> None:
    circuit = Circuit(Clock())
    for _ in range(FAILURES):
        circuit.alive()
        circuit.failed(WHY)
    assert circuit.trouble


def test_one_request_may_try_after_a_rest_and_the_next_after_another() -> None:
    clock = Clock()
    circuit = opened(clock)
    clock.now += REST_SECONDS
    circuit.enter()
    with pytest.raises(UpstreamUnavailable):
        circuit.enter()
    clock.now += REST_SECONDS
    circuit.enter()


def test_a_try_that_fails_begins_the_rest_anew() -> None:
    clock = Clock()
    circuit = opened(clock)
    clock.now += REST_SECONDS
    circuit.enter()
    assert circuit.failed(WHY) is Turn.NONE
    clock.now += REST_SECONDS - 0.1
    with pytest.raises(UpstreamUnavailable):
        circuit.enter()


@pytest.mark.parametrize("particular", [False, True])
def test_what_fails_while_it_is_open_puts_no_try_off(particular: bool) -> None:
    clock = Clock()
    circuit = opened(clock)
    clock.now += REST_SECONDS
    circuit.enter()
    clock.now += REST_SECONDS - 0.1
    circuit.failed("The registry behind has failed with status 500.", particular=particular)
    clock.now += 0.1
    circuit.enter()


def test_who_stumbles_over_something_is_not_the_reason_why_others_are_refused() -> None:
    clock = Clock()
    circuit = opened(clock)
    circuit.failed("The registry behind has failed with status 500.", particular=True)
    assert circuit.trouble == WHY
    circuit.failed("The registry behind has failed with status 503.")
    assert circuit.trouble == "The registry behind has failed with status 503."


def test_the_first_sign_of_life_closes_it() -> None:
    circuit = opened(Clock())
    circuit.alive()
    assert not circuit.trouble
    circuit.enter()
    assert circuit.failed(WHY) is Turn.NONE


@pytest.mark.parametrize("particular", range(1, FAILURES + 1))
def test_failures_of_which_any_may_be_the_fault_of_what_was_asked_leave_it_closed_and_in_doubt(particular: int) -> None:
    circuit = Circuit(Clock())
    turns = [circuit.failed(WHY, particular=number < particular) for number in range(FAILURES)]
    assert turns == [Turn.NONE] * (FAILURES - 1) + [Turn.DOUBTFUL]
    circuit.enter()
    circuit.open(WHY)
    with pytest.raises(UpstreamUnavailable, match="takes no connection"):
        circuit.enter()
