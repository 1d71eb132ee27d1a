"""How a noun of the command line is made."""

from __future__ import annotations

import typer


def noun(text: str) -> typer.Typer:
    """A group of commands about one noun; alone it says which there are."""
    return typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
