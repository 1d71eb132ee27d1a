"""What a run found, as JSON for programs and as Markdown for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.figures import Case
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.verdicts import PEER, Verdict, judged

_TITLES = {
    "pull": "Pulls",
    "push": "Pushes",
    "requests": "Small requests",
    "audit-cost": "What the trail costs",
    "tokens": "Tokens",
    "flood": "A flood of passwords",
    "images": "Whole images",
    "memory": "Memory",
    "start": "Start",
    "commits": "The ledger",
    "front": "In front of a registry",
    "front-memory": "In front of a registry: memory",
    "adopt": "Adopting a registry",
    "import": "Importing a volume",
}
_PLOTS = ("requests", "transfers", "scale", "audit")


def write(directory: Path, stem: str, sizes: Sizes, machine: Mapping[str, str], cases: Sequence[Case]) -> Path:
    """Writes STEM.json and STEM.md; gives the JSON's path."""
    verdicts = judged(cases)
    told = {
        "mode": sizes.mode,
        "rounds": sizes.rounds,
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": machine,
        "cases": [case.summary() for case in cases],
        "figures": [
            {"work": each.work, "of": each.target, "wanted": each.wanted, "found": each.found, "reached": each.reached}
            for each in verdicts
        ],
    }
    directory.mkdir(parents=True, exist_ok=True)
    written = directory / f"{stem}.json"
    written.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    (directory / f"{stem}.md").write_text(_markdown(told, stem, verdicts))
    return written


def _markdown(told: dict[str, Any], stem: str, verdicts: Sequence[Verdict]) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in told["machine"].items())
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench` ({told['mode']}, {told['rounds']} rounds, {told['time']}). The gateway runs with"
        " SQLite, strict audit, token authentication and TLS; Distribution with TLS and token authentication and its"
        " usual cache; nginx sends the same bytes as static files, which is the ceiling. All use one certificate and"
        " loopback, take turns in every round, and share the machine with the clients; values are medians.",
        "",
        f"Machine: {machine}.",
        "",
        "## Figures to reach",
        "",
        "| work | of | wanted | found | |",
        "|---|---|---|---|---|",
        *(
            f"| {v.work} | {v.target} | {v.wanted} | {v.found} | {'✓' if v.reached else '**missed**'} |"
            for v in verdicts
        ),
    ]
    groups = dict.fromkeys(case["group"] for case in told["cases"])
    for group in groups:
        some = [case for case in told["cases"] if case["group"] == group]
        lines += _scale(group, some) if group.startswith("scale") else _table(group, some)
    lines += ["", "## Plots", "", *(f"![{each}]({stem}-{each}.png)" for each in _PLOTS)]
    return "\n".join(lines) + "\n"


def _table(group: str, cases: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["", f"## {_TITLES[group]}", ""]
    lines += [f"{note}\n" for note in dict.fromkeys(case["note"] for case in cases if "note" in case)]
    lines += ["| work | of | value | against Distribution | p50 ms | p99 ms | cores: server, client | server s/GiB |"]
    lines += ["|---|---|---:|---:|---:|---:|---:|---:|"]
    for case in cases:
        for name, found in case["targets"].items():
            lines.append(f"| {case['name']} | {name} | {_row(case, name, found)} |")
    return lines


def _row(case: dict[str, Any], name: str, found: dict[str, Any]) -> str:
    peer = case["targets"].get(PEER)
    ratio = ""
    if peer and peer["median"] and name != PEER:
        ratio = f"{found['median'] / peer['median']:.2f} ×"
    cores = f"{found['server_cores']:.2f}, {found['client_cores']:.2f}" if "client_cores" in found else ""
    errors = f" ({found['errors']} errors)" if "errors" in found else ""
    value = f"{_short(found['median'])} {case['unit']}{errors}"
    numbers = [_short(found[key]) if key in found else "" for key in ("p50_ms", "p99_ms")]
    cost = f"{found['server_seconds_per_gib']:.2f}" if "server_seconds_per_gib" in found else ""
    return " | ".join([value, ratio, *numbers, cores, cost])


def _scale(group: str, cases: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["", f"## Pages: {group.removeprefix('scale-').replace('-peer', ', Distribution')}", ""]
    columns = list(dict.fromkeys(name for case in cases for name in case["targets"]))
    lines.append("| ms | " + " | ".join(columns) + " |")
    lines.append("|---|" + "---:|" * len(columns))
    for case in cases:
        found = [_short(case["targets"][name]["median"]) if name in case["targets"] else "" for name in columns]
        lines.append(f"| {case['name']} | " + " | ".join(found) + " |")
    return lines


def _short(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
