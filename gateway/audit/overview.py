"""The overview of a search: how many events there were when, and who, from where and where most of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

#: Widths a bucket may have, in seconds: from a minute to four weeks.
WIDTHS: Final = (60, 300, 900, 3600, 4 * 3600, 86_400, 7 * 86_400, 28 * 86_400)
_FIRST: Final = int(datetime.min.replace(tzinfo=UTC).timestamp())
#: More buckets than these are of no use in one chart.
BUCKETS: Final = 120


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many events there were from *begins* (UTC, inclusive) on, as long as the overview's buckets are."""

    begins: datetime
    allowed: int = 0
    denied: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        return self.allowed + self.denied + self.failed


@dataclass(frozen=True, slots=True)
class Share:
    """How many of the events counted have this *value*."""

    value: str
    allowed: int = 0
    denied: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        return self.allowed + self.denied + self.failed


@dataclass(frozen=True, slots=True)
class Facets:
    """
    Who, from where and in which repositories most of the *counted* events were, the most frequent first.

    *whole* says that every event from *since* to *until* that matches was counted. If not, the newest ones were, and
    *since* is as far back as they reach. The bounds may lie outside those asked for, where
    counters answer for whole hours or days; what the caller may not see is in none of them.
    """

    principals: tuple[Share, ...]
    addresses: tuple[Share, ...]
    repositories: tuple[Share, ...]
    counted: int
    whole: bool
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Timeline:
    """The events over time, every bucket there, empty ones too, oldest first; *whole* and *since* as in `Facets`."""

    buckets: tuple[Bucket, ...]
    bucket_seconds: int
    whole: bool
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Overview:
    """One look at what a search finds."""

    timeline: Timeline
    facets: Facets


def width_for(seconds: float, least: int = WIDTHS[0], most: int = BUCKETS) -> int:
    """The narrowest width, no narrower than *least*, of which at most *most* buckets cover so many *seconds*."""
    for width in WIDTHS:
        if width >= least and seconds / width < most - 1:
            return width
    return WIDTHS[-1]


def filled(counts: dict[int, Sequence[int]], width: int, since: datetime, until: datetime) -> tuple[Bucket, ...]:
    """
    A bucket for each *width* seconds from *since* to *until*, holding what *counts* says of it.

    *counts* are allowed, denied and failed by the UNIX second at which a bucket begins.
    """
    first = int(since.timestamp()) // width * width
    last = max(first, math.ceil(until.timestamp() / width) * width - width)
    first = max(first, last - (10 * BUCKETS) * width)
    begins = range(first, last + 1, width)
    return tuple(Bucket(_moment(begin), *counts.get(begin, (0, 0, 0))) for begin in begins)


def _moment(second: int) -> datetime:
    # What holds the first days of the calendar would begin before it.
    return datetime.fromtimestamp(max(second, _FIRST), UTC)
