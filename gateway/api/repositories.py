"""Repositories and their tags."""

from __future__ import annotations

from gateway.api.answers import Page, Repository, Tag
from gateway.api.bodies import OfProject
from gateway.api.replies import Reply, done, reply
from gateway.api.request import Request


async def index(request: Request) -> Reply:
    """List the repositories that you may pull from"""
    asked = request.query_as(OfProject)
    rows = await request.administration.repositories.page_repositories(
        request.caller, asked.project, after=request.position, limit=asked.limit + 1
    )
    found, more = rows[: asked.limit], len(rows) > asked.limit
    items = [Repository.of(row) for row in found]
    return reply(Page(items, request.cursor_to(found[-1].name if more else "")))


async def show(request: Request) -> Reply:
    """Show a repository"""
    row = await request.administration.repositories.show_repository(request.caller, request.values["repository"])
    return reply(Repository.of(row))


async def remove(request: Request) -> Reply:
    """Remove a repository with its tags and manifests"""
    await request.administration.repositories.remove_repository(request.caller, request.values["repository"])
    return done()


async def tags(request: Request) -> Reply:
    """List the tags of a repository"""
    limit = request.asked.limit
    rows = await request.administration.repositories.page_tags(
        request.caller, request.values["repository"], after=request.position, limit=limit + 1
    )
    found, more = rows[:limit], len(rows) > limit
    return reply(Page([Tag.of(row) for row in found], request.cursor_to(found[-1].name if more else "")))


async def untag(request: Request) -> Reply:
    """Remove a tag alone; the manifest stays reachable by its digest"""
    values = request.values
    return done(
        await request.administration.repositories.remove_tag(request.caller, values["repository"], values["tag"])
    )
