"""The config of an image: whatever a stranger wrote, a value or one sentence comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.oci.config import STEPS, TEXT_CHARACTERS, platform_text, read_config

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
NAMES = st.sampled_from(["os", "architecture", "variant", "config", "history", "created", "author", "User", "Cmd"])


def config(**fields: Any) -> Any:
    return read_config(json.dumps(fields).encode())


def test_a_config_says_its_platform_and_its_steps() -> None:
    found = config(
        os="linux",
        architecture="arm64",
        variant="v8",
        config={"Cmd": ["sh"], "ExposedPorts": {"80/tcp": {}}},
        history=[{"created_by": "ADD x /"}, {"created_by": "CMD sh", "empty_layer": True}],
    )
    assert (found.platform, found.command, found.ports) == ("linux/arm64/v8", ("sh",), ("80/tcp",))
    assert [(step.created_by, step.empty) for step in found.steps] == [("ADD x /", False), ("CMD sh", True)]


def test_long_texts_are_cut_and_long_histories_counted() -> None:
    found = config(author="a" * 5000, history=[{"created_by": "b"}] * (STEPS + 3))
    assert (len(found.author), found.author[-1]) == (TEXT_CHARACTERS, "…")
    assert (len(found.steps), found.more_steps) == (STEPS, 3)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'"text"', b"\xff", b"[" * 2000, b"x" * 1_048_577])
def test_what_is_no_config_is_a_sentence(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        read_config(content)


@given(st.dictionaries(NAMES, VALUES))
def test_fields_of_the_wrong_kind_say_nothing(fields: dict[str, Any]) -> None:
    try:
        found = read_config(json.dumps(fields).encode())
    except ValueError:
        return  # a surrogate or a NUL: the strict reader has its say
    assert isinstance(found.platform, str)
    assert all(isinstance(step.created_by, str) for step in found.steps)


@pytest.mark.parametrize(
    ("fields", "text"),
    [({}, ""), ({"os": "linux"}, "linux/unknown"), ({"os": 1, "architecture": []}, ""), ({"variant": "v8"}, "")],
)
def test_a_platform_that_is_not_said_is_not_made_up(fields: dict[str, object], text: str) -> None:
    assert platform_text(fields) == text
