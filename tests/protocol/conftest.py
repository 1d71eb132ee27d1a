"""The world that the protocol's claims are made about, on each database; tests in a module share it, by other names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.protocol.harness import World, world_on
from tests.services.postgres import PostgresServer


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    data = tmp_path_factory.mktemp("data")
    if request.param == "sqlite":
        with world_on(f"sqlite:///{data / 'gateway.db'}", data) as made:
            yield made
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.create_database()
    try:
        with world_on(url, data) as made:
            yield made
    finally:
        server.drop_database(url)
