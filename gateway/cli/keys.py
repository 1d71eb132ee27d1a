"""`gateway key`: the keys that sign tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.administration import KeyRow
from gateway.cli.groups import noun
from gateway.cli.output import say, show_json, show_table
from gateway.cli.session import run
from gateway.cli.words import Json


def commands() -> typer.Typer:
    app = noun("Keys: what signs the tokens.")
    app.command("list")(list_)
    app.command("rotate")(rotate)
    # An id may begin with a dash, as one in 64 does, and is no option then.
    app.command("revoke", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})(revoke)
    return app


def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the keys, the newest first."""
    rows = run(ctx, lambda administration, caller: administration.keys.list_keys(caller))
    columns = ("kid", "state", "created", "retires")
    show_table([key(row) for row in rows], columns, as_json=as_json, empty="There are no keys.")


def rotate(ctx: typer.Context, as_json: Json = False) -> None:
    """Sign with the next key from now on.

    Tokens of the old one stay good until they expire.
    """
    row = run(ctx, lambda administration, caller: administration.keys.rotate_key(caller))
    if as_json:
        show_json(key(row))
    else:
        say(f"Tokens are signed with key {row.kid} now.")


def revoke(ctx: typer.Context, kid: Annotated[str, typer.Argument(metavar="KID")]) -> None:
    """Make every token that a key signed worthless."""
    run(ctx, lambda administration, caller: administration.keys.revoke_key(caller, kid))
    say(f"Revoked key {kid}; the tokens it signed are worth nothing any more.")


def key(row: KeyRow) -> dict[str, object]:
    """A key as programs see it."""
    return {"kid": row.kid, "state": row.state, "created": _utc(row.created), "retires": _utc(row.retires)}


def _utc(time: str | None) -> str | None:
    return time.replace("+00:00", "Z") if time is not None else None
