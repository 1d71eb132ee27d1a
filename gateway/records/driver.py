"""Statements said to the driver itself: those of every push, of which SQLAlchemy's own part would be the larger."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Dialect, Select, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import ReturningDelete, ReturningUpdate
from sqlalchemy.sql.functions import FunctionElement

Statement = Select[Any] | ReturningUpdate[Any] | ReturningDelete[Any]


class _Each(FunctionElement[str]):
    """The texts of a list that is one value of a statement: it is the same statement however many there are."""

    inherit_cache = True


@compiles(_Each)
def _unnested(element: _Each, compiler: SQLCompiler, **more: Any) -> str:
    return f"(SELECT unnest(CAST({compiler.process(element.clauses, **more)} AS text[])))"


@compiles(_Each, "sqlite")
def _parsed(element: _Each, compiler: SQLCompiler, **more: Any) -> str:
    return f"(SELECT value FROM json_each({compiler.process(element.clauses, **more)}))"  # noqa: S608 - a mark


def among(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """Whether *column* is one of the texts that `listed` has made the value *name*."""
    return column.bool_op("IN")(_Each(bindparam(name)))


def listed(connection: Connection, texts: Collection[str]) -> object:
    """*texts* as a value of a statement."""
    return json.dumps(list(texts)) if connection.dialect.name == "sqlite" else list(texts)


def rows(
    connection: Connection, statement: Statement, values: Mapping[str, object], *, anew: bool = False
) -> Sequence[tuple[Any, ...]]:
    """
    All rows that *statement*, built once and kept, has for *values*: plain tuples, as the driver gives them.

    Its own constants, such as a limit, are kept with it. *anew*: how to find them depends on the values.
    """
    text, order, constants = _spelled(statement, connection.dialect)
    known = {**constants, **values}
    with contextlib.closing(connection.connection.cursor()) as cursor:
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
    # Spelled as text, bytes would come in hexadecimal from PostgreSQL.
    form = {} if connection.dialect.name == "sqlite" else {"binary": True}
    with contextlib.closing(connection.connection.cursor(**form)) as cursor:
        cursor.execute(text, *(() if values is None else (values,)), **_planned(connection))
        return cursor.fetchall()


def _planned(connection: Connection) -> dict[str, Any]:
    """Has PostgreSQL plan for the values: of what it prepared, it takes each value for as frequent as any other."""
    return {} if connection.dialect.name == "sqlite" else {"prepare": False}


@lru_cache(maxsize=256)
def _spelled(statement: Statement, dialect: Dialect) -> tuple[str, Sequence[str] | None, Mapping[str, object]]:
    compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    constants = {name: value for name, value in compiled.params.items() if value is not None}
    order = getattr(compiled, "positiontup", None) if dialect.positional else None
    return str(compiled), order, constants
