"""`gateway audit key`, `checkpoint`, `sinks`, `retain`: evidence that leaves the host, and what stays of old months."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.access.principals import Caller
from gateway.administration.evidence import AHEAD, Lag, Plan, Receipt
from gateway.audit.offline import Unreadable, lines_of, statements_in
from gateway.cli.output import counted, say, show_json, show_table
from gateway.cli.session import run
from gateway.cli.words import Json, before
from gateway.errors import Invalid

if TYPE_CHECKING:
    from gateway.administration import Administration

Output = Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Instead of standard output.")]


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the noun *app*."""
    app.command("key")(key)
    app.command("checkpoint")(checkpoint)
    app.command("sinks")(sinks)
    app.command("retain")(retain)


def key(ctx: typer.Context, output: Output = None, as_json: Json = False) -> None:
    """
    Print the public key that checkpoints are verified with.

    Keep a copy off this host, where the gateway's administrators cannot change it.
    """
    found = run(ctx, lambda administration, caller: administration.evidence.public_key(caller))
    if as_json:
        show_json({"kid": found.kid, "pem": found.pem})
    elif output is not None:
        _write(output, found.pem)
        say(f"Wrote the key {found.kid} to {output}.")
    else:
        say(found.pem.rstrip("\n"))


def checkpoint(
    ctx: typer.Context,
    output: Output = None,
    every: Annotated[bool, typer.Option("--all", help="All that are kept, not only a new one.")] = False,
) -> None:
    """
    Make a checkpoint now, and print it: one line of JSON, signed.

    Kept off this host, it proves later that nothing up to now was changed or removed: gateway audit verify --against.
    """
    made = run(ctx, lambda administration, caller: administration.evidence.checkpoint(caller))
    lines = [made.line]
    if every:
        lines = [each.line for each in run(ctx, lambda acts, caller: acts.evidence.checkpoints(caller))]
    if output is not None:
        _write(output, "".join(f"{line}\n" for line in lines))
        say(f"Wrote {counted(len(lines), 'checkpoint')} to {output}, the last one of event {made.seq}.")
        return
    for line in lines:
        say(line)


def sinks(ctx: typer.Context, as_json: Json = False) -> None:
    """List the sinks, how far each has got, and what keeps it."""
    rows = run(ctx, lambda administration, caller: administration.evidence.sinks(caller))
    columns = ("name", "kind", "place", "delivered_to", "lag_events", "lag_seconds", "delivered_at", "state")
    empty = "There are no sinks; docs/evidence.md says how to set one up."
    show_table([_lag(row) for row in rows], columns, as_json=as_json, empty=empty)


