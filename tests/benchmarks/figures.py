"""Figures: one sample of one case on one target, samples over rounds, and what a case makes of them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.benchmarks.processes import client_seconds, processor_seconds
from tests.benchmarks.stand import Target


@dataclass(slots=True)
class Sample:
    """One measurement. *value* is in the case's unit; percentiles in milliseconds; processor time in seconds."""

    value: float
    seconds: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    client_seconds: float = 0.0
    server_seconds: float = 0.0
    errors: int = 0


@dataclass(slots=True)
class Case:
    """What was measured under one name: samples by target, in the order they were taken."""

    name: str
    group: str
    unit: str
    better: str = "more"
    note: str = ""
    bytes: int = 0
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def summary(self) -> dict[str, object]:
        """The case as it is written: medians by target."""
        targets = {name: _medians(samples, self.bytes) for name, samples in self.samples.items()}
        told: dict[str, object] = {"name": self.name, "group": self.group, "unit": self.unit, "better": self.better}
        return told | ({"note": self.note} if self.note else {}) | {"targets": targets}


@dataclass(slots=True)
class Book:
    """All that a run found out; `say` is told of each case when it is done."""

    say: Callable[[str], None] = print
    cases: list[Case] = field(default_factory=list)

    def add(self, case: Case) -> Case:
        self.cases.append(case)
        return case

    def alternate(
        self, case: Case, targets: Sequence[Target], rounds: int, measure: Callable[[Target, int], Sample]
    ) -> Case:
        """Measures every target in every round, one after the other, there and back, and keeps the case."""
        for target in targets:
            case.samples[target.name] = []
        for number in range(rounds):
            for target in targets if number % 2 == 0 else reversed(targets):
                case.samples[target.name].append(measure(target, number))
        self.tell(case)
        return self.add(case)

    def tell(self, case: Case) -> None:
        values = [
            f"{name} {statistics.median(each.value for each in samples):.4g}"
            + ("" if not any(each.errors for each in samples) else " WITH ERRORS")
            for name, samples in case.samples.items()
        ]
        self.say(f"{case.name} ({case.unit}): {'; '.join(values)}")


@dataclass(slots=True)
class Clock:
    """What passed while a `costed` block ran."""

    seconds: float = 0.0
    client_seconds: float = 0.0
    server_seconds: float = 0.0

    def sample(
        self, value: float, p50_ms: float | None = None, p99_ms: float | None = None, *, errors: int = 0
    ) -> Sample:
        return Sample(value, self.seconds, p50_ms, p99_ms, self.client_seconds, self.server_seconds, errors)


@contextmanager
def costed(target: Target) -> Iterator[Clock]:
    """
    Wall time of the block, processor time of the target and of every client that ended in it. What others left to be
    written is on the disk before it begins.
    """
    clock = Clock()
    os.sync()
    server, client, begun = processor_seconds(target.daemon.pid), client_seconds(), time.perf_counter()
    yield clock
    clock.seconds = time.perf_counter() - begun
    clock.client_seconds = client_seconds() - client
    clock.server_seconds = processor_seconds(target.daemon.pid) - server


def _medians(samples: Sequence[Sample], moved_bytes: int) -> dict[str, object]:
    told: dict[str, object] = {
        "median": statistics.median(each.value for each in samples),
        "rounds": [each.value for each in samples],
    }
    for name in ("p50_ms", "p99_ms"):
        found = [value for value in (getattr(each, name) for each in samples) if value is not None]
        if found:
            told[name] = statistics.median(found)
    busy = [each for each in samples if each.client_seconds or each.server_seconds]
    if busy:
        whole = sum(each.client_seconds + each.server_seconds for each in busy) or 1.0
        told["client_share"] = sum(each.client_seconds for each in busy) / whole
        told["client_cores"] = sum(each.client_seconds for each in busy) / sum(each.seconds for each in busy)
        told["server_cores"] = sum(each.server_seconds for each in busy) / sum(each.seconds for each in busy)
        if moved_bytes:
            told["server_seconds_per_gib"] = statistics.median(
                each.server_seconds * (1 << 30) / moved_bytes for each in busy
            )
    if any(each.errors for each in samples):
        told["errors"] = sum(each.errors for each in samples)
    return told
