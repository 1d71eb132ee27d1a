"""A snapshot: every record as it was at one moment, in one SQLite file, whatever database the records are in.

    take     from SQLite by its online backup, in one read transaction; from PostgreSQL row by row, in one too
    fill     an empty PostgreSQL database from such a file

Neither keeps a writer waiting for longer than it takes to close a connection.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import (
    URL,
    Connection,
    Table,
    create_engine,
    delete,
    exists,
    func,
    insert,
    inspect,
    literal,
    select,
    text,
)
from sqlalchemy import column as named_column
from sqlalchemy import table as named_table
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from gateway.audit.chain import Head
from gateway.change import Change, Notes
from gateway.errors import Conflict, Unavailable
from gateway.records import mark, segments
from gateway.records.database import Database
from gateway.records.migration import REVISIONS, migrate, recorded, upgrade
from gateway.records.schema import (
    accounts,
    blobs,
    events,
    links,
    manifest_annotations,
    manifest_bodies,
    manifests,
    metadata,
    projects,
    repositories,
    tags,
    trash,
    uploads,
)

SEGMENTS: Final = segments.FOLDER
_ROWS: Final = 2_000
#: Of tables whose rows may have megabytes each.
_LARGE_ROWS: Final = 16
_LARGE: Final = (manifest_annotations, manifest_bodies, trash)
_COUNTED: Final = (accounts, projects, repositories, tags, manifests, blobs, events)
_LINKED: Final = exists().where(links.c.digest == blobs.c.digest)
_SEQUENCES: Final = named_table("sqlite_sequence", named_column("name"), named_column("seq"))


@dataclass(frozen=True, slots=True)
class Contents:
    """What a snapshot holds: its schema's revision, the head of its chain, and how many rows of the main tables."""

    schema: str
    head: Head
    counts: dict[str, int]


def take(database: Database, file: Path) -> None:
    """
    Writes a snapshot of *database*, whose schema is this program's, into *file*, which must not exist; mode 0600.

    Raises `Unavailable` if the database is damaged or does not answer, or *file* cannot be written; `OSError`.
    """
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with _told("The records could not be copied"):
        if database.sqlite:
            _copy_file(database, file)
        else:
            _copy_rows(database, file)
        with opened(file) as connection:
            # One file, without a log beside it.
            connection.exec_driver_sql("PRAGMA journal_mode = DELETE").fetchall()
            require_sound(connection)
    with file.open("rb") as written:
        os.fsync(written.fileno())


def contents(connection: Connection) -> Contents:
    """What the snapshot open on *connection* holds; its schema is this program's."""
    counts = {each.name: connection.execute(select(func.count()).select_from(each)).scalar_one() for each in _COUNTED}
    return Contents(recorded(connection) or "", mark.recorded(connection).head, counts)


def linked_blobs(connection: Connection) -> list[tuple[str, int]]:
    """The digest and size of every blob that a repository holds, in the order of the digests."""
    wanted = select(blobs.c.digest, blobs.c.size_bytes).where(_LINKED).order_by(blobs.c.digest)
    return [(row.digest, row.size_bytes) for row in connection.execute(wanted)]


def is_linked(connection: Connection, digest: str) -> bool:
    """Whether a repository holds the blob of this *digest*."""
    return connection.execute(select(literal(1)).where(links.c.digest == digest).limit(1)).first() is not None


def segment_files(connection: Connection) -> set[str]:
    """Where in the data directory the files of sealed events lie that the records name: not those that were purged."""
    return {f"{SEGMENTS}/{each.file}" for each in segments.every(connection) if not each.stub}


def require_sound(connection: Connection) -> None:
    """Raises `Unavailable` if the database file open on *connection* is damaged."""
    try:
        wrong = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    except DatabaseError:
        wrong = "it is no database"
    if wrong != "ok":
        raise Unavailable(f"The database is damaged ({wrong}), so there is no snapshot of it; restore an older backup.")


@contextmanager
def opened(file: Path) -> Iterator[Connection]:
    """A connection to the SQLite file *file*, in the driver's autocommit mode."""
    engine = create_engine(
        URL.create("sqlite", database=str(file)), isolation_level="AUTOCOMMIT", poolclass=NullPool, hide_parameters=True
    )
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def bring_up(file: Path) -> str:
    """
    Upgrades the snapshot in *file* to the schema of this program, with a log beside it; the revision it had.

    Raises `Conflict` when a newer program made it, `Unavailable` when it is no snapshot or is damaged.
    """
    with _told("The records could not be restored"), opened(file) as connection:
        require_sound(connection)
        found = recorded(connection)
        if found is None:
            raise Unavailable(f"{file.name} in the backup holds no records of a gateway; restore another snapshot.")
        if found not in REVISIONS:
            raise Conflict(
                f"The backup's schema ({found}) is newer than this program; restore it with the version that made it."
            )
        connection.exec_driver_sql("PRAGMA journal_mode = WAL").fetchall()
        if found != REVISIONS[-1]:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            upgrade(connection)
            connection.exec_driver_sql("COMMIT")
    return found


