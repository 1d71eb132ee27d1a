"""Plots of what a run found: `plots.py FILE.json` draws FILE-*.png. Needs matplotlib, and of this project nothing."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

_COLOURS = {"gateway, 1 worker": "#1b6ca8", "gateway, 2 workers": "#0b3c5d", "Distribution": "#d9822b"}
_OTHER = "#8a8a8a"


def main() -> None:
    written = Path(sys.argv[1])
    found = json.loads(written.read_text())
    bars(found, {"requests", "tokens"}, written.with_name(f"{written.stem}-requests.png"), "a second")
    bars(found, {"pull", "push"}, written.with_name(f"{written.stem}-transfers.png"), "relative to Distribution")
    lines(found, {"scale-tags", "scale-catalog"}, written.with_name(f"{written.stem}-scale.png"), r"of ([\d,]+) (\w+)")
    lines(found, {"scale-audit"}, written.with_name(f"{written.stem}-audit.png"), r"of ([\d,]+) (events)")


def bars(found: dict[str, Any], groups: set[str], to: Path, label: str) -> None:
    cases = [case for case in found["cases"] if case["group"] in groups]
    if not cases:
        return
    relative = "relative" in label
    figure, axes = plt.subplots(figsize=(9, 0.75 * len(cases) + 1.2))
    names = list(dict.fromkeys(name for case in cases for name in case["targets"]))
    height = 0.8 / len(names)
    for number, name in enumerate(names):
        places, values = [], []
        for row, case in enumerate(cases):
            if name in case["targets"]:
                peer = case["targets"].get("Distribution", {}).get("median") if relative else 1
                places.append(row + number * height)
                values.append(case["targets"][name]["median"] / (peer or 1))
        axes.barh(places, values, height, label=name, color=_COLOURS.get(name, _OTHER))
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(cases))], [case["name"] for case in cases], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    if relative:
        axes.set_xscale("log")
    axes.legend(fontsize=8)
    save(figure, to)


def lines(found: dict[str, Any], groups: set[str], to: Path, pattern: str) -> None:
    series: dict[str, list[tuple[int, float]]] = {}
    for case in found["cases"]:
        size = re.search(pattern, case["name"])
        if case["group"] in groups and size:
            for name, target in case["targets"].items():
                label = name if "audit" in case["group"] else f"{size.group(2)}: {name}"
                series.setdefault(label, []).append((int(size.group(1).replace(",", "")), target["median"]))
        if case["group"].removesuffix("-peer") in groups and case["group"].endswith("-peer"):
            label = f"Distribution: {case['name'].partition(' (')[0]}"
            points = [(int(name.replace(",", "")), target["median"]) for name, target in case["targets"].items()]
            series[label] = points
    if not series:
        return
    figure, axes = plt.subplots(figsize=(9, 5.5))
    colours = mpl.colormaps["tab20"]
    for number, (label, points) in enumerate(series.items()):
        dashed = "--" if label.startswith("Distribution") else "-"
        axes.plot(
            *zip(*points, strict=True),
            dashed,
            marker="o",
            markersize=4,
            linewidth=1.2,
            label=label,
            color=colours(number % 20),
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("how many there are")
    axes.set_ylabel("ms a page")
    axes.grid(alpha=0.3)
    axes.set_ylim(bottom=0.1)
    axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    save(figure, to)


def save(figure: Any, to: Path) -> None:
    figure.tight_layout()
    figure.savefig(to, dpi=110)
    plt.close(figure)
    print(to)


main()
