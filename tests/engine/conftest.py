"""Embedded engines on a data directory of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.house import House, Houses


@pytest.fixture
def houses(tmp_path: Path) -> Iterator[Houses]:
    data = tmp_path / "data"
    data.mkdir()
    opened = Houses(f"sqlite:///{tmp_path / 'gateway.db'}", data)
    yield opened
    opened.close()


@pytest.fixture
def house(houses: Houses) -> House:
    return houses.open()
