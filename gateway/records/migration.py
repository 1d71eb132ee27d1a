"""The schema, brought to what this program needs: one transaction, under the writers' lock."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from gateway.errors import Conflict, Unavailable
from gateway.records.database import Database
from gateway.records.schema import events, metadata

#: The revisions that this program knows, in their order; the last is the schema it needs.
REVISIONS = tuple(f"{number:04}" for number in range(1, 14))
_VERSION = table("alembic_version", column("version_num"))
#: What a serving role may do with the chain; with everything else it may do what it wants.
_CHAIN_RIGHTS = "SELECT, INSERT"


def revision(database: Database) -> str | None:
    """The schema's revision, or None if there is none yet; raises `Conflict` if a newer program wrote it."""
    try:
        found = database.read_now(recorded)
    except OperationalError as error:
        raise Unavailable(
            "The database does not answer; check that it runs and that [database] url is right."
        ) from error
    if found is not None and found not in REVISIONS:
        raise Conflict(
            f"The database's schema ({found}) is newer than this program; run the newer version that wrote it."
        )
    return found


def current(database: Database) -> bool:
    """Whether the schema is the one this program needs; raises as `revision`."""
    return revision(database) == REVISIONS[-1]


def migrate(url: str, data: Path, *, serving_url: str = "") -> bool:
    """
    Creates or upgrades the schema at *url*; says whether there was anything to do.

    With a *serving_url* of another role, that role gets what it needs: on the chain it may only read and append.
    Raises `Conflict` when the schema is newer than this program, `Unavailable` when there is no database.
    """
    database = Database.open(url, data)
    try:
        if current(database):
            return False
        with database.lock(), database.writer() as connection:
            if database.sqlite:
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            database.begin(connection)
            upgrade(connection)
            if not database.sqlite and serving_url:
                _grant(connection, url, serving_url)
            connection.exec_driver_sql("COMMIT")
        return True
    finally:
        database.close()


def recorded(connection: Connection) -> str | None:
    """The revision that the database says its schema has, known to this program or not; None if it has none."""
    if not inspect(connection).has_table(_VERSION.name):
        return None
    return connection.execute(select(_VERSION.c.version_num)).scalar()


def upgrade(connection: Connection) -> None:
    """Brings the schema to what this program needs, inside the transaction that is open on *connection*."""
    # Only who changes the schema pays for Alembic: a process that serves would hold twelve megabytes of it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_folder()))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _grant(connection: Connection, url: str, serving_url: str) -> None:
    serving = make_url(serving_url).username
    if serving is None or serving == make_url(url).username:
        return
    role = connection.dialect.identifier_preparer.quote(serving)
    for each in metadata.sorted_tables:
        rights = _CHAIN_RIGHTS if each is events else "SELECT, INSERT, UPDATE, DELETE"
        connection.exec_driver_sql(f"GRANT {rights} ON {each.name} TO {role}")
    # It may not delete from the chain; this takes out what is sealed in segments, and nothing else.
    connection.exec_driver_sql(f"GRANT EXECUTE ON FUNCTION events_leave(bigint) TO {role}")
    connection.exec_driver_sql(f"GRANT SELECT ON alembic_version TO {role}")
    connection.exec_driver_sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")


def _folder() -> Path:
    """The migrations: inside the installed package, or beside it in a source tree."""
    packaged = Path(str(resources.files("gateway"))) / "_migrations"
    return packaged if packaged.is_dir() else Path(str(resources.files("gateway"))).parent / "migrations"
