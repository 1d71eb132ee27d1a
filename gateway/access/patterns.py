"""Patterns: text in which `*` stands for any characters, anchored at both ends, letters as they are."""

from __future__ import annotations


def matches(pattern: str, component: str) -> bool:
    """Whether *component* is *pattern*, in which each `*` stands for any characters, or none."""
    # No regular expression: one made of many stars would take a hostile name exponentially long to refuse.
    first, *rest = pattern.split("*")
    if not rest:
        return component == pattern
    last = rest.pop()
    position, end = len(first), len(component) - len(last)
    if position > end or not component.startswith(first) or not component.endswith(last):
        return False
    for part in rest:
        found = component.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True