def forget_unsaved(detail: dict[str, object]) -> Change:
    """
    Removes what has no bytes in a backup: uploads that were under way, blobs that no repository held.

    *detail* is what the event says.
    """

    def apply(connection: Connection) -> Notes:
        count = connection.execute(delete(uploads)).rowcount
        connection.execute(delete(blobs).where(~_LINKED))
        return Notes(detail={**detail, "uploads_dropped": count})

    return Change(apply, policy=True)


def is_empty(database: Database) -> bool:
    """Whether *database* has no schema, or one that nothing was ever recorded in."""

    def look(connection: Connection) -> bool:
        if not inspect(connection).has_table(events.name):
            return True
        return connection.execute(select(literal(1)).select_from(events).limit(1)).first() is None

    with _told("The database could not be read"):
        return database.read_now(look)


def prepare(url: str, data: Path, serving_url: str = "") -> None:
    """
    Makes the schema in the empty database at *url*, for the role of *serving_url* if that is another.

    Raises `Unavailable` if it does not let itself be changed.
    """
    with _told("The schema could not be made"):
        migrate(url, data, serving_url=serving_url)


def fill(file: Path, database: Database) -> None:
    """
    Puts the snapshot in *file* into the migrated, empty PostgreSQL *database*, in one transaction.

    Raises `Unavailable` if it does not take them: nothing is in it then.
    """
    with (
        _told("The records could not be put into the database"),
        opened(file) as source,
        database.lock(),
        database.writer() as target,
    ):
        database.begin(target)
        for each in metadata.sorted_tables:
            _copy_table(source, target, each)
        for row in source.execute(select(_SEQUENCES)):
            if row.name in metadata.tables:
                move = text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :seq)")
                target.execute(move, {"name": row.name, "seq": row.seq})
        target.exec_driver_sql("COMMIT")


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Says of an error of either database in one sentence *what* it kept from being done."""
    try:
        yield
    except (DatabaseError, sqlite3.DatabaseError) as error:
        cause = getattr(error, "orig", None) or error
        reason = " ".join(str(cause).split())[:200]
        raise Unavailable(f"{what}: {reason}.") from error


def _copy_file(database: Database, file: Path) -> None:
    source = database.writer()
    try:
        driver = source.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        target = sqlite3.connect(file)
        try:
            # All pages in one step: one read transaction, which in a write-ahead log holds no writer up.
            driver.backup(target)
        finally:
            target.close()
    finally:
        # The last connection to close copies the log back: never beside a commit.
        with database.lock():
            source.close()


def _copy_rows(database: Database, file: Path) -> None:
    with opened(file) as target, database.engine.connect() as connection:
        source = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        target.exec_driver_sql("BEGIN IMMEDIATE")
        upgrade(target)
        with source.begin():
            for each in metadata.sorted_tables:
                _copy_table(source, target, each)
            for each in metadata.sorted_tables:
                if "id" in each.c and each.c.id.identity is not None:
                    _keep_sequence(source, target, each.name)
        target.exec_driver_sql("COMMIT")


def _copy_table(source: Connection, target: Connection, each: Table) -> None:
    if each is not events:
        # What the migrations themselves put there; the chain is never deleted from.
        target.execute(delete(each))
    most = _LARGE_ROWS if each in _LARGE else _ROWS
    found = source.execution_options(yield_per=most).execute(select(each))
    for rows in found.mappings().partitions(most):
        target.execute(insert(each), [dict(row) for row in rows])


def _keep_sequence(source: Connection, target: Connection, name: str) -> None:
    """Ids are never given twice: not after a restore either, so far as the snapshot knows of them."""
    asked = text("SELECT pg_sequence_last_value(pg_get_serial_sequence(:name, 'id')::regclass)")
    last = source.execute(asked, {"name": name}).scalar()
    if last is not None:
        target.execute(delete(_SEQUENCES).where(_SEQUENCES.c.name == name))
        target.execute(insert(_SEQUENCES).values(name=name, seq=last))
