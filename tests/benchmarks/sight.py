"""How long the first page of what people see takes with very many repositories and events: `-m tests.benchmarks.sight`.

Fills a data directory (kept, and used again, under the folder that is named) and tells the milliseconds of each page.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, update

from gateway.app import Rooms, opened
from gateway.initialisation import initialise
from gateway.records.schema import blobs, edges, event_index, links, manifests, projects, repositories, tags
from gateway.settings import Settings
from tests.benchmarks import fill
from tests.house import OPERATOR

_REPEATS = 15
_LAYERS = 12


def filled(data: Path, repository_count: int, event_count: int) -> None:
    """Repositories of one project, each with a tag, a manifest and layers, a hundred tags in some; and events."""
    initialise(Settings.for_data(data, {}))
    with fill.filling(data) as (_, connection):
        there = connection.execute(select(func.count()).select_from(repositories)).scalar_one()
        if there < repository_count:
            fill.add_repositories(connection, "p007", range(there, repository_count))
            weigh(connection)
        if connection.execute(select(func.count()).select_from(event_index)).scalar_one() < event_count:
            fill.add_events(connection, data, event_count)


def weigh(connection: Any) -> None:
    """Gives every repository layers and a tag."""
    names = [f"sha256:{number:064x}" for number in range(1, 5001)]
    known = connection.execute(select(blobs.c.digest).limit(1)).first()
    if known is None:
        fill.bulk(connection, blobs, ({"digest": name, "size_bytes": 1_000_000, "created_at": 1} for name in names))
    rows = connection.execute(
        select(manifests.c.repository_id, manifests.c.digest)
        .outerjoin(tags, tags.c.repository_id == manifests.c.repository_id)
        .where(tags.c.name.is_(None))
    ).all()
    for table, made in (
        (
            links,
            (
                {"repository_id": place, "digest": names[(place * 7 + number) % 5000], "created_at": 1}
                for place, _ in rows
                for number in range(_LAYERS)
            ),
        ),
        (
            edges,
            (
                {"repository_id": place, "target": names[(place * 7 + number) % 5000], "source": digest}
                for place, digest in rows
                for number in range(_LAYERS)
            ),
        ),
        (
            tags,
            (
                {"repository_id": place, "digest": digest, "name": f"v{number:03}", "moved_at": 1, "moved_by": "user:1"}
                for place, digest in rows
                for number in range(100 if place % 1000 == 1 else 1)
            ),
        ),
    ):
        fill.bulk(connection, table, made)
    connection.execute(update(projects).values(used_bytes=0))


def measured(work: Callable[[], Coroutine[Any, Any, Any]]) -> tuple[float, float, float]:
    """Milliseconds: the first, the median of those after it, the slowest of them."""
    took = []
    for _ in range(_REPEATS):
        begun = time.perf_counter()
        asyncio.run(work())
        took.append((time.perf_counter() - begun) * 1000)
    return took[0], statistics.median(took[1:]), max(took[1:])


def pages(rooms: Rooms) -> dict[str, Callable[[], Coroutine[Any, Any, Any]]]:
    contents, effective = rooms.administration.contents, rooms.administration.effective
    some = "p007/r0000000"
    digest = rooms.database.read_now(lambda connection: connection.execute(select(manifests.c.digest)).scalar())
    return {
        "repositories, first page": lambda: contents.repositories(OPERATOR, "p007"),
        "repositories, from the middle": lambda: contents.repositories(OPERATOR, "p007", after="p007/r0050000"),
        "repositories, a rare name": lambda: contents.repositories(OPERATOR, "p007", containing="0099999"),
        "repositories, no such name": lambda: contents.repositories(OPERATOR, "p007", containing="nowhere"),
        "tags, first page": lambda: contents.tags(OPERATOR, some),
        "a manifest": lambda: contents.manifest(OPERATOR, some, str(digest)),
        "what a removal would do": lambda: contents.removing(OPERATOR, some, str(digest)),
        "who can do what": lambda: effective.who(OPERATOR, some),
        "what an account can do": lambda: effective.of_account(OPERATOR, "jane"),
    }


def main() -> None:
    reading = argparse.ArgumentParser(description=__doc__)
    reading.add_argument("folder", type=Path)
    reading.add_argument("--repositories", type=int, default=100_000)
    reading.add_argument("--events", type=int, default=10_000_000)
    wanted = reading.parse_args()
    data = wanted.folder / f"sight-{wanted.repositories}-{wanted.events}"
    filled(data, wanted.repositories, wanted.events)
    with opened(Settings.for_data(data, {})) as rooms:
        accounts = [account.name for account in asyncio.run(rooms.administration.accounts.list_accounts(OPERATOR))]
        if "jane" not in accounts:
            asyncio.run(rooms.administration.accounts.add_user(OPERATOR, "jane"))
            asyncio.run(rooms.administration.grants.add_grant(OPERATOR, "jane", "owner", "p007"))
        for name, work in pages(rooms).items():
            first, median, slowest = measured(work)
            print(f"{name:32} first {first:7.1f} ms  median {median:7.1f} ms  slowest {slowest:7.1f} ms", flush=True)


if __name__ == "__main__":
    main()
