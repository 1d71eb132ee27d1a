"""`gateway can` and `gateway access`: who may do what, and everything that gives it."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.access.principals import Caller
from gateway.access.scopes import Action
from gateway.administration import AccountAccess, Administration, Explained, RepositoryAccess
from gateway.cli.groups import noun
from gateway.cli.output import printable, say, show_json, show_table
from gateway.cli.session import run
from gateway.cli.words import Json
from gateway.errors import Invalid

Principal = Annotated[str, typer.Argument(metavar="PRINCIPAL", help="A user, a robot, or anonymous.")]


def can(
    ctx: typer.Context,
    principal: Principal,
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


def commands() -> typer.Typer:
    app = noun("Access: what somebody can do, and who can do something.")
    app.command("of")(of)
    app.command("who")(who)
    return app


def of(
    ctx: typer.Context,
    principal: Principal,
    repository: Annotated[str | None, typer.Argument(metavar="[REPOSITORY]", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """List what PRINCIPAL can do and what gives it; on one repository, all of that and what does not count there."""
    if repository is not None:
        found = run(ctx, lambda acts, caller: acts.effective.explain(caller, principal, repository))
        show_table(explained(found), ("action", "may", "why"), as_json=as_json, empty="")
        return
    access = run(ctx, lambda acts, caller: acts.effective.of_account(caller, principal))
    show_table(rights(access), ("reach", "actions", "why", "counts", "expires"), as_json=as_json, empty="")


def who(
    ctx: typer.Context,
    repository: Annotated[str, typer.Argument(metavar="REPOSITORY")],
    action: Annotated[str | None, typer.Option("--can", metavar="ACTION", help="Only who may do this.")] = None,
    as_json: Json = False,
) -> None:
    """List who may do what on a repository, and why; administrators and auditors come last."""
    if action is not None and action not in set(Action):
        raise Invalid(f"An action is one of {', '.join(Action)}.")
    pages = run(ctx, lambda acts, caller: _pages(acts, caller, repository))
    rows = [row for page in pages for holder in page.holders for row in _held(holder)] + _everywhere(pages[-1])
    shown = [row for row in rows if action is None or row["action"] == action]
    show_table(shown, ("principal", "action", "why"), as_json=as_json, empty="Nobody may.")


async def _pages(acts: Administration, caller: Caller, repository: str) -> list[RepositoryAccess]:
    pages = [await acts.effective.who(caller, repository)]
    while pages[-1].next:
        pages.append(await acts.effective.who(caller, repository, after=pages[-1].next))
    return pages


def rights(access: AccountAccess) -> list[dict[str, object]]:
    """What an account can do, as programs see it."""
    return [
        {
            "reach": right.reach,
            "actions": [action.value for action in right.actions],
            "why": right.why,
            "counts": right.live and not access.barred,
            "barred": access.barred,
            "held_off": {action.value: why for action, why in (right.held_off or {}).items()},
            "expires": right.expires_at,
        }
        for right in access.rights
    ]


def explained(found: Explained) -> list[dict[str, object]]:
    """What one principal may do on one repository, as programs see it."""
    rows: list[dict[str, object]] = []
    for action, causes in found.causes.items():
        hindrance = found.hindrances.get(action, "")
        why = ", ".join(str(cause) for cause in causes) or found.barred or "nothing gives it"
        told = f"{why}; {hindrance}" if hindrance else why
        rows.append({"action": action.value, "may": found.may(action), "why": told})
    return [*rows, *({"action": "", "may": False, "why": f"{grant}: {why}"} for grant, why in found.others)]


def _held(holder: Explained) -> list[dict[str, object]]:
    return [
        {"principal": holder.principal.name, "action": action.value, "why": ", ".join(str(cause) for cause in causes)}
        for action, causes in holder.causes.items()
        if causes and action not in holder.hindrances
    ]


def _everywhere(found: RepositoryAccess) -> list[dict[str, object]]:
    free = [action for action in Action if action not in found.hindrances]
    rows: list[dict[str, object]] = [
        {"principal": principal.name, "action": action.value, "why": "administrator"}
        for principal in found.administrators
        for action in free
    ]
    rows += [
        {"principal": principal.name, "action": Action.REVIEW.value, "why": "auditor"} for principal in found.auditors
    ]
    if found.public:
        rows.append({"principal": "anybody", "action": Action.PULL.value, "why": "public project"})
    return rows
