"""The first word of a command line: it alone is loaded, and nobody notices."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from gateway.cli.entry import commands, first_word
from tests.cli.line import Line


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
    assert all(kind in said for kind in ("A user", "a robot", "number of an offline token", "personal:N"))
