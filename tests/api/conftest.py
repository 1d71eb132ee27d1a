"""The desk that claims about the API are made at, on each database; tests of a module share it, by other names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.desk import Desk, desk_on
from tests.services.postgres import PostgresServer


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """On SQLite."""
    data = tmp_path_factory.mktemp("data")
    with desk_on(f"sqlite:///{data / 'gateway.db'}", data) as made:
        yield made


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def each_desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """On each database, for all modules: every test makes its own projects and users there, and undoes the rest."""
    data = tmp_path_factory.mktemp("data")
    if request.param == "sqlite":
        with desk_on(f"sqlite:///{data / 'gateway.db'}", data) as made:
            yield made
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.create_database()
    try:
        with desk_on(url, data) as made:
            yield made
    finally:
        server.drop_database(url)
