"""Scenes about the database: locked, cut off, killed, or with no room left in the audit trail."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg

from tests.faults.harness.commands import adding_user
from tests.faults.harness.cutter import Cut, cutting
from tests.faults.harness.figures import Figures
from tests.faults.harness.journal import Noun, Thing
from tests.faults.harness.load import injected, loaded
from tests.faults.harness.operations import HERE, REQUESTS, content_of, push_blob, push_image, sha256
from tests.faults.harness.oracle import Oracle
from tests.faults.harness.site import Site, Unanswered, folder, running_site
from tests.services.postgres import running_postgres

_NO_ROOM = "CREATE TRIGGER no_room BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no room'); END"


def trail_unwritable(figures: Figures, database: str = "") -> None:
    """The trail takes no event: every act that must be told of is refused, and all goes on by itself afterwards."""
    fault = "audit storage unwritable"
    with running_site(database=database) as site:
        push_image(site, 1, "before")
        site.client.ask("GET", f"/v2/{HERE}/manifests/before", 200)
        for number in range(3):
            with _trail_full(site, database):
                injected(figures, fault)
                _all_refused(site, figures, fault, 10 + number)
            begun = time.monotonic()
            _until_answered(site, number)
            figures.recovered(fault, time.monotonic() - begun)
        Oracle(site, figures, fault).conclude()


@contextmanager
def _trail_full(site: Site, database: str) -> Iterator[None]:
    if database:
        with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("ALTER TABLE events ADD CONSTRAINT no_room CHECK (seq < 0) NOT VALID")
            try:
                yield
            finally:
                connection.execute("ALTER TABLE events DROP CONSTRAINT no_room")
        return
    with closing(sqlite3.connect(folder(site) / "gateway.db", timeout=30, isolation_level=None)) as connection:
        with _writers_held_off(site):
            connection.execute(_NO_ROOM)
        try:
            yield
        finally:
            with _writers_held_off(site):
                connection.execute("DROP TRIGGER no_room")


@contextmanager
def _writers_held_off(site: Site) -> Iterator[None]:
    """The lock that every writer of the gateway takes."""
    lock = os.open(folder(site) / "lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _all_refused(site: Site, figures: Figures, fault: str, number: int) -> None:
    """Pulls, pushes, deletions, sign-ins and commands: none is acknowledged."""
    content = content_of(number)
    blob = Thing(Noun.BLOB, HERE, sha256(content))
    site.journal.intends(blob, blob.name)
    attempts = {
        "a pull": lambda: site.client.ask("GET", f"/v2/{HERE}/manifests/before"),
        "a push": lambda: site.client.ask("POST", f"/v2/{HERE}/blobs/uploads/?digest={blob.name}", body=content),
        "a deletion": lambda: site.client.ask("DELETE", f"/v2/{HERE}/manifests/before"),
        "a sign-in": lambda: site.gateway.wire.ask("GET", "/token", basic=site.client.who).must(200),
        "a command": lambda: adding_user(f"user-{number}").run(site, again=False),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
        except (Unanswered, AssertionError):
            continue
        figures.problem(fault, f"{name} was acknowledged")
        with figures.line(fault) as line:
            line.unaudited += 1
    with site.gateway.wire.connect() as connection:
        if connection.request("GET", "/health/ready").status != 503:
            figures.problem(fault, "it says that it is ready")


def _until_answered(site: Site, number: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            push_image(site, 100 + number, f"after-{number}")
            return
        except Unanswered:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def locked(figures: Figures) -> None:
    """Somebody else holds the database for longer than anybody waits; then it goes on by itself."""
    fault = "database locked"
    with running_site() as site:
        push_image(site, 1, "before")
        with closing(sqlite3.connect(folder(site) / "gateway.db", timeout=30, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            injected(figures, fault)
            begun = time.monotonic()
            content = content_of(2)
            try:
                push_blob(site, content)
                figures.problem(fault, "a push was acknowledged")
            except Unanswered:
                pass
            if time.monotonic() - begun > 45:
                figures.problem(fault, f"the refusal took {time.monotonic() - begun:.0f} s")
            connection.execute("ROLLBACK")
        begun = time.monotonic()
        _until_answered(site, 1)
        figures.recovered(fault, time.monotonic() - begun)
        push_blob(site, content)
        Oracle(site, figures, fault).conclude()


def postgresql_killed(figures: Figures, times: int = 4) -> None:
    """PostgreSQL dies under load and comes back; the gateway is not touched, and goes on by itself."""
    fault = "PostgreSQL killed"
    with (
        running_postgres(durable=True) as server,
        running_site(database=server.create_database()) as site,
        loaded(site, figures, fault) as load,
    ):
        for _ in range(times):
            load.until(3)
            server.crash()
            injected(figures, fault)
            time.sleep(0.5)
            server.start()
            load.until(2)
        load.stop()
        Oracle(site, figures, fault).conclude()


def postgresql_cut(figures: Figures, times: int = 6) -> None:
    """The line to PostgreSQL is cut with a commit in flight: whether it arrived or not, nobody is told a lie."""
    fault = "PostgreSQL cut off in a commit"
    with running_postgres(durable=True) as server, cutting(server.port) as line:
        url = server.create_database().replace(f":{server.port}/", f":{line.port}/")
        with running_site(database=url) as site:
            for cut in (Cut.BEFORE, Cut.AFTER):
                for number in range(times):
                    operation = REQUESTS[(3, 7, 8, 10, 11, 12)[number % 6]]
                    # Some writes take two numbers; none takes another's.
                    act = operation.prepare(site, 7 + 100 * number + 10_000 * (cut is Cut.AFTER))
                    # The trail's searchable side commits by itself, too: it may be its commit that is cut.
                    line.cut = cut
                    try:
                        act(again=False)
                    except Unanswered:
                        figures.recovered(fault, site.answers())
                        act(again=True)
                    if line.cut is not Cut.NEVER:
                        figures.problem(fault, f"{operation.name}: no commit was cut")
                    line.cut = Cut.NEVER
                    Oracle(site, figures, fault).replay()
            line.sever()
            injected(figures, fault, line.cuts + 1)
            begun = time.monotonic()
            _until_answered(site, 9999)
            figures.recovered(fault, time.monotonic() - begun)
            Oracle(site, figures, fault).conclude()
