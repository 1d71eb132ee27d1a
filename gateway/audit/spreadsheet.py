"""Events as rows for spreadsheets: the columns, and cells that none of them runs."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from gateway.audit.chain import Sealed, is_time

#: The columns of an export for spreadsheets.
CSV_COLUMNS: Final = (
    *("id", "time", "kind", "outcome", "principal", "project", "repository", "reference", "digest", "address"),
    *("reason", "request_id"),
    *("principal_kind", "principal_id", "credential", "credential_id", "agent", "peer_address", "action", "grant"),
    *("status", "bytes", "duration_ms", "before", "after", "detail", "previous_hash", "hash"),
)
#: What a spreadsheet may take for a formula when a cell begins with it.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
#: The same, as it is looked up for every cell.
_RUN: Final = frozenset(_FORMULA)
#: What a spreadsheet that splits at other characters than commas may take for the end of a cell, a formula behind it.
_SPLIT: Final = re.compile(r'([;\t\r\n])(?="*[=+\-@\t\r\n])')
_CELLS: Final = msgspec.json.Decoder(msgspec.defstruct("_Cells", [(name, Any, "") for name in CSV_COLUMNS], gc=False))
#: In a line in which nothing is quoted.
_COMMAS: Final = len(CSV_COLUMNS) - 1
_PLACES: Final = {column: place for place, column in enumerate(CSV_COLUMNS)}

_TIME, _KIND, _OUTCOME = (_PLACES[name] for name in ("time", "kind", "outcome"))


def csv_cell(value: object) -> str:
    """
    *value* as a cell that no spreadsheet runs: what could begin a formula is quoted by an apostrophe.

    That may be within the value too: where the decimal separator is a comma, spreadsheets split cells at semicolons.
    """
    if value is None:
        return ""
    text = json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else str(value)
    if not isinstance(value, int):
        text = _SPLIT.sub(r"\1'", text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def heading() -> str:
    """The first line of a table, with its end."""
    return csv_lines([dict(zip(CSV_COLUMNS, CSV_COLUMNS, strict=True))])


def csv_lines(events: Iterable[Sealed | Mapping[str, object]]) -> str:
    """*events*, as they were sealed or as mappings, a line each, as RFC 4180 writes them."""
    return "".join([_sealed_line(event) if isinstance(event, Sealed) else _written(_row(event)) for event in events])


def _sealed_line(event: Sealed) -> str:
    """The line of what was sealed: decoded into its columns, for a quarter of what the way round a mapping takes."""
    try:
        values = astuple(_CELLS.decode(event.body))
    except (msgspec.DecodeError, UnicodeEncodeError):
        values = ()
    if not values or not is_time(values[_TIME]) or not values[_KIND] or not values[_OUTCOME]:
        return _written(_row(event.record()))
    cells = [
        value if (type(value) is str and (not value or value[0] not in _RUN)) else csv_cell(value) for value in values
    ]
    cells[-1] = event.hash.hex()
    plain = ",".join(cells)
    # The pattern takes as long as the rest of the line does, and most lines have none of these.
    if (";" in plain or "\t" in plain or "\r" in plain or "\n" in plain) and _SPLIT.search(plain):
        cells = [csv_cell(cell) if _SPLIT.search(cell) else cell for cell in cells]
        plain = ",".join(cells)
    if plain.count(",") == _COMMAS and '"' not in plain and "\r" not in plain and "\n" not in plain:
        return f"{plain}\r\n"
    return _written(cells)


def _written(row: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(row)
    return text.getvalue()


def _row(event: Mapping[str, object]) -> list[object]:
    """The cells of *event*: as `csv_cell` has each, which is asked only where it has something to do."""
    row: list[object] = [""] * len(CSV_COLUMNS)
    for name, value in event.items():
        place = _PLACES.get(name)
        if place is None:
            continue
        plain = (
            (value[:1] not in _FORMULA and not _SPLIT.search(value))
            if type(value) is str
            else type(value) is int and value >= 0
        )
        row[place] = value if plain else csv_cell(value)
    return row
