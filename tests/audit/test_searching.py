"""Filters as text: what is right is kept, what is wrong is told beside the filter it is in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.searching import FILTERS, asked, search_of
from gateway.audit.trail import Search
from gateway.errors import Invalid

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_a_flaw_is_told_beside_its_filter_and_the_rest_is_kept() -> None:
    found = asked({"project": "gallery", "since": "yesterday", "outcome": "maybe", "colour": "red"}, NOW)
    assert found.search == Search(project="gallery")
    assert sorted(found.flaws) == ["colour", "outcome", "since"]
    assert "2026-01-31" in found.flaws["since"]


def test_a_relative_time_counts_from_when_it_is_asked() -> None:
    assert search_of({"since": "24h"}, NOW).since == NOW - timedelta(days=1)


def test_the_first_flaw_is_raised_with_its_filter() -> None:
    with pytest.raises(Invalid) as refused:
        search_of({"kind": "nonsense"}, NOW)
    assert refused.value.detail == {"field": "kind"}


@given(st.dictionaries(st.sampled_from([*FILTERS, "other"]), st.text(max_size=600), max_size=10))
def test_any_text_is_a_search_or_a_flaw_and_never_a_fault(texts: dict[str, str]) -> None:
    found = asked(texts, NOW)
    for name, text in texts.items():
        assert name in found.flaws or not text.strip() or name == "other" or getattr(found.search, name)
