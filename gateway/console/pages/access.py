"""Effective access: what an account can do and why, and who can do what on a repository and why."""

from __future__ import annotations

from starlette.responses import Response

from gateway.access.scopes import Action
from gateway.administration import AccountAccess, Explained, RepositoryAccess
from gateway.console.frame import render, render_project
from gateway.console.plan import Group, Page, Place, Tab
from gateway.console.visit import Visit
from gateway.oci.names import ProjectName


async def mine(visit: Visit) -> Response:
    """What the caller can do; or of the account that was asked about."""
    name = visit.form.text("account") or visit.caller.principal.name
    return await _of(visit, name)


async def _of(visit: Visit, name: str) -> Response:
    found: AccountAccess | None = None
    one: Explained | None = None
    project = visit.form.text("project")
    repository = visit.form.text("repository")
    with visit.form.blaming("account"):
        found = await visit.acts.effective.of_account(visit.caller, name, project or None)
    if repository and found is not None:
        with visit.form.blaming("repository"):
            one = await visit.acts.effective.explain(visit.caller, name, repository)
    return await render(
        visit,
        "principal.html",
        200 if visit.form.sound else 422,
        name=name,
        own=name == visit.caller.principal.name,
        found=found,
        one=one,
        repository=repository,
        project=project,
        reviews=Action.REVIEW in await visit.rights(),
        actions=tuple(Action),
    )


async def who(visit: Visit) -> Response:
    """Who can do what on a repository of the project."""
    project = ProjectName.parse(visit.path["project"])
    repository, after = visit.form.text("repository") or project.name, visit.form.text("after")
    found: RepositoryAccess | None = None
    with visit.form.blaming("repository"):
        full = repository if repository.partition("/")[0] == project.name else f"{project}/{repository}"
        found = await visit.acts.effective.who(visit.caller, full, after=after)
    return await render_project(
        visit,
        project,
        "access.html",
        200 if visit.form.sound else 422,
        found=found,
        repository=found.repository if found is not None else repository,
        whole=repository == project.name,
        actions=tuple(Action),
    )


GROUP = Group(
    pages=(Page("/access", mine), Page("/projects/{project}/access", who)),
    places=(Place("Access", "/access"),),
    tabs=(Tab("Access", "/access", Action.REVIEW),),
)
