"""The section `[database]` of the settings: where the records are."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.errors import Invalid
from gateway.sources import NOWHERE, Location, Text, Values, masked, read_secret


class Database(Struct, frozen=True, kw_only=True):
    """Where the records are. The URLs may hold passwords, so neither `repr` nor `Settings.shown` gives them."""

    url: Text = ""
    url_file: Location = NOWHERE
    migrate_url: Text = ""
    """With another role's rights, for changes of the schema; the same as *url* when nothing else is configured."""
    migrate_url_file: Location = NOWHERE

    def __repr__(self) -> str:
        return f"Database(url={masked(self.url)!r}, migrate_url={masked(self.migrate_url)!r})"


def settled(values: Values, database: Database, folder: Path, root: Path) -> Database:
    """
    The section with its URLs read and made absolute from *folder*; in the data directory *root* if it names none.

    Raises `Invalid`.
    """
    url = _url(values, "url", database.url, database.url_file)
    migrate_url = _url(values, "migrate_url", database.migrate_url, database.migrate_url_file)
    place = url.removeprefix("sqlite:///")
    if not url:
        url = f"sqlite:///{root / 'gateway.db'}"
    elif place != url:
        url = f"sqlite:///{os.path.normpath(folder / place)}"
    if url.startswith("sqlite:") and set(url) & set("?%"):
        # In a URL these two mean something else, and the database would be made elsewhere.
        raise Invalid(f"{url.removeprefix('sqlite:///')} has a '?' or '%' in it; choose another path for the database.")
    if migrate_url and url.startswith("sqlite:"):
        raise values.wrong("database", "migrate_url", "is for PostgreSQL; leave it away with SQLite")
    return msgspec.structs.replace(database, url=url, migrate_url=migrate_url or url)


def _url(values: Values, key: str, url: str, file: Path) -> str:
    if file != NOWHERE:
        if url:
            raise values.wrong("database", key, f"is given twice: leave away either {key} or {key}_file")
        key = f"{key}_file"
        url = read_secret(values, "database", key, file)
        if not url:
            raise values.wrong("database", key, f"names {file}, which is empty")
    if url and not re.match(r"(sqlite:///[^?]+\Z|postgresql(\+psycopg)?://)", url):
        raise values.wrong("database", key, "must hold sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE")
    return url
