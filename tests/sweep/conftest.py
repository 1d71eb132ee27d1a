"""A stage on an empty database of each kind."""

from __future__ import annotations

import pytest

from tests.house import House
from tests.sweep.stage import Stage


@pytest.fixture
def stage(house: House) -> Stage:
    return Stage(house)
