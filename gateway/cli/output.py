"""What commands print: a table for people, plain lines when piped, one JSON value for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.audit.trail import SealedPart

Record = Mapping[str, object]


def show_json(value: object) -> None:
    """*value* as one JSON value, ASCII only: no terminal is told anything by what is in it."""
    sys.stdout.write(json.dumps(value, indent=2, default=_plain) + "\n")


def show_table(records: Sequence[Record], columns: Sequence[str], *, as_json: bool, empty: str) -> None:
    """
    *records* one a line, with *columns* of them; all of them, with all keys, as a JSON array.

    With none there is one line, *empty*, on standard error, so that what is piped stays empty.
    """
    if as_json:
        show_json(list(records))
        return
    if not records:
        say(empty, error=True)
        return
    rows = [[cell(record.get(column)) for column in columns] for record in records]
    headings = [column.upper().replace("_", " ") for column in columns]
    if sys.stdout.isatty():
        _show_rich(headings, rows)
    else:
        _show_plain(headings, rows)


def show_record(record: Record, *, as_json: bool) -> None:
    """One thing, a line for each of its values; a list in it gets a line for each entry."""
    if as_json:
        show_json(record)
        return
    width = max(len(name) for name in record) + 2
    for name, value in record.items():
        entries = value if isinstance(value, list) else [value]
        for number, entry in enumerate(entries or [None]):
            heading = "" if number else name.replace("_", " ")
            say(f"{heading:<{width}}{cell(entry)}".rstrip())


def say(line: str, *, error: bool = False) -> None:
    """One line, at once."""
    print(line, file=sys.stderr if error else sys.stdout, flush=True)


def counted(count: int, noun: str) -> str:
    """So many of the *noun*, in words: 1 repository, 2 repositories."""
    return f"{count} {plural(noun, count)}"


def plural(noun: str, count: int) -> str:
    if count == 1:
        return noun
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"


def cell(value: object) -> str:
    """*value* as people read it; whatever could command a terminal is spelled out."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return time_text(value)
        case Mapping():
            return ", ".join(f"{name} {cell(inner)}" for name, inner in value.items())
        case list() | tuple():
            return ", ".join(cell(entry) for entry in value) or "-"
        case _:
            return printable(str(value))


def time_text(moment: datetime) -> str:
    """The moment in UTC, to the second: `2026-01-31T12:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def printable(text: str) -> str:
    """*text* with every character that does not print replaced by its escape."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return time_text(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _show_rich(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(value) for value in row))
    Console(highlight=False).print(table)


def _show_plain(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[index]) for row in (headings, *rows)) for index in range(len(headings))]
    for row in (headings, *rows):
        sys.stdout.write(
            "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip() + "\n"
        )


def tell_sealed(part: SealedPart | None, how: str) -> None:
    """Says, beside the output, what of a period was not looked through, and *how* it is (`{since}`: from when on)."""
    if part is None:
        return
    told = f"{part.told} {how.format(since=part.since[:10])}." if part.files else part.told
    say(told, error=True)
