"""What every test may ask for: a database of each kind, empty and its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import shifts
from tests.house import House, migrated_on, opened
from tests.services.postgres import PostgresServer, running_postgres
from tests.turns import turn


def pytest_configure() -> None:
    # The program is started hundreds of times: it is compiled once.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means."""
    return shifts.processes()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> shifts.Shifts | None:
    """What `--dist loadfile` means."""
    return shifts.Shifts(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Where several processes run the tests, those marked `alone` have the machine to themselves."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
    if not run:
        return (yield)
    with turn(run, alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Leaves logging as it was: a handler on a test's captured output is of no use to the next one."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One real PostgreSQL for the whole run; fsync is off."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def new_postgres_database(postgres_server: PostgresServer) -> Iterator[Callable[..., str]]:
    """Makes a PostgreSQL database per call, empty or `migrated=True`, and returns its URL; all are dropped after it."""
    made: list[str] = []

    def make(*, migrated: bool = False) -> str:
        made.append(postgres_server.create_database(migrated_on(postgres_server) if migrated else ""))
        return made[-1]

    yield make
    for url in made:
        postgres_server.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """
    The URL of a database of the test's own; a test that asks for it runs once on SQLite and once on PostgreSQL.

    It is empty, and there is no file yet; for a house, which migrates it, PostgreSQL has one that is migrated already.
    """
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'gateway.db'}"
    new_database: Callable[..., str] = request.getfixturevalue("new_postgres_database")
    return new_database(migrated="house" in request.fixturenames)


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[House]:
    """Records, ledger and gate on an empty, migrated database of each kind."""
    with opened(database_url, tmp_path) as house:
        yield house
