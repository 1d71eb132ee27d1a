"""`gateway read-only`: the switch that keeps all content as it is."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.groups import noun
from gateway.cli.output import say, show_record
from gateway.cli.session import run
from gateway.cli.words import Json


def commands() -> typer.Typer:
    app = noun("Whether the whole gateway is read-only: pulls and administration go on, pushes and deletions do not.")
    for name, command in (("on", on), ("off", off), ("show", show)):
        app.command(name)(command)
    return app


def on(
    ctx: typer.Context,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; clients are told.")],
) -> None:
    """Make the gateway read-only, at once."""
    run(ctx, lambda administration, caller: administration.read_only.turn_on(caller, reason))
    say("The gateway is read-only; end it with: gateway read-only off")


def off(ctx: typer.Context) -> None:
    """Let pushes and deletions go on; projects that are read-only themselves stay so."""
    run(ctx, lambda administration, caller: administration.read_only.turn_off(caller))
    say("The gateway takes changes again.")


def show(ctx: typer.Context, as_json: Json = False) -> None:
    """Show how the switch stands."""
    freeze = run(ctx, lambda administration, caller: administration.read_only.show(caller))
    show_record({"read_only": freeze.read_only, "reason": freeze.reason, "since": freeze.since}, as_json=as_json)
