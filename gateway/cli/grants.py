"""`gateway grant` and `gateway revoke`: who holds which role where."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.core import TyperGroup

from gateway.access.policy import Role
from gateway.administration import GrantRow, Proposal, Verb
from gateway.cli.output import say, show_table
from gateway.cli.session import run
from gateway.cli.tracing import show_replay
from gateway.cli.words import Expires, Json, duration

Principal = Annotated[str, typer.Argument(metavar="PRINCIPAL", help="A user, or a robot as PROJECT+NAME.")]
Where = Annotated[str, typer.Argument(metavar="PROJECT[/PATTERN]", help="'*' stays within one component.")]
Replayed = Annotated[
    bool, typer.Option("--replay", help="Change nothing; say which requests of 30 days would be decided differently.")
]
REPLAY_DAYS = 30

_ROLES = frozenset(role.value for role in Role)


class _GrantGroup(TyperGroup):
    """`grant list …` is a command of its own; `grant PRINCIPAL ROLE PROJECT` adds, also to a user named `list`."""

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def]
        asks_help = args[:1] in (["-h"], ["--help"])
        named = args[:1] == ["list"] and not _ROLES.intersection(args[1:2])
        if args and not asks_help and not named and args[0] != "add":
            args = ["add", *args]
        return super().parse_args(ctx, args)


def commands() -> typer.Typer:
    app = typer.Typer(
        cls=_GrantGroup,
        help="Give a role: grant PRINCIPAL ROLE PROJECT[/PATTERN]. List who holds which: grant list.",
        short_help="Give a role: grant PRINCIPAL ROLE PROJECT",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.command("add")(add)
    app.command("list")(list_)
    return app


def add(
    ctx: typer.Context,
    principal: Principal,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="puller, pusher, maintainer or owner.")],
    reach: Where,
    expires: Expires = None,
    replay: Replayed = False,
) -> None:
    """Give a role: gateway grant PRINCIPAL ROLE PROJECT[/PATTERN]."""
    if replay:
        show_replay(ctx, Proposal(Verb.GRANT, principal, reach, role), REPLAY_DAYS, as_json=False)
        return
    lasts = duration(expires) if expires is not None else None
    row = run(
        ctx,
        lambda administration, caller: administration.grants.add_grant(caller, principal, role, reach, expires=lasts),
    )
    until = f" until {row.expires_at:%Y-%m-%d %H:%M}Z" if row.expires_at else ""
    say(f"{row.principal} is {row.role} on {row.reach}{until}.")


def revoke(
    ctx: typer.Context,
    principal: Principal,
    reach: Where,
    replay: Replayed = False,
) -> None:
    """Take away a grant on exactly this project or pattern."""
    if replay:
        show_replay(ctx, Proposal(Verb.REVOKE, principal, reach), REPLAY_DAYS, as_json=False)
        return
    run(ctx, lambda administration, caller: administration.grants.remove_grant(caller, principal, reach))
    say(f"{principal} holds nothing on {reach} any more.")


def list_(
    ctx: typer.Context,
    principal: Annotated[str | None, typer.Option("--principal", metavar="PRINCIPAL", help="Of this one only.")] = None,
    project: Annotated[str | None, typer.Option("--project", metavar="PROJECT", help="On this one only.")] = None,
    as_json: Json = False,
) -> None:
    """List grants, expired ones included."""
    rows = run(
        ctx,
        lambda administration, caller: administration.grants.list_grants(caller, principal=principal, project=project),
    )
    columns = ("principal", "role", "reach", "expires")
    empty = "There are no such grants; give one with: gateway grant PRINCIPAL ROLE PROJECT"
    show_table([grant(row) for row in rows], columns, as_json=as_json, empty=empty)


def grant(row: GrantRow) -> dict[str, object]:
    """A grant as programs see it."""
    return {
        "id": row.id,
        "principal": row.principal,
        "role": row.role,
        "reach": row.reach,
        "created": row.created_at,
        "expires": row.expires_at,
    }
