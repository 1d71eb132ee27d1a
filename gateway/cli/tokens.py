"""`gateway token`: the offline tokens that clients keep instead of a password."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.administration import OfflineTokenRow
from gateway.cli.groups import noun
from gateway.cli.output import say, show_table
from gateway.cli.session import run
from gateway.cli.words import Json
from gateway.errors import Invalid


def commands() -> typer.Typer:
    app = noun("Offline tokens: what clients keep, not passwords.")
    app.command("list")(list_)
    app.command("revoke")(revoke)
    return app


def list_(
    ctx: typer.Context,
    principal: Annotated[str | None, typer.Argument(metavar="[PRINCIPAL]", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """List the live offline tokens of a user or robot, or of all."""
    rows = run(ctx, lambda administration, caller: administration.offline_tokens.list_tokens(caller, principal))
    columns = ("id", "principal", "client", "address", "created", "used")
    show_table([token(row) for row in rows], columns, as_json=as_json, empty="There are no offline tokens.")


def revoke(
    ctx: typer.Context,
    number: Annotated[int | None, typer.Argument(metavar="[ID]", show_default=False)] = None,
    every: Annotated[str | None, typer.Option("--all", metavar="PRINCIPAL", help="All of this user or robot.")] = None,
) -> None:
    """Revoke one offline token, or all of a user or robot."""
    if number is not None and every is None:
        row = run(ctx, lambda administration, caller: administration.offline_tokens.revoke_token(caller, number))
        say(f"Revoked offline token {row.id} of {row.principal}.")
    elif every is not None and number is None:
        count = run(ctx, lambda administration, caller: administration.offline_tokens.revoke_tokens(caller, every))
        say(f"Revoked {count} offline {'token' if count == 1 else 'tokens'} of {every}.")
    else:
        raise Invalid("Give either the number of a token or --all PRINCIPAL.")


def token(row: OfflineTokenRow) -> dict[str, object]:
    """An offline token as programs see it."""
    return {
        "id": row.id,
        "principal": row.principal,
        "service": row.service,
        "client": row.client,
        "address": row.address,
        "created": row.created_at,
        "used": row.used_at,
    }
