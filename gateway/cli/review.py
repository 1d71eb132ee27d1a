"""`gateway review`: look through a period, say of each finding what is to be done, sign off, hand over."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.access.principals import Caller
from gateway.administration import Administration, ReviewDetail
from gateway.administration.reviews import LISTED, Finding, Review
from gateway.audit.review import RULES, Policy
from gateway.cli.destination import binary_destination
from gateway.cli.groups import noun
from gateway.cli.output import cell, say, show_json, show_table, time_text
from gateway.cli.session import run
from gateway.cli.words import LARGEST, Json, moment

Number = Annotated[int, typer.Argument(metavar="REVIEW", max=LARGEST, help="Its number.")]
Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="One line, which is kept for good.")]


def commands() -> typer.Typer:
    app = noun("Reviews: look through what happened in a period, and sign.")
    for name, command in (
        ("begin", begin),
        ("list", list_),
        ("show", show),
        ("mark", mark),
        ("sign-off", sign_off),
        ("export", export),
    ):
        app.command(name)(command)
    return app


def begin(
    ctx: typer.Context,
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="The period begins then: 2026-01-01, or 30d.")],
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="It ends before then; now if not said.")] = "",
    project: Annotated[str, typer.Option("--project", metavar="NAME", help="Of this project alone.")] = "",
    protect: Annotated[
        list[str] | None, typer.Option("--protect", metavar="PATTERN", help="Tags that should stay; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Look through a period with every rule, and keep what they find."""
    now = datetime.now(UTC)
    begins, ends = moment(since, now), moment(until, now) if until else now
    policy = Policy(protected=tuple(protect)) if protect else Policy()
    found = run(
        ctx,
        lambda administration, caller: administration.reviews.begin(
            caller, begins, ends, project=project or None, policy=policy
        ),
    )
    _show(found, as_json=as_json)


def list_(
    ctx: typer.Context,
    project: Annotated[str, typer.Option("--project", metavar="NAME", help="Of this project alone.")] = "",
    every_project: Annotated[
        bool, typer.Option("--every-project", help="Those that looked at every project alone.")
    ] = False,
    unsigned: Annotated[bool, typer.Option("--open", help="Those that are not signed off alone.")] = False,
    as_json: Json = False,
) -> None:
    """List the reviews, the newest first."""

    async def listed(administration: Administration, caller: Caller) -> list[Review]:
        found: list[Review] = []
        while more := await administration.reviews.list_reviews(
            caller,
            project or None,
            every_project=every_project,
            unsigned=unsigned,
            below=found[-1].number if found else None,
        ):
            found += more
            if len(more) < LISTED:
                break
        return found

    found = run(ctx, listed)
    columns = ("review", "project", "since", "until", "begun_by", "signed_by", "signed")
    empty = "There are no reviews; begin one with: gateway review begin --since 30d"
    show_table([_review(each) for each in found], columns, as_json=as_json, empty=empty)


def show(ctx: typer.Context, number: Number, as_json: Json = False) -> None:
    """Show a review with what each rule found, and why it looks."""
    _show(run(ctx, lambda administration, caller: administration.reviews.show(caller, number)), as_json=as_json)


def mark(
    ctx: typer.Context,
    number: Number,
    finding: Annotated[int, typer.Argument(metavar="FINDING", max=LARGEST, help="Its number in the review.")],
    said: Annotated[str, typer.Argument(metavar="MARK", help="fine or follow-up.")],
    note: Note = "",
) -> None:
    """Say of a finding that it is fine, or what is to be followed up."""
    word = said.replace("-", "_")
    run(ctx, lambda administration, caller: administration.reviews.mark(caller, number, finding, word, note))
    say(f"Marked finding {finding} of review {number}: {said}.")


def sign_off(
    ctx: typer.Context,
    number: Number,
    note: Note = "",
    shown: Annotated[
        str, typer.Option("--shown", metavar="SHA256", help="Only what `show` showed with this SHA-256.")
    ] = "",
) -> None:
    """Sign a review off, for good, once every finding has a mark."""
    signed = run(ctx, lambda administration, caller: administration.reviews.sign_off(caller, number, note, shown=shown))
    say(f"Signed off review {number} as {cell(signed.signed_by)}. SHA-256 of what was signed: {signed.content}")


def export(
    ctx: typer.Context,
    number: Number,
    output: Annotated[Path, typer.Option("--output", metavar="FILE.zip", help="The evidence pack, made anew.")],
) -> None:
    """Write the evidence pack of a signed review: to be read and verified without the gateway."""

    async def write(administration: Administration, caller: Caller) -> None:
        pack = await administration.reviews.export(caller, number)
        await asyncio.to_thread(pack.zipped, stream)

    with binary_destination(output) as stream:
        run(ctx, write)
    say(f"Wrote {output}. On any machine: unzip it, and run: python3 verify.py")


def _show(detail: ReviewDetail, *, as_json: bool) -> None:
    review = detail.review
    if as_json:
        show_json(
            {
                **_review(review),
                "runs": [asdict(run) for run in review.runs],
                "findings": _rows(detail.findings),
                "shown": detail.shown,
            }
        )
        return
    scope = f"project {review.project}" if review.project else "every project"
    say(f"Review {review.number}, {scope}, from {time_text(review.since)} to {time_text(review.until)}.")
    if review.signed_at is not None:
        said = f" {cell(review.note)}" if review.note else ""
        say(f"Signed off by {cell(review.signed_by)} at {time_text(review.signed_at)}.{said}")
    runs = {run.rule: run for run in review.runs}
    for rule in RULES:
        found = [each for each in detail.findings if each.rule == rule.name]
        more = runs[rule.name].found - len(found) if rule.name in runs else 0
        say("")
        say(f"{rule.title}. {rule.why}")
        if rule.name in runs and not runs[rule.name].whole:
            say("Only the newest events were looked at.")
        show_table(_rows(found), ("finding", "subject", "summary", "mark", "note"), as_json=False, empty="Nothing.")
        if more:
            say(f"{more} more are not listed.")
    unmarked = sum(not each.mark for each in detail.findings)
    say("")
    if review.signed_at is None:
        say(f"{unmarked} of {len(detail.findings)} findings have no mark. SHA-256 of what is shown: {detail.shown}")


def _rows(found: tuple[Finding, ...] | list[Finding]) -> list[dict[str, object]]:
    return [
        {
            "finding": each.number,
            "rule": each.rule,
            "subject": each.subject,
            "summary": each.summary,
            "first": each.first,
            "last": each.last,
            "count": each.count,
            "events": list(each.events),
            "mark": each.mark,
            "note": each.note,
            "marked": each.marked_at,
            "marked_by": each.marked_by,
        }
        for each in found
    ]


def _review(review: Review) -> dict[str, object]:
    return {
        "review": review.number,
        "project": review.project,
        "since": review.since,
        "until": review.until,
        "begun": review.begun_at,
        "begun_by": review.begun_by,
        "signed": review.signed_at,
        "signed_by": review.signed_by,
        "note": review.note,
        "content": review.content,
    }
