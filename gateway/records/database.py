"""The database: readers that never wait for writers, and one fair lock that all writers of all processes take.

SQLite: write-ahead log, every commit synced. The lock is a `flock` on DATA/lock round begin…commit, and checkpoints run
only under it (automatic ones are off), so no checkpoint ever races a commit. PostgreSQL: an advisory lock of the
transaction, which is on disk when it is committed, whatever the server does otherwise. Connections are in the driver's
autocommit mode; whoever writes says BEGIN and COMMIT itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.exc import TimeoutError as NoneFree
from sqlalchemy.pool import NullPool

from gateway.errors import DatabaseDamaged, Invalid, Unavailable
from gateway.records.mark import Mark
from gateway.records.outage import Outage, is_lost
from gateway.records.versions import Versions

R = TypeVar("R")

#: The advisory lock's number: any constant, the same in every process.
_ADVISORY = 0x6761_7465
#: The write-ahead log is copied back into the database when it has grown to this size.
_CHECKPOINT_BYTES = 8 * 1024 * 1024
_READERS = 8
#: So long a reading may go on while the database is closing, before it is broken off.
_READING_SECONDS = 2.0

#: What SQLite says of a file with damaged pages, and of one that is none of its own.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
#: What the driver says of damage inside a text, where SQLite itself does not look.
_UNDECODABLE = "Could not decode to UTF-8"

_BEGIN_SQLITE = ("BEGIN IMMEDIATE",)
#: A server whose commits are not on disk when they are answered is asked for one that is; what is stronger stays.
_DURABLE = "set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), true)"
_BEGIN_POSTGRESQL = ("BEGIN", f"SELECT pg_advisory_xact_lock({_ADVISORY}), {_DURABLE}")
#: How long an ending transaction of a connection that was lost is waited for.
_ENDING_SECONDS = 10


def is_damage(error: BaseException | None) -> bool:
    """Whether *error*, or what it came from, says that the database's file is damaged."""
    while error is not None:
        # The lower byte is the kind of error, what is above says more of it.
        if isinstance(error, DatabaseDamaged) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
            return True
        if isinstance(error, sqlite3.OperationalError) and str(error).startswith(_UNDECODABLE):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def damage_told(url: str) -> Iterator[None]:
    """Whatever meets damage in the file of the database at *url* raises `DatabaseDamaged`, which says what to do."""
    try:
        yield
    except Exception as error:
        if isinstance(error, DatabaseDamaged) or not is_damage(error):
            raise
        told = f"The database {make_url(url).database} is damaged: keep a copy, restore a backup (docs/backup.md)."
        raise DatabaseDamaged(told) from error


