"""Rules as values: which tags stay where they are, what a refusal tells, which patterns and reasons are any."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.patterns import matches
from gateway.access.rules import (
    PATTERNS,
    Rules,
    over_quota,
    parse_patterns,
    parse_quota,
    parse_reason,
    size_text,
)
from gateway.errors import Denied, Invalid, ReadOnly
from gateway.oci.names import ProjectName

GALLERY = ProjectName("gallery")
HEX = "a" * 64


@pytest.mark.parametrize(
    ("pattern", "tag", "held"),
    [
        ("v*", "v1", True),
        ("v*", "v", True),
        ("v*", "V1", False),
        ("v*", "dev1", False),
        ("v1", "v1", True),
        ("v1", "v10", False),
        ("*-release", "2026-release", True),
        ("*-release", "2026-release-2", False),
        ("v*.*.*", "v1.2.3", True),
        ("v*.*.*", "v1.2", False),
        ("*", "anything", True),
        ("v.1", "vx1", False),
    ],
)
def test_a_pattern_is_anchored_and_minds_case(pattern: str, tag: str, held: bool) -> None:
    assert Rules(immutable=("other", pattern)).holding(tag) == (pattern if held else "")


@pytest.mark.parametrize(
    "tag",
    [f"sha256-{HEX}.sig", f"sha256-{HEX}.att", f"sha256-{HEX}.sbom", f"sha256-{HEX}", f"sha512-{HEX}"],
)
def test_signatures_attestations_and_lists_of_referrers_may_always_move(tag: str) -> None:
    assert Rules(immutable=("*",)).holding(tag) == ""


@pytest.mark.parametrize(
    "tag", [f"sha256-{HEX}.exe", f"sha256-{HEX[1:]}.sig", f"sha256-{HEX}.sig.1", f"x-sha256-{HEX}", f"sha256-{HEX}a"]
)
def test_what_only_looks_like_a_signature_stays(tag: str) -> None:
    assert Rules(immutable=("*",)).holding(tag) == "*"


def test_no_rule_holds_nothing_off() -> None:
    Rules().require_writable(GALLERY)
    assert Rules().holding("v1") == ""


def test_a_refusal_tells_the_reason_and_whose_it_is() -> None:
    with pytest.raises(ReadOnly, match=r"Project gallery is read-only: moving house\. Ask its owner"):
        Rules(read_only="moving house.").require_writable(GALLERY)
    with pytest.raises(ReadOnly, match=r"The gateway is read-only: a new disk\. Ask its operator") as refused:
        Rules(read_only="moving house", frozen="a new disk").require_writable(GALLERY)
    assert (refused.value.code, refused.value.reason) == ("DENIED", "read_only")


def test_a_full_project_is_told_which_quota_and_how_much_is_used() -> None:
    refusal = over_quota(GALLERY, 10 * 1024**3, 9 * 1024**3, 2 * 1024**3)
    assert isinstance(refusal, Denied)
    assert refusal.message.startswith("The quota of project gallery is 10 GiB and 9 GiB are used: 2 GiB more do not")
    assert "ask an owner or administrator" in refusal.message
    assert refusal.detail == {
        "quota_bytes": 10 * 1024**3,
        "used_bytes": 9 * 1024**3,
        "wanted_bytes": 2 * 1024**3,
    }


@pytest.mark.parametrize("text", ["", "a b", "-x", ".x", "v**", "ä*", "v/1", "v1\n", "x" * 129, "[a-z]*"])
def test_what_can_match_no_tag_is_no_pattern(text: str) -> None:
    with pytest.raises(Invalid, match="pattern of tags"):
        parse_patterns([text])


def test_patterns_keep_their_order_and_come_once() -> None:
    assert parse_patterns(["v*", "release-*", "v*"]) == ("v*", "release-*")
    with pytest.raises(Invalid, match=f"at most {PATTERNS}"):
        parse_patterns([f"v{number}" for number in range(PATTERNS + 1)])


@pytest.mark.parametrize("text", ["", "  ", "two\nlines", "x" * 201, "bell\a"])
def test_a_reason_is_one_line(text: str) -> None:
    with pytest.raises(Invalid, match="in one line"):
        parse_reason(text)


@pytest.mark.parametrize("size", [-1, 2**62 + 1])
def test_a_quota_is_a_size(size: int) -> None:
    with pytest.raises(Invalid):
        parse_quota(size)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KiB"), (1536, "1.5 KiB"), (1024**3 - 1, "1023.9 MiB")],
)
def test_a_size_is_told_as_people_read_it(size: int, text: str) -> None:
    assert size_text(size) == text


@given(st.text(alphabet="ab*", min_size=1, max_size=8), st.text(alphabet="ab", max_size=8))
def test_a_pattern_matches_as_a_regular_expression_would(pattern: str, tag: str) -> None:
    import re

    expression = ".*".join(re.escape(part) for part in pattern.split("*"))
    assert matches(pattern, tag) == bool(re.fullmatch(expression, tag))
