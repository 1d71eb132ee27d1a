"""What the first page of every console view and every audit search costs: `python -m tests.benchmarks.pages FOLDER`.

Fills a database (SQLite in a folder that is kept and used again, or a PostgreSQL of its own) and tells of each page the
milliseconds of CPU and of wall time; each is asked for some times, the first (which warms up) left out. Beside other
load, the least CPU tells most.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import func, select

from gateway.audit.trail import Search
from gateway.records.overview import overview
from gateway.records.schema import event_index, manifests, repositories
from gateway.records.trail import project_tail
from tests.benchmarks import fill
from tests.benchmarks.scale import searches
from tests.benchmarks.sight import weigh
from tests.console.browsing import Browser, Desk, desk_on
from tests.house import OPERATOR, TRAIL_KEY, prepare
from tests.services.postgres import running_postgres

_REPEATS: Final = 11
_REPOSITORY: Final = "p007/r0000000"
#: The figure that every page is held against, in milliseconds.
_MOST: Final = 50.0
_servers: set[int] = set()


def filled(data: Path, url: str, repository_count: int, event_count: int) -> None:
    """Repositories of one project with tags, manifests and layers, and counted events, as many as are missing."""
    data.mkdir(parents=True, exist_ok=True)
    prepare(url, data)
    with fill.filling(data, url) as (_, connection):
        there = connection.execute(select(func.count()).select_from(repositories)).scalar_one()
        if there < repository_count:
            fill.add_repositories(connection, "p007", range(there, repository_count))
            weigh(connection)
        if (connection.execute(select(func.max(event_index.c.seq))).scalar() or 0) < event_count:
            begun = time.perf_counter()
            fill.add_events(connection, data, event_count, TRAIL_KEY)
            print(f"{event_count:,} events put: {time.perf_counter() - begun:.0f} s", flush=True)


def console_pages(desk: Desk, event_count: int) -> dict[str, str]:
    """Every view of the console that has much to look through, by its address."""
    digest = desk.house.database.read_now(lambda connection: connection.execute(select(manifests.c.digest)).scalar())
    day = f"{fill.event_time(event_count) - timedelta(days=1):%Y-%m-%d}"
    audit = {
        "audit": "",
        "audit, denied": "outcome=denied",
        "audit, a project": "project=p007",
        "audit, a repository": "repository=p007/r0107",
        "audit, a principal": "principal=p007%2Bci",
        "audit, a kind": "kind=manifest.pull",
        "audit, a rare kind": "kind=manifest.push",
        "audit, kinds": "kind=manifest.*",
        "audit, a digest": f"digest={fill.event_digest(77)}",
        "audit, an address": "address=10.0.7.7",
        "audit, a day": f"since={day}",
        "audit, until a day": f"until={day}",
        "audit, nobody": "principal=nobody",
        "audit, project and outcome": "project=p000&outcome=denied",
        "audit, project, none such": "project=p007&outcome=denied",
        "audit, older": f"before={event_count // 2}",
    }
    plain = {
        "projects": "/projects",
        "a project": "/projects/p007",
        "a project, a name": "/projects/p007?containing=0099999",
        "a project's members": "/projects/p007/members",
        "a project's robots": "/projects/p007/robots",
        "a project's audit": "/projects/p007/audit",
        "a project's settings": "/projects/p007/settings",
        "a project's retention": "/projects/p007/settings/retention",
        "a project's trash": "/projects/p007/deleted",
        "a repository": f"/repositories/{_REPOSITORY}",
        "a manifest": f"/manifests/{digest}/{_REPOSITORY}",
        "an event": f"/audit/events/{event_count // 2}",
        "who pulled": f"/audit/who-pulled?target={fill.event_digest(4077)}",
        "who pulled, in one": f"/audit/who-pulled?target=p077/r0077@{fill.event_digest(4077)}",
        "a leak's form": "/audit/leak",
        "evidence": "/audit/evidence",
        "reviews": "/reviews",
        "users": "/users",
        "system": "/system",
        "access": "/access",
        "my tokens": "/account/tokens",
        "my sessions": "/account/sessions",
    }
    return {**{name: f"/audit?{query}" for name, query in audit.items()}, **plain}


def _served_seconds() -> float:
    """The CPU seconds of the processes of the PostgreSQL that was started for this, if one was."""
    ticks = 0
    if not _servers:
        return 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # State, parent, … and as the 12th and 13th after the name: in the program, and in the kernel for it.
            fields = stat.read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12]) if int(fields[1]) in _servers else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def told(name: str, work: Callable[[], object]) -> None:
    """Prints what *work* takes, and whether its CPU, here and in the database's own processes, is above the figure."""
    work()
    cpu, wall, served = [], [], _served_seconds()
    for _ in range(_REPEATS):
        begun, used = time.perf_counter(), time.process_time()
        work()
        cpu.append((time.process_time() - used) * 1000)
        wall.append((time.perf_counter() - begun) * 1000)
    served = (_served_seconds() - served) * 1000 / _REPEATS
    print(
        f"{name:40} CPU least {min(cpu):6.1f} median {statistics.median(cpu):6.1f}"
        f"{f' database {served:6.1f}' if _servers else ''}   wall least {min(wall):7.1f} "
        f"median {statistics.median(wall):7.1f}{'  OVER' if min(cpu) + served > _MOST else ''}",
        flush=True,
    )


