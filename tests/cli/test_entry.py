"""The first word of a command line: it alone is loaded, and nobody notices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from gateway.cli.entry import commands, first_word, run
from gateway.initialisation import initialise
from gateway.settings import Settings
from tests.cli.line import PROGRAM, Line
from tests.cli.older import make_older


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (("--data", "import", "adopt"), "adopt"),
        (("--config=up", "--debug", "sweep", "check"), "sweep"),
        (("--help", "import"), "--help"),
        (("--data", "x"), ""),
    ],
)
def test_an_options_value_is_no_first_word_and_help_is(words: tuple[str, ...], first: str) -> None:
    assert first_word(words) == first


def test_every_word_answers_alone_as_it_does_among_all() -> None:
    every = typer.main.get_command(commands()).commands  # type: ignore[attr-defined]
    assert len(every) > 20
    for word, command in every.items():
        alone = typer.main.get_command(commands(word)).commands  # type: ignore[attr-defined]
        assert list(alone) == [word]
        assert alone[word].help == command.help
        assert [each.name for each in alone[word].params] == [each.name for each in command.params]


def test_a_word_that_is_none_is_looked_for_among_all(line: Line) -> None:
    said = line("improt")
    assert said.status == 2
    assert "import" in said.err


def test_one_word_does_not_load_the_others() -> None:
    code = "import sys; from gateway.cli.entry import commands; commands('key'); "
    code += "print('gateway.cli.sweep' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def words_of_help(line: Line, word: str) -> str:
    return " ".join(line.done(word, "--help").out.split())


def test_help_of_an_import_explains_links_above_where_it_says_so(line: Line) -> None:
    said = words_of_help(line, "import")
    assert said.index("With --link they get a second name") < said.index("where that is safe (see above)")


def test_help_of_a_leak_names_every_kind_of_credential_that_it_takes(line: Line) -> None:
    said = words_of_help(line, "leak")
    assert all(kind in said for kind in ("A user", "a robot", "offline:N", "personal:N"))


def test_advice_keeps_to_the_settings_file_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c1.toml"
    file.write_text('[engine]\nroot = "kept"\n')
    up = f"gateway --config {file} up"
    for words in (("serve",), ("user", "list"), ("migrate",)):
        assert run(["--config", str(file), *words]) == 2
        assert capsys.readouterr().err.endswith(f"; make one with: {up}\n")
    (tmp_path / "kept").mkdir(mode=0o700)
    for words in (("serve",), ("user", "list")):
        assert run(["--config", str(file), *words]) == 4
        assert capsys.readouterr().err.endswith(f"; run: {up}\n")
    initialise(Settings.load(file, {}))
    make_older(tmp_path / "kept" / "gateway.db")
    assert run(["--config", str(file), "user", "list"]) == 4
    assert capsys.readouterr().err.endswith(f"; run: gateway --config {file} migrate\n")


@pytest.mark.parametrize(("status", "said"), [(0, "gateway: it did not follow: ValueError: too far\n"), (5, "")])
def test_what_rooms_log_is_a_line_and_is_left_to_a_command_that_ends_badly(status: int, said: str) -> None:
    program = f"""
import logging, sys
from gateway.cli import entry
def ended(arguments, debug):
    try:
        raise ValueError("too far")
    except ValueError:
        logging.getLogger("gateway.ledger").exception("it did not follow")
    return {status}
entry._ended = ended
sys.exit(entry.run([]))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (status, said)


def test_a_reader_that_is_gone_is_no_refusal(line: Line) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as unread:
        command = [str(PROGRAM), "--data", str(line.folder), "user", "list", "--json"]
        ended = subprocess.run(command, stdout=unread, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (141, "")