class Database:
    """The database of one data directory, opened; see `open`."""

    def __init__(self, engine: Engine, data: Path) -> None:
        self.engine = engine
        self.sqlite = engine.dialect.name == "sqlite"
        self.data = data
        self.versions = Versions(data / "versions")
        self.mark = Mark(data / "trail-mark")
        self._outage = Outage()
        self._local = threading.local()
        self._opened: list[_Reader] = []
        self._closing = False
        self._lock_file = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock_owner = threading.Lock()
        self._threads = None if self.sqlite else ThreadPoolExecutor(_READERS, thread_name_prefix="reader")

    @classmethod
    def open(cls, url: str, data: Path) -> Database:
        """The database at *url*, its lock and counters in *data*; raises `Invalid` for a URL nothing can read."""
        return cls(_engine(url), data)

    async def read(self, query: Callable[[Connection], R]) -> R:
        """
        *query*'s answer from committed rows: where it stands on SQLite, in a thread on PostgreSQL.

        Raises `Unavailable` when PostgreSQL does not answer, or breaks off.
        """
        if self._threads is None:
            return self._answered(query)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.read_now, query)

    def read_now(self, query: Callable[[Connection], R]) -> R:
        """*query*'s answer from committed rows, synchronously; any thread may call it. Raises as `read`."""
        if self.sqlite:
            return self._answered(query)
        with self._connected() as connection:
            try:
                return query(connection)
            except Exception as error:
                if is_lost(connection, error):
                    raise self._outage.met(error) from error
                raise

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds off every writer of every process on this data directory. Not re-entrant; released when one dies."""
        with self._lock_owner:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    @property
    def beginning(self) -> tuple[str, ...]:
        """The statements that open a writing transaction."""
        return _BEGIN_SQLITE if self.sqlite else _BEGIN_POSTGRESQL

    def begin(self, connection: Connection) -> None:
        """Opens a writing transaction; under `lock`. On PostgreSQL waits for writers on other hosts as well."""
        for statement in self.beginning:
            connection.exec_driver_sql(statement)

    @contextmanager
    def ended(self) -> Iterator[Connection]:
        """
        A connection that sees how a transaction ended whose connection was lost in its COMMIT; under `lock`.

        Raises what the driver does if nobody can tell: PostgreSQL may go on with it, and holds its lock until it ended.
        """
        with self._connected() as connection:
            if self.sqlite:
                yield connection
                return
            for statement in ("BEGIN", f"SET LOCAL lock_timeout = '{_ENDING_SECONDS}s'", *_BEGIN_POSTGRESQL[1:]):
                connection.exec_driver_sql(statement)
            try:
                yield connection
            finally:
                connection.exec_driver_sql("ROLLBACK")

    def writer(self) -> Connection:
        """A connection of its own for a writing thread, which closes it; raises as `read`."""
        return self._connected()

    def is_away(self, connection: Connection | None, error: Exception) -> bool:
        """Whether *error*, met on *connection* if there was one, says that the database is away: that is in the log."""
        if connection is not None and is_lost(connection, error):
            self._outage.met(error)
            return True
        return isinstance(error, Unavailable)

    def checkpoint(self, connection: Connection) -> None:
        """Copies a grown write-ahead log back into the database; under `lock`, outside a transaction."""
        if not self.sqlite:
            return
        try:
            grown = os.stat(f"{self.engine.url.database}-wal").st_size > _CHECKPOINT_BYTES
        except FileNotFoundError:
            return
        if grown:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """
        Closes every connection, under the lock: the last one to close copies SQLite's log back.

        What other threads are reading ends first; who reads from now on is refused.
        """
        self._closing = True
        if self._threads is not None:
            self._threads.shutdown()
        for reader in self._opened:
            reader.let_end()
        with self.lock():
            for reader in self._opened:
                # One that goes on all the same keeps its connection: taken from under it, it would take the process.
                if not reader.busy:
                    reader.connection.close()
            self.engine.dispose()
        os.close(self._lock_file)
        self.versions.close()
        self.mark.close()

    def _connected(self) -> Connection:
        if self.sqlite:
            return self.engine.connect()
        try:
            connection = self.engine.connect()
        except (OperationalError, NoneFree) as error:
            raise self._outage.met(error) from error
        self._outage.over()
        return connection

    def _answered(self, query: Callable[[Connection], R]) -> R:
        reader: _Reader | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = _Reader(self.engine.connect())
            self._opened.append(reader)
        nested, reader.busy = reader.busy, True
        try:
            # Looked at after saying so: whoever closes looks the other way round.
            if self._closing:
                raise Unavailable("The gateway is stopping; try again shortly.")
            return query(reader.connection)
        finally:
            reader.busy = nested


class _Reader:
    """A thread's connection to read with, and whether it is at it."""

    __slots__ = ("busy", "connection")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.busy = False

    def let_end(self) -> None:
        """Returns when the reading has ended; one that takes long is broken off."""
        patience = time.monotonic() + _READING_SECONDS
        while self.busy and time.monotonic() < 2 * _READING_SECONDS + patience:
            if time.monotonic() > patience:
                driver: Any = self.connection.connection.driver_connection
                driver.interrupt()
            time.sleep(0.005)


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Invalid("The database URL is not one: use sqlite:///PATH or postgresql://USER@HOST/NAME.") from None
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in {"sqlite", "postgresql"} or not parsed.database:
        raise Invalid("The database URL must be sqlite:///PATH or postgresql://USER@HOST/NAME.")
    if parsed.get_backend_name() == "postgresql":
        return create_engine(
            parsed,
            isolation_level="AUTOCOMMIT",
            pool_size=_READERS,
            max_overflow=4,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={"connect_timeout": 10},
        )
    _guard(Path(parsed.database))
    engine = create_engine(
        parsed,
        isolation_level="AUTOCOMMIT",
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _guard(path: Path) -> None:
    """Makes the file its owner's alone, before anything is in it; SQLite gives its log the same mode."""
    # Never opened where it exists: closing any descriptor of it would drop the locks this process has on it.
    # Where it cannot be guarded, opening it says why.
    with contextlib.suppress(OSError):
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)


def _prepare_sqlite(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 10000")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA wal_autocheckpoint = 0")
    # A log that was copied back is cut to less than the size at which it is copied, so that size tells when it is due.
    cursor.execute(f"PRAGMA journal_size_limit = {_CHECKPOINT_BYTES // 2}")
    cursor.execute("PRAGMA cache_size = -16384")
    cursor.close()
