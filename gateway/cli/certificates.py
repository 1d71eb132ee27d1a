"""`gateway cert`: the certificate clients see."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final

import typer

from gateway.access.policy import Need
from gateway.access.scopes import Action
from gateway.audit.event import Kind
from gateway.audit.trail import Search, Trail
from gateway.cli.groups import noun
from gateway.cli.output import say, show_record
from gateway.cli.session import operator, rooms
from gateway.cli.words import Json
from gateway.gate import Gate
from gateway.surroundings import described

#: When a gateway takes up a certificate, and when it does not.
_MET: Final = (Kind.GATEWAY_START, Kind.GATEWAY_STOP, Kind.CERTIFICATE_ACCEPTED, Kind.CERTIFICATE_REJECTED)


def commands() -> typer.Typer:
    app = noun("The certificate clients see.")

    @app.callback()
    def one_of() -> None:
        """The certificate clients see."""

    app.command("show")(show)
    return app


def show(ctx: typer.Context, as_json: Json = False) -> None:
    """Show the certificate, and what is wrong with it.

    The exit status is 1 if the server would refuse it, or did while it runs: it goes on with what is told as served.
    """
    with rooms(ctx) as joined:
        asyncio.run(_record(joined.gate))
        found = described(joined.settings, datetime.now(UTC))
        refused = _refused(joined.trail)
    # What is wrong with it by itself is known before the one that runs has looked.
    found |= refused if found["usable"] else {name: refused[name] for name in refused if name != "warning"}
    show_record(found, as_json=as_json)
    if not as_json and found["warning"]:
        say(f"gateway: {found['warning']}", error=True)
    raise typer.Exit(0 if found["usable"] else 1)


async def _record(gate: Gate) -> None:
    async with gate.passage(operator(), Kind.CERTIFICATE_SHOW, Need(Action.MANAGE)) as passage:
        await passage.seal()


def _refused(trail: Trail) -> dict[str, object]:
    """What is to be said of a certificate that the gateway which runs has refused; nothing if it took the last one."""
    # It begins with whatever can be served, and compares with what it has only what it finds later.
    newest = [event for kind in _MET for event in trail.page(Search(kind=kind.value), limit=1)]
    record = max(newest, key=lambda event: event.seq).record() if newest else {}
    detail = record.get("detail")
    if record.get("kind") != Kind.CERTIFICATE_REJECTED or not isinstance(detail, dict):
        return {}
    warning = f"The new certificate was refused and the old one stays: {detail.get('reason')}"
    return {"usable": False, "served": detail.get("served"), "warning": warning}
