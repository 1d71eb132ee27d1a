"""`gateway audit who-pulled`, `gateway audit replay` and `gateway leak`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.administration import Proposal, Replay, Verb
from gateway.cli.output import cell, say, show_json, show_table, tell_sealed, time_text
from gateway.cli.session import run
from gateway.cli.words import Json, moment
from gateway.errors import Invalid

Days = Annotated[int, typer.Option("--days", metavar="N", help="Requests of so many days.")]
_DIFFERENCES = ("requests", "action", "target", "was", "would_be", "why", "last")


def add_to(app: typer.Typer) -> None:
    app.command("who-pulled")(who_pulled)
    app.command("replay")(replay)


def who_pulled(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="DIGEST|REPOSITORY:TAG", help="REPOSITORY@DIGEST as well.")],
    at: Annotated[str, typer.Option("--at", metavar="TIME", help="What the tag was then.")] = "",
    sealed: Annotated[bool, typer.Option("--sealed", help="Look through sealed months too; takes longer.")] = False,
    as_json: Json = False,
) -> None:
    """Say who pulled this content, from where and when."""
    when = moment(at, datetime.now(UTC)) if at else None
    found = run(
        ctx, lambda administration, caller: administration.tracing.who_pulled(caller, target, when, sealed=sealed)
    )
    if as_json:
        show_json(asdict(found))
        return
    if found.tagged is not None:
        say(f"{target} was {found.digest}, tagged by event {found.tagged}.")
    rows = [asdict(pull) for pull in found.pulls]
    columns = ("principal", "address", "repository", "count", "first", "last", "agent", "last_event")
    show_table(rows, columns, as_json=False, empty=f"Nobody pulled {found.digest}.")
    _tell_part(found.looked, found.whole)
    tell_sealed(found.sealed, "--sealed looks through them too")


def replay(
    ctx: typer.Context,
    grant: Annotated[
        tuple[str, str, str] | None,
        typer.Option("--grant", metavar="PRINCIPAL ROLE PROJECT[/PATTERN]", help="If this were given."),
    ] = None,
    revoke: Annotated[
        tuple[str, str] | None,
        typer.Option("--revoke", metavar="PRINCIPAL PROJECT[/PATTERN]", help="If this were taken away."),
    ] = None,
    days: Days = 30,
    as_json: Json = False,
) -> None:
    """Say which requests that were made would be decided differently if a role were given or taken away."""
    if (grant is None) == (revoke is None):
        raise Invalid("Say one thing: --grant PRINCIPAL ROLE PROJECT, or --revoke PRINCIPAL PROJECT.")
    if grant is not None:
        proposal = Proposal(Verb.GRANT, grant[0], grant[2], grant[1])
    elif revoke is not None:
        proposal = Proposal(Verb.REVOKE, *revoke)
    show_replay(ctx, proposal, days, as_json=as_json)


def show_replay(ctx: typer.Context, proposal: Proposal, days: int, *, as_json: bool) -> None:
    """Replays *proposal* and says what would be different; nothing changes."""
    found = run(ctx, lambda administration, caller: administration.replays.replay(caller, proposal, days=days))
    if as_json:
        show_json(asdict(found))
        return
    rows = [
        {
            "requests": each.count,
            "action": each.action,
            "target": each.target,
            "was": each.outcome,
            "would_be": "allowed" if each.allowed else "refused",
            "why": each.why,
            "last": each.last,
        }
        for each in found.differences
    ]
    show_table(rows, _DIFFERENCES, as_json=False, empty=_nothing(found))
    _tell_part(found.looked, found.whole)
    tell_sealed(found.sealed, "")


def leak(
    ctx: typer.Context,
    credential: Annotated[
        str,
        typer.Argument(
            metavar="ACCOUNT|TOKEN",
            help="A user, a robot, offline:N for the offline token number N, or personal:N for a personal token.",
        ),
    ],
    since: Annotated[str, typer.Option("--since", metavar="DATE", help="Since when it may have been out.")],
    plan: Annotated[bool, typer.Option("--plan", help="Revoke nothing, only tell.")] = False,
    force: Annotated[bool, typer.Option("--force", help="End the last administrator's, too.")] = False,
    as_json: Json = False,
) -> None:
    """Revoke a credential that leaked, and list every digest it pulled or pushed since then."""
    when = moment(since, datetime.now(UTC))
    found = run(
        ctx,
        lambda administration, caller: administration.tracing.leak(caller, credential, when, plan=plan, force=force),
    )
    if as_json:
        show_json(asdict(found))
        return
    done = "Revoked" if found.revoked else "Would revoke"
    say(f"{done}: {cell(found.credential)}. What it touched since {time_text(found.since)}:")
    rows = [asdict(each) for each in found.touched]
    columns = ("verb", "digest", "repository", "reference", "count", "first", "last", "addresses")
    show_table(rows, columns, as_json=False, empty="Nothing.")
    _tell_part(found.looked, found.whole)
    tell_sealed(found.sealed, "")


def _nothing(found: Replay) -> str:
    return f"None of {found.looked} requests since {time_text(found.since)} would be decided differently."


def _tell_part(looked: int, whole: bool) -> None:
    if not whole:
        say(f"Only the newest {looked} events were looked at.", error=True)
