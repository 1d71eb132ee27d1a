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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("digest", "sha256:abc"),
        ("digest", "SHA256:" + "A" * 64),
        ("address", "1.2.3"),
        ("address", "192.0.2.0/24"),
        ("address", "somewhere"),
    ],
)
def test_a_part_of_a_digest_or_an_address_is_a_flaw_and_not_a_search_that_finds_nothing(name: str, text: str) -> None:
    found = asked({name: text, "project": "gallery"}, NOW)
    assert (found.search, list(found.flaws)) == (Search(project="gallery"), [name])


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7", "fe80::7%eth0", "::ffff:192.0.2.7", "local"])
def test_every_address_that_events_have_can_be_asked_for(address: str) -> None:
    assert search_of({"address": address, "digest": f"sha512:{'0' * 128}"}, NOW).address == address


@pytest.mark.parametrize("until", ["2026-11-01", "2026-10-31"])
def test_a_period_that_ends_before_it_begins_is_a_flaw_of_its_end(until: str) -> None:
    found = asked({"since": "2026-11-01", "until": until}, NOW)
    assert (found.search.since, found.search.until, list(found.flaws)) == (NOW.replace(day=1, hour=0), None, ["until"])


@given(st.dictionaries(st.sampled_from([*FILTERS, "other"]), st.text(max_size=600), max_size=10))
def test_any_text_is_a_search_or_a_flaw_and_never_a_fault(texts: dict[str, str]) -> None:
    found = asked(texts, NOW)
    for name, text in texts.items():
        assert name in found.flaws or not text.strip() or name == "other" or getattr(found.search, name)
