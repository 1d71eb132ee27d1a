"""`gateway project`: the projects repositories belong to."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.administration import ProjectRow
from gateway.cli.groups import noun
from gateway.cli.output import say, show_record, show_table
from gateway.cli.session import run
from gateway.cli.words import Json

Name = Annotated[str, typer.Argument(metavar="NAME")]


def commands() -> typer.Typer:
    app = noun("Projects: the first part of a repository's name.")
    for name, command in (("add", add), ("list", list_), ("show", show), ("set", set_), ("remove", remove)):
        app.command(name)(command)
    return app


def add(
    ctx: typer.Context,
    name: Name,
    public: Annotated[bool, typer.Option("--public", help="Anybody may pull, without an account.")] = False,
) -> None:
    """Add a project."""
    row = run(ctx, lambda administration, caller: administration.projects.add_project(caller, name, public=public))
    say(f"Added {_kind(row)} project {row.name}.")


def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the projects."""
    rows = run(ctx, lambda administration, caller: administration.projects.list_projects(caller))
    empty = "There are no projects; add one with: gateway project add NAME"
    show_table([project(row) for row in rows], ("name", "public", "created"), as_json=as_json, empty=empty)


def show(ctx: typer.Context, name: Name, as_json: Json = False) -> None:
    """Show a project with its grants, its robots and what it holds."""
    detail = run(ctx, lambda administration, caller: administration.projects.show_project(caller, name))
    grants: list[object] = [
        {"principal": grant.principal, "role": grant.role, "reach": grant.reach, "expires": grant.expires_at}
        for grant in detail.grants
    ]
    if not as_json:
        grants = [f"{grant.principal} {grant.role} on {grant.reach}" for grant in detail.grants]
    show_record(
        {
            **project(detail.project),
            "repositories": detail.repositories,
            "size_bytes": detail.size_bytes,
            "grants": grants,
            "robots": [robot.name for robot in detail.robots],
        },
        as_json=as_json,
    )


def set_(
    ctx: typer.Context,
    name: Name,
    public: Annotated[bool, typer.Option("--public/--private", help="Whether anybody may pull.", show_default=False)],
) -> None:
    """Open a project to anonymous pulls, or close it."""
    row = run(ctx, lambda administration, caller: administration.projects.set_project(caller, name, public=public))
    say(f"Project {row.name} is {_kind(row)}.")


def remove(
    ctx: typer.Context,
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Even if it holds content.")] = False,
) -> None:
    """Remove a project with its repositories, robots and grants."""
    stays = run(ctx, lambda administration, caller: administration.projects.remove_project(caller, name, force=force))
    say(f"Removed project {name}. {stays}".rstrip())


def project(row: ProjectRow) -> dict[str, object]:
    """A project as programs see it."""
    return {"id": row.id, "name": row.name, "public": row.public, "created": row.created_at}


def _kind(row: ProjectRow) -> str:
    return "public" if row.public else "private"
