"""Events as rows for spreadsheets: the columns, and cells that none of them runs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Final

#: The columns of an export for spreadsheets.
CSV_COLUMNS: Final = (
    *("id", "time", "kind", "outcome", "principal", "project", "repository", "reference", "digest", "address"),
    *("reason", "request_id"),
    *("principal_kind", "principal_id", "credential", "credential_id", "agent", "peer_address", "action", "grant"),
    *("status", "bytes", "duration_ms", "before", "after", "detail", "previous_hash", "hash"),
)
#: What a spreadsheet may take for a formula when a cell begins with it.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_PLACES: Final = {column: place for place, column in enumerate(CSV_COLUMNS)}


def csv_cell(value: object) -> str:
    """*value* as a cell that no spreadsheet runs: what could begin a formula is quoted by an apostrophe."""
    if value is None:
        return ""
    text = json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def heading() -> str:
    """The first line of a table, with its end."""
    return csv_lines([dict(zip(CSV_COLUMNS, CSV_COLUMNS, strict=True))])


def csv_lines(events: Iterable[Mapping[str, object]]) -> str:
    """*events*, a line each, as RFC 4180 writes them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerows(map(_row, events))
    return text.getvalue()


def _row(event: Mapping[str, object]) -> list[object]:
    """The cells of *event*: as `csv_cell` has each, which is asked only where it has something to do."""
    row: list[object] = [""] * len(CSV_COLUMNS)
    for name, value in event.items():
        place = _PLACES.get(name)
        if place is None:
            continue
        plain = value[:1] not in _FORMULA if type(value) is str else type(value) is int and value >= 0
        row[place] = value if plain else csv_cell(value)
    return row
