"""Projects, and their rules."""

from __future__ import annotations

from msgspec import UNSET

from gateway.administration import Condition
from gateway.api.answers import Page, Project, ProjectDetail
from gateway.api.bodies import Force, NewProject, ProjectChanges
from gateway.api.conditions import acts_if
from gateway.api.replies import Reply, done, reply, tagged
from gateway.api.request import Request


async def index(request: Request) -> Reply:
    """List the projects that you may see"""
    limit = request.asked.limit
    rows = await request.administration.projects.page_projects(request.caller, after=request.position, limit=limit + 1)
    found, more = rows[:limit], len(rows) > limit
    items = [Project.of(row) for row in found]
    return reply(Page(items, request.cursor_to(found[-1].name if more else "")))


async def add(request: Request) -> Reply:
    """Add a project"""
    body = request.body_as(NewProject)
    row = await request.administration.projects.add_project(request.caller, body.name, public=body.public)
    return reply(Project.of(row), 201).and_headers(("Location", f"/api/v1/projects/{row.name}"), tagged(row))


async def show(request: Request) -> Reply:
    """Show a project with its grants, its robots and what it holds"""
    detail = await request.administration.projects.show_project(request.caller, request.values["project"])
    return reply(ProjectDetail.of(detail)).and_headers(tagged(detail.project))


async def change(request: Request) -> Reply:
    """Open a project to anonymous pulls or close it, and set its rules"""
    name, body = request.values["project"], request.body_as(ProjectChanges)
    acts = acts_if(request, Condition.on_project, name)
    row = await acts.projects.set_project(
        request.caller,
        name,
        public=None if body.public is UNSET else body.public,
        quota_bytes=None if body.quota_bytes is UNSET else body.quota_bytes,
        unlimited=body.quota_bytes is None,
        immutable=None if body.immutable is UNSET else body.immutable,
        read_only=None if body.read_only is UNSET else body.read_only,
    )
    return reply(Project.of(row)).and_headers(tagged(row))


async def remove(request: Request) -> Reply:
    """Remove a project with its repositories, robots and grants"""
    name = request.values["project"]
    acts = acts_if(request, Condition.on_project, name)
    gone = await acts.projects.remove_project(request.caller, name, force=request.query_as(Force).force)
    return done(gone.stays)
