"""What concerns the gateway as a whole: offline tokens, signing keys, the switch that makes it read-only."""

from __future__ import annotations

from gateway.api.answers import Key, OfflineToken, ReadOnly, Revoked
from gateway.api.bodies import OfPrincipal, ReadOnlyWanted
from gateway.api.replies import Reply, done, reply
from gateway.api.request import Request


async def offline_tokens(request: Request) -> Reply:
    """List the live offline tokens of a user or robot, or of all"""
    wanted = request.query_as(OfPrincipal).principal
    rows = await request.administration.offline_tokens.list_tokens(request.caller, wanted)
    return request.page(rows, lambda row: f"{row.id:019d}", OfflineToken.of)


async def revoke_offline_token(request: Request) -> Reply:
    """Revoke one offline token"""
    await request.administration.offline_tokens.revoke_token(request.caller, int(request.values["id"]))
    return done()


async def revoke_offline_tokens(request: Request) -> Reply:
    """Revoke every offline token of a user or robot"""
    count = await request.administration.offline_tokens.revoke_tokens(request.caller, request.values["user"])
    return reply(Revoked(count))


async def keys(request: Request) -> Reply:
    """List the keys that sign tokens"""
    rows = await request.administration.keys.list_keys(request.caller)
    return request.page(rows, lambda row: row.kid, Key.of)


async def rotate_key(request: Request) -> Reply:
    """Sign with the next key from now on"""
    return reply(Key.of(await request.administration.keys.rotate_key(request.caller)))


async def revoke_key(request: Request) -> Reply:
    """Make tokens signed by a key worth nothing"""
    await request.administration.keys.revoke_key(request.caller, request.values["kid"])
    return done()


async def read_only(request: Request) -> Reply:
    """Show whether the whole gateway is read-only"""
    return reply(ReadOnly.of(await request.administration.read_only.show(request.caller)))


async def set_read_only(request: Request) -> Reply:
    """Make the whole gateway read-only, or end it"""
    reason = request.body_as(ReadOnlyWanted).reason
    switch = request.administration.read_only
    if reason:
        await switch.turn_on(request.caller, reason)
    else:
        await switch.turn_off(request.caller)
    return done()
