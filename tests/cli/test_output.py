from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.administration import FIELDS
from gateway.audit.chain import Head, seal
from gateway.audit.spreadsheet import CSV_COLUMNS, csv_cell, csv_lines
from gateway.cli.audit import Format, write_events
from gateway.cli.filters import search
from gateway.cli.output import cell, printable, show_json, show_record, show_table
from gateway.errors import Invalid

ROWS = [{"name": "writer", "enabled": True, "id": 7}, {"name": "reader\x1b[31m", "enabled": False, "id": 8}]


def test_piped_table_is_plain_aligned_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(ROWS, ("name", "enabled"), as_json=False, empty="none")
    assert capsys.readouterr().out == "NAME            ENABLED\nwriter          yes\nreader\\x1b[31m  no\n"


def test_json_has_every_key_and_nothing_else_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(ROWS, ("name",), as_json=True, empty="none")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == ROWS
    assert captured.out.isascii()
    assert captured.err == ""


def test_empty_listing_leaves_standard_output_empty_but_json_valid(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([], ("name",), as_json=False, empty="There is nothing.")
    assert capsys.readouterr() == ("", "There is nothing.\n")
    show_table([], ("name",), as_json=True, empty="There is nothing.")
    assert capsys.readouterr() == ("[]\n", "")


def test_record_has_a_line_for_each_value(capsys: pytest.CaptureFixture[str]) -> None:
    show_record({"name": "x", "size_bytes": 5, "grants": ["a", "b"], "robots": []}, as_json=False)
    assert capsys.readouterr().out == ("name        x\nsize bytes  5\ngrants      a\n            b\nrobots      -\n")


def test_moments_are_utc_text_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"expires": datetime(2026, 1, 31, 12, tzinfo=UTC)})
    assert json.loads(capsys.readouterr().out) == {"expires": "2026-01-31T12:00:00Z"}


def test_nothing_is_a_dash() -> None:
    assert [cell(value) for value in (None, "", (), True, False, 0)] == ["-", "-", "-", "yes", "no", "0"]


#: What a field of an event may be.
CELLS: st.SearchStrategy[object] = st.one_of(
    st.text(st.characters(codec="utf-8")), st.integers(), st.booleans(), st.none(), st.just({"a": [1, "="]})
)


@given(st.text())
def test_no_text_commands_a_terminal(text: str) -> None:
    assert printable(text).isprintable()
    assert cell({"a": text}).isprintable()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_cell_that_could_begin_a_formula_is_quoted(start: str) -> None:
    assert csv_cell(f"{start}cmd|' /C calc'!A0") == f"'{start}cmd|' /C calc'!A0"


@given(st.text())
def test_no_cell_begins_a_formula(text: str) -> None:
    assert not csv_cell(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", '"=', '""=', ";="])
@pytest.mark.parametrize("end", [";", "\t", "\n", "\r", "\r\n", ";;"])
@pytest.mark.parametrize("column", ["agent", "detail"])
def test_no_cell_begins_a_formula_where_cells_end_at_other_characters(column: str, end: str, start: str) -> None:
    text = f"Mozilla{end}{start}HYPERLINK(A1)"
    event = {"id": 1, column: {"said": text} if column == "detail" else text}
    for lines in (csv_lines([event]), csv_lines([seal(Head(), event)])):
        for delimiter in (",", ";", "\t", "|"):
            for row in csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter):
                assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))], lines


@given(st.text(st.sampled_from(";,\t\r\n\"'=+-@a")), st.sampled_from([",", ";", "\t"]))
def test_however_it_is_split_a_line_holds_no_formula(text: str, delimiter: str) -> None:
    rows = csv.reader(io.StringIO(csv_lines([{"agent": text}]), newline=""), delimiter=delimiter)
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]


def test_what_no_spreadsheet_splits_is_told_as_it_is() -> None:
    for agent in ("docker/20.10 go/go1.20; kernel/5 (x; linux)", "Googlebot/2.1 (+http://example.org)", "a-b=c@d"):
        assert csv_cell(agent) == agent


def test_export_as_csv_has_every_event_in_its_columns() -> None:
    event = {**dict.fromkeys(FIELDS, ""), "id": 1, "kind": "manifest.push", "agent": "=evil()", "after": {"b": 1}}
    stream = io.StringIO(newline="")
    assert write_events(iter([event, event]), Format.CSV, stream) == 2
    rows = list(csv.DictReader(io.StringIO(stream.getvalue(), newline="")))
    assert len(rows) == 2
    assert tuple(rows[0]) == CSV_COLUMNS
    assert (rows[0]["id"], rows[0]["kind"], rows[0]["agent"], rows[0]["after"]) == (
        "1",
        "manifest.push",
        "'=evil()",
        '{"b": 1}',
    )


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(CSV_COLUMNS[:4], CELLS)))
def test_every_cell_of_an_export_is_what_a_spreadsheet_does_not_run(event: dict[str, object]) -> None:
    (row,) = csv.reader(io.StringIO(csv_lines([{**event, "unknown": "="}]), newline=""))
    assert row == [csv_cell(event.get(column)) for column in CSV_COLUMNS]


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(CSV_COLUMNS[1:-2], CELLS)))
def test_what_was_sealed_has_the_line_of_what_it_says(event: dict[str, object]) -> None:
    sealed = seal(Head(), {**event, "unknown": "="})
    assert csv_lines([sealed]) == csv_lines([sealed.record()])


def test_export_as_json_lines_is_one_event_a_line() -> None:
    stream = io.StringIO()
    assert write_events(iter([{"id": 1, "reason": "a\nb"}, {"id": 2}]), Format.JSONL, stream) == 2
    assert [json.loads(line)["id"] for line in stream.getvalue().splitlines()] == [1, 2]


def test_search_takes_kinds_nouns_and_times() -> None:
    wanted = search(
        {
            "project": "gallery",
            "principal": "writer",
            "kind": "manifest.*",
            "outcome": "denied",
            "since": "24h",
            "until": "2126-01-31",
        }
    )
    assert (wanted.project, wanted.principal, wanted.kind, wanted.outcome) == (
        "gallery",
        "writer",
        "manifest.*",
        "denied",
    )
    assert wanted.since is not None
    assert search({"principal": "gallery/ci"}).principal == "gallery+ci"
    assert search({"principal": "operator:root"}).principal == "operator:root"
    assert wanted.until == datetime(2126, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "outcome", "says"),
    [("manifest.psh", "", "no kind of event"), ("nothing.*", "", "no kind"), ("", "refused", "An outcome is one of")],
)
def test_search_for_what_cannot_be_is_refused(kind: str, outcome: str, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        search({"kind": kind, "outcome": outcome})
