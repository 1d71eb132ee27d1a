"""`gateway cert`: the certificate clients see."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import typer

from gateway.access.policy import Need
from gateway.access.scopes import Action
from gateway.audit.event import Kind
from gateway.cli.groups import noun
from gateway.cli.output import say, show_record
from gateway.cli.session import operator, rooms
from gateway.cli.words import Json
from gateway.gate import Gate
from gateway.surroundings import described


def commands() -> typer.Typer:
    app = noun("The certificate clients see.")

    @app.callback()
    def one_of() -> None:
        """The certificate clients see."""

    app.command("show")(show)
    return app


def show(ctx: typer.Context, as_json: Json = False) -> None:
    """Show the certificate, and what is wrong with it.

    The exit status is 1 if the server would refuse it.
    """
    with rooms(ctx) as joined:
        asyncio.run(_record(joined.gate))
        found = described(joined.settings, datetime.now(UTC))
    show_record(found, as_json=as_json)
    if not as_json and found["warning"]:
        say(f"gateway: {found['warning']}", error=True)
    raise typer.Exit(0 if found["usable"] else 1)


async def _record(gate: Gate) -> None:
    async with gate.passage(operator(), Kind.CERTIFICATE_SHOW, Need(Action.MANAGE)) as passage:
        await passage.seal()
