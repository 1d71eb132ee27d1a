"""How long an overview takes with many events: python -m tests.benchmarks.overviews FOLDER EVENTS."""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, delete

from gateway.audit.trail import Search
from gateway.records.database import Database
from gateway.records.overview import overview
from gateway.records.review_tables import event_counts, origins
from tests.benchmarks import fill

_REPEATS = 9
_MIGRATION = Path(__file__).parents[2] / "migrations" / "versions" / "0006_review.py"


def count_again(connection: Connection) -> None:
    """Counts the search entries as the migration does: events put there in bulk were not counted."""
    spec = importlib.util.spec_from_file_location("review", _MIGRATION)
    assert spec is not None
    assert spec.loader is not None
    migration: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(migration)
    connection.execute(delete(event_counts))
    connection.execute(delete(origins))
    with Operations.context(MigrationContext.configure(connection)):
        migration._count(migration._EPOCH_SQLITE)
        migration._find_origins()


def main(data: Path, events: int) -> None:
    begun = time.perf_counter()
    with fill.filling(data) as (_, connection):
        fill.add_events(connection, data, events)
        print(f"{events:,} events there: {time.perf_counter() - begun:.1f} s")
        begun = time.perf_counter()
        count_again(connection)
        print(f"counted as by the migration: {time.perf_counter() - begun:.1f} s")
    database = Database.open(f"sqlite:///{data / 'gateway.db'}", data)
    now = fill.event_time(events) + timedelta(seconds=1)
    searches = {
        "everything": Search(),
        "the last day": Search(since=now - timedelta(days=1)),
        "a project": Search(project="p001"),
        "a principal": Search(principal="p001+ci"),
        "denied": Search(outcome="denied"),
        "a kind": Search(kind="manifest.*"),
        "a digest": Search(digest=fill.event_digest(7)),
        "an address": Search(address="10.0.1.1"),
        "a principal, denied": Search(principal="p000+ci", outcome="denied"),
        "a project and a kind": Search(project="p001", kind="manifest.pull"),
    }
    for name, search in searches.items():
        taken = []
        for _ in range(_REPEATS):
            begun = time.perf_counter()
            database.read_now(lambda connection, search=search: overview(connection, search, now))  # type: ignore[misc]
            taken.append((time.perf_counter() - begun) * 1000)
        print(f"{name:24} median {statistics.median(taken):7.1f} ms   most {max(taken):7.1f} ms")
    database.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