def measured(desk: Desk, event_count: int) -> None:
    # As in a server, one loop answers all: its threads are there when a page is asked for.
    with asyncio.Runner() as loop:
        desk.runner = loop.run
        _measured(desk, event_count)


def _measured(desk: Desk, event_count: int) -> None:
    browser = desk.browser("ann", administrator=True)
    desk.run(_settled(desk))
    for name, target in console_pages(desk, event_count).items():
        _follow(desk)
        sheet = _page(browser, target)
        if sheet != 200:
            print(f"{name:36} {target} answered {sheet}", flush=True)
        told(name, lambda target=target: _page(browser, target))  # type: ignore[misc]
    trail, now = desk.house.trail, fill.event_time(event_count) + timedelta(seconds=1)
    for name, search in searches(event_count).items():
        told(f"search: {name}", lambda search=search: trail.page(search, limit=100))  # type: ignore[misc]
    for name, search in {**searches(event_count), "all": Search()}.items():
        told(
            f"overview: {name}",
            lambda search=search: desk.house.database.read_now(  # type: ignore[misc]
                lambda connection: overview(connection, search, now)
            ),
        )


def _follow(desk: Desk) -> None:
    """Has what searches read follow the events of the pages before, as a gateway does within half a second."""
    database = desk.house.database
    with database.lock(), database.engine.connect() as connection:
        while project_tail(database, connection):
            pass


async def _settled(desk: Desk) -> None:
    """Grants, so that the pages about them have something to tell."""
    accounts = await desk.acts.accounts.list_accounts(OPERATOR)
    if "jane" not in {each.name for each in accounts}:
        await desk.acts.accounts.add_user(OPERATOR, "jane")
        await desk.acts.grants.add_grant(OPERATOR, "jane", "owner", "p007")


def _page(browser: Browser, target: str) -> int:
    return browser.get(f"/console{target}").status


@contextmanager
def database(folder: Path, *, postgres: bool, name: str) -> Iterator[tuple[str, Path]]:
    """The address of the database to fill, and its data directory."""
    data = folder / name
    if not postgres:
        yield f"sqlite:///{data / 'gateway.db'}", data
        return
    with running_postgres() as server:
        _servers.add(server.daemon.pid)
        yield server.create_database(), data


def main() -> None:
    reading = argparse.ArgumentParser(description=__doc__)
    reading.add_argument("folder", type=Path)
    reading.add_argument("--repositories", type=int, default=100_000)
    reading.add_argument("--events", type=int, default=1_000_000)
    reading.add_argument("--postgres", action="store_true", help="a PostgreSQL of its own, gone afterwards")
    wanted = reading.parse_args()
    name = f"pages-{'postgres' if wanted.postgres else 'sqlite'}-{wanted.repositories}"
    with database(wanted.folder, postgres=wanted.postgres, name=name) as (url, data):
        filled(data, url, wanted.repositories, wanted.events)
        with desk_on(url, data) as desk:
            measured(desk, wanted.events)


if __name__ == "__main__":
    main()
