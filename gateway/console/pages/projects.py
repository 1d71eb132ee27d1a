"""Projects: those a person may see, and a new one."""

from __future__ import annotations

from starlette.responses import Response

from gateway.access.scopes import Action
from gateway.console.frame import render
from gateway.console.leaves import leaf
from gateway.console.plan import Group, Page, Place
from gateway.console.visit import Visit


async def index(visit: Visit) -> Response:
    """The projects the caller may see, those whose name holds what was searched for."""
    wanted = visit.form.text("q").lower()
    found = await visit.acts.projects.list_projects(visit.caller)
    shown = leaf([project for project in found if wanted in project.name], lambda project: project.name, visit.form)
    may_add = Action.MANAGE in await visit.rights()
    return await render(visit, "projects.html", leaf=shown, count=len(found), wanted=wanted, may_add=may_add)


async def new(visit: Visit, status: int = 200) -> Response:
    await visit.require(Action.MANAGE)
    return await render(visit, "project_new.html", status)


async def add(visit: Visit) -> Response:
    """Adds the project that the form names."""
    form = visit.form
    with form.blaming("name"):
        name = form.text("name")
        await visit.acts.projects.add_project(visit.caller, name, public=form.checked("public"))
        return visit.go(f"/projects/{name}", said="added")
    return await new(visit, 422)


async def first(visit: Visit) -> Response:
    return visit.go("/projects")


GROUP = Group(
    pages=(
        Page("/", first),
        Page("/projects", index),
        Page("/projects/new", new, add),
    ),
    places=(Place("Projects", "/projects"),),
)
