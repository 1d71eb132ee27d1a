"""What is kept: a project's repositories, a repository's tags, a manifest with all that is in it."""

from __future__ import annotations

from starlette.responses import Response

from gateway.console.frame import render_project
from gateway.console.plan import Group, Page, Tab
from gateway.console.visit import Visit
from gateway.oci.names import ProjectName, Repository

#: So many entries of a list are shown, so many steps of a history, and so much of each text: a page stays light.
_ROWS, _STEPS, _CHARACTERS = 50, 60, 300


async def overview(visit: Visit) -> Response:
    """A project's own page: its repositories, those whose name holds what was searched for."""
    project = ProjectName.parse(visit.path["project"])
    wanted, after = visit.form.text("q"), visit.form.text("after")
    shelf = await visit.acts.contents.repositories(visit.caller, project.name, containing=wanted, after=after)
    return await render_project(visit, project, "project.html", shelf=shelf, wanted=wanted, after=after)


async def repository(visit: Visit) -> Response:
    """A repository: its tags, those that hold what was searched for."""
    name = Repository.parse(visit.path["repository"])
    wanted, after = visit.form.text("q"), visit.form.text("after")
    shelf = await visit.acts.contents.tags(visit.caller, name.name, containing=wanted, after=after)
    return await render_project(
        visit, name.project, "repository.html", repository=name.name, shelf=shelf, wanted=wanted, after=after
    )


async def manifest(visit: Visit) -> Response:
    """A manifest, by tag or digest."""
    name = Repository.parse(visit.path["repository"])
    view = await visit.acts.contents.manifest(visit.caller, name.name, visit.path["reference"])
    return await render_project(
        visit,
        name.project,
        "manifest.html",
        repository=name.name,
        view=view,
        pull=view.pull_command(visit.parts.host),
        rows=_ROWS,
        steps=_STEPS,
        characters=_CHARACTERS,
    )


GROUP = Group(
    pages=(
        Page("/projects/{project}", overview),
        Page("/repositories/{repository:path}", repository),
        Page("/manifests/{reference}/{repository:path}", manifest),
    ),
    tabs=(Tab("Repositories", ""),),
)
