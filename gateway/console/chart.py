"""The timeline as bars of a picture: where each stands and how high, and what the template draws of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from markupsafe import Markup

from gateway.audit.overview import Timeline

WIDTH: Final = 960
HEIGHT: Final = 120
_GAP: Final = 1


class Part(NamedTuple):
    """A part of a bar: *outcome* says which, in units of the picture."""

    outcome: str
    y: float
    height: float


class Bar(NamedTuple):
    """A bucket: at *x*, so *wide*, with its parts from the bottom up; *told* says it in words."""

    x: float
    wide: float
    parts: tuple[Part, ...]
    told: str


def bars(timeline: Timeline) -> tuple[Bar, ...]:
    """The bars of *timeline*, the highest as high as the picture; what is refused or failed is never less than seen."""
    most = max((bucket.total for bucket in timeline.buckets), default=0)
    if not most:
        return ()
    wide = WIDTH / len(timeline.buckets)
    drawn = []
    for number, bucket in enumerate(timeline.buckets):
        parts, y = [], float(HEIGHT)
        for outcome in ("allowed", "denied", "failed"):
            count = getattr(bucket, outcome)
            if count:
                height = max(2.0, round(count * (HEIGHT - 6) / most, 2))
                y -= height
                parts.append(Part(outcome, round(max(0.0, y), 2), height))
        told = (
            f"{bucket.begins:%Y-%m-%d %H:%M}: {bucket.allowed} allowed, {bucket.denied} denied, {bucket.failed} failed"
        )
        drawn.append(Bar(round(number * wide, 2), round(max(1.0, wide - _GAP), 2), tuple(parts), told))
    return tuple(drawn)


def drawing(bars: Iterable[Bar]) -> Markup:
    """*bars* as the inside of an SVG; nothing of it is anybody's text, and there are hundreds: nothing is escaped."""
    return Markup("").join(Markup(_group(bar)) for bar in bars if bar.parts)  # noqa: S704


def _group(bar: Bar) -> str:
    stands = [
        f'<rect class="{outcome}" x="{bar.x}" y="{y}" width="{bar.wide}" height="{height}"></rect>'
        for outcome, y, height in bar.parts
    ]
    return f"<g><title>{bar.told}</title>{''.join(stands)}</g>"
