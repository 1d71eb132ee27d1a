"""`gateway sweep`: removes content that nothing references, with a plan before and a receipt after."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from gateway.administration.sweeping import Amount, Plan, Receipt, Stock, Swept, told
from gateway.cli.importing import size_text
from gateway.cli.output import say, show_json, show_table
from gateway.cli.session import operator, place, rooms
from gateway.cli.words import Json, duration

_TEXTS = {
    "links": "links of repositories to blobs that no manifest there names",
    "blobs": "records of blobs that no repository links",
    "files": "files of those blobs",
    "strays": "files of blobs that no record knows",
    "uploads": "uploads that have expired",
    "spools": "bytes of uploads that are gone",
    "leftovers": "left by imports and sweeps that were stopped",
}


def sweep(
    ctx: typer.Context,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would go; change nothing.")] = False,
    as_json: Json = False,
    grace: Annotated[
        str | None,
        typer.Option("--grace", metavar="DURATION", help="How long to keep what nothing references: 24h, 7d."),
    ] = None,
) -> None:
    """
    Remove blobs that no manifest names, expired uploads and what crashes left, whether or not the gateway runs.

    Manifests go only when they are deleted: those without a tag stay, for they can be pulled by digest. What was
    pushed, mounted, asked for or let go within the grace period stays too; [upkeep] grace_hours if --grace is not
    given. A grace shorter than the longest push may cost that push a repetition.
    """
    seconds = int(duration(grace).total_seconds()) if grace is not None else None
    if seconds is None:
        seconds = place(ctx).settings().upkeep.grace_hours * 3600
    from gateway.app import sweeping

    with rooms(ctx) as joined:
        sweeps = sweeping(joined)
        if plan:
            planned = asyncio.run(sweeps.plan(operator(), seconds))
            show_json(_told_plan(planned, seconds)) if as_json else _show_plan(planned)
            return
        receipt = asyncio.run(sweeps.sweep(operator(), seconds))
        show_json(_told_receipt(receipt, seconds)) if as_json else _show_receipt(receipt)


def _told_plan(plan: Plan, grace_seconds: int) -> dict[str, object]:
    facts = {"plan": True, "grace_seconds": grace_seconds}
    return {**facts, **told(plan.going), "waiting": asdict(plan.waiting), "before": _told_stock(plan.stock)}


def _told_receipt(receipt: Receipt, grace_seconds: int) -> dict[str, object]:
    return {
        "plan": False,
        "grace_seconds": grace_seconds,
        **told(receipt.gone),
        "waiting": asdict(receipt.waiting),
        "busy": receipt.busy,
        "before": _told_stock(receipt.before),
        "after": _told_stock(receipt.after),
        "seconds": round(receipt.seconds, 3),
    }


def _told_stock(stock: Stock) -> dict[str, object]:
    return {**asdict(stock), "balanced": stock.balanced}


def _show_plan(plan: Plan) -> None:
    _show_going(plan.going, empty="Nothing would go.")
    say(f"{size_text(plan.going.freed_bytes)} would be freed.{_kept(plan.waiting)}")
    _show_stock("There are", plan.stock)


def _show_receipt(receipt: Receipt) -> None:
    _show_going(receipt.gone, empty="There was nothing to remove.")
    freed = f"{size_text(receipt.gone.freed_bytes)} were freed in {receipt.seconds:.1f} s."
    busy = f" {receipt.busy} were being brought back, and stay." if receipt.busy else ""
    say(f"{freed}{busy}{_kept(receipt.waiting)}")
    _show_stock("There were", receipt.before)
    _show_stock("There are", receipt.after)


def _show_going(going: Swept, *, empty: str) -> None:
    amounts = {name: getattr(going, name) for name in _TEXTS}
    rows = [
        {"count": amount.count, "bytes": amount.bytes, "what": _TEXTS[name]}
        for name, amount in amounts.items()
        if amount.count
    ]
    show_table(rows, ("count", "bytes", "what"), as_json=False, empty=empty)


def _kept(waiting: Amount) -> str:
    if not waiting:
        return ""
    return f" {waiting.count} links ({size_text(waiting.bytes)}) that no manifest names are still within their grace."


def _show_stock(verb: str, stock: Stock) -> None:
    text = (
        f"{verb} {stock.recorded.count} blobs of {size_text(stock.recorded.bytes)} in the records, "
        f"{stock.stored.count} files of {size_text(stock.stored.bytes)} on the disk"
    )
    strays = f", {stock.strays.count} of them not recorded" if stock.strays else ""
    say(f"{text}{strays}.")
    if not stock.balanced:
        wrong = f"{stock.missing.count} recorded blobs have no file, {stock.misfits.count} a file of another size"
        say(f"{wrong}: push them again to heal them.", error=True)
