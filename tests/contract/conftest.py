"""The engines the contract is held against: today the embedded one, on each database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.house import House, Houses


@pytest.fixture
def houses(database_url: str, tmp_path: Path) -> Iterator[Houses]:
    data = tmp_path / "data"
    data.mkdir()
    opened = Houses(database_url, data)
    yield opened
    opened.close()


@pytest.fixture
def house(houses: Houses) -> House:
    return houses.open()
