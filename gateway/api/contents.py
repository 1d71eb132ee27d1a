"""Contents: what a project's repositories hold, what a tag or digest is, and what a removal would do besides."""

from __future__ import annotations

from typing import TypeVar

from gateway.administration import Shelf
from gateway.api.answers import Page
from gateway.api.bodies import Browsed
from gateway.api.replies import Reply, reply
from gateway.api.request import Request

T = TypeVar("T")


async def repositories(request: Request) -> Reply:
    """List the repositories of a project that you may pull from, with sizes and their last push and pull"""
    asked = request.query_as(Browsed)
    found = await request.administration.contents.repositories(
        request.caller,
        request.values["project"],
        containing=asked.containing,
        after=request.position,
        limit=asked.limit,
    )
    return _page(request, found)


async def tags(request: Request) -> Reply:
    """List the tags of a repository with whole sizes, platforms, and their last push and pull"""
    asked = request.query_as(Browsed)
    found = await request.administration.contents.tags(
        request.caller,
        request.values["repository"],
        containing=asked.containing,
        after=request.position,
        limit=asked.limit,
    )
    return _page(request, found)


async def manifest(request: Request) -> Reply:
    """Show what a tag or digest names: layers, config, children, referrers, annotations"""
    repository, reference = request.values["repository"], request.values["reference"]
    return reply(await request.administration.contents.manifest(request.caller, repository, reference))


async def removing(request: Request) -> Reply:
    """Say what removing a tag, or a manifest by its digest, would do besides; change nothing"""
    repository, reference = request.values["repository"], request.values["reference"]
    return reply(await request.administration.contents.removing(request.caller, repository, reference))


async def removing_repository(request: Request) -> Reply:
    """Say what removing a repository would do; change nothing"""
    return reply(await request.administration.contents.removing(request.caller, request.values["repository"]))


def _page(request: Request, found: Shelf[T]) -> Reply:
    return reply(Page(list(found.entries), request.cursor_to(found.next)))
