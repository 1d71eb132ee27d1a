"""The inner rooms joined on a real database, for tests that need records, ledger and gate but no edge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from gateway.access.principals import LOCAL, SYSTEM, Caller, Origin, Principal, PrincipalKind
from gateway.access.secrets import Secrets
from gateway.audit.trail import Search
from gateway.gate import Gate
from gateway.records.database import Database
from gateway.records.directory import SqlDirectory
from gateway.records.ledger import SqlLedger
from gateway.records.migration import migrate
from gateway.records.trail import SqlTrail
from tests.services.postgres import PostgresServer

R = TypeVar("R")

TRAIL_KEY = b"a key that only these tests use.."
#: Those of the data directory.
SECRETS = Secrets(b"s" * 32)
ORIGIN = Origin("192.0.2.7", "192.0.2.7", "tests/1", "0" * 32)
GATEWAY = Caller(SYSTEM, ORIGIN, LOCAL)
OPERATOR = Caller(Principal(PrincipalKind.OPERATOR, 0, "operator:root"), ORIGIN, LOCAL)


@dataclass(frozen=True, slots=True)
class House:
    """The rooms behind the edges, on one database."""

    data: Path
    database: Database
    ledger: SqlLedger
    directory: SqlDirectory
    gate: Gate
    trail: SqlTrail

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        return asyncio.run(coroutine)

    def records(self, **search: Any) -> list[dict[str, Any]]:
        """The events that match, oldest first, as mappings."""
        return [event.record() for event in self.trail.export(Search(**search))]


def second_over() -> None:
    """Waits until this second is over: a period of whole seconds up to now holds what has happened then."""
    time.sleep(1.01 - time.time() % 1)


@contextmanager
def opened(url: str, data: Path) -> Iterator[House]:
    """A house on the database at *url*, migrated, with its ledger running; a second one may share both."""
    prepare(url, data)
    database = Database.open(url, data)
    ledger = SqlLedger(database, TRAIL_KEY, opening=SECRETS.checkpoints)
    ledger.start()
    directory = SqlDirectory(database)
    try:
        trail = SqlTrail(database, TRAIL_KEY, SECRETS.checkpoints)
        yield House(data, database, ledger, directory, Gate(directory, ledger), trail)
    finally:
        ledger.close()
        database.close()


def prepare(url: str, data: Path) -> None:
    """Migrates the database at *url*; an SQLite file that is not there yet is a copy of one that was made before."""
    file = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not file.exists():
        file.touch(mode=0o600)
        file.write_bytes(_migrated())
    migrate(url, data)


@cache
def migrated_on(server: PostgresServer) -> str:
    """The URL of a database with the schema and nothing in it, to make others like it; nobody connects to it."""
    with TemporaryDirectory() as folder:
        url = server.create_database()
        migrate(url, Path(folder))
        return url


@cache
def _migrated() -> bytes:
    with TemporaryDirectory() as folder:
        made = Path(folder)
        migrate(f"sqlite:///{made / 'gateway.db'}", made)
        return (made / "gateway.db").read_bytes()
