"""The base address, where clients learn whether they are signed in, and the keys that tokens are signed with."""

from __future__ import annotations

from gateway.gate import Passage
from gateway.registry.replies import Reply, json_reply
from gateway.registry.request import Request


async def ping(request: Request, passage: Passage) -> Reply:
    """`/v2/`: 200 for every valid token, whatever it carries, of an account that stands."""
    return json_reply(200, {})


async def to_ping(request: Request) -> Reply:
    """`/v2`: the base address is written with a slash at its end."""
    return Reply(301, (("Location", "/v2/"),))


async def keys(request: Request) -> Reply:
    """The public keys as a JSON Web Key Set (RFC 7517 §5); short-lived in caches, since a key may be revoked."""
    return json_reply(200, request.parts.jwks(), ("Cache-Control", "public, max-age=60"))
