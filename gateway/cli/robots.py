"""`gateway robot`: the accounts of programs."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.access.principals import Caller, PrincipalKind
from gateway.administration import ROBOT_LIFE, Account, Administration, NewSecret
from gateway.cli.groups import noun
from gateway.cli.output import say, show_json, show_table, time_text
from gateway.cli.session import run
from gateway.cli.words import Expires, Json, duration
from gateway.errors import Invalid

Name = Annotated[str, typer.Argument(metavar="PROJECT/NAME", help="PROJECT+NAME, as it signs in, is the same.")]


def commands() -> typer.Typer:
    app = noun("Robots: accounts of programs, each of one project.")
    for name, command in (("add", add), ("list", list_), ("rotate", rotate), ("remove", remove)):
        app.command(name)(command)
    return app


def add(
    ctx: typer.Context,
    name: Name,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="puller, pusher, maintainer or owner.")],
    expires: Expires = None,
    as_json: Json = False,
) -> None:
    """Add a robot; its secret is shown this once.

    Without --expires it lasts 90 days. It signs in as PROJECT+NAME.
    """
    lasts = duration(expires) if expires is not None else ROBOT_LIFE
    made = run(ctx, lambda administration, caller: administration.robots.add_robot(caller, name, role, expires=lasts))
    _show_secret(made, f"Added robot {made.name}, {role}", as_json=as_json)


def list_(
    ctx: typer.Context,
    project: Annotated[str | None, typer.Argument(metavar="[PROJECT]", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """List the robots of a project, or of all."""

    async def found(administration: Administration, caller: Caller) -> tuple[Account, ...]:
        if project is not None:
            return await administration.robots.list_robots(caller, project)
        accounts = await administration.accounts.list_accounts(caller)
        return tuple(account for account in accounts if account.kind is PrincipalKind.ROBOT)

    rows = [robot(account) for account in run(ctx, found)]
    empty = "There are no robots; add one with: gateway robot add PROJECT/NAME ROLE"
    show_table(
        rows, ("name", "enabled", "created", "expires", "used", "old_secret_until"), as_json=as_json, empty=empty
    )


def rotate(
    ctx: typer.Context,
    name: Name,
    expires: Expires = None,
    overlap: Annotated[
        str | None, typer.Option("--overlap", metavar="DURATION", help="How long the old secret is good as well: 24h.")
    ] = None,
    end_overlap: Annotated[
        bool, typer.Option("--end-overlap", help="No other secret: end the old one before its time.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Give a robot another secret and expiry.

    The old secret is worth nothing at once, unless --overlap says how long both are good.
    """
    if end_overlap:
        if overlap is not None or expires is not None:
            raise Invalid("Give --end-overlap alone; it makes no secret that could overlap or expire.")
        account = run(ctx, lambda administration, caller: administration.robots.end_overlap(caller, name))
        say(f"Robot {account.name} has one secret only.")
        return
    lasts = duration(expires) if expires is not None else ROBOT_LIFE
    seconds = int(duration(overlap).total_seconds()) if overlap is not None else 0
    made = run(
        ctx,
        lambda administration, caller: administration.robots.rotate_robot(
            caller, name, expires=lasts, overlap_seconds=seconds
        ),
    )
    _show_secret(made, f"Robot {made.name} has another secret", as_json=as_json)


def remove(ctx: typer.Context, name: Name) -> None:
    """Remove a robot with its grants."""
    run(ctx, lambda administration, caller: administration.robots.remove_robot(caller, name))
    say(f"Removed robot {name}.")


def robot(account: Account) -> dict[str, object]:
    """A robot as programs see it."""
    return {
        "id": account.id,
        "name": account.name,
        "project": account.project,
        "enabled": account.enabled,
        "created": account.created_at,
        "secret_changed": account.changed_at,
        "expires": account.expires_at,
        "used": account.used_at,
        "old_secret_until": account.former_until,
        "old_secret_used": account.former_used_at,
    }


def _show_secret(made: NewSecret, done: str, *, as_json: bool) -> None:
    if as_json:
        both = {"old_secret_until": made.former_until} if made.former_until is not None else {}
        show_json({"name": made.name, "secret": made.secret, "expires": made.expires, **both})
        return
    until = f", good until {time_text(made.expires)}" if made.expires is not None else ""
    former = f"; the old one is good until {time_text(made.former_until)}" if made.former_until is not None else ""
    say(f"{done}{until}{former}.")
    say(f"Secret, shown this once: {made.secret}")
