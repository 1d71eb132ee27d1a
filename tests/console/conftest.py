"""A console over an empty house, on SQLite; what databases differ in is tested where it is kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.records.migration import migrate
from tests.console.browsing import Desk, desk_on


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with the schema and nothing in it, to be copied."""
    folder = tmp_path_factory.mktemp("migrated")
    migrate(f"sqlite:///{folder / 'gateway.db'}", folder)
    return folder / "gateway.db"


@pytest.fixture
def desk(tmp_path: Path, migrated: Path) -> Iterator[Desk]:
    shutil.copy(migrated, tmp_path / "gateway.db")
    with desk_on(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path) as desk:
        yield desk
