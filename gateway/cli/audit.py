"""`gateway audit`: what happened, and whether the record of it is whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, Final, assert_never

import typer

from gateway.access.principals import Caller
from gateway.administration import Administration
from gateway.administration.audit import PAGE_LIMIT, EventPage
from gateway.audit.chain import Sealed
from gateway.audit.spreadsheet import csv_lines, heading
from gateway.audit.trail import Verification
from gateway.cli import evidence, searches, tracing
from gateway.cli.destination import destination
from gateway.cli.filters import Given, Saved, filtered, remembered, search
from gateway.cli.groups import noun
from gateway.cli.output import counted, say, show_json, show_record, show_table, tell_sealed
from gateway.cli.session import run
from gateway.cli.words import LARGEST, Json
from gateway.errors import Invalid

#: Events written at once: some hundred kilobytes.
_PIECE: Final = 500


class Format(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"


def commands() -> typer.Typer:
    app = noun("The audit trail: what happened, provably.")
    app.command("list")(list_)
    app.command("show")(show)
    app.command("export")(export)
    app.command("verify")(verify)
    evidence.add_to(app)
    searches.add_to(app)
    tracing.add_to(app)
    return app


@filtered
def list_(
    ctx: typer.Context,
    given: Given,
    limit: Annotated[int, typer.Option("--limit", min=1, max=PAGE_LIMIT, help="At most so many.")] = 100,
    before: Annotated[
        int | None, typer.Option("--before", metavar="ID", max=LARGEST, help="Older than this event.")
    ] = None,
    saved: Saved = "",
    as_json: Json = False,
) -> None:
    """List events, the newest first."""

    async def listed(administration: Administration, caller: Caller) -> EventPage:
        wanted = await remembered(administration, caller, saved, given)
        return await administration.audit.find_events(caller, wanted, before=before, limit=limit, files=None)

    found = run(ctx, listed)
    rows = list(found.events) if as_json else [_line(event) for event in found.events]
    columns = ("time", "outcome", "kind", "principal", "target", "address", "reason", "id")
    show_table(rows, columns, as_json=as_json, empty="There are no such events.")
    tell_sealed(found.sealed, "--since {since} looks through them, and `gateway audit export` has them too")


def show(
    ctx: typer.Context, number: Annotated[int, typer.Argument(metavar="ID", max=LARGEST)], as_json: Json = False
) -> None:
    """Show one event with everything it says, and whether its neighbours in the chain follow one another."""
    place = run(ctx, lambda administration, caller: administration.audit.locate_event(caller, number))
    if as_json:
        show_json(place.event)
        return
    chain = place.fault or f"sound: after event {place.previous or '-'}, before event {place.following or '-'}"
    show_record({**{name: value for name, value in place.event.items() if value != ""}, "chain": chain}, as_json=False)


@filtered
def export(
    ctx: typer.Context,
    given: Given,
    form: Annotated[Format, typer.Option("--format", help="JSON lines, or CSV for spreadsheets.")] = Format.JSONL,
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Instead of standard output.")] = None,
) -> None:
    """
    Write every event that matches, the oldest first.

    JSON lines hold what was sealed, letter by letter, and so verify on any machine: docs/evidence.md.
    """
    wanted = search(given)

    async def write(administration: Administration, caller: Caller) -> int:
        if form is Format.JSONL:
            return write_lines(await administration.audit.export_lines(caller, wanted), stream)
        events = await administration.audit.export_events(caller, wanted)
        return write_events(events, form, stream)

    with destination(output) as stream:
        count = run(ctx, write)
    if output is not None:
        say(f"Wrote {counted(count, 'event')} to {output}.")


def verify(
    ctx: typer.Context,
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", metavar="CHECKPOINT", help="A file with checkpoints, or lines of a sink."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The public key that signed them, kept elsewhere.")
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Say whether the trail is as it was written.

    All of it is read, sealed months too; the exit status is 1 if the trail was edited, and the first bad event is
    named. With --against, also if events that a checkpoint names are gone, were purged, or are others: --key should be
    a copy of the public key that was kept off this host, for whoever has the data directory can put another key there.
    """
    if key is not None and not against:
        raise Invalid("--key is for --against; name a file with checkpoints too.")
    statements, pem = evidence.statements(against or []), evidence.text_of(key) if key is not None else None

    async def verified(administration: Administration, caller: Caller) -> Verification:
        if not statements:
            return await administration.audit.verify(caller)
        return await administration.evidence.verify_against(caller, statements, pem)

    with evidence.told():
        found = run(ctx, verified)
    if as_json:
        result = {"whole": found.whole, "count": found.count, "head": found.head, "sealed": found.sealed}
        result |= {"purged": found.purged, "checkpoints": found.compared, "uncompared": found.uncompared}
        show_json({**result, "fault": found.fault or None, "event": found.seq if found.fault else None})
    elif found.fault:
        say(f"gateway: the trail is damaged: {found.fault}.", error=True)
    else:
        say(f"The trail is whole: {found.count} events, the last one's hash is {found.head}.")
        if found.sealed or found.purged:
            say(f"{found.sealed} of them are in segments, {found.purged} were purged and have signed stubs.")
        if statements:
            say(f"It holds what {found.compared} of {len(statements)} checkpoints name.")
        if found.uncompared:
            uncompared = counted(found.uncompared, "checkpoint")
            say(f"gateway: {uncompared} cannot be compared: the events were purged.", error=True)
    raise typer.Exit(0 if found.whole else 1)


def write_events(events: Iterable[Sealed | Mapping[str, object]], form: Format, stream: IO[str]) -> int:
    """Writes *events* as they come, in bounded memory; returns how many there were."""
    count, events = 0, iter(events)
    match form:
        case Format.JSONL:
            for event in events:
                stream.write(json.dumps(event.record() if isinstance(event, Sealed) else event) + "\n")
                count += 1
        case Format.CSV:
            stream.write(heading())
            while some := list(islice(events, _PIECE)):
                stream.write(csv_lines(some))
                count += len(some)
        case _:
            assert_never(form)
    return count


def write_lines(lines: Iterable[str], stream: IO[str]) -> int:
    """Writes *lines* as they come, in bounded memory; returns how many there were."""
    count, remaining = 0, iter(lines)
    while some := list(islice(remaining, _PIECE)):
        some.append("")
        stream.write("\n".join(some))
        count += len(some) - 1
    return count


def _line(event: dict[str, object]) -> dict[str, object]:
    return {**event, "time": str(event["time"])[:19] + "Z", "target": _target(event)}


def _target(event: dict[str, object]) -> str:
    """What the event is about, short: repository and reference, project, or the account or thing it names."""
    place = str(event.get("repository") or event.get("project") or "")
    reference, digest = str(event.get("reference") or ""), str(event.get("digest") or "")
    if reference and ":" not in reference:
        return f"{place}:{reference}"
    if reference or digest:
        return f"{place}@{(reference or digest)[:19]}"
    detail = event.get("detail")
    if isinstance(detail, dict):
        about = [str(detail[name]) for name in ("account", "role", "reach", "event", "kid") if name in detail]
        return " ".join(about if "reach" in detail else (place, *about)).strip()
    return place
