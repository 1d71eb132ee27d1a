"""Engines on a data directory of their own: embedded ones, and such that stand in front of a registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.house import House, Houses
from tests.engine.behind import Behind
from tests.services.daemon import scratch
from tests.services.distribution import Registry, running_registry


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


@pytest.fixture
def fronts(tmp_path: Path) -> Iterator[Callable[[Behind], Houses]]:
    """Opens processes in front of what listens somewhere."""
    data = tmp_path / "data"
    data.mkdir()
    made: list[Houses] = []

    def make(behind: Behind) -> Houses:
        made.append(Houses(f"sqlite:///{tmp_path / 'gateway.db'}", data, behind))
        return made[-1]

    yield make
    for houses in made:
        houses.close()


@pytest.fixture(scope="session")
def running() -> Iterator[Registry]:
    """One real registry, in clear, for the whole run."""
    with scratch("behind") as directory, running_registry(directory) as registry:
        yield registry


@pytest.fixture
def registry(running: Registry) -> Registry:
    """The real registry, empty."""
    running.forget()
    return running


@pytest.fixture
def behind(registry: Registry) -> Behind:
    return Behind(registry.url)


@pytest.fixture
def front(fronts: Callable[[Behind], Houses], behind: Behind) -> House:
    """A process in front of the real registry."""
    return fronts(behind).open()
