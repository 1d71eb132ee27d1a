"""`gateway token`: personal access tokens, and the offline tokens that clients keep instead of a password."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.access.principals import Caller
from gateway.administration import Administration, OfflineTokenRow, PersonalTokenRow
from gateway.cli.groups import noun
from gateway.cli.output import say, show_json, show_table, time_text
from gateway.cli.session import run
from gateway.cli.words import LARGEST, Json, duration
from gateway.errors import Invalid

_LIFE = "90d"
Personal = Annotated[bool, typer.Option("--personal", help="Personal access tokens, not offline tokens.")]


def commands() -> typer.Typer:
    app = noun("Tokens: what clients keep, not passwords; and personal access tokens, with --personal.")
    app.command("issue")(issue)
    app.command("list")(list_)
    app.command("revoke")(revoke)
    return app


def issue(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for: laptop, nightly.")],
    user: Annotated[str, typer.Option("--user", metavar="USER", help="Whose it is.")],
    actions: Annotated[
        str, typer.Option("--actions", metavar="LIST", help="Of pull, push, delete, manage, review.")
    ] = "pull",
    projects: Annotated[
        list[str] | None, typer.Option("--project", metavar="PROJECT", help="May be repeated; all if none is given.")
    ] = None,
    expires: Annotated[
        str, typer.Option("--expires", metavar="DURATION", help="How long it lasts, in whole days, at most 365d.")
    ] = _LIFE,
    as_json: Json = False,
) -> None:
    """Issue a personal access token for a user; it is shown this once.

    It may do what --actions and --project name and its user may do, and serves as password of that user.
    """
    lasts = duration(expires)
    days = lasts.days + (1 if lasts.seconds else 0)
    made = run(
        ctx,
        lambda administration, caller: administration.personal_tokens.issue(
            caller, name, actions.split(","), projects or None, days, account=user
        ),
    )
    assert made.expires is not None
    if as_json:
        show_json({"id": made.number, "name": made.name, "token": made.secret, "expires": made.expires})
        return
    say(f"Issued personal token {made.number} of {user}, {made.name}, until {time_text(made.expires)}.")
    say(f"Token, shown this once: {made.secret}")


def list_(
    ctx: typer.Context,
    principal: Annotated[str | None, typer.Argument(metavar="[PRINCIPAL]", show_default=False)] = None,
    personal: Personal = False,
    as_json: Json = False,
) -> None:
    """List the live offline tokens of a user or robot, or of all; or the personal ones."""
    if personal:
        held = run(ctx, lambda administration, caller: administration.personal_tokens.list(caller, principal))
        columns: tuple[str, ...] = ("id", "user", "name", "actions", "projects", "expires", "used")
        empty = "There are no personal tokens; issue one with: gateway token issue NAME --user USER"
        records = [personal_token(row) for row in held]
        if not as_json:
            records = [{**record, "projects": record["projects"] or "all"} for record in records]
        show_table(records, columns, as_json=as_json, empty=empty)
        return
    rows = run(ctx, lambda administration, caller: administration.offline_tokens.list_tokens(caller, principal))
    columns = ("id", "principal", "client", "address", "created", "used")
    show_table([token(row) for row in rows], columns, as_json=as_json, empty="There are no offline tokens.")


def revoke(
    ctx: typer.Context,
    number: Annotated[int | None, typer.Argument(metavar="[ID]", max=LARGEST, show_default=False)] = None,
    every: Annotated[
        str | None, typer.Option("--all", metavar="PRINCIPAL", help="All of this user or robot, of both kinds.")
    ] = None,
    personal: Personal = False,
) -> None:
    """Revoke one offline token, or one personal one, or all of a user or robot."""
    if (number is None) == (every is None):
        raise Invalid("Give either the number of a token or --all PRINCIPAL.")
    if every is not None:
        _revoke_all(ctx, every, personal_only=personal)
    elif number is not None and personal:
        held = run(ctx, lambda administration, caller: administration.personal_tokens.revoke(caller, number))
        say(f"Revoked personal token {held.id} of {held.account}, {held.name}.")
    elif number is not None:
        row = run(ctx, lambda administration, caller: administration.offline_tokens.revoke_token(caller, number))
        say(f"Revoked offline token {row.id} of {row.principal}.")


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


def personal_token(row: PersonalTokenRow) -> dict[str, object]:
    """A personal token as programs see it; *projects* null means all."""
    return {
        "id": row.id,
        "user": row.account,
        "name": row.name,
        **row.bound.told(),
        "created": row.created_at,
        "expires": row.expires_at,
        "used": row.used_at,
    }


def _revoke_all(ctx: typer.Context, principal: str, *, personal_only: bool) -> None:
    async def revoked(administration: Administration, caller: Caller) -> tuple[int | None, int | None]:
        offline = None if personal_only else await administration.offline_tokens.revoke_tokens(caller, principal)
        # Robots have none.
        robot = "+" in principal or "/" in principal
        personal = None if robot else await administration.personal_tokens.revoke_all(caller, principal)
        return offline, personal

    offline, personal = run(ctx, revoked)
    for count, kind in ((offline, "offline"), (personal, "personal")):
        if count is not None:
            say(f"Revoked {count} {kind} {'token' if count == 1 else 'tokens'} of {principal}.")
