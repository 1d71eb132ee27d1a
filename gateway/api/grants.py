"""Grants: who holds which role where, and whether somebody may do something."""

from __future__ import annotations

from datetime import timedelta

from gateway.access.names import parse_principal
from gateway.access.policy import Reach
from gateway.administration import Condition, GrantRow
from gateway.api.answers import Answer, Grant
from gateway.api.bodies import GrantsWanted, GrantWanted, Question
from gateway.api.conditions import acts_if
from gateway.api.replies import Reply, done, reply, tagged
from gateway.api.request import Request
from gateway.errors import Invalid, Unknown


async def index(request: Request) -> Reply:
    """List grants, expired ones included"""
    wanted = request.query_as(GrantsWanted)
    rows = await request.administration.grants.list_grants(
        request.caller, principal=wanted.principal, project=wanted.project
    )
    return request.page(rows, _key, Grant.of)


async def show(request: Request) -> Reply:
    """Show what somebody holds on exactly this reach"""
    principal, reach = parse_principal(request.values["principal"]), Reach.parse(request.values["reach"])
    rows = await request.administration.grants.list_grants(
        request.caller, principal=principal, project=reach.project.name
    )
    found = next((row for row in rows if row.reach == str(reach)), None)
    if found is None:
        raise Unknown(f"{principal} holds no grant on {reach}; list the grants to see how they are spelled.")
    return reply(Grant.of(found)).and_headers(tagged(found))


async def give(request: Request) -> Reply:
    """Give a role on a reach; what is held on the very same reach is replaced, expiry included"""
    principal, reach, body = request.values["principal"], request.values["reach"], request.body_as(GrantWanted)
    acts = acts_if(request, Condition.on_grant, principal, reach)
    if "if-none-match" in request.headers:
        if request.header("if-none-match").strip() != "*":
            raise Invalid("Send If-None-Match: * or none.", detail={"field": "If-None-Match"})
        acts = acts.expecting(Condition.on_grant(principal, reach, None, absent=True))
    lasts = timedelta(seconds=body.expires_in_seconds) if body.expires_in_seconds is not None else None
    row = await acts.grants.add_grant(request.caller, principal, body.role, reach, expires=lasts)
    return reply(Grant.of(row)).and_headers(tagged(row))


async def take(request: Request) -> Reply:
    """Take away what somebody holds on exactly this reach"""
    principal, reach = request.values["principal"], request.values["reach"]
    acts = acts_if(request, Condition.on_grant, principal, reach)
    await acts.grants.remove_grant(request.caller, principal, reach)
    return done()


async def ask(request: Request) -> Reply:
    """Say whether somebody may do something, and why"""
    asked = request.query_as(Question)
    answer = await request.administration.grants.ask(request.caller, asked.principal, asked.action, asked.target)
    return reply(Answer(answer.allowed, answer.why))


def _key(row: GrantRow) -> str:
    return f"{row.principal} {row.reach}"