def retain(
    ctx: typer.Context,
    older_than: Annotated[str, typer.Option("--older-than", metavar="AGE", help="Seal what is older: 13mo, 2y, 400d.")],
    purge_older_than: Annotated[
        str | None,
        typer.Option("--purge-older-than", metavar="AGE", help="Remove sealed events that are older, for good."),
    ] = None,
    by_clock: Annotated[
        bool, typer.Option("--by-clock", help="Count ages from the clock, however long before the newest event was.")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would happen; change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """
    Seal old months into compressed files, and take them out of the database.

    The files are in the data directory, under segments/; they verify like the rest, and are exported with it. What is
    purged is gone: a signed stub stays, by which the rest still verifies. Ages are counted from no later than a day
    after the newest event, in case the clock is wrong.
    """
    clock = datetime.now(UTC)
    # Said wrongly, they are refused before anything is opened.
    _ends(older_than, purge_older_than, clock)

    async def act(administration: Administration, caller: Caller) -> _Retained:
        moment = clock if by_clock else await administration.evidence.moment()
        cut, purge = _ends(older_than, purge_older_than, moment)
        if plan:
            return _Retained(moment, cut, await administration.evidence.plan(caller, cut, purge))
        return _Retained(moment, cut, await administration.evidence.retain(caller, cut, purge))

    found = run(ctx, act)
    match found.done:
        case Plan() as planned:
            show_json(_told_plan(planned, found.cut)) if as_json else _show_plan(planned, found.cut)
        case Receipt() as receipt:
            show_json(_told_receipt(receipt, found.cut)) if as_json else _show_receipt(receipt)
    if found.moment < clock:
        newest = f"The newest event is of {found.moment - AHEAD:%Y-%m-%d}, and the clock says {clock:%Y-%m-%d}"
        told = f"{newest}: ages were counted from {found.moment:%Y-%m-%d}. If the clock is right, add --by-clock."
        say(told, error=True)


@dataclass(frozen=True, slots=True)
class _Retained:
    """What was *done*, or would be, with what is older than *cut*, as counted from the *moment*."""

    moment: datetime
    cut: datetime
    done: Plan | Receipt


def _ends(older_than: str, purge_older_than: str | None, now: datetime) -> tuple[datetime, datetime | None]:
    """Before when events are sealed, and before when they are purged; raises `Invalid`."""
    cut = before(older_than, now)
    purge = before(purge_older_than, now) if purge_older_than is not None else None
    if purge is not None and purge > cut:
        raise Invalid("What is purged must be older than what is sealed; give --purge-older-than a longer time.")
    return cut, purge


def statements(files: Sequence[Path]) -> list[Mapping[str, Any]]:
    """The signed statements in *files*; raises `Invalid`."""
    with told():
        return [each for path in files for each in statements_in(lines_of(path), path)]


def text_of(path: Path) -> str:
    """What is in the file *path*; raises `Invalid`."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}.") from None


@contextmanager
def told() -> Iterator[None]:
    """What cannot be read becomes `Invalid`."""
    try:
        yield
    except Unreadable as error:
        raise Invalid(f"{str(error).rstrip('.')}.") from None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {(error.strerror or 'unknown reason').lower()}.") from None


def _lag(row: Lag) -> dict[str, object]:
    state = "failing" if row.failing_since is not None else "behind" if row.events else "up to date"
    return {
        "name": row.name,
        "kind": row.kind,
        "place": row.place,
        "delivered_to": row.seq,
        "lag_events": row.events,
        "lag_seconds": row.seconds,
        "delivered_at": _moment(row.delivered_at),
        "failing_since": _moment(row.failing_since),
        "trouble": row.trouble,
        "state": (f"{state}: {row.trouble}" if row.trouble else state) if row.wanted else "not in the settings",
    }


def _moment(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None


def _told_plan(plan: Plan, cut: datetime) -> dict[str, object]:
    purge = [{"file": each.file, "events": each.count, "last": each.last_seq} for each in plan.purge]
    return {"plan": True, "before": cut, "months": [asdict(month) for month in plan.months], "purge": purge}


def _told_receipt(receipt: Receipt, cut: datetime) -> dict[str, object]:
    made = [
        {"file": each.file, "sha256": each.file_sha256, "bytes": each.file_bytes, "events": each.count}
        for each in receipt.segments
    ]
    gone = {"purged": receipt.purged, "waiting": receipt.waiting, "lingering": receipt.lingering}
    return {"plan": False, "before": cut, "segments": made, "events": receipt.events, **gone}


def _show_plan(plan: Plan, cut: datetime) -> None:
    rows = [asdict(month) for month in plan.months]
    nothing = f"There is nothing to seal from before {cut:%Y-%m-%d}."
    show_table(rows, ("month", "events", "first", "last"), as_json=False, empty=nothing)
    if plan.purge:
        events = sum(each.count for each in plan.purge)
        say(f"{counted(events, 'event')} in {counted(len(plan.purge), 'file')} would be removed for good.")


def _show_receipt(receipt: Receipt) -> None:
    size = sum(each.file_bytes for each in receipt.segments)
    say(f"Sealed {counted(receipt.events, 'event')} into {counted(len(receipt.segments), 'segment')} of {size} bytes.")
    if receipt.purged:
        say(f"Removed {receipt.purged} events for good; signed stubs stand in their place.")
    if receipt.waiting:
        say(f"{receipt.waiting} files were sealed less than a day ago, and are removed by a run after that.")
    if receipt.lingering:
        say(f"{receipt.lingering} files were purged less than a day ago, and are removed by a run after that.")
