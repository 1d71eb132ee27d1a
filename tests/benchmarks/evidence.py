"""How fast a trail is verified and exported, and in how much memory: `python -m tests.benchmarks.evidence [EVENTS…]`.

Numbers of events are such as 1e4 1e5 1e6 1e7; the last one takes some 20 GB under --folder, and long to fill. Each
figure is that of a process of its own and of those that it starts. The start of the program itself is not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from gateway.access.principals import Caller, Credential, CredentialKind, Origin, Principal, PrincipalKind
from gateway.audit.chain import Head, head_seal, seal
from gateway.audit.event import Event, Kind
from gateway.audit.offline import Reader, lines_of
from gateway.audit.trail import Search
from gateway.cli.audit import Format, write_events, write_lines
from gateway.records.database import Database
from gateway.records.migration import migrate
from gateway.records.recounting import counter_flaws
from gateway.records.schema import event_index
from gateway.records.tallies import follow
from gateway.records.trail import SqlTrail
from tests.services.postgres import PostgresServer, running_postgres

_KEY = b"k" * 32
_CALLER = Caller(
    Principal(PrincipalKind.USER, 7, "writer"),
    Origin("192.0.2.7", "192.0.2.7", "docker/28.0 go/1.23", "0" * 32),
    Credential(CredentialKind.BEARER, "ab" * 16),
)
_BEGUN: Final = datetime(2026, 1, 1, tzinfo=UTC)
#: Events a second, as they are told to have happened: 10,000,000 are some weeks.
_RATE: Final = 5
_ROWS: Final = 5000
_FIELDS: Final = ("kind", "outcome", "principal", "project", "repository", "digest", "address")


@dataclass(frozen=True, slots=True)
class Figure:
    """Events a second, microseconds of CPU for each, and the most MiB that the process and one of its runners held."""

    rate: float
    cpu: float
    peak: float
    runner: float


def fill(database: Database, count: int) -> None:
    """A chain of *count* pushes, projected and counted."""
    head = Head()
    with database.lock(), database.engine.connect() as connection:
        for index in event_index.indexes:
            index.drop(connection)
        for first in range(0, count, _ROWS):
            database.begin(connection)
            head = _add(connection.connection.cursor(), head, range(first, min(first + _ROWS, count)), database.sqlite)
            connection.exec_driver_sql("COMMIT")
            database.checkpoint(connection)
        for index in event_index.indexes:
            index.create(connection)
        mark = "?" if database.sqlite else "%s"
        statement = f"UPDATE trail_head SET seq = {mark}, hash = {mark}, seal = {mark}"
        connection.exec_driver_sql(statement, (head.seq, head.hash, head_seal(head, _KEY)))
        if not database.sqlite:
            connection.exec_driver_sql("ANALYZE")


def _add(cursor: object, head: Head, numbers: range, sqlite: bool) -> Head:
    rows, entries = [], []
    for number in numbers:
        record = _event(number).record()
        sealed = seal(head, record)
        head = Head(sealed.seq, sealed.hash)
        rows.append((sealed.seq, sealed.body, sealed.hash))
        fields = {name: str(record.get(name, "")) for name in _FIELDS}
        entries.append({"seq": sealed.seq, "time": str(record["time"]), **fields})
    mark = "?" if sqlite else "%s"
    cursor.executemany(f"INSERT INTO events VALUES ({mark}, {mark}, {mark})", rows)  # type: ignore[attr-defined]
    columns, marks = ", ".join(entries[0]), ", ".join([mark] * len(entries[0]))
    statement = f"INSERT INTO event_index ({columns}) VALUES ({marks})"
    cursor.executemany(statement, [tuple(entry.values()) for entry in entries])  # type: ignore[attr-defined]
    follow(cursor, "qmark" if sqlite else "pyformat", entries)  # type: ignore[arg-type]
    return head


def _event(number: int) -> Event:
    return Event(
        Kind.MANIFEST_PUSH,
        _CALLER,
        time=_BEGUN + timedelta(seconds=number / _RATE),
        project="gallery",
        repository=f"gallery/app{number % 97}",
        reference=f"v{number}",
        digest=f"sha256:{number:064x}",
        action="push",
        grant="pusher on gallery",
    )


# what is measured: each with a trail of so many events, and a file of the export


def verified(database: Database, export: Path, count: int) -> None:
    found = SqlTrail(database, _KEY).verify()
    assert (found.fault, found.count) == ("", count)


def exported(database: Database, export: Path, count: int) -> None:
    with export.open("w", encoding="utf-8", newline="") as stream:
        assert write_lines(SqlTrail(database, _KEY).lines(Search()), stream) == count


def filtered(database: Database, export: Path, count: int) -> None:
    with export.with_suffix(".part").open("w", encoding="utf-8", newline="") as stream:
        assert write_lines(SqlTrail(database, _KEY).lines(Search(project="gallery")), stream) == count


def tabled(database: Database, export: Path, count: int) -> None:
    with export.with_suffix(".csv").open("w", encoding="utf-8", newline="") as stream:
        events = SqlTrail(database, _KEY).export(Search())
        assert write_events(events, Format.CSV, stream) == count


def verified_offline(database: Database, export: Path, count: int) -> None:
    reader = Reader(None)
    for line in lines_of(export):
        reader.take(line)
    assert (reader.end().fault, reader.report.count) == ("", count)


def recounted(database: Database, export: Path, count: int) -> None:
    assert list(counter_flaws(database, lambda _: None)) == []


JOBS: Final[dict[str, Callable[[Database, Path, int], None]]] = {
    "verify": verified,
    "export": exported,
    "export, filtered": filtered,
    "export, CSV": tabled,
    "verify offline": verified_offline,
    "check of counters": recounted,
}


def measured(name: str, url: str, data: Path, count: int) -> Figure:
    """The figure of one job, in this process and those that it starts."""
    database = Database.open(url, data)
    begun, used = time.perf_counter(), _processors()
    JOBS[name](database, data / "export.jsonl", count)
    seconds, used = time.perf_counter() - begun, _processors() - used
    database.close()
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Figure(count / seconds, 1e6 * used / count, _highest() / 1024, children)


def apart(name: str, url: str, data: Path, count: int) -> Figure:
    """The figure of one job in a process of its own."""
    argv = [sys.executable, "-m", "tests.benchmarks.evidence", "--job", name, "--url", url, "--data", str(data)]
    ended = subprocess.run([*argv, str(count)], stdout=subprocess.PIPE, text=True, check=True)
    return Figure(**json.loads(ended.stdout))


def measure(folder: Path, server: PostgresServer | None, count: int) -> None:
    """Fills a trail of so many events and says how each job fares with it."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        data = Path(made)
        url = server.create_database() if server is not None else f"sqlite:///{data / 'gateway.db'}"
        migrate(url, data)
        database = Database.open(url, data)
        fill(database, count)
        database.close()
        print(f"{'PostgreSQL' if server is not None else 'SQLite'}, {count:,} events, {os.cpu_count()} cores")
        part = ", without the server's" if server is not None else ""
        for name in JOBS:
            found = apart(name, url, data, count)
            runners = f" + {found.runner:.0f} MiB a runner" if found.runner else ""
            print(
                f"  {name:<20}{found.rate:>12,.0f} events/s{found.cpu:>8.2f} µs of CPU an event{part}"
                f"   peak {found.peak:.0f} MiB{runners}",
                flush=True,
            )
        if server is not None:
            server.drop_database(url)


def _processors() -> float:
    """Processor seconds of this process and of those that it started and that have ended."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(each.ru_utime + each.ru_stime for each in map(resource.getrusage, who))


def _highest() -> int:
    """The most memory that this process held, in KiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(prog="evidence", description="How fast a trail is verified and exported.")
    parser.add_argument("events", nargs="*", type=float, default=[1e5], help="how many events, such as 1e4 1e5 1e6 1e7")
    parser.add_argument("--postgresql", action="store_true", help="a server of its own instead of SQLite")
    parser.add_argument("--folder", type=Path, help="where the data directories are made and removed")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        print(json.dumps(asdict(measured(given.job, given.url, given.data, int(given.events[0])))))
        return
    with ExitStack() as closing:
        server = closing.enter_context(running_postgres()) if given.postgresql else None
        for count in given.events:
            measure(given.folder, server, int(count))


if __name__ == "__main__":
    main()
