"""Leaves: a long list, fifty rows at a time, with the way to those before and after by what the rows are called."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from gateway.console.form import Form

T = TypeVar("T")

ROWS: Final = 50


@dataclass(frozen=True, slots=True)
class Leaf(Generic[T]):
    """
    *rows* of a list that has *count* in all.

    *before* and *after* are what the leaves on either side are asked for with; "" where there is none.
    """

    rows: tuple[T, ...]
    count: int
    before: str
    after: str


def newest(number: int) -> str:
    """What puts the row of the greatest *number* first."""
    return f"{10**18 - number:019}"


def leaf(rows: Iterable[T], name: Callable[[T], str], form: Form) -> Leaf[T]:
    """
    The leaf of *rows*, by *name*, that the query asks for: those `after` a name or `before` one, or the first.

    A row that comes or goes meanwhile shifts no other off its leaf: nothing is shown twice or left out.
    """
    ordered = sorted(rows, key=name)
    names = [name(row) for row in ordered]
    before, after = form.value("before"), form.value("after")
    start = max(0, bisect_left(names, before) - ROWS) if before else bisect_right(names, after) if after else 0
    end = max(bisect_left(names, before), ROWS) if before else start + ROWS
    shown = tuple(ordered[start:end])
    return Leaf(
        shown,
        len(ordered),
        names[start] if start and shown else "",
        names[end - 1] if end < len(names) else "",
    )
