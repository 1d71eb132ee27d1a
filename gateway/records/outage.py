"""An outage of the database: what is told meanwhile, and a line in the log when it begins and one when it is over."""

from __future__ import annotations

import logging
import threading
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from gateway.errors import Unavailable

_log = logging.getLogger("gateway.database")

_TOLD: Final = "The database does not answer; try again, and check that it runs and that [database] url is right."


def is_lost(connection: Connection, error: Exception) -> bool:
    """Whether *error* says that *connection*, on which it was met, is one no more: the database went away."""
    dialect = connection.dialect
    if dialect.name == "sqlite" or connection.closed:
        return False
    # Then what was undone after the first error met another, which is none of the driver's.
    if connection.invalidated:
        return True
    # Some statements are said to the driver itself, whose errors SQLAlchemy has not seen.
    if not isinstance(error, (DBAPIError, _driver_error(dialect))):
        return False
    driver: Any = connection.connection.driver_connection
    return bool(driver.closed)


def _driver_error(dialect: Any) -> type[Exception]:
    kind: type[Exception] = dialect.dbapi.Error
    return kind


class Outage:
    """Whether the database of this process is away; any thread may say so."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._lasts = False

    def met(self, error: Exception) -> Unavailable:
        """What is told of *error*, which says that the database is away; the first one of an outage is logged."""
        with self._turn:
            first, self._lasts = not self._lasts, True
        if first:
            # On the command line the refusal alone is said.
            _log.error("the database does not answer: %s", _why(error), extra={"refused": True})
        # Who asks it more than once may have done something in between.
        return Unavailable(_TOLD, uncertain=True)

    def over(self) -> None:
        """It answers."""
        if not self._lasts:
            return
        with self._turn:
            lasted, self._lasts = self._lasts, False
        if lasted:
            _log.warning("the database answers again")


def _why(error: Exception) -> str:
    """*error* in one line, without what SQLAlchemy says around it."""
    found = getattr(error, "orig", None) or error
    lines = str(found).strip().splitlines()
    return lines[0] if lines else type(found).__name__
