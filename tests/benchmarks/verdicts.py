"""The figures to reach, each held against what was measured; one that is missed stays in the table as missed."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.benchmarks.figures import Case
from tests.benchmarks.stand import STRAIGHT

PEER, CEILING = "Distribution", "nginx, static"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One figure: what was asked, what was found, and whether that is enough."""

    work: str
    target: str
    wanted: str
    found: str
    reached: bool


def judged(cases: Sequence[Case]) -> list[Verdict]:
    """Every figure that the cases of this run can tell of."""
    found: list[Verdict] = []
    for case in cases:
        found += _judge(case)
    return [*found, *_pages(cases), *_audit_pages(cases), *_flood(cases), *_whole_memory(cases)]


def _judge(case: Case) -> Iterator[Verdict]:
    gateways = [name for name in case.samples if name.startswith("gateway")]
    for name in gateways:
        for wanted, other in _RATIOS.get(case.group, _nothing)(case):
            if other in case.samples:
                yield _ratio(case, name, other, wanted)
        if case.group in {"requests", "pull"} and PEER in case.samples and _wants_tail(case):
            yield _tail(case, name)
        if case.group == "memory" and "largest" in case.name:
            yield _below(case.name, name, _value(case, name), 90, "MiB")
        if case.group == "front-memory":
            yield Verdict(case.name, name, "≤ 1 MiB", f"{_value(case, name):.2f} MiB", _value(case, name) <= 1)
        if case.group == "adopt":
            yield Verdict(case.name, name, "≥ 500/s", f"{_value(case, name):,.0f}/s", _value(case, name) >= 500)
        if case.group == "tokens" and "robot" in case.name:
            rate = _value(case, name)
            yield Verdict(case.name, name, "≥ 1,500/s", f"{rate:,.0f}/s", rate >= 1500)
    if case.group == "audit-cost":
        on, off = (_value(case, name) for name in ("audit on", "audit off"))
        yield Verdict(case.name, "gateway, 1 worker", "≥ 0.85 × audit off", f"{on / off:.2f} ×", on / off >= 0.85)


def _nothing(case: Case) -> tuple[tuple[float, str], ...]:
    return ()


def _pull(case: Case) -> tuple[tuple[float, str], ...]:
    return ((5.0, PEER),) if "KiB" in case.name else ((1.8, PEER), (0.9, CEILING))


def _push(case: Case) -> tuple[tuple[float, str], ...]:
    return ((2.0, PEER),) if "KiB" in case.name else ((1.8, PEER),)


def _requests(case: Case) -> tuple[tuple[float, str], ...]:
    if case.name.endswith(", 1 connection"):
        return ((1.5, PEER),) if "GET" in case.name else ()
    return ((5.0, PEER),)


def _images(case: Case) -> tuple[tuple[float, str], ...]:
    return ((1.5, PEER),) if "at once" in case.name else ((1.0, PEER),)


def _front(case: Case) -> tuple[tuple[float, str], ...]:
    wanted = {"pull": 1.1, "push": 1.0, "digest": 5.0, "tag": 0.8}
    return tuple((ratio, STRAIGHT) for word, ratio in wanted.items() if f" {word}" in case.name)


_RATIOS: dict[str, Callable[[Case], Sequence[tuple[float, str]]]] = {
    "pull": _pull,
    "push": _push,
    "requests": _requests,
    "images": _images,
    "front": _front,
    "import": lambda case: ((0.7, "cp -r"),),
}


def _ratio(case: Case, name: str, other: str, wanted: float) -> Verdict:
    ratio = _value(case, name) / (_value(case, other) or 1e-9)
    if case.better == "less":
        ratio = 1 / ratio
    return Verdict(case.name, name, f"≥ {wanted:g} × {other}", f"{ratio:.2f} ×", ratio >= wanted)


def _wants_tail(case: Case) -> bool:
    return ("KiB" in case.name or case.group == "requests") and not case.name.endswith(", 1 connection")


def _tail(case: Case, name: str) -> Verdict:
    ours, theirs = _percentile(case, name), _percentile(case, PEER)
    text = f"{ours / theirs:.2f} × ({ours:.1f} ms)"
    return Verdict(case.name, name, f"p99 ≤ 0.5 × {PEER}", text, ours <= theirs / 2)


def _below(work: str, name: str, value: float, most: float, unit: str) -> Verdict:
    return Verdict(work, name, f"≤ {most:g} {unit}", f"{value:.0f} {unit}", value <= most)


def _whole_memory(cases: Sequence[Case]) -> Iterator[Verdict]:
    for case in cases:
        if case.group == "memory" and ("pulls" in case.name or "idle" in case.name):
            for name in (each for each in case.samples if each.startswith("gateway")):
                yield _below(case.name, name, _value(case, name), 300, "MiB")


def _pages(cases: Sequence[Case]) -> Iterator[Verdict]:
    for group, last in (("scale-tags", "gateway, last page"), ("scale-catalog", "administrator, last page")):
        of_group = [case for case in cases if case.group == group]
        if len(of_group) > 1:
            first = next(iter(of_group[0].samples))
            ratio = _value(of_group[-1], last) / _value(of_group[0], first)
            yield Verdict(of_group[-1].name, last, "≤ 2 × the smallest one's first", f"{ratio:.2f} ×", ratio <= 2)


def _audit_pages(cases: Sequence[Case]) -> Iterator[Verdict]:
    of_group = [case for case in cases if case.group == "scale-audit"]
    # A page is full in either only from ten thousand on.
    big = [case for case in of_group if _size(case) >= 10_000]
    if len(big) > 1:
        for name in big[0].samples:
            ratio = _value(big[-1], name) / _value(big[0], name)
            text = f"{ratio:.2f} × ({_value(big[-1], name):.1f} ms)"
            yield Verdict(big[-1].name, name, f"≤ 3 × that of {_size(big[0]):,}", text, ratio <= 3)


def _flood(cases: Sequence[Case]) -> Iterator[Verdict]:
    pair = [case for case in cases if case.group == "flood"]
    if len(pair) == 2:
        for name in pair[0].samples:
            ratio = _percentile(pair[1], name) / _percentile(pair[0], name)
            yield Verdict(pair[1].name, name, "p99 < 2 × alone", f"{ratio:.2f} ×", ratio < 2)


def _size(case: Case) -> int:
    found = re.search(r"of ([\d,]+) events", case.name)
    return int(found.group(1).replace(",", "")) if found else 0


def _value(case: Case, name: str) -> float:
    return statistics.median(each.value for each in case.samples[name])


def _percentile(case: Case, name: str) -> float:
    return statistics.median(each.p99_ms or 0.0 for each in case.samples[name]) or 1e-9
