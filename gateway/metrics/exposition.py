"""What the processes counted and what the gateway is, as families of samples; the library writes their text.

Every name begins with `gateway_`. Labels are the gateway's own words: nothing a client sends becomes one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST as PLAIN_TYPE
from prometheus_client.exposition import generate_latest as plain_text
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPEN_TYPE
from prometheus_client.openmetrics.exposition import generate_latest as open_text
from prometheus_client.registry import Collector

from gateway.meters import ACTS, SECONDS
from gateway.metrics.board import Posted


@dataclass(frozen=True, slots=True)
class State:
    """What is so now, whoever asks: gauges by name, with their help and their samples by label value."""

    version: str
    ready: bool
    events: int
    certificate_until: float
    """UNIX seconds."""
    disk_free_bytes: int
    disk_size_bytes: int
    blobs: int
    blob_bytes: int
    open_uploads: int
    sink_lag_events: dict[str, int] = field(default_factory=dict)
    sink_lag_seconds: dict[str, float] = field(default_factory=dict)


def text(posted: Sequence[Posted], state: State, *, accept: str = "") -> tuple[str, bytes]:
    """The content type and the text of everything, in the format that *accept* (the header) asks for."""
    registry = CollectorRegistry()
    registry.register(_Families(lambda: families(posted, state)))
    if "application/openmetrics-text" in accept:
        written: bytes = open_text(registry)  # type: ignore[no-untyped-call]
        return OPEN_TYPE, written
    return PLAIN_TYPE, plain_text(registry)


class _Families(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()


def families(posted: Sequence[Posted], state: State) -> Iterator[Metric]:
    """Everything that is told, family by family."""
    yield from _counted(posted)
    yield from _workers(posted)
    yield from _present(state)


def _counted(posted: Sequence[Posted]) -> Iterator[Metric]:
    labels = ["edge", "method", "status"]
    requests = CounterMetricFamily("gateway_requests", "Requests by edge, method and status (0: cut).", labels=labels)
    for (edge, method, status), count in _summed(posted, "requests", 3).items():
        requests.add_metric([str(edge), str(method), str(status)], count)
    yield requests
    seconds = HistogramMetricFamily("gateway_request_seconds", "From a request's head to its end.", labels=["edge"])
    edges = sorted({edge for each in posted for edge in each.told["seconds"]})
    for edge in edges:
        counts, total = _histogram([each.told["seconds"][edge] for each in posted if edge in each.told["seconds"]])
        seconds.add_metric([edge], _buckets(SECONDS, counts), total)
    yield seconds
    sizes = CounterMetricFamily("gateway_body_bytes", "Bytes of bodies, by direction.", labels=["direction"])
    sizes.add_metric(["received"], sum(each.told["received_bytes"] for each in posted))
    sizes.add_metric(["sent"], sum(each.told["sent_bytes"] for each in posted))
    yield sizes
    events = CounterMetricFamily(
        "gateway_events", "Events of the trail, by kind and outcome.", labels=["kind", "outcome"]
    )
    for (kind, outcome), count in _summed(posted, "events", 2).items():
        events.add_metric([str(kind), str(outcome)], count)
    yield events
    for name, bounds, told in (
        ("commit_seconds", SECONDS, "How long a transaction took, the wait for its turn included."),
        ("commit_acts", ACTS, "How many acts a transaction committed."),
    ):
        counts, total = _histogram([each.told[name] for each in posted])
        family = HistogramMetricFamily(f"gateway_{name}", told)
        family.add_metric([], _buckets(bounds, counts), total)
        yield family


def _workers(posted: Sequence[Posted]) -> Iterator[Metric]:
    alive = [each for each in posted if each.alive]
    for name, told in (
        ("under_way", "Requests that are being answered."),
        ("waiting", "Acts that wait to be committed."),
        ("memory_bytes", "Resident memory."),
    ):
        family = GaugeMetricFamily(f"gateway_worker_{name}", told, labels=["worker"])
        for each in alive:
            family.add_metric([str(each.seat)], each.told.get(name, 0))
        yield family


def _present(state: State) -> Iterator[Metric]:
    version = GaugeMetricFamily("gateway_build", "The program's version.", labels=["version"])
    version.add_metric([state.version], 1)
    yield version
    for name, told, value in (
        ("ready", "Whether the gateway can serve: 1 or 0.", float(state.ready)),
        ("trail_events", "The number of the newest event.", state.events),
        ("certificate_until_seconds", "When the certificate ends, in UNIX time.", state.certificate_until),
        ("disk_free_bytes", "What is free on the data directory's disk.", state.disk_free_bytes),
        ("disk_size_bytes", "How large the data directory's disk is.", state.disk_size_bytes),
        ("blobs", "Blobs on record.", state.blobs),
        ("blob_bytes", "The bytes of all blobs on record.", state.blob_bytes),
        ("uploads_open", "Uploads under way.", state.open_uploads),
    ):
        yield GaugeMetricFamily(f"gateway_{name}", told, value=value)
    lag = GaugeMetricFamily("gateway_sink_lag_events", "Events a sink has not been given yet.", labels=["sink"])
    for sink, count in state.sink_lag_events.items():
        lag.add_metric([sink], count)
    yield lag
    behind = GaugeMetricFamily("gateway_sink_lag_seconds", "How old the oldest of those is.", labels=["sink"])
    for sink, seconds in state.sink_lag_seconds.items():
        behind.add_metric([sink], seconds)
    yield behind


def _summed(posted: Sequence[Posted], name: str, labels: int) -> Counter[tuple[Any, ...]]:
    summed: Counter[tuple[Any, ...]] = Counter()
    for each in posted:
        for row in each.told[name]:
            summed[tuple(row[:labels])] += row[labels]
    return summed


def _histogram(parts: Sequence[Sequence[Any]]) -> tuple[list[int], float]:
    counts = [sum(column) for column in zip(*(part[0] for part in parts), strict=True)]
    return counts, sum(part[1] for part in parts)


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    buckets, below = [], 0
    for bound, count in zip((*map(str, bounds), "+Inf"), counts or [0] * (len(bounds) + 1), strict=True):
        below += count
        buckets.append((bound, float(below)))
    return buckets
