"""How fast a trail is verified, exported and verified offline: `python -m tests.benchmarks.evidence [EVENTS]`."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.access.principals import Caller, Credential, CredentialKind, Origin, Principal, PrincipalKind
from gateway.audit.chain import Head, head_seal, seal
from gateway.audit.event import Event, Kind
from gateway.audit.offline import Reader, lines_of
from gateway.audit.trail import Search
from gateway.cli.audit import write_lines
from gateway.records.database import Database
from gateway.records.migration import migrate
from gateway.records.trail import SqlTrail, project_tail

_KEY = b"k" * 32
_CALLER = Caller(
    Principal(PrincipalKind.USER, 7, "writer"),
    Origin("192.0.2.7", "192.0.2.7", "docker/28.0 go/1.23", "0" * 32),
    Credential(CredentialKind.BEARER, "ab" * 16),
)


def fill(database: Database, count: int) -> None:
    """A chain of *count* pushes, projected."""
    head, begun = Head(), datetime(2026, 1, 1, tzinfo=UTC)
    connection = database.engine.raw_connection()
    cursor = connection.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    for number in range(count):
        event = Event(
            Kind.MANIFEST_PUSH,
            _CALLER,
            time=begun + timedelta(milliseconds=number),
            project="gallery",
            repository=f"gallery/app{number % 97}",
            reference=f"v{number}",
            digest=f"sha256:{number:064x}",
            action="push",
            grant="pusher on gallery",
        )
        sealed = seal(head, event.record())
        head = Head(sealed.seq, sealed.hash)
        cursor.execute("INSERT INTO events VALUES (?, ?, ?)", (sealed.seq, sealed.body, sealed.hash))
    cursor.execute("UPDATE trail_head SET seq = ?, hash = ?, seal = ?", (head.seq, head.hash, head_seal(head, _KEY)))
    cursor.execute("COMMIT")
    connection.close()
    with database.lock(), database.engine.connect() as projecting:
        while project_tail(database, projecting):
            pass


def timed(what: str, count: int, job: Callable[[], object]) -> None:
    """Says how many events a second *job* took on."""
    begun, used = time.perf_counter(), time.process_time()
    job()
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    print(
        f"{what:<24}{count / seconds:>12,.0f} events/s   {seconds:.2f} s, {1e6 * used / count:.2f} µs of CPU an event"
    )


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        url = f"sqlite:///{data / 'gateway.db'}"
        migrate(url, data)
        database = Database.open(url, data)
        fill(database, count)
        trail = SqlTrail(database, _KEY)
        export = data / "export.jsonl"

        def write() -> None:
            with export.open("w", encoding="utf-8", newline="") as stream:
                assert write_lines(trail.lines(Search()), stream) == count

        def verify() -> None:
            found = trail.verify()
            assert (found.fault, found.count) == ("", count)

        def verify_offline() -> None:
            reader = Reader(None)
            for line in lines_of(export):
                reader.take(line)
            assert reader.end().fault == ""

        def filtered() -> None:
            assert sum(1 for _ in trail.lines(Search(project="gallery"))) == count

        timed("verify", count, verify)
        timed("export", count, write)
        timed("export, filtered", count, filtered)
        timed("verify offline", count, verify_offline)
        database.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
