"""Personal access tokens and sessions: seen and ended. No token makes tokens; that takes a sign-in."""

from __future__ import annotations

from gateway.api.answers import PersonalToken, Revoked, Session
from gateway.api.bodies import OfAccount
from gateway.api.replies import Reply, done, reply
from gateway.api.request import Request


async def index(request: Request) -> Reply:
    """List the personal access tokens of a user; without one, your own"""
    rows = await request.administration.personal_tokens.list(request.caller, request.query_as(OfAccount).account)
    return request.page(rows, lambda row: f"{row.id:019d}", PersonalToken.of)


async def revoke(request: Request) -> Reply:
    """Revoke a personal access token, with everything that was got with it"""
    await request.administration.personal_tokens.revoke(request.caller, int(request.values["id"]))
    return done()


async def revoke_all(request: Request) -> Reply:
    """Revoke every personal access token of a user"""
    count = await request.administration.personal_tokens.revoke_all(request.caller, request.values["user"])
    return reply(Revoked(count))


async def sessions(request: Request) -> Reply:
    """List the browsers that a user is signed in with; without one, your own"""
    rows = await request.administration.sessions.list(request.caller, request.query_as(OfAccount).account)
    return request.page(rows, lambda row: f"{row.id:019d}", Session.of)


async def end_sessions(request: Request) -> Reply:
    """Sign a user out of every browser"""
    return reply(Revoked(await request.administration.sessions.end_all(request.caller, request.values["user"])))


async def disable_second_factor(request: Request) -> Reply:
    """Take away the second factor of a user who has lost it"""
    await request.administration.second_factor.disable_of(request.caller, request.values["user"])
    return done()
