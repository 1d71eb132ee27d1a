"""Rows put straight into a data directory, in bulk, where the protocol would take hours: true to the schema."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import bcrypt
from sqlalchemy import Connection, Table, func, insert, select, update

from gateway.access.principals import Caller, Origin, Principal, PrincipalKind
from gateway.access.secrets import Secrets
from gateway.audit.chain import Head, head_seal, seal
from gateway.audit.event import Event, Kind, Outcome, time_text
from gateway.oci.manifest import load
from gateway.records import tallies
from gateway.records.database import Database
from gateway.records.schema import (
    accounts,
    event_index,
    events,
    manifest_bodies,
    manifests,
    projects,
    repositories,
    tags,
    trail_head,
)
from tests.services.images import EMPTY, OCI_MANIFEST

_ROWS = 20_000
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
#: Events are written in transactions of so many; after so many, the next is like the first but for time and request.
_TRANSACTION = 500_000
_PERIOD = 10_000
_FIELDS = ("kind", "outcome", "principal", "project", "repository", "digest", "address")


@contextmanager
def filling(data: Path, url: str = "") -> Iterator[tuple[Database, Connection]]:
    """
    A writing transaction on the directory's database, under its lock; other processes see a changed policy.

    The database is the one at *url*, or that of SQLite in the directory.
    """
    database = Database.open(url or f"sqlite:///{data / 'gateway.db'}", data)
    try:
        connection = database.writer()
        with database.lock(), database.versions.moving(policy=True, repositories=set()):
            database.begin(connection)
            yield database, connection
            _settle(connection)
        connection.close()
    finally:
        database.close()


def _settle(connection: Connection) -> None:
    """
    Commits; with SQLite all is in the database file then, and none of it in its log.

    With PostgreSQL what one transaction left of each counter, a version for every batch, is cleared away: the gateway
    leaves none, and what clears away by itself would run beside the measurement.
    """
    connection.exec_driver_sql("COMMIT")
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    else:
        connection.exec_driver_sql("VACUUM (ANALYZE)")


def add_users(data: Path, names: Iterable[str], password: str) -> None:
    """Users who all have *password*, under one hash."""
    secret = bcrypt.hashpw(password.encode(), bcrypt.gensalt(12)).decode()
    now = int(time.time())
    fixed = {"kind": "user", "secret": secret, "enabled": True, "administrator": False, "auditor": False}
    fixed |= {"generation": 0, "created_at": now, "changed_at": now}
    with filling(data) as (_, connection):
        connection.execute(insert(accounts), [{"name": name, **fixed} for name in names])


def add_project(connection: Connection, name: str) -> int:
    values = {"name": name, "public": False, "created_at": 0}
    return int(connection.execute(insert(projects).values(values).returning(projects.c.id)).scalar_one())


def add_repositories(connection: Connection, project: str, numbers: Iterable[int]) -> None:
    """Repositories `project/rN`, each with one small manifest."""
    place = connection.execute(select(projects.c.id).where(projects.c.name == project)).scalar()
    place = place if place is not None else add_project(connection, project)
    digest, size = _keep_body(connection, _body(0))
    names = [f"{project}/r{number:07}" for number in numbers]
    bulk(connection, repositories, ({"project_id": place, "name": name, "created_at": 0} for name in names))
    made = connection.execute(
        select(repositories.c.id)
        .outerjoin(manifests, manifests.c.repository_id == repositories.c.id)
        .where(repositories.c.project_id == place, manifests.c.digest.is_(None))
    ).scalars()
    bulk(connection, manifests, [_manifest(number, digest, size) for number in made])


def add_tags(connection: Connection, repository: str, count: int) -> None:
    """A repository with so many tags, all of one manifest."""
    place = connection.execute(
        insert(repositories)
        .values(project_id=add_project(connection, repository.partition("/")[0]), name=repository, created_at=0)
        .returning(repositories.c.id)
    ).scalar_one()
    digest, size = _keep_body(connection, _body(0))
    connection.execute(insert(manifests), [_manifest(place, digest, size)])
    fixed = {"repository_id": place, "digest": digest, "moved_at": 0, "moved_by": "robot:2"}
    bulk(connection, tags, ({**fixed, "name": tag_name(number)} for number in range(count)))


def tag_name(number: int) -> str:
    return f"t{number:07}"


def add_referrers(connection: Connection, repository: str, subject: str, count: int) -> None:
    """Manifests about *subject*."""
    add_tags(connection, repository, 1)
    place = connection.execute(select(repositories.c.id).where(repositories.c.name == repository)).scalar_one()

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(1, count + 1):
            digest, size = _keep_body(connection, _body(number, subject))
            yield {**_manifest(place, digest, size), "subject": subject, "artifact_type": "application/x.bench"}

    bulk(connection, manifests, rows())


def add_events(connection: Connection, data: Path, until: int, key: bytes | None = None) -> None:
    """
    Events up to the number *until*, sealed one after the other as the gateway seals them, and what follows them.

    The chain's head is sealed under *key*, or the secret of the directory.
    """
    row = connection.execute(select(trail_head.c.seq, trail_head.c.hash)).one()
    head = Head(row.seq, bytes(row.hash))
    _project_rest(connection)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA cache_size = -524288")
    # To build an index of many rows once is far cheaper than to keep it while they come.
    for index in event_index.indexes:
        index.drop(connection)
    while head.seq < until:
        kept, projected = [], []
        for number in range(head.seq, min(until, head.seq + _ROWS)):
            record = _record(number)
            each = seal(head, record)
            head = Head(each.seq, each.hash)
            kept.append((each.seq, each.body, each.hash))
            projected.append((each.seq, record["time"], *(record.get(name, "") for name in _FIELDS)))
        _put(connection, "events", ("seq", "body", "hash"), kept)
        _put(connection, "event_index", ("seq", "time", *_FIELDS), projected)
        _count(connection, projected)
        if head.seq % _TRANSACTION < len(kept):
            _stand(connection, data, head, key)
            _go_on(connection)
    for index in event_index.indexes:
        index.create(connection)
    _stand(connection, data, head, key)


def _stand(connection: Connection, data: Path, head: Head, key: bytes | None) -> None:
    sealed = head_seal(head, key or Secrets.load(data / "keys").trail)
    connection.execute(update(trail_head).values(seq=head.seq, hash=head.hash, seal=sealed))


def _count(connection: Connection, projected: Sequence[tuple[Any, ...]]) -> None:
    entries = [dict(zip(("seq", "time", *_FIELDS), row, strict=True)) for row in projected]
    with closing(connection.connection.cursor()) as cursor:
        tallies.follow(cursor, connection.dialect.paramstyle, entries)


def _put(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    names = ", ".join(columns)
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table} ({names}) VALUES ({marks})"
        connection.exec_driver_sql(statement, list(rows))
        return
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _go_on(connection: Connection) -> None:
    """Commits and begins again: a log of all that is put would make SQLite slow, and be as large again."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def bulk(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    remaining = iter(rows)
    while some := list(islice(remaining, _ROWS)):
        connection.execute(insert(table), some)


