"""Facts about the database as a whole: that it was initialised, and under which configuration it was served last."""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlalchemy import Connection, delete, insert, select

from gateway.change import Change, Notes
from gateway.errors import Conflict
from gateway.records.schema import facts

INITIALISED = "initialised"
CONFIGURATION = "configuration"


def read(connection: Connection) -> dict[str, str]:
    """Every fact, by name."""
    return {row.name: row.value for row in connection.execute(select(facts))}


def first_time() -> Change:
    """Notes that the database is initialised; on commit raises `Conflict` if another process did that meanwhile."""

    def apply(connection: Connection) -> Notes:
        if INITIALISED in read(connection):
            raise Conflict("The data directory was initialised by another process just now; run the command again.")
        keep(connection, INITIALISED, "yes")
        return Notes()

    return Change(apply, policy=True)


def configure(shown: Mapping[str, Mapping[str, object]]) -> Change:
    """Keeps the configuration in force, without secrets; the notes say what changed since the last start."""

    def apply(connection: Connection) -> Notes:
        before: dict[str, dict[str, object]] = json.loads(read(connection).get(CONFIGURATION, "{}"))
        after: dict[str, dict[str, object]] = json.loads(text(shown))
        keep(connection, CONFIGURATION, text(shown))
        return Notes(before=_different(before, after), after=_different(after, before))

    return Change(apply)


def text(shown: Mapping[str, Mapping[str, object]]) -> str:
    """A configuration as it is kept."""
    return json.dumps(shown, sort_keys=True, default=str)


def _different(of: Mapping[str, Mapping[str, object]], other: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    """The settings in *of* that *other* has otherwise, as `section.key`."""
    return {
        f"{section}.{key}": value
        for section, keys in of.items()
        for key, value in keys.items()
        if other.get(section, {}).get(key) != value
    }


def keep(connection: Connection, name: str, value: str) -> None:
    """Keeps one fact, in place of what it was."""
    connection.execute(delete(facts).where(facts.c.name == name))
    connection.execute(insert(facts).values(name=name, value=value))
