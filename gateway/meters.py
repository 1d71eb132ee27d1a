"""What one process counts of its own work: plain numbers in memory, told as values that others can add up."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

#: Upper bounds of the histograms' buckets; what is above the last one is counted in none but the total.
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
ACTS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


@dataclass(slots=True)
class Histogram:
    """How often a value fell between which *bounds*, and the sum of all."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Meters:
    """
    Counts requests (on the event loop) and commits (in the committing thread); neither waits for the other.

    Bounded: labels are the gateway's own words, never a client's.
    """

    METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.seconds: dict[str, Histogram] = {}
        self.received_bytes = 0
        self.sent_bytes = 0
        self.under_way = 0
        self.events: Counter[tuple[object, object]] = Counter()
        self.commit_seconds = Histogram(SECONDS)
        self.commit_acts = Histogram(ACTS)
        self.waiting = 0

    def answered(self, edge: str, method: str, status: int, seconds: float) -> None:
        """A request to *edge* ended; *status* is 0 if the client was gone before there was one."""
        self.requests[edge, method if method in self.METHODS else "other", status] += 1
        histogram = self.seconds.get(edge)
        if histogram is None:
            histogram = self.seconds[edge] = Histogram(SECONDS)
        histogram.add(seconds)

    def committed(self, seconds: float, acts: int, waiting: int) -> None:
        """A transaction with so many acts took *seconds*, the wait for its turn included; *waiting* came meanwhile."""
        self.commit_seconds.add(seconds)
        self.commit_acts.add(acts)
        self.waiting = waiting

    def told(self) -> Mapping[str, object]:
        """Everything, JSON-able."""
        return {
            "requests": [[*labels, count] for labels, count in self.requests.copy().items()],
            "seconds": {edge: [each.counts, each.total] for edge, each in self.seconds.copy().items()},
            "received_bytes": self.received_bytes,
            "sent_bytes": self.sent_bytes,
            "under_way": self.under_way,
            "events": [[*labels, count] for labels, count in self.events.copy().items()],
            "commit_seconds": [self.commit_seconds.counts, self.commit_seconds.total],
            "commit_acts": [self.commit_acts.counts, self.commit_acts.total],
            "waiting": self.waiting,
        }