def _project_rest(connection: Connection) -> None:
    last = connection.execute(select(func.coalesce(func.max(event_index.c.seq), 0))).scalar_one()
    for row in connection.execute(select(events).where(events.c.seq > last)).all():
        record = json.loads(row.body)
        projected = (row.seq, record["time"], *(str(record.get(name, "")) for name in _FIELDS))
        _put(connection, "event_index", ("seq", "time", *_FIELDS), [projected])
        _count(connection, [projected])


def event_time(number: int) -> datetime:
    return _FIRST + timedelta(seconds=number)


def event_digest(number: int) -> str:
    return f"sha256:{number:064x}"


def _record(number: int) -> dict[str, Any]:
    """As `_event`, for the price of what is new in it."""
    like = _like(number % _PERIOD)
    return {**like, "time": time_text(event_time(number)), "request_id": f"{number:032x}"}


@cache
def _like(number: int) -> dict[str, Any]:
    return _event(number).record()


def _event(number: int) -> Event:
    """Mostly pulls of a hundred projects by a hundred robots; one in a thousand is a denied push."""
    project = f"p{number % 100:03}"
    rare = number % 1000 == 0
    address = f"10.0.{number % 16}.{number % 250}"
    return Event(
        Kind.MANIFEST_PUSH if rare else Kind.MANIFEST_PULL,
        Caller(
            Principal(PrincipalKind.ROBOT, number % 100 + 2, f"{project}+ci"),
            Origin(address, address, "bench", f"{number:032x}"),
        ),
        Outcome.DENIED if rare else Outcome.ALLOWED,
        event_time(number),
        project=project,
        repository=f"{project}/r{number % 1000:04}",
        reference="v1",
        digest=event_digest(number % 5000),
        action="push" if rare else "pull",
    )


def _body(number: int, subject: str = "") -> bytes:
    empty = {"mediaType": EMPTY, "digest": "sha256:" + hashlib.sha256(b"{}").hexdigest(), "size": 2}
    value: dict[str, object] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": empty, "layers": []}
    value["annotations"] = {"number": str(number)}
    if subject:
        value |= {"artifactType": "application/x.bench", "subject": {**empty, "digest": subject}}
    return json.dumps(value).encode()


def _keep_body(connection: Connection, content: bytes) -> tuple[str, int]:
    digest = load(content, OCI_MANIFEST, limit_bytes=len(content)).digest.text
    known = select(manifest_bodies.c.digest).where(manifest_bodies.c.digest == digest)
    if connection.execute(known).first() is None:
        connection.execute(insert(manifest_bodies), [{"digest": digest, "content": content}])
    return digest, len(content)


def _manifest(repository: int, digest: str, size: int) -> dict[str, Any]:
    fixed = {"media_type": OCI_MANIFEST, "artifact_type": None, "subject": None}
    named = {"repository_id": repository, "digest": digest, "size_bytes": size}
    return {**fixed, **named, "pushed_at": 0, "pushed_by": "robot:2"}
