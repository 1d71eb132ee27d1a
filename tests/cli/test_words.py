from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.words import duration, moment, size_bytes
from gateway.errors import Invalid

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("30m", 1800), ("12h", 43_200), ("90d", 7_776_000), ("2w", 1_209_600)]
)
def test_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "1.5h", "1 d", "1y", "٣d", "1d2h", "99999999d", "1d\n"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(Invalid, match="is no duration"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("24h", NOW - timedelta(hours=24)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:01Z", datetime(2026, 1, 31, 12, 0, 1, tzinfo=UTC)),
        ("2026-01-31T12:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_moment_is_iso_or_so_long_ago(text: str, found: datetime) -> None:
    assert moment(text, NOW) == found


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "", "9999999w", "0001-01-01T00:00+10:00"])
def test_no_moment_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="is no time"):
        moment(text, NOW)


@given(st.text())
def test_no_text_is_a_fault(text: str) -> None:
    with contextlib.suppress(Invalid):
        assert moment(text, NOW).tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("none", None),
        ("0", 0),
        ("1048576", 1048576),
        ("10GiB", 10 * 2**30),
        ("10 gib", 10 * 2**30),
        ("500MB", 500_000_000),
        ("1.5k", 1500),
        ("1.5KiB", 1536),
        ("7B", 7),
        ("2Ti", 2 * 2**40),
    ],
)
def test_size_is_a_number_and_a_unit(text: str, found: int | None) -> None:
    assert size_bytes(text) == found


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1e9", "10iB", "10XB", "1.2345", "٣", "10 Gi B", "1,5GiB", "NaN"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(Invalid, match="is no size"):
        size_bytes(text)
