"""docs/commands.md, made of the command line itself: `python -m tests.supply.commands` writes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from gateway.cli.entry import STATUSES, commands

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
_HEAD = """# Commands

Every command with its own options; `gateway COMMAND --help` says more. `python -m tests.supply.commands` writes this
page. Before the command stand:

"""
_STATUSES = """## Exit statuses

A command that ends with 2 to 70 has said why in one line on standard error; with 1 it has said so there or in
its answer.

| status | |
|---|---|
"""
#: Words of what typer and click have beside our own options.
_THEIRS = {"help"}
_ONE_LINE = 1000


def page() -> str:
    """The page as it has to be."""
    root: Any = typer.main.get_command(commands())
    alone = [(name, command) for name, command in root.commands.items() if not hasattr(command, "commands")]
    nouns = [(name, command) for name, command in root.commands.items() if hasattr(command, "commands")]
    parts = [_HEAD, *_options(root, ""), "\n## Commands of one word\n\n"]
    parts += [part for name, command in alone for part in _command(name, command)]
    for name, noun in nouns:
        parts.append(f"\n## {name}\n\n{_escaped(noun.help)}\n\n")
        parts += [part for word, command in noun.commands.items() for part in _command(f"{name} {word}", command)]
    parts.append(f"\n{_STATUSES}")
    parts += [f"| {status} | {text} |\n" for status, text in STATUSES.items()]
    return "".join(parts)


def _command(words: str, command: Any) -> Iterator[str]:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    usage = " ".join(("gateway", words, *(each.metavar or each.name.upper() for each in arguments)))
    yield f"* `{usage}`: {_escaped(command.get_short_help_str(_ONE_LINE))}\n"
    yield from _options(command, "  ")


def _options(command: Any, indent: str) -> Iterator[str]:
    for each in command.params:
        if each.param_type_name == "option" and each.name not in _THEIRS and not each.hidden:
            value = "" if each.is_flag else f" {each.metavar or '|'.join(_choices(each))}"
            spelled = " · ".join(f"`{option}{value}`" for option in (*each.opts, *each.secondary_opts))
            yield f"{indent}* {spelled}: {_escaped(each.help)}\n"


def _choices(option: Any) -> list[str]:
    """What the option's value can be: one of a few words, or a number."""
    return [str(each.value) for each in option.type_descriptor.choices or ()] or ["N"]


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("*", r"\*")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
