"""The sweep over a process's connections: all of them, each about once in an interval, and not all at once."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.framing import EdgeLimits
from gateway.protocol import edge
from gateway.protocol.edge import Edge

INTERVAL_SECONDS = 1.0


class Clock:
    """A loop whose time passes only when it is told to, and at once."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def time(self) -> float:
        return self._now

    def call_later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        self._count += 1
        heapq.heappush(self._due, (self._now + seconds, self._count, lambda: call(*arguments)))

    def run(self, seconds: float) -> None:
        end = self._now + seconds
        while self._due and self._due[0][0] <= end:
            due, _, call = heapq.heappop(self._due)
            self._now = max(self._now, due)
            call()
        self._now = max(self._now, end)

    def stand_still(self, seconds: float) -> None:
        """Nothing is called for so long, as when something else holds the loop."""
        self._now += seconds


class Looked:
    """Stands in for a connection and its watch: remembers when it was looked at; *act* is what a look does."""

    def __init__(self, clock: Clock, act: Callable[[], None] = lambda: None) -> None:
        self.loop = clock
        self.origin = "192.0.2.1"
        self.transport = self.watch = self
        self.times: list[float] = []
        self.cut = 0
        self._act = act

    def check(self, now: float) -> None:
        self.times.append(now)
        self._act()

    def abort(self) -> None:
        self.cut += 1


def entered(clock: Clock, looked: list[Looked]) -> Edge:
    edge = Edge(EdgeLimits(frozenset()), lambda *refused: None)
    assert edge.interval_seconds == INTERVAL_SECONDS
    for each in looked:
        edge.enter(each)  # type: ignore[arg-type]
    return edge


def test_every_connection_is_looked_at_in_every_interval_and_they_are_spread_over_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # How long looks take is real time, of which a busy machine may take any: here they take none.
    monkeypatch.setattr(edge, "time", SimpleNamespace(perf_counter=lambda: 0.0))
    clock = Clock()
    looked = [Looked(clock) for _ in range(200)]
    entered(clock, looked)
    clock.run(10.5 * INTERVAL_SECONDS)
    assert {len(each.times) for each in looked} <= {10, 11}
    at_once = Counter(each.times[4] for each in looked)
    assert max(at_once.values()) <= 20, "cut together, they would come back together"


def test_a_sweep_goes_on_after_the_loop_was_held_up() -> None:
    clock = Clock()
    looked = [Looked(clock) for _ in range(200)]
    entered(clock, looked)
    clock.run(INTERVAL_SECONDS / 2)
    clock.stand_still(3 * INTERVAL_SECONDS)
    clock.run(2 * INTERVAL_SECONDS)
    assert all(len(each.times) >= 2 for each in looked)


def test_looks_that_take_long_are_all_taken_with_rests_between_them() -> None:
    clock = Clock()
    looked = [Looked(clock, lambda: time.sleep(0.0015)) for _ in range(100)]
    entered(clock, looked)
    clock.run(2 * INTERVAL_SECONDS)
    assert all(each.times for each in looked)
    assert max(Counter(each.times[0] for each in looked).values()) == 1


def test_a_connection_that_cannot_be_looked_at_is_cut_and_the_others_are_looked_at() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    clock = Clock()
    looked = [Looked(clock, fail), *(Looked(clock) for _ in range(9))]
    entered(clock, looked)
    clock.run(2 * INTERVAL_SECONDS)
    assert looked[0].cut
    assert all(each.times and not each.cut for each in looked[1:])


def test_the_sweep_rests_while_nobody_is_there_and_begins_again_with_the_next() -> None:
    clock = Clock()
    first, second = Looked(clock), Looked(clock)
    edge = entered(clock, [first])
    edge.leave(first)  # type: ignore[arg-type]
    clock.run(5 * INTERVAL_SECONDS)
    edge.enter(second)  # type: ignore[arg-type]
    clock.run(2 * INTERVAL_SECONDS)
    assert not first.times
    assert second.times
