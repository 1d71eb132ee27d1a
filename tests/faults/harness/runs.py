"""All that the harness does, as tasks that do not know of each other, and the few of them that every test run does."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.faults.harness import loops, scenes_content, scenes_crowd, scenes_living, scenes_records
from tests.faults.harness.commands import COMMANDS
from tests.faults.harness.figures import Figures
from tests.faults.harness.loops import ERRORS, KILLS, POWER, Pass
from tests.faults.harness.operations import REQUESTS, Operation
from tests.faults.harness.oracle import Oracle
from tests.faults.harness.site import running_site
from tests.services.postgres import running_postgres


@dataclass(frozen=True, slots=True)
class Task:
    """Something with a name that adds to the figures."""

    name: str
    run: Callable[[Figures], None]


def _loop(name: str, operation: Operation, passes: tuple[Pass, ...], *, postgresql: bool = False) -> Task:
    def run(figures: Figures) -> None:
        with _database(postgresql) as url, running_site(power=passes[0].power, database=url) as site:
            numbers = count(1)
            for each in passes:
                struck = loops.run(site, operation, each, figures, numbers=numbers)
                figures.points_in(operation.name, struck)
            Oracle(site, figures, passes[-1].fault).conclude()

    return Task(f"{name}: {operation.name}", run)


@contextmanager
def _database(postgresql: bool) -> Iterator[str]:
    """The URL of a database of PostgreSQL's, or nothing."""
    if not postgresql:
        yield ""
        return
    with running_postgres(durable=True) as server:
        yield server.create_database()


def _in_folder(scene: Callable[[Figures, Path], None]) -> Callable[[Figures], None]:
    def run(figures: Figures) -> None:
        with tempfile.TemporaryDirectory() as folder:
            scene(figures, Path(folder))

    return run


def _trail_of_postgresql(figures: Figures) -> None:
    with _database(True) as url:
        scenes_records.trail_unwritable(figures, url)


#: Those of PostgreSQL's loops: one write of each shape.
_SOME = ("finish an upload", "push a manifest", "delete a manifest", "grant")

SCENES = (
    Task("damaged blobs", scenes_content.damaged),
    Task("unreadable blobs", scenes_content.unreadable),
    Task("no descriptors", scenes_content.no_descriptors),
    Task("vanishing clients", scenes_content.vanishing),
    Task("a crowd", scenes_crowd.crowd),
    Task("races", scenes_crowd.races),
    Task("certificates", _in_folder(scenes_living.certificates)),
    Task("keys", scenes_living.keys),
    Task("SIGTERM", scenes_living.stops),
    Task("kills under load", scenes_living.kills_under_load),
    Task("clocks", scenes_living.clocks),
    Task("trail", scenes_records.trail_unwritable),
    Task("trail on PostgreSQL", _trail_of_postgresql),
    Task("locked", scenes_records.locked),
    Task("PostgreSQL killed", scenes_records.postgresql_killed),
    Task("PostgreSQL cut", scenes_records.postgresql_cut),
)


def tasks() -> Iterator[Task]:
    """Everything, the longest first."""
    for operation in (*REQUESTS, *COMMANDS):
        yield _loop("kill", operation, KILLS)
        yield _loop("power", operation, POWER)
    for operation in REQUESTS:
        yield _loop("errors", operation, ERRORS)
    for operation in (*REQUESTS, *COMMANDS):
        if operation.name in _SOME:
            yield _loop("kill on PostgreSQL", operation, KILLS, postgresql=True)
    yield from SCENES
