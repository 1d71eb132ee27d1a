"""What was deleted and can be had back, and where a tag pointed before."""

from __future__ import annotations

from datetime import datetime

from starlette.responses import Response

from gateway.access.scopes import Action
from gateway.administration import TrashRow
from gateway.console.frame import render, render_project
from gateway.console.leaves import ROWS, leaf, newest
from gateway.console.pages.removals import short
from gateway.console.plan import Group, Page, Tab
from gateway.console.visit import Visit
from gateway.errors import ManifestUnknown
from gateway.oci.names import ProjectName, Repository, Tag, parse_reference


async def deleted(visit: Visit, status: int = 200) -> Response:
    """What was deleted from a repository and can be had back, the newest first."""
    name = Repository.parse(visit.path["repository"])
    found = await visit.acts.trash.list_trash(visit.caller, repository=name.name)
    return await _listed(visit, name.project, name.name, found, status)


async def project_deleted(visit: Visit) -> Response:
    """As `deleted`, of every repository of a project, those that hold nothing else any more too."""
    project = ProjectName.parse(visit.path["project"])
    found = await visit.acts.trash.list_trash(visit.caller, project=project.name)
    return await _listed(visit, project, "", found)


async def restore(visit: Visit) -> Response:
    """Brings it back; where a tag names something else by now, asks first."""
    name, reference = Repository.parse(visit.path["repository"]), parse_reference(visit.path["reference"])
    form = visit.form
    with form.blaming(""):
        if isinstance(reference, Tag):
            to, seen = form.text("to"), form.text("seen")
            await visit.acts.trash.restore_tag(visit.caller, name.name, reference.name, to=to, seen=seen)
        else:
            await visit.acts.trash.restore_manifest(visit.caller, name.name, reference.text)
        return visit.go(f"/repositories/{name}", said="restored")
    now = await _now(visit, name, reference) if isinstance(reference, Tag) else ""
    if now not in {"", form.text("to"), form.text("seen")}:
        return await _asked(visit, name, visit.path["reference"], now)
    return await deleted(visit, 422)


async def history(visit: Visit) -> Response:
    """Where a tag pointed, who moved or removed it, and what of that can be had back."""
    name, tag = Repository.parse(visit.path["repository"]), Tag.parse(visit.path["tag"])
    asked = visit.query.value("before")
    before = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) <= 18 else None
    found = await visit.acts.histories.of_tag(visit.caller, name.name, tag.name, before=before, limit=ROWS)
    _, sealed = await visit.acts.audit.sealed_away()
    return await render_project(
        visit,
        name.project,
        "tag_history.html",
        repository=name.name,
        tag=tag.name,
        moves=[(move, datetime.fromisoformat(move.time)) for move in found.moves],
        newer=before is not None,
        older=str(found.before) if found.before is not None else "",
        named=found.named,
        sealed=sealed[:10],
        hindrance=visit.acts.trash.hindrance,
    )


async def _listed(
    visit: Visit, project: ProjectName, repository: str, found: tuple[TrashRow, ...], status: int = 200
) -> Response:
    return await render_project(
        visit,
        project,
        "deleted.html",
        status,
        repository=repository,
        leaf=leaf(found, _called, visit.query),
        hindrance=visit.acts.trash.hindrance,
    )


def _called(row: TrashRow) -> str:
    """What a thing in the trash is called in a list of them, the newest first."""
    return f"{newest(int(row.deleted_at.timestamp()))} {row.repository} {row.tag} {row.digest}"


async def _now(visit: Visit, name: Repository, tag: Tag) -> str:
    """What the tag names now, "" for nothing."""
    try:
        return (await visit.acts.contents.manifest(visit.caller, name.name, tag.name)).digest
    except ManifestUnknown:
        return ""


async def _asked(visit: Visit, name: Repository, tag: str, now: str) -> Response:
    """Asks whether a tag that names something else is to be moved back."""
    visit.form.errors.clear()
    to = visit.form.text("to")
    back = f"/deleted/{name}"
    return await render(
        visit,
        "confirm.html",
        409,
        trail=[("Projects", "/projects"), (name.name, f"/repositories/{name}"), ("Deleted", back), ("Restore", "")],
        question=f"Move tag {tag} of {name} back?",
        told=[
            f"It names {now} now, and would name {to} again.",
            f"The manifest that it names now stays, and can be pulled by its digest, {short(now)}",
        ],
        action=f"/restorations/{tag}/{name}",
        hidden=(("to", to), ("seen", now)),
        button="Move it back",
        back=back,
        typed="",
    )


GROUP = Group(
    pages=(
        Page("/deleted/{repository:path}", deleted),
        Page("/restorations/{reference}/{repository:path}", post=restore),
        Page("/tag-history/{tag}/{repository:path}", history),
        Page("/projects/{project}/deleted", project_deleted),
    ),
    tabs=(Tab("Deleted", "/deleted", Action.MANAGE),),
)
