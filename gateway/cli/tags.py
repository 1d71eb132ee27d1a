"""`gateway tag`: the tags of a repository."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated

import typer

from gateway.access.principals import Caller
from gateway.administration import Administration, TagMove, TagRow
from gateway.administration.histories import LIMIT
from gateway.administration.trash import parse_place
from gateway.cli.groups import noun
from gateway.cli.output import say, show_table
from gateway.cli.session import run
from gateway.cli.words import Json
from gateway.errors import Invalid


def commands() -> typer.Typer:
    app = noun("Tags: the names that manifests are pulled by.")
    app.command("list")(list_)
    app.command("remove")(remove)
    app.command("history")(history)
    app.command("restore")(restore)
    return app


def list_(
    ctx: typer.Context,
    repository: Annotated[str, typer.Argument(metavar="REPOSITORY")],
    as_json: Json = False,
) -> None:
    """List the tags of a repository."""
    rows = run(ctx, lambda administration, caller: administration.repositories.list_tags(caller, repository))
    columns = ("name", "digest", "moved", "moved_by")
    show_table([tag(row) for row in rows], columns, as_json=as_json, empty="The repository has no tags.")


def remove(
    ctx: typer.Context,
    repository: Annotated[str, typer.Argument(metavar="REPOSITORY:TAG")],
    name: Annotated[str | None, typer.Argument(metavar="[TAG]", show_default=False)] = None,
) -> None:
    """Remove one tag; the manifest stays, by its digest."""
    place, _, named = repository.partition(":")
    found = name or named
    if not found or (name and named):
        raise Invalid("Name one tag, as in: gateway tag remove gallery/ui:v1")
    stays = run(ctx, lambda administration, caller: administration.repositories.remove_tag(caller, place, found))
    say(f"Removed tag {place}:{found}. {stays}".rstrip())


def history(
    ctx: typer.Context,
    place: Annotated[str, typer.Argument(metavar="REPOSITORY:TAG")],
    as_json: Json = False,
) -> None:
    """Where a tag pointed, who moved or removed it, and what of that can be had back."""
    repository, name = parse_place(place)

    async def moved(administration: Administration, caller: Caller) -> list[TagMove]:
        of_tag = partial(administration.histories.of_tag, caller, repository, name, limit=LIMIT, events=None)
        page = await of_tag()
        found = [*page.moves]
        while page.before is not None:
            page = await of_tag(before=page.before)
            found += page.moves
        return found

    moves = run(ctx, moved)
    columns = ("time", "kind", "principal", "before", "after", "restorable", "event")
    show_table([asdict(move) for move in moves], columns, as_json=as_json, empty="The trail says nothing of it.")
    last, sealed = run(ctx, lambda administration, _: administration.audit.sealed_away())
    if last:
        say(f"What happened up to {sealed[:10]} is sealed away and not looked at; an export has it.", error=True)


def restore(
    ctx: typer.Context,
    place: Annotated[str, typer.Argument(metavar="REPOSITORY:TAG")],
    to: Annotated[
        str, typer.Option("--to", metavar="DIGEST", help="Where it shall point, if not where it did last.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Even if it points elsewhere now.")] = False,
) -> None:
    """Bring a removed tag back, with its manifest if that was deleted too, or move it back to an earlier digest."""
    repository, name = parse_place(place)
    digest = run(
        ctx,
        lambda administration, caller: administration.trash.restore_tag(caller, repository, name, to=to, force=force),
    )
    say(f"{repository}:{name} names {digest} again.")


def tag(row: TagRow) -> dict[str, object]:
    """A tag as programs see it."""
    return {
        "name": row.name,
        "digest": row.digest,
        "media_type": row.media_type,
        "size_bytes": row.size_bytes,
        "moved": row.moved_at,
        "moved_by": row.moved_by,
    }
