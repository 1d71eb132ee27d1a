"""`gateway trash`: what was deleted and can still be had back."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.administration.trash import TrashRow, parse_place
from gateway.cli.groups import noun
from gateway.cli.output import say, show_table
from gateway.cli.session import run
from gateway.cli.words import Json


def commands() -> typer.Typer:
    app = noun("The trash: deleted tags and manifests that can still be had back.")
    app.command("list")(list_)
    app.command("restore")(restore)
    app.command("empty")(empty)
    return app


def list_(
    ctx: typer.Context,
    place: Annotated[
        str | None, typer.Argument(metavar="[PROJECT|REPOSITORY]", help="All of them if nothing is named.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List what was deleted and can be had back, by whom and until when, the newest first."""
    repository = place if place and "/" in place else None
    project = place if place and "/" not in place else None
    rows = run(ctx, lambda administration, caller: administration.trash.list_trash(caller, repository, project))
    columns = ("name", "deleted", "deleted_by", "until", "digest")
    show_table([trashed(row) for row in rows], columns, as_json=as_json, empty="The trash is empty.")


def restore(ctx: typer.Context, place: Annotated[str, typer.Argument(metavar="REPOSITORY@DIGEST")]) -> None:
    """Bring a deleted manifest back, with those of its tags that name nothing else now."""
    repository, digest = parse_place(place)
    tags = run(ctx, lambda administration, caller: administration.trash.restore_manifest(caller, repository, digest))
    say(f"Restored {repository}@{digest}{' as ' + ', '.join(tags) if tags else ', which no tag names'}.")


def empty(
    ctx: typer.Context,
    repository: Annotated[str | None, typer.Argument(metavar="[REPOSITORY]", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="The trash of every repository.")] = False,
) -> None:
    """Drop what is in the trash for good; the bytes are freed by the next sweep."""
    if (repository is None) != every:
        raise typer.BadParameter("name a repository, or say --all")
    count = run(ctx, lambda administration, caller: administration.trash.empty_trash(caller, repository))
    say(f"Dropped {count} deleted {'tag or manifest' if count == 1 else 'tags and manifests'}.")


def trashed(row: TrashRow) -> dict[str, object]:
    """A deleted tag or manifest as programs see it."""
    name = f"{row.repository}:{row.tag}" if row.tag else f"{row.repository}@{row.digest[:19]}"
    return {
        "name": name,
        "repository": row.repository,
        "tag": row.tag,
        "digest": row.digest,
        "size_bytes": row.size_bytes,
        "deleted": row.deleted_at,
        "deleted_by": row.deleted_by,
        "until": row.until,
    }
