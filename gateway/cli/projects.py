"""`gateway project`: the projects repositories belong to."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.access.rules import size_text
from gateway.administration import ProjectRow
from gateway.cli.groups import noun
from gateway.cli.output import counted, printable, say, show_record, show_table
from gateway.cli.session import run
from gateway.cli.words import Json, size_bytes
from gateway.errors import Invalid

_COLUMNS = ("name", "public", "used_bytes", "quota_bytes", "created")

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
    show_table([project(row) for row in rows], _COLUMNS, as_json=as_json, empty=empty)


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
    public: Annotated[bool, typer.Option("--public", help="Anybody may pull, without an account.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Only who has a role may pull.")] = False,
    quota: Annotated[
        str | None, typer.Option("--quota", metavar="SIZE", help="The most it may hold: 10GiB, 500MB, none.")
    ] = None,
    immutable: Annotated[
        list[str] | None,
        typer.Option(
            "--immutable",
            metavar="PATTERN",
            help="Tags that are never moved or removed once they are there: v*. Repeat it for more; the patterns that "
            "were are replaced.",
        ),
    ] = None,
    movable: Annotated[bool, typer.Option("--no-immutable", help="Every tag may be moved and removed.")] = False,
    read_only: Annotated[
        str | None,
        typer.Option("--read-only", metavar="REASON", help="Nothing is pushed or deleted; clients are told why."),
    ] = None,
    read_write: Annotated[bool, typer.Option("--read-write", help="Pushes and deletions go on.")] = False,
) -> None:
    """Open a project to anonymous pulls or close it, and set its rules."""
    if public and private:
        raise Invalid("Give --public or --private, not both.")
    if immutable and movable:
        raise Invalid("Give --immutable or --no-immutable, not both.")
    if read_only is not None and read_write:
        raise Invalid("Give --read-only or --read-write, not both.")
    if read_only is not None and not read_only.strip():
        raise Invalid("Say why, as in --read-only 'moving to another disk'; end it with --read-write.")
    if quota is None and read_only is None and not (public or private or immutable or movable or read_write):
        raise Invalid("Say what to set: see gateway project set --help.")
    size = size_bytes(quota) if quota is not None else None
    patterns = () if movable else tuple(immutable or ()) or None
    row = run(
        ctx,
        lambda administration, caller: administration.projects.set_project(
            caller,
            name,
            public=public if public or private else None,
            quota_bytes=size,
            unlimited=quota is not None and size is None,
            immutable=patterns,
            read_only="" if read_write else read_only,
        ),
    )
    say(f"Project {row.name} is {_kind(row)}{_ruled(row)}.")


def remove(
    ctx: typer.Context,
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Even if it holds content.")] = False,
) -> None:
    """Remove a project with its repositories, robots and grants."""
    gone = run(ctx, lambda administration, caller: administration.projects.remove_project(caller, name, force=force))
    # Where what was in them stays, it is told of below.
    counts = {"repository": 0 if gone.stays else gone.repositories, "robot": gone.robots, "grant": gone.grants}
    told = [counted(count, noun) for noun, count in counts.items() if count]
    along = f" with {', '.join(told[:-1])}{' and ' if told[1:] else ''}{told[-1]}" if told else ""
    say(f"Removed project {name}{along}. {gone.stays}".rstrip())


def project(row: ProjectRow) -> dict[str, object]:
    """A project as programs see it."""
    return {
        "id": row.id,
        "name": row.name,
        "public": row.public,
        "created": row.created_at,
        "used_bytes": row.used_bytes,
        "quota_bytes": row.rules.quota_bytes,
        "immutable": list(row.rules.immutable),
        "read_only": row.rules.read_only,
    }


def _ruled(row: ProjectRow) -> str:
    """The rules of a project, in words; "" if it has none."""
    rules = row.rules
    told = []
    if rules.quota_bytes is not None:
        told.append(f"uses {size_text(row.used_bytes)} of {size_text(rules.quota_bytes)}")
    if rules.immutable:
        told.append(f"keeps tags {', '.join(rules.immutable)}")
    if rules.read_only:
        told.append(f"is read-only: {printable(rules.read_only)}")
    return "".join(f", {each}" for each in told)


def _kind(row: ProjectRow) -> str:
    return "public" if row.public else "private"
