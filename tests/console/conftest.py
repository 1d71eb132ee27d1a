"""A console over an empty house, on SQLite; what databases differ in is tested where it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.console.browsing import Desk, desk_on


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_on(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path) as desk:
        yield desk
