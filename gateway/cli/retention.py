"""`gateway retention`: what of its tags a project keeps."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.administration.retention import Applied, RetentionPlan
from gateway.cli.groups import noun
from gateway.cli.output import counted, say, show_json, show_table
from gateway.cli.session import run
from gateway.cli.words import Json
from gateway.errors import Invalid

Project = Annotated[str, typer.Argument(metavar="PROJECT")]


def commands() -> typer.Typer:
    app = noun("Retention: which of its tags a project keeps.")
    app.command("show")(show)
    app.command("set")(set_)
    app.command("plan")(plan)
    app.command("apply")(apply)
    return app


def show(ctx: typer.Context, project: Project) -> None:
    """Say what a project keeps."""
    found = run(ctx, lambda administration, caller: administration.retention.show(caller, project))
    say(f"{project} keeps {found}.")


def set_(
    ctx: typer.Context,
    project: Project,
    last: Annotated[
        int | None, typer.Option("--last", metavar="N", help="Keep the last N tags pushed to each repository.")
    ] = None,
    matching: Annotated[
        list[str] | None, typer.Option("--matching", metavar="PATTERN", help="Keep these: v*. Repeat it for more.")
    ] = None,
    pulled: Annotated[
        int | None, typer.Option("--pulled-within", metavar="DAYS", help="Keep what was pulled or pushed since then.")
    ] = None,
    everything: Annotated[bool, typer.Option("--everything", help="Keep every tag.")] = False,
) -> None:
    """
    Say what a project keeps from now on, in place of what it kept. Any one of the reasons keeps a tag.

    Nothing goes at once: look with `gateway retention plan`. A gateway that serves applies it every day.
    """
    given = last is not None or bool(matching) or pulled is not None
    if given == everything:
        raise Invalid("Say what is kept: --last, --matching, --pulled-within, or --everything.")
    found = run(
        ctx,
        lambda administration, caller: administration.retention.set(
            caller, project, last=last, matching=matching or (), pulled_days=pulled
        ),
    )
    say(f"{project} keeps {found}. See what would go: gateway retention plan {project}")


def plan(ctx: typer.Context, project: Project, as_json: Json = False) -> None:
    """Say of every tag whether it would stay, and why; change nothing."""
    plans = run(ctx, lambda administration, caller: administration.retention.plan(caller, project))
    rows = [row for each in plans for row in _decided(each)]
    show_table(rows, ("tag", "stays", "reasons", "digest"), as_json=as_json, empty=f"{project} has no tags.")
    if not as_json:
        going = sum(len(each.going) for each in plans)
        say(f"{going} of {len(rows)} tags would go.")


def apply(ctx: typer.Context, project: Project, as_json: Json = False) -> None:
    """Remove the tags that a project does not keep, and the manifests nothing names then; into the trash."""
    done = run(ctx, lambda administration, caller: administration.retention.apply(caller, project))
    if as_json:
        show_json([_applied(each) for each in done])
        return
    for each in done:
        along = counted(len(each.manifests), "manifest")
        say(f"{each.repository}: removed {', '.join(each.tags)}; {along} went with them.")
    if not done:
        say("Nothing was to go.")


def _decided(found: RetentionPlan) -> list[dict[str, object]]:
    return [
        {
            "tag": f"{found.repository}:{each.tag.name}",
            "stays": each.stays,
            "reasons": "; ".join(each.reasons),
            "digest": each.tag.digest,
        }
        for each in found.decisions
    ]


def _applied(done: Applied) -> dict[str, object]:
    return {"repository": done.repository, "tags": list(done.tags), "manifests": list(done.manifests)}
