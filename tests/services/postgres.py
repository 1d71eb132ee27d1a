"""A real PostgreSQL 15 for the tests: one throwaway server, a fresh database for whoever asks."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from tests.services.daemon import Daemon, free_port, scratch

BINARIES = Path("/usr/lib/postgresql/15/bin")
SUPERUSER = "postgres"
OWNER = "gateway"

_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class PostgresServer:
    """A server on 127.0.0.1 that trusts every role; `gateway` owns each database and is no superuser."""

    def __init__(self, directory: Path, port: int, *, durable: bool) -> None:
        self.port = port
        settings = [
            "listen_addresses=127.0.0.1",
            f"port={port}",
            f"unix_socket_directories={directory}",
            "max_connections=200",
            "shared_buffers=64MB",
            *(() if durable else _FAST),
        ]
        argv = [str(BINARIES / "postgres"), "-D", str(directory / "cluster")]
        for setting in settings:
            argv += ["-c", setting]
        # SIGQUIT ends PostgreSQL at once, all its processes together, and leaves recovery to the next start.
        self.daemon = Daemon(argv, directory / "log", directory=directory, as_nobody=_is_root(), parting=signal.SIGQUIT)

    def start(self) -> None:
        """Start it, or start it again after `stop` or `crash`; everything committed is there as before."""
        self.daemon.start(self._answers)

    def stop(self) -> None:
        """Stop it in order, disconnecting whoever still uses it."""
        self.daemon.stop(signal.SIGINT)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Stopped for as long as the block lasts."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def crash(self) -> None:
        """End it as a crash would: a server that is not `durable` may lose what was committed last."""
        self.daemon.stop()

    def create_database(self, like: str = "") -> str:
        """Make a database owned by `gateway`, empty or as the one at *like* to which nobody is connected; its URL."""
        name = f"t{secrets.token_hex(6)}"
        statement = sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(OWNER))
        if like:
            template = sql.Identifier(like.rpartition("/")[2])
            statement += sql.SQL(" TEMPLATE {} STRATEGY FILE_COPY").format(template)
        self._execute(statement)
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database, disconnecting whoever still uses it."""
        name = url.rpartition("/")[2]
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def create_role(self, url: str) -> str:
        """Make a role that may connect and nothing else; returns the URL of the same database, as that role."""
        role = f"r{secrets.token_hex(6)}"
        self._execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        return self.url(url.rpartition("/")[2], role)

    def url(self, database: str, role: str = OWNER) -> str:
        """The SQLAlchemy URL of a database, as a role."""
        return f"postgresql+psycopg://{role}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> None:
        """Make the role that owns the tests' databases."""
        self._execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(OWNER)))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._conninfo(), autocommit=True) as connection:
            connection.execute(statement)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._conninfo(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _conninfo(self) -> str:
        return f"host=127.0.0.1 port={self.port} user={SUPERUSER} dbname=postgres"


@contextmanager
def running_postgres(*, durable: bool = False) -> Iterator[PostgresServer]:
    """A server for as long as the block lasts; `durable` keeps fsync on, as tests of power cuts need."""
    with scratch("pg") as directory:
        if _is_root():
            shutil.chown(directory, "nobody", "nogroup")
        _initialise(directory)
        server = PostgresServer(directory, free_port(), durable=durable)
        server.start()
        try:
            server.prepare()
            yield server
        finally:
            # Everything in it is thrown away: nobody waits for a checkpoint.
            server.crash()


def _initialise(directory: Path) -> None:
    # PostgreSQL refuses to run as root.
    prefix = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"] if _is_root() else []
    argv = [str(BINARIES / "initdb"), "-D", str(directory / "cluster"), "-U", SUPERUSER, "--auth=trust"]
    argv += ["-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    made = subprocess.run([*prefix, *argv], cwd=directory, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr


def _is_root() -> bool:
    return os.geteuid() == 0
