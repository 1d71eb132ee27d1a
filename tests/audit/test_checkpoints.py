"""Checkpoints: when one is due."""

from __future__ import annotations

import pytest

from gateway.audit.chain import Head
from gateway.audit.checkpoints import is_due


@pytest.mark.parametrize(("seq", "due"), [(10, False), (1009, False), (1010, True), (1011, True)])
def test_a_checkpoint_is_due_at_the_thousandth_event_after_the_last(seq: int, due: bool) -> None:
    assert is_due(10, Head(seq, b"h" * 32), made_at=1_000_000, now=1_000_000) is due


@pytest.mark.parametrize(("now", "due"), [(59, False), (60, True), (-59, False), (-60, True), (-10_000, True)])
def test_a_checkpoint_is_due_after_a_minute_also_on_a_clock_that_was_put_back(now: int, due: bool) -> None:
    assert is_due(10, Head(11, b"h" * 32), made_at=1_000_000, now=1_000_000 + now) is due


def test_before_the_first_event_none_is_due() -> None:
    assert not is_due(None, Head(), made_at=0, now=1_000_000)
    assert is_due(None, Head(1, b"h" * 32), made_at=0, now=1_000_000)
