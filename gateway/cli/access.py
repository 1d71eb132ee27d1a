"""`gateway can`: whether somebody may do something, and which grant decided."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.output import printable, say, show_json
from gateway.cli.session import run
from gateway.cli.words import Json


def can(
    ctx: typer.Context,
    principal: Annotated[str, typer.Argument(metavar="PRINCIPAL", help="A user, a robot, or anonymous.")],
    action: Annotated[str, typer.Argument(metavar="ACTION", help="pull, push, delete, manage or review.")],
    target: Annotated[str, typer.Argument(metavar="REPOSITORY[:TAG]")],
    as_json: Json = False,
) -> None:
    """Say whether PRINCIPAL may do ACTION, and why.

    The exit status is 0 for yes, 1 for no.
    """
    answer = run(ctx, lambda administration, caller: administration.grants.ask(caller, principal, action, target))
    if as_json:
        show_json({"allowed": answer.allowed, "why": answer.why})
    else:
        say(f"{'yes' if answer.allowed else 'no'}: {printable(answer.why)}")
    raise typer.Exit(0 if answer.allowed else 1)
