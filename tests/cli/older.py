"""Records as an older program would have left them: the first schema, with what it can hold of today's rows."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

FIRST = "0001"
_MIGRATIONS = Path(__file__).parents[2] / "migrations"


def make_older(file: Path) -> None:
    """Puts the records in *file*, a database that nobody has open, back to the first schema."""
    newer = file.with_name("newer.db")
    file.rename(newer)
    engine = create_engine(f"sqlite:///{file}")
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, FIRST)
    engine.dispose()
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("ATTACH ? AS newer", (str(newer),))
        database.execute("DELETE FROM trail_head")
        tables = [row[0] for row in database.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
        for table in tables:
            if table in {"alembic_version", "sqlite_sequence"}:
                continue
            columns, there = (
                [row[1] for row in database.execute(f"PRAGMA {schema}.table_info({table})")]
                for schema in ("main", "newer")
            )
            shared = ", ".join(name for name in columns if name in there)
            database.execute(f"INSERT INTO main.{table} ({shared}) SELECT {shared} FROM newer.{table}")
        database.execute("DETACH newer")
        database.execute("PRAGMA journal_mode = WAL")
    file.chmod(0o600)
    newer.unlink()
