"""Events: what of a text the trail keeps."""

from __future__ import annotations

from gateway.audit.event import clean


def test_a_text_of_512_characters_is_kept_and_of_a_longer_one_as_much_with_the_cut_shown() -> None:
    assert clean("x" * 512) == "x" * 512
    assert clean("x" * 513) == "x" * 511 + "…"
    assert clean("é" * 600) == "é" * 511 + "…"
