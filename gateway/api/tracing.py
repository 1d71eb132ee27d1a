"""Tracing: what a search finds as a whole, who pulled something, what a right would change, what a leak has touched."""

from __future__ import annotations

from gateway.administration import Proposal, Verb
from gateway.api.bodies import Filters, LeakTold, Proposed, SearchWanted, Traced
from gateway.api.replies import Reply, done, reply
from gateway.api.request import Request
from gateway.api.trail import search


async def overview(request: Request) -> Reply:
    """How many events match when, and by whom, from where and where most of them are"""
    wanted = search(request.query_as(Filters))
    return reply(await request.administration.audit.overview(request.caller, wanted))


async def who_pulled(request: Request) -> Reply:
    """Who pulled a digest, or what a tag named at a time"""
    asked = request.query_as(Traced)
    return reply(
        await request.administration.tracing.who_pulled(request.caller, asked.target, asked.at, sealed=asked.sealed)
    )


async def replay(request: Request) -> Reply:
    """Which requests would have been decided differently, had a role been given or taken"""
    body = request.body_as(Proposed)
    proposal = Proposal(Verb(body.verb), body.principal, body.reach, body.role or "")
    return reply(await request.administration.replays.replay(request.caller, proposal, days=body.days))


async def leak(request: Request) -> Reply:
    """Revoke a credential that leaked, and list every digest it touched; with `plan`, list only"""
    body = request.body_as(LeakTold)
    tracing = request.administration.tracing
    return reply(await tracing.leak(request.caller, body.credential, body.since, plan=body.plan, force=body.force))


async def searches(request: Request) -> Reply:
    """List the searches that you have saved"""
    rows = await request.administration.audit.list_searches(request.caller)
    return request.page(rows, lambda row: row.name, lambda row: row)


async def save_search(request: Request) -> Reply:
    """Save a search under a name of your own"""
    filters = request.body_as(SearchWanted).filters
    return reply(await request.administration.audit.save_search(request.caller, request.values["search"], filters))


async def remove_search(request: Request) -> Reply:
    """Remove a search that you have saved"""
    await request.administration.audit.remove_search(request.caller, request.values["search"])
    return done()
