"""The statements of writing transactions, said to the driver: each a step that can be struck."""

from __future__ import annotations

import errno
import sqlite3
import sqlite3.dbapi2
from typing import Any

from faulty_files import SHADOW
from faulty_plan import step

_TEXTS = {errno.ENOSPC: "database or disk is full", errno.EAGAIN: "database is locked"}


def _error(number: int) -> Exception:
    return sqlite3.OperationalError(_TEXTS.get(number, "disk I/O error"))


def _kind(statement: str) -> str:
    return "commit" if statement.lstrip()[:6].upper() == "COMMIT" else "statement"


def _begins(statement: str) -> bool:
    return statement.lstrip()[:5].upper() == "BEGIN" or "wal_checkpoint" in statement


class _Cursor(sqlite3.Cursor):
    def execute(self, sql: str, parameters: Any = ()) -> Any:
        connection: Any = self.connection
        if not connection.in_transaction and not _begins(sql):
            return super().execute(sql, parameters)
        kind = _kind(sql)

        def act() -> Any:
            done = super(_Cursor, self).execute(sql, parameters)
            if kind == "commit" and SHADOW is not None:
                SHADOW.committed(connection.place)
            return done

        return step(kind, sql[:80], act, _error)


class _Connection(sqlite3.Connection):
    def __init__(self, database: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(database, *args, **kwargs)
        self.place = str(database)

    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)


def install(*, postgresql: bool) -> None:
    """Puts the steps in the place of the drivers' own."""
    really = sqlite3.dbapi2.connect

    def connect(database: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("factory", _Connection)
        return really(database, *args, **kwargs)

    sqlite3.connect = sqlite3.dbapi2.connect = connect
    if postgresql:
        _install_postgresql()


def _install_postgresql() -> None:
    import psycopg
    from psycopg.pq import TransactionStatus

    really = psycopg.Cursor.execute

    def execute(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        text = query if isinstance(query, str) else str(query)
        if self.connection.info.transaction_status == TransactionStatus.IDLE and not _begins(text):
            return really(self, query, *args, **kwargs)

        def act() -> Any:
            return really(self, query, *args, **kwargs)

        return step(_kind(text), text[:80], act, lambda _: psycopg.OperationalError("the connection is lost"))

    psycopg.Cursor.execute = execute  # type: ignore[method-assign]
