"""`gateway user`: who may sign in."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.access.principals import PrincipalKind
from gateway.administration import Account, NewSecret
from gateway.cli.groups import noun
from gateway.cli.output import say, show_json, show_record, show_table
from gateway.cli.session import run, stdin_password
from gateway.cli.words import Json, PasswordStdin
from gateway.errors import Invalid

Name = Annotated[str, typer.Argument(metavar="NAME")]


def commands() -> typer.Typer:
    app = noun("Users: who may sign in, and what they are in the system.")
    for name, command in (
        ("add", add),
        ("set", set_),
        ("list", list_),
        ("show", show),
        ("disable", disable),
        ("enable", enable),
        ("password", password),
        ("second-factor", second_factor),
        ("sign-out", sign_out),
        ("remove", remove),
    ):
        app.command(name)(command)
    return app


def add(
    ctx: typer.Context,
    name: Name,
    admin: Annotated[bool, typer.Option("--admin", help="An administrator: may do everything.")] = False,
    auditor: Annotated[bool, typer.Option("--auditor", help="An auditor: may read the trail.")] = False,
    password_stdin: PasswordStdin = False,
    as_json: Json = False,
) -> None:
    """Add a user. Without --password-stdin a password is generated and shown, this once."""
    given = stdin_password() if password_stdin else None
    made = run(
        ctx,
        lambda administration, caller: administration.accounts.add_user(
            caller, name, administrator=admin, auditor=auditor, password=given
        ),
    )
    _show_secret(made, f"Added user {made.name}.", as_json=as_json)


def set_(
    ctx: typer.Context,
    name: Name,
    admin: Annotated[bool | None, typer.Option("--admin/--no-admin", help="Make an administrator, or not.")] = None,
    auditor: Annotated[bool | None, typer.Option("--auditor/--no-auditor", help="Make an auditor, or not.")] = None,
) -> None:
    """Give or take system roles."""
    if admin is None and auditor is None:
        raise Invalid("Say what to set: --admin, --no-admin, --auditor or --no-auditor.")
    account = run(
        ctx,
        lambda administration, caller: administration.accounts.set_user(
            caller, name, administrator=admin, auditor=auditor
        ),
    )
    say(f"User {account.name}: {_roles(account)}.")


def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the users."""
    accounts = run(ctx, lambda administration, caller: administration.accounts.list_accounts(caller))
    users = [user(account) for account in accounts if account.kind is PrincipalKind.USER]
    columns = ("name", "enabled", "administrator", "auditor", "created")
    show_table(users, columns, as_json=as_json, empty="There are no users; add one with: gateway user add NAME")


def show(ctx: typer.Context, name: Name, as_json: Json = False) -> None:
    """Show a user, or a robot, with its grants."""
    detail = run(ctx, lambda administration, caller: administration.accounts.show_account(caller, name))
    grants: list[object] = [
        {"role": grant.role, "reach": grant.reach, "expires": grant.expires_at} for grant in detail.grants
    ]
    if not as_json:
        grants = [
            f"{grant.role} on {grant.reach}"
            + (f" until {grant.expires_at:%Y-%m-%d %H:%M}Z" if grant.expires_at else "")
            for grant in detail.grants
        ]
    show_record({**user(detail.account), "grants": grants, "offline_tokens": detail.offline_tokens}, as_json=as_json)


def disable(ctx: typer.Context, name: Name) -> None:
    """Suspend everything a user or robot can do, at once."""
    account = run(ctx, lambda administration, caller: administration.accounts.disable(caller, name))
    say(f"{account.name} is disabled.")


def enable(ctx: typer.Context, name: Name) -> None:
    """Undo disable."""
    account = run(ctx, lambda administration, caller: administration.accounts.enable(caller, name))
    say(f"{account.name} is enabled.")


def password(ctx: typer.Context, name: Name, password_stdin: PasswordStdin = False, as_json: Json = False) -> None:
    """Change a password; tokens got with the old one are worth nothing any more."""
    given = stdin_password() if password_stdin else None
    made = run(ctx, lambda administration, caller: administration.accounts.set_password(caller, name, given))
    _show_secret(made, f"{made.name} has another password.", as_json=as_json)


def second_factor(
    ctx: typer.Context,
    name: Name,
    disable: Annotated[bool, typer.Option("--disable", help="End it: the password alone is enough again.")] = False,
    as_json: Json = False,
) -> None:
    """Show whether a user has a second factor, or end it for one who lost it.

    Users set it up themselves, in the console.
    """
    if disable:
        run(ctx, lambda administration, caller: administration.second_factor.disable_of(caller, name))
        say(f"{name} has no second factor any more, and is signed out of the console.")
        return
    state = run(ctx, lambda administration, caller: administration.second_factor.show(caller, name))
    shown = {"enabled": state.enabled, "since": state.since, "recovery_codes": state.recovery_codes}
    show_record({"name": name, **shown}, as_json=as_json)


def sign_out(ctx: typer.Context, name: Name) -> None:
    """End a user's sessions in the console; tokens stay."""
    count = run(ctx, lambda administration, caller: administration.sessions.end_all(caller, name))
    say(f"Ended {count} {'session' if count == 1 else 'sessions'} of {name}.")


def remove(ctx: typer.Context, name: Name) -> None:
    """Remove a user with its grants.

    One added again under the name is another.
    """
    run(ctx, lambda administration, caller: administration.accounts.remove_user(caller, name))
    say(f"Removed user {name}.")


def user(account: Account) -> dict[str, object]:
    """An account as programs see it."""
    return {
        "id": account.id,
        "name": account.name,
        "kind": account.kind.value,
        "enabled": account.enabled,
        "administrator": account.administrator,
        "auditor": account.auditor,
        "created": account.created_at,
        "password_changed": account.changed_at,
        "expires": account.expires_at,
    }


def _roles(account: Account) -> str:
    held = [name for name in ("administrator", "auditor") if getattr(account, name)]
    return " and ".join(held) or "no system role"


def _show_secret(made: NewSecret, done: str, *, as_json: bool) -> None:
    if as_json:
        secret = {} if made.secret is None else {"password": made.secret}
        show_json({"name": made.name, **secret})
        return
    say(done)
    if made.secret is not None:
        say(f"Password, shown this once: {made.secret}")
