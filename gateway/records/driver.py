"""Statements said to the driver itself: those of every push, of which SQLAlchemy's own part would be the larger."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Select
from sqlalchemy.sql.dml import ReturningUpdate

Statement = Select[Any] | ReturningUpdate[Any]


def rows(connection: Connection, statement: Statement, values: Mapping[str, object]) -> Sequence[tuple[Any, ...]]:
    """
    All rows that *statement*, built once and kept, has for *values*: plain tuples, as the driver gives them.

    Its own constants, such as a limit, are kept with it.
    """
    text, order, constants = _spelled(statement, connection.dialect)
    known = {**constants, **values}
    with contextlib.closing(connection.connection.cursor()) as cursor:
        cursor.execute(text, known if order is None else tuple(known[name] for name in order))
        return cursor.fetchall()


@lru_cache(maxsize=64)
def _spelled(statement: Statement, dialect: Dialect) -> tuple[str, Sequence[str] | None, Mapping[str, object]]:
    compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    constants = {name: value for name, value in compiled.params.items() if value is not None}
    order = getattr(compiled, "positiontup", None) if dialect.positional else None
    return str(compiled), order, constants
