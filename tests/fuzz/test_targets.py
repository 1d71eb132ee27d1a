"""The targets of the fuzzer, for a moment and without it: their seeds, what is near those, and noise."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

MOMENT = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", TARGETS)
def test_honest_bytes_stand(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].one(seed)


@pytest.mark.parametrize("name", TARGETS)
@MOMENT
@given(st.binary(max_size=400))
def test_noise_stands(name: str, content: bytes) -> None:
    TARGETS[name].one(content)


@pytest.mark.parametrize("name", TARGETS)
@MOMENT
@given(st.data())
def test_honest_bytes_with_a_piece_changed_stand(name: str, data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from(TARGETS[name].seeds))
    at = data.draw(st.integers(0, len(seed)))
    gone = data.draw(st.integers(0, 8))
    put = data.draw(
        st.one_of(st.binary(max_size=8), st.sampled_from([b"\r\n", b'"', b"..", b"/", b"%2f", b"\0", b"*"]))
    )
    TARGETS[name].one(seed[:at] + put + seed[at + gone :])
