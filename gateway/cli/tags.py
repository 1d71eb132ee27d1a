"""`gateway tag`: the tags of a repository."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.administration import TagRow
from gateway.cli.groups import noun
from gateway.cli.output import say, show_table
from gateway.cli.session import run
from gateway.cli.words import Json
from gateway.errors import Invalid


def commands() -> typer.Typer:
    app = noun("Tags: the names that manifests are pulled by.")
    app.command("list")(list_)
    app.command("remove")(remove)
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
