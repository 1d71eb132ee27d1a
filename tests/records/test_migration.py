"""The schema: made once whoever comes first, never run by an older program, and no more rights than serving takes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError

from gateway.access.secrets import Secrets
from gateway.administration.evidence import Evidence
from gateway.audit.event import Event, Kind
from gateway.errors import Conflict, Unavailable
from gateway.gate import Act
from gateway.records.database import Database
from gateway.records.migration import REVISIONS, current, migrate, revision
from gateway.records.schema import metadata
from gateway.records.schema import projects as projects_table
from gateway.records.trail import project_tail
from tests.house import GATEWAY, OPERATOR, opened
from tests.services.postgres import PostgresServer


def test_a_fresh_database_is_brought_up_once(database_url: str, tmp_path: Path) -> None:
    assert migrate(database_url, tmp_path) is True
    assert migrate(database_url, tmp_path) is False


def test_the_migrations_make_exactly_the_tables_the_code_knows(database_url: str, tmp_path: Path) -> None:
    migrate(database_url, tmp_path)
    database = Database.open(database_url, tmp_path)

    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        differences = compare_metadata(context, metadata)

    database.close()
    assert differences == []


def test_the_revisions_are_those_of_the_migrations_in_their_order() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    assert [script.revision for script in scripts.walk_revisions()] == list(reversed(REVISIONS))


def _migrate(url: str, data: Path) -> None:
    migrate(url, data)


def test_processes_that_start_at_once_migrate_once(database_url: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_migrate, args=(database_url, tmp_path)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert migrate(database_url, tmp_path) is False


def test_an_older_program_refuses_a_newer_schema(database_url: str, tmp_path: Path) -> None:
    migrate(database_url, tmp_path)
    database = Database.open(database_url, tmp_path)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(Conflict, match="newer than this program"):
        revision(database)
    database.close()
    with pytest.raises(Conflict, match="newer than this program"):
        migrate(database_url, tmp_path)


def test_an_empty_database_has_no_revision(database_url: str, tmp_path: Path) -> None:
    database = Database.open(database_url, tmp_path)
    try:
        assert (revision(database), current(database)) == (None, False)
    finally:
        database.close()


def test_a_database_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        migrate("postgresql://gateway@127.0.0.1:1/none", tmp_path)


def test_sqlite_is_durable_and_leaves_no_checkpoint_to_chance(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'gateway.db'}"
    migrate(url, tmp_path)
    with opened(url, tmp_path) as house, house.database.engine.connect() as connection:
        told = {
            pragma: connection.exec_driver_sql(f"PRAGMA {pragma}").scalar()
            for pragma in ("journal_mode", "synchronous", "foreign_keys", "wal_autocheckpoint", "mmap_size")
        }

    assert told == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "wal_autocheckpoint": 0,
        "mmap_size": 0,
    }


def test_a_serving_role_may_append_to_the_chain_and_nothing_else(
    postgres_server: PostgresServer, new_postgres_database: Callable[[], str], tmp_path: Path
) -> None:
    owner_url = new_postgres_database()
    serving_url = postgres_server.create_role(owner_url)
    migrate(owner_url, tmp_path, serving_url=serving_url)

    with opened(serving_url, tmp_path) as house:
        house.run(house.ledger.commit(Act(Event(Kind.PROJECT_ADD, GATEWAY))))
        assert house.trail.verify().fault == ""
        with house.database.engine.connect() as connection:
            connection.execute(projects_table.insert().values(name="gallery", public=False, created_at=0))
            connection.execute(update(projects_table).values(public=True))
            for statement in (
                "UPDATE events SET body = ''",
                "DELETE FROM events",
                "TRUNCATE events",
                "DROP TABLE events",
                "DROP TRIGGER events_keep_update ON events",
                "ALTER TABLE events DISABLE TRIGGER ALL",
            ):
                with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
                    connection.exec_driver_sql(statement)


def test_a_serving_role_may_take_out_what_is_sealed_and_nothing_else(
    postgres_server: PostgresServer, new_postgres_database: Callable[[], str], tmp_path: Path
) -> None:
    owner_url = new_postgres_database()
    serving_url = postgres_server.create_role(owner_url)
    migrate(owner_url, tmp_path, serving_url=serving_url)

    with opened(serving_url, tmp_path) as house:
        old = datetime(2025, 3, 1, tzinfo=UTC)
        for time in (old, old, datetime.now(UTC), datetime.now(UTC)):
            house.run(house.ledger.commit(Act(Event(Kind.PROJECT_ADD, GATEWAY, time=time))))
        with house.database.lock(), house.database.engine.connect() as connection:
            project_tail(house.database, connection)
            assert connection.exec_driver_sql("SELECT events_leave(3)").scalar() == 0
        evidence = Evidence(house.gate, house.database, house.trail, Secrets(b"s" * 32))
        assert house.run(evidence.retain(OPERATOR, datetime(2025, 6, 1, tzinfo=UTC))).events == 2
        with house.database.engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT min(seq) FROM events").scalar() == 3
        assert house.trail.verify().fault == ""
