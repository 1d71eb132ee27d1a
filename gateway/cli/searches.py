"""`gateway audit overview`, and the searches that somebody keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from gateway.access.principals import Caller
from gateway.administration import Administration
from gateway.audit.overview import Bucket, Overview, Share
from gateway.cli.filters import Given, Saved, filtered, remembered
from gateway.cli.output import cell, say, show_json, show_table, time_text
from gateway.cli.session import run
from gateway.cli.words import Json

Name = Annotated[str, typer.Argument(metavar="NAME")]
_WIDEST = 40


def add_to(app: typer.Typer) -> None:
    app.command("overview")(overview)
    app.command("save")(save)
    app.command("saved")(saved_)
    app.command("forget")(forget)


@filtered
def overview(
    ctx: typer.Context,
    given: Given,
    saved: Saved = "",
    as_json: Json = False,
) -> None:
    """Show when events were, and who, from where and in which repositories most of them."""

    async def looked(administration: Administration, caller: Caller) -> Overview:
        wanted = await remembered(administration, caller, saved, given)
        return await administration.audit.overview(caller, wanted)

    found = run(ctx, looked)
    if as_json:
        show_json(asdict(found))
        return
    _show_buckets(found.timeline.buckets)
    facets = found.facets
    for title, shares in (
        ("principals", facets.principals),
        ("addresses", facets.addresses),
        ("repositories", facets.repositories),
    ):
        say("")
        _show_shares(title, shares)
    reach = "every event" if facets.whole else "the newest events"
    say("")
    say(f"Counted {facets.counted}: {reach} from {time_text(facets.since)} to {time_text(facets.until)}.")
    timeline = found.timeline
    if not timeline.whole:
        say(f"The times show the newest events, since {time_text(timeline.since)}; narrow the search for all.")
    elif (timeline.since, timeline.until) != (facets.since, facets.until):
        say(f"The times show every event from {time_text(timeline.since)} to {time_text(timeline.until)}.")


@filtered
def save(
    ctx: typer.Context,
    name: Name,
    given: Given,
) -> None:
    """Keep a search under a name of your own; --since 24h goes on to mean a day before it is asked."""
    kept = run(ctx, lambda administration, caller: administration.audit.save_search(caller, name, given))
    say(f"Saved {cell(kept.name)}; use it with: gateway audit list --saved NAME")


def saved_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the searches you keep."""
    kept = run(ctx, lambda administration, caller: administration.audit.list_searches(caller))
    rows = [{"name": each.name, "filters": dict(each.filters), "created": each.created_at} for each in kept]
    empty = "You keep no searches; keep one with: gateway audit save NAME --project …"
    show_table(rows, ("name", "filters", "created"), as_json=as_json, empty=empty)


def forget(ctx: typer.Context, name: Name) -> None:
    """Forget a search you keep."""
    run(ctx, lambda administration, caller: administration.audit.remove_search(caller, name))
    say(f"Forgot {cell(name)}.")


def _show_buckets(buckets: Sequence[Bucket]) -> None:
    most = max((bucket.total for bucket in buckets), default=0)
    rows = [
        {
            "from": time_text(bucket.begins),
            "allowed": bucket.allowed,
            "denied": bucket.denied,
            "failed": bucket.failed,
            "events": "#" * (-(-bucket.total * _WIDEST // most) if most else 0) or " ",
        }
        for bucket in buckets
        if bucket.total
    ]
    show_table(
        rows, ("from", "allowed", "denied", "failed", "events"), as_json=False, empty="There are no such events."
    )


def _show_shares(title: str, shares: Sequence[Share]) -> None:
    rows = [{title: share.value, **{name: getattr(share, name) for name in _COUNTS}} for share in shares]
    show_table(rows, (title, *_COUNTS), as_json=False, empty=f"No {title}.")


_COUNTS = ("total", "allowed", "denied", "failed")
