"""Statements said to the driver itself: those of every push, of which SQLAlchemy's own part would be the larger."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Connection, Dialect, Select, Text, bindparam, cast, column, func
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import ReturningDelete, ReturningUpdate
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

Statement = Select[Any] | ReturningUpdate[Any] | ReturningDelete[Any]


class _Among(FunctionElement[Any]):
    """Whether a column is one of a list that is one value: it is the same statement however many there are."""

    # Said to be a truth, it would be compared with 1 for SQLite, which then uses no index.
    type = NullType()
    inherit_cache = True


@compiles(_Among)
def _any(element: _Among, compiler: SQLCompiler, **more: Any) -> str:
    column, values = element.clauses
    kind = "bigint" if column.type.python_type is int else "text"
    return f"{compiler.process(column, **more)} = ANY (CAST({compiler.process(values, **more)} AS {kind}[]))"


@compiles(_Among, "sqlite")
def _parsed(element: _Among, compiler: SQLCompiler, **more: Any) -> str:
    column, values = (compiler.process(each, **more) for each in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 - both are marks and names of our own


def among(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Whether *column* is one of those that `listed` has made the value *name*."""
    return _Among(column, bindparam(name))


def each(name: str, *, sqlite: bool) -> ColumnElement[str]:
    """One by one, as a column of a table of its own, those that `listed` has made the value *name*."""
    if sqlite:
        return func.json_each(bindparam(name)).table_valued(column("value", Text)).c.value
    rows = func.unnest(cast(bindparam(name), ARRAY(Text)))
    return rows.table_valued(column("value", Text)).render_derived().c.value


def listed(connection: Connection, values: Iterable[str] | Iterable[int]) -> object:
    """*values* as one value of a statement."""
    return json.dumps(list(values)) if connection.dialect.name == "sqlite" else list(values)


def rows(
    connection: Connection, statement: Statement, values: Mapping[str, object], *, anew: bool = False
) -> Sequence[tuple[Any, ...]]:
    """
    All rows that *statement*, built once and kept, has for *values*: plain tuples, as the driver gives them.

    Its own constants, such as a limit, are kept with it. *anew*: how to find them depends on the values.
    """
    text, order, constants = _spelled(statement, connection.dialect)
    known = {**constants, **values}
    with contextlib.closing(_cursor(connection)) as cursor:
        asked = known if order is None else tuple(known[name] for name in order)
        cursor.execute(text, asked, **(_planned(connection) if anew else {}))
        return cursor.fetchall()


def rows_once(connection: Connection, statement: Select[Any]) -> Sequence[tuple[Any, ...]]:
    """As `rows`, of a *statement* that is built for this one time, and has its values in it."""
    compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
    order: Sequence[str] | None = getattr(compiled, "positiontup", None) if connection.dialect.positional else None
    known = compiled.params
    return rows_of(connection, str(compiled), known if order is None else tuple(known[name] for name in order))


def rows_of(connection: Connection, text: str, values: Any = None) -> Sequence[tuple[Any, ...]]:
    """All rows that the statement *text* has for *values*, as the driver gives them fastest."""
    with contextlib.closing(_cursor(connection)) as cursor:
        cursor.execute(text, *(() if values is None else (values,)), **_planned(connection))
        return cursor.fetchall()


@contextlib.contextmanager
def one_moment(connection: Connection) -> Iterator[None]:
    """What is read meanwhile is of one moment, whatever others commit; outside a transaction, for a short while."""
    sqlite = connection.dialect.name == "sqlite"
    with contextlib.closing(connection.connection.cursor()) as cursor:
        cursor.execute("BEGIN" if sqlite else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            yield
        except BaseException:
            # Of a connection that is lost, the first error tells more.
            with contextlib.suppress(Exception):
                cursor.execute("ROLLBACK")
            raise
        cursor.execute("COMMIT")


def _cursor(connection: Connection) -> DBAPICursor:
    # Spelled as text, bytes would come in hexadecimal from PostgreSQL.
    form = {} if connection.dialect.name == "sqlite" else {"binary": True}
    return connection.connection.cursor(**form)


def _planned(connection: Connection) -> dict[str, Any]:
    """Has PostgreSQL plan for the values: of what it prepared, it takes each value for as frequent as any other."""
    return {} if connection.dialect.name == "sqlite" else {"prepare": False}


@lru_cache(maxsize=256)
def _spelled(statement: Statement, dialect: Dialect) -> tuple[str, Sequence[str] | None, Mapping[str, object]]:
    compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    constants = {name: value for name, value in compiled.params.items() if value is not None}
    order = getattr(compiled, "positiontup", None) if dialect.positional else None
    return str(compiled), order, constants
