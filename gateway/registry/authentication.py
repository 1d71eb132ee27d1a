"""Who asks: the bearer token of a request becomes its caller, or the challenge says where to get one."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from gateway.access.policy import Need, Reason, Refused, judge
from gateway.access.principals import ANONYMOUS, NO_CREDENTIAL, Caller, Credential, CredentialKind
from gateway.access.scopes import CATALOG, Action
from gateway.audit.event import Kind
from gateway.errors import Unauthorized
from gateway.registry.request import Request

_ASK = "Fetch a token from the realm that WWW-Authenticate names, then repeat the request with it as Bearer."
_WORTHLESS = "The token is not valid here any more, or never was; fetch a new one."


@dataclass(frozen=True, slots=True)
class Basic:
    """A name and a secret, as `Authorization: Basic` carries them; both may be empty."""

    name: str
    secret: str


async def authenticate(request: Request, kind: Kind, scope: str) -> Caller:
    """
    The caller that the request's bearer token speaks for; *scope* is what the challenge says to ask a token for.

    Raises `Unauthorized`: without a bearer token as a bare challenge, which is no event and the same whatever was
    asked for; with one that is not valid as `invalid_token`, which is one.
    """
    values = request.headers.get("authorization", ())
    scheme, _, text = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() != "bearer":
        raise Unauthorized(_ASK, scope=scope)
    parts = request.parts
    await parts.tokens.refresh()
    try:
        bearer = parts.tokens.verify(text.strip(" "), parts.now())
    except Unauthorized:
        worthless = Unauthorized(_WORTHLESS, scope=scope, error="invalid_token")
        name = request.repository.name
        await parts.gate.deny(
            stranger(request),
            kind,
            worthless,
            reason="invalid_token",
            project=name.partition("/")[0],
            repository=name,
        )
    request.expires = bearer.expires_at.timestamp()
    return Caller(
        bearer.principal,
        request.origin,
        Credential(CredentialKind.BEARER, bearer.id),
        bearer.access,
        bearer.generation,
        bearer.projects,
        personal_token=bearer.personal_token,
        offline_token=bearer.offline_token,
    )


async def require_standing(request: Request, kind: Kind) -> None:
    """
    Refuses, as `invalid_token`, a caller whose account policy suspends; for requests that need no right of their own.

    Raises `Unauthorized` and records it.
    """
    parts, caller = request.parts, request.caller
    standing = await parts.gate.directory.standing(caller.principal, offline_token=caller.offline_token)
    # Asked for a right that tokens cannot carry, the judgement says whether the caller stands at all.
    verdict = judge(caller, Need(Action.REVIEW), standing, None, parts.now())
    if isinstance(verdict, Refused) and verdict.reason is not Reason.NO_GRANT:
        worthless = Unauthorized(_WORTHLESS, error="invalid_token")
        await parts.gate.deny(caller, kind, worthless, reason=verdict.reason.value)


async def require_catalog(request: Request, kind: Kind) -> None:
    """Refuses, as `insufficient_scope`, a caller whose token does not carry the catalog, and records it."""
    access = request.caller.access
    if access is None or not access.catalog:
        missing = Unauthorized(f"{CATALOG} is missing.", scope=CATALOG, error="insufficient_scope")
        await request.gate.deny(request.caller, kind, missing, reason=Reason.INSUFFICIENT_SCOPE.value)


def read_basic(values: tuple[str, ...]) -> Basic | None:
    """
    The name and secret in a request's `Authorization` headers, or None if there are none.

    Raises `Unauthorized` for anything that is not one well-formed Basic credential (RFC 7617).
    """
    if not values:
        return None
    scheme, _, encoded = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "basic":
        raise Unauthorized("Send one Authorization header, Basic, with a name and a password.")
    try:
        name, colon, secret = base64.b64decode(encoded.strip(" "), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        raise Unauthorized("Send the name and password of Basic as base64 of UTF-8 text.") from None
    if not colon:
        raise Unauthorized("Send the name and password of Basic with a colon between them.")
    if not name and not secret:
        # Whoever meant to sign in has lost both, and would take what nobody may have for what he may.
        raise Unauthorized("The name and password of Basic are empty; send both, or no Authorization header.")
    return Basic(name, secret)


def stranger(request: Request) -> Caller:
    """The caller of a request that proved nothing."""
    return Caller(ANONYMOUS, request.origin, NO_CREDENTIAL)
