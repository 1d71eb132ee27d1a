"""`gateway repository`: what the repositories hold."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.administration import RepositoryRow
from gateway.cli.groups import noun
from gateway.cli.output import say, show_record, show_table
from gateway.cli.session import run
from gateway.cli.words import Json

Name = Annotated[str, typer.Argument(metavar="REPOSITORY")]


def commands() -> typer.Typer:
    app = noun("Repositories: what there is to pull.")
    app.command("list")(list_)
    app.command("show")(show)
    app.command("remove")(remove)
    return app


def list_(
    ctx: typer.Context,
    project: Annotated[str | None, typer.Argument(metavar="[PROJECT]", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """List the repositories of a project, or all."""
    rows = run(ctx, lambda administration, caller: administration.repositories.list_repositories(caller, project))
    columns = ("name", "tags", "manifests", "size_bytes", "created")
    show_table([repository(row) for row in rows], columns, as_json=as_json, empty="There are no repositories.")


def show(ctx: typer.Context, name: Name, as_json: Json = False) -> None:
    """Show one repository."""
    row = run(ctx, lambda administration, caller: administration.repositories.show_repository(caller, name))
    show_record(repository(row), as_json=as_json)


def remove(ctx: typer.Context, name: Name) -> None:
    """Remove a repository with its tags and manifests."""
    run(ctx, lambda administration, caller: administration.repositories.remove_repository(caller, name))
    say(f"Removed repository {name}.")


def repository(row: RepositoryRow) -> dict[str, object]:
    """A repository as programs see it."""
    return {
        "name": row.name,
        "project": row.name.partition("/")[0],
        "tags": row.tags,
        "manifests": row.manifests,
        "size_bytes": row.size_bytes,
        "created": row.created_at,
    }
