"""The engines the contract is held against: the embedded one, and a real registry behind in every way it is reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contract.house import Embedded, House, Houses, Opener, Upstream
from tests.services.daemon import scratch
from tests.services.distribution import Registry, Way, running_registry

#: The engine, or the way to the registry behind it, whose files may be read as well, and the database.
KINDS = [
    ("embedded", "sqlite"),
    ("embedded", "postgresql"),
    (Way.HTTP, "sqlite"),
    (Way.HTTP, "postgresql"),
    ("files", "sqlite"),
    (Way.TLS, "sqlite"),
    (Way.HTPASSWD, "sqlite"),
    (Way.TOKEN, "sqlite"),
]


@pytest.fixture(scope="session")
def registries() -> Iterator[Callable[[Way], Registry]]:
    """Gives the registry that is reached in a way, started when first asked for, one for the whole run."""
    running: dict[Way, Registry] = {}
    with ExitStack() as stack:

        def registry(way: Way) -> Registry:
            if way not in running:
                running[way] = stack.enter_context(running_registry(stack.enter_context(scratch("contract")), way))
            return running[way]

        yield registry


@pytest.fixture(params=KINDS, ids="-".join)
def houses(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Houses]:
    kind, database = request.param
    url = f"sqlite:///{tmp_path / 'gateway.db'}"
    if database == "postgresql":
        url = request.getfixturevalue("new_postgres_database")(migrated=True)
    opener: Opener = Embedded()
    if kind != "embedded":
        way = kind if isinstance(kind, Way) else Way.HTTP
        opener = Upstream(request.getfixturevalue("registries")(way), reads_files=kind == "files")
    data = tmp_path / "data"
    data.mkdir()
    opened = Houses(url, data, opener)
    yield opened
    unsettled = opened.unsettled()
    opened.close()
    assert unsettled == []


@pytest.fixture
def house(houses: Houses) -> House:
    return houses.open()
