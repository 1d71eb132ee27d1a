"""Settings of a project: whether anybody may pull, and the rules; and its end."""

from __future__ import annotations

import re
from typing import Any, Final

from starlette.responses import Response

from gateway.access.rules import parse_patterns, parse_quota, parse_reason, size_text
from gateway.access.scopes import Action
from gateway.administration import Condition, ProjectDetail, ProjectRow, edition_of
from gateway.console.form import Form
from gateway.console.frame import plural, render, render_project
from gateway.console.plan import Group, Page, Tab
from gateway.console.visit import Visit
from gateway.errors import Invalid, Stale, Unknown
from gateway.oci.names import ProjectName

_SIZE: Final = re.compile(r"([0-9]{1,12})(?:\.([0-9]))?\s*([KMGTP])iB|([0-9]{1,19})\s*(?:bytes|B)", re.ASCII)


async def show(visit: Visit) -> Response:
    """The settings as they are."""
    project = ProjectName.parse(visit.path["project"])
    detail = await visit.acts.projects.show_project(visit.caller, project.name)
    return await _page(visit, project, detail, _filled(detail.project))


async def save(visit: Visit) -> Response:
    """Changes the settings, unless somebody else has done so since the form was opened."""
    project, form = ProjectName.parse(visit.path["project"]), visit.form
    detail = await visit.acts.projects.show_project(visit.caller, project.name)
    immutable = form.parsed("immutable", lambda text: parse_patterns(text.split()))
    reason = form.parsed("read_only", lambda text: parse_reason(text) if text else "")
    quota = await _quota(visit, detail.project)
    if form.sound:
        try:
            seen = Condition.on_project(project.name, frozenset({form.text("version")}))
            with form.blaming(""):
                await visit.acts.expecting(seen).projects.set_project(
                    visit.caller,
                    project.name,
                    public=form.checked("public"),
                    immutable=immutable,
                    read_only=reason,
                    **quota,
                )
                return visit.go(f"/projects/{project}/settings", said="saved")
        except Stale as stale:
            return await _overtaken(visit, project, detail, stale)
    return await _page(visit, project, detail, form, 422)


async def ask_remove(visit: Visit, status: int = 200) -> Response:
    """Says what goes with the project, before it does."""
    project = ProjectName.parse(visit.path["project"])
    detail = await visit.acts.projects.show_project(visit.caller, project.name)
    holds = f"{plural(detail.repositories, 'repository', 'repositories')} with {size_text(detail.size_bytes)}"
    return await render(
        visit,
        "confirm.html",
        status,
        trail=[("Projects", "/projects"), (project.name, f"/projects/{project}"), ("Remove", "")],
        question=f"Remove project {project}?",
        told=[
            f"{holds} of content go with it; nobody can pull them any more.",
            f"{plural(len(detail.robots), 'robot')} and {plural(len(detail.grants), 'grant')} go with it.",
            "This cannot be undone: what was deleted in it before, and could be had back, goes too.",
            "A project added under this name later is another one. The audit trail keeps what happened here.",
        ],
        action=f"/projects/{project}/settings/remove",
        hidden=(),
        button="Remove project",
        back=f"/projects/{project}/settings",
        typed=project.name,
    )


async def remove(visit: Visit) -> Response:
    """Removes the project with all it holds, if its name was typed."""
    project = ProjectName.parse(visit.path["project"])
    if visit.form.text("typed") != project.name:
        visit.form.blame("typed", f"Type {project} here, to say that you mean this project.")
        return await ask_remove(visit, 422)
    await visit.acts.projects.remove_project(visit.caller, project.name, force=True)
    return visit.go("/projects", said="removed")


async def _page(
    visit: Visit,
    project: ProjectName,
    detail: ProjectDetail,
    form: Form,
    status: int = 200,
    changed: ProjectRow | None = None,
) -> Response:
    may_all = Action.MANAGE in await visit.rights()
    values = {"detail": detail, "row": detail.project, "form": form, "may_all": may_all, "changed": changed}
    return await render_project(visit, project, "settings.html", status, **values)


async def _overtaken(visit: Visit, project: ProjectName, detail: ProjectDetail, stale: Stale) -> Response:
    if not isinstance(stale.present, ProjectRow):
        raise Unknown(stale.message) from stale
    kept = [(name, value) for name, value in visit.form.pairs if name != "version"]
    form = Form([*kept, ("version", edition_of(stale.present))])
    return await _page(visit, project, detail, form, 409, stale.present)


async def _quota(visit: Visit, row: ProjectRow) -> dict[str, Any]:
    """What is to become of the quota; nothing, unless an administrator changed it in the form."""
    if Action.MANAGE not in await visit.rights() or visit.form.text("quota") == _quota_text(row):
        return {}
    wanted = visit.form.parsed("quota", size_bytes)
    return {"unlimited": True} if wanted is None else {"quota_bytes": wanted}


def size_bytes(text: str) -> int | None:
    """The bytes that `10 GiB` or `512 bytes` spells, None for ""; raises `Invalid`."""
    if not text:
        return None
    matched = _SIZE.fullmatch(text)
    if matched is None:
        raise Invalid("Write a size as in 10 GiB or 500 MiB; nothing is without a limit.")
    if matched[4]:
        return parse_quota(int(matched[4]))
    tenths = int(matched[1]) * 10 + int(matched[2] or 0)
    return parse_quota(tenths * 1024 ** (1 + "KMGTP".index(matched[3])) // 10)


def _quota_text(row: ProjectRow) -> str:
    return size_text(row.rules.quota_bytes) if row.rules.quota_bytes is not None else ""


def _filled(row: ProjectRow) -> Form:
    rules = row.rules
    public = [("public", "yes")] if row.public else []
    pairs = [("immutable", "\n".join(rules.immutable)), ("read_only", rules.read_only), ("quota", _quota_text(row))]
    return Form([*public, *pairs, ("version", edition_of(row))])


GROUP = Group(
    pages=(
        Page("/projects/{project}/settings", show, save),
        Page("/projects/{project}/settings/remove", ask_remove, remove, grave=True),
    ),
    tabs=(Tab("Settings", "/settings", Action.MANAGE),),
)
