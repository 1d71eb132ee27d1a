"""Sealing: what comes back is what was given away, or nothing."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from gateway.access.sealing import Sealer

KEY = b"k" * 32


@given(st.binary(max_size=300))
def test_what_was_sealed_opens_as_it_was(content: bytes) -> None:
    sealer = Sealer(KEY, "forms")
    assert sealer.unseal(sealer.seal(content, 60)) == content


@given(st.text(max_size=200))
def test_nothing_else_opens(text: str) -> None:
    assert Sealer(KEY, "forms").unseal(text) is None


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_changed_byte_is_noticed(place: int, change: int) -> None:
    sealer = Sealer(KEY, "forms")
    sealed = bytearray(base64.urlsafe_b64decode(sealer.seal(b"some content", 60)))
    sealed[place % len(sealed)] ^= change
    assert sealer.unseal(base64.urlsafe_b64encode(bytes(sealed)).decode()) is None


def test_it_opens_until_it_expires() -> None:
    now = [1000.0]
    sealer = Sealer(KEY, "forms", lambda: now[0])
    sealed = sealer.seal(b"content", 60)
    now[0] = 1059.9
    assert sealer.unseal(sealed) == b"content"
    now[0] = 1060.0
    assert sealer.unseal(sealed) is None


def test_another_purpose_or_key_does_not_open_it() -> None:
    sealed = Sealer(KEY, "forms").seal(b"content", 60)
    assert Sealer(KEY, "tickets").unseal(sealed) is None
    assert Sealer(b"l" * 32, "forms").unseal(sealed) is None
