"""Retention: which of its tags a project keeps, what would go, and letting it go."""

from __future__ import annotations

import asyncio

from gateway.administration import Condition
from gateway.administration.retention import Decision
from gateway.api.answers import Page
from gateway.api.bodies import RetentionWanted
from gateway.api.conditions import acts_if
from gateway.api.kept import Decided, Gone, Retention
from gateway.api.replies import Reply, reply, tagged
from gateway.api.request import Request


async def show(request: Request) -> Reply:
    """Show what a project keeps"""
    found = await request.administration.retention.show(request.caller, request.values["project"])
    return reply(Retention.of(found)).and_headers(tagged(found))


async def keep(request: Request) -> Reply:
    """Say what a project keeps from now on, in place of what it kept; nothing goes at once"""
    project, body = request.values["project"], request.body_as(RetentionWanted)
    acts = acts_if(request, Condition.on_retention, project)
    found = await acts.retention.set(
        request.caller, project, last=body.last, matching=body.matching, pulled_days=body.within_days
    )
    return reply(Retention.of(found)).and_headers(tagged(found))


async def plan(request: Request) -> Reply:
    """Say of every tag of a project whether it would stay, and why"""
    plans = await request.administration.retention.plan(request.caller, request.values["project"])
    rows = ((each.repository, decision) for each in plans for decision in each.decisions)

    def name(row: tuple[str, Decision]) -> str:
        return f"{row[0]}:{row[1].tag.name}"

    # Many tags take a moment to be put in order, in which others are answered.
    return await asyncio.to_thread(request.page, rows, name, lambda row: Decided.of(*row))


async def apply(request: Request) -> Reply:
    """Remove what a project does not keep, into the trash: planned first, then an event for each hundred tags"""
    done = await request.administration.retention.apply(request.caller, request.values["project"])
    return reply(Page([Gone.of(each) for each in done], None))
