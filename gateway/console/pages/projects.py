"""Projects: those a person may see, and a new one."""

from __future__ import annotations

from starlette.responses import Response

from gateway.access.scopes import Action
from gateway.console.frame import render, render_project
from gateway.console.plan import Group, Page, Place, Tab
from gateway.console.visit import Visit
from gateway.oci.names import ProjectName


async def index(visit: Visit) -> Response:
    """The projects the caller may see, those whose name holds what was searched for."""
    wanted = visit.form.text("q").lower()
    found = await visit.acts.projects.list_projects(visit.caller)
    shown = tuple(project for project in found if wanted in project.name)
    may_add = Action.MANAGE in await visit.rights()
    return await render(visit, "projects.html", projects=shown, count=len(found), wanted=wanted, may_add=may_add)


async def new(visit: Visit, status: int = 200) -> Response:
    return await render(visit, "project_new.html", status)


async def add(visit: Visit) -> Response:
    """Adds the project that the form names."""
    form = visit.form
    with form.blaming("name"):
        name = form.text("name")
        await visit.acts.projects.add_project(visit.caller, name, public=form.checked("public"))
        return visit.go(f"/projects/{name}", said="added")
    return await new(visit, 422)


async def overview(visit: Visit) -> Response:
    """The project's own page."""
    project = ProjectName.parse(visit.path["project"])
    found = await visit.acts.repositories.list_repositories(visit.caller, project.name)
    return await render_project(visit, project, "project.html", repositories=found)


async def first(visit: Visit) -> Response:
    return visit.go("/projects")


GROUP = Group(
    pages=(
        Page("/", first),
        Page("/projects", index),
        Page("/projects/new", new, add),
        Page("/projects/{project}", overview),
    ),
    places=(Place("Projects", "/projects"),),
    tabs=(Tab("Repositories", ""),),
)
