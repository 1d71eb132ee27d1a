"""A gateway's rooms in front of a real registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house import House, opened
from tests.services.daemon import scratch
from tests.services.distribution import Registry, running_registry
from tests.settlement.front import Front


@pytest.fixture(scope="session")
def behind() -> Iterator[Registry]:
    """One registry for the whole run."""
    with scratch("settle") as directory, running_registry(directory) as registry:
        yield registry


@pytest.fixture
def front(tmp_path: Path, behind: Registry) -> Iterator[Front]:
    """Rooms in front of the registry, with an image pushed through them."""
    with opened(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path) as house:
        yield begun(house, behind)


@pytest.fixture
def front_on_each(house: House, behind: Registry) -> Front:
    """The same, on each database."""
    return begun(house, behind)


def begun(house: House, behind: Registry) -> Front:
    behind.forget()
    front = Front(house, behind.url)
    front.begin()
    return front
