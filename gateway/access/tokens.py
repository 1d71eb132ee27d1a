"""Tokens: bearers that we sign (ES256) and believe only when they are exactly what we sign.

header   {"alg":"ES256","kid":…,"typ":"JWT"}, nothing else        the algorithm is ours, never the header's choice
claims   iss sub aud exp nbf iat jti access                       token specification, "Claim Set"
         knd pid gen prj                                          principal's kind and id, account's generation,
                                                                  ids of the projects named
         pat off                                                  number of the personal, or the offline, token it was
                                                                  got with
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import secrets as randomness
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt

from gateway.access.keys import LEEWAY_SECONDS, LONGEST_TOKEN_SECONDS, KeyRing
from gateway.access.principals import ANONYMOUS, Principal, PrincipalKind
from gateway.access.scopes import Access, read_claims
from gateway.errors import Unauthorized

ALGORITHM = "ES256"
#: Clients treat shorter lives as one minute, and would then use dead tokens.
SHORTEST_TOKEN_SECONDS = 60
TOKEN_BYTES = 8 * 1024

_HEADER_CHARACTERS = 256
# An ES256 signature is 64 bytes: 86 characters.
_SEGMENTS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{86})", re.ASCII)
_KID = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)
_LARGEST = 2**53
_KEPT = 4096
_SIGNED_IN = {PrincipalKind.USER.value: PrincipalKind.USER, PrincipalKind.ROBOT.value: PrincipalKind.ROBOT}


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A fresh bearer. *issued_at* is UTC, in whole seconds; *id* is its `jti`, the part of it that may be recorded."""

    text: str
    expires_in_seconds: int
    issued_at: datetime
    id: str

    def __repr__(self) -> str:
        return f"IssuedToken({self.id})"


@dataclass(frozen=True, slots=True)
class Bearer:
    """What a token that was verified says: whose it is, what it carries, as of when."""

    principal: Principal
    access: Access
    generation: int
    projects: Mapping[str, int]
    id: str
    kid: str
    expires_at: datetime
    personal_token: int = 0
    offline_token: int = 0


class _Malformed(Exception):
    """Why a token is not believed; for us only."""


class Tokens:
    """Issues and verifies the bearers of one *issuer* for one *service*."""

    def __init__(self, ring: KeyRing, issuer: str, service: str, lifetime_seconds: int) -> None:
        if not SHORTEST_TOKEN_SECONDS <= lifetime_seconds <= LONGEST_TOKEN_SECONDS:
            raise ValueError(f"a token lives {SHORTEST_TOKEN_SECONDS} to {LONGEST_TOKEN_SECONDS} seconds")
        self._ring = ring
        self._issuer = issuer
        self._service = service
        self._lifetime_seconds = lifetime_seconds
        self._signatures = jwt.PyJWS(algorithms=[ALGORITHM])
        self._verified: OrderedDict[bytes, Bearer] = OrderedDict()

    async def refresh(self) -> None:
        """Takes up changed keys off the event loop; `issue` and `verify` would do it where they stand."""
        await self._ring.refresh()

    def issue(
        self,
        principal: Principal,
        access: Access,
        *,
        generation: int,
        projects: Mapping[str, int],
        now: datetime,
        at_least_seconds: int = 0,
        personal_token: int = 0,
        offline_token: int = 0,
    ) -> IssuedToken:
        """
        A bearer for *principal* that carries *access*, signed by the current key.

        *generation* and *projects* (ids by name) are those that *access* was granted under. It lives as long as tokens
        do here, or *at_least_seconds* if that is more, 900 at most; one that was got with the *personal_token* or the
        *offline_token* of that number ends with it. Raises `Unavailable` when there is no key.
        """
        key = self._ring.current()
        assert key.private is not None
        issued, token_id = int(now.timestamp()), randomness.token_urlsafe(16)
        lifetime_seconds = min(max(self._lifetime_seconds, at_least_seconds), LONGEST_TOKEN_SECONDS)
        claims = {
            "iss": self._issuer,
            "sub": "" if principal.kind is PrincipalKind.ANONYMOUS else principal.name,
            "aud": self._service,
            "exp": issued + lifetime_seconds,
            "nbf": issued,
            "iat": issued,
            "jti": token_id,
            "access": access.claims(),
            "knd": principal.kind.value,
            "pid": principal.id,
            "gen": generation,
            "prj": dict(projects),
        }
        if personal_token:
            claims["pat"] = personal_token
        if offline_token:
            claims["off"] = offline_token
        payload = json.dumps(claims, separators=(",", ":")).encode()
        text = self._signatures.encode(payload, key.private, algorithm=ALGORITHM, headers={"kid": key.kid})
        return IssuedToken(text, lifetime_seconds, datetime.fromtimestamp(issued, UTC), token_id)

    def verify(self, text: str, now: datetime) -> Bearer:
        """
        What *text* says, if we signed it, for this service, and it is not over (30 s leeway).

        Raises `Unauthorized` (`invalid_token`) for everything else, with one message whatever the reason. An `access`
        claim that is malformed grants nothing; it does not make the token unbelievable.
        """
        try:
            return self._verify(text, now)
        except _Malformed as error:
            raise Unauthorized("The token is not valid (any more): get another one.", error="invalid_token") from error

    def _verify(self, text: str, now: datetime) -> Bearer:
        if len(text) > TOKEN_BYTES:
            raise _Malformed("size")
        segments = _SEGMENTS.fullmatch(text)
        if segments is None:
            raise _Malformed("segments")
        digest = hashlib.sha256(text.encode("ascii")).digest()
        bearer = self._verified.get(digest)
        if bearer is None or not may_be_good(bearer.expires_at.timestamp(), now.timestamp()):
            bearer = self._read(text, segments[1], now)
        elif self._ring.find(bearer.kid, now) is None:
            raise _Malformed("kid")
        self._verified[digest] = bearer
        self._verified.move_to_end(digest)
        while len(self._verified) > _KEPT:
            self._verified.popitem(last=False)
        return bearer

    def _read(self, text: str, header: str, now: datetime) -> Bearer:
        kid = _kid(header)
        key = self._ring.find(kid, now)
        if key is None:
            raise _Malformed("kid")
        try:
            payload = self._signatures.decode(text, key.public, algorithms=[ALGORITHM])
        except jwt.PyJWTError as error:
            raise _Malformed("signature") from error
        claims = _mapping(payload)
        self._check_claims(claims)
        self._check_times(claims, now.timestamp())
        principal, generation, projects = _whose(claims)
        access = read_claims(claims.get("access")) or Access()
        expires_at = datetime.fromtimestamp(claims["exp"], UTC)
        personal, offline = (_whole(claims.get(name, 0)) for name in ("pat", "off"))
        return Bearer(principal, access, generation, projects, claims["jti"], kid, expires_at, personal, offline)

    def _check_claims(self, claims: Mapping[str, Any]) -> None:
        # Compared as values of the right type: a list that holds our name is not our name.
        if not isinstance(claims.get("iss"), str) or claims["iss"] != self._issuer:
            raise _Malformed("iss")
        if not isinstance(claims.get("aud"), str) or claims["aud"] != self._service:
            raise _Malformed("aud")
        if not isinstance(claims.get("jti"), str) or _ID.fullmatch(claims["jti"]) is None:
            raise _Malformed("jti")

    def _check_times(self, claims: Mapping[str, Any], now: float) -> None:
        expires, not_before, issued = (_whole(claims.get(name)) for name in ("exp", "nbf", "iat"))
        if not SHORTEST_TOKEN_SECONDS <= expires - issued <= LONGEST_TOKEN_SECONDS:
            raise _Malformed("life")
        if expires + LEEWAY_SECONDS <= now:
            raise _Malformed("exp")
        if max(not_before, issued) - LEEWAY_SECONDS > now:
            raise _Malformed("nbf")


def may_be_good(expires: float, now: float) -> bool:
    """Whether a token that was good and ends at *expires* need not be judged again; never when the clock went back."""
    return -LEEWAY_SECONDS < expires - now <= LONGEST_TOKEN_SECONDS + LEEWAY_SECONDS


def _kid(segment: str) -> str:
    if len(segment) > _HEADER_CHARACTERS:
        raise _Malformed("header")
    try:
        header = _mapping(base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True))
    except binascii.Error as error:
        raise _Malformed("header") from error
    if set(header) != {"alg", "typ", "kid"} or header["alg"] != ALGORITHM or header["typ"] != "JWT":
        raise _Malformed("header")
    kid = header["kid"]
    if not isinstance(kid, str) or _KID.fullmatch(kid) is None:
        raise _Malformed("kid")
    return kid


def _mapping(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _Malformed("json") from error
    if not isinstance(found, dict):
        raise _Malformed("json")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _whose(claims: Mapping[str, Any]) -> tuple[Principal, int, Mapping[str, int]]:
    kind, name = claims.get("knd"), claims.get("sub")
    account, generation, projects = _whole(claims.get("pid")), _whole(claims.get("gen")), claims.get("prj")
    if not isinstance(projects, dict):
        raise _Malformed("prj")
    ids = {project: _whole(number) for project, number in projects.items()}
    if kind == PrincipalKind.ANONYMOUS.value and name == "" and account == 0:
        return ANONYMOUS, generation, ids
    if not isinstance(kind, str) or kind not in _SIGNED_IN or not isinstance(name, str) or not name.isprintable():
        raise _Malformed("sub")
    if not name or not account:
        raise _Malformed("sub")
    return Principal(_SIGNED_IN[kind], account, name), generation, ids


def _whole(value: object) -> int:
    """*value* if it is a whole number a clock or a sequence can have reached; `True` and `1.0` are none."""
    if type(value) is not int or not 0 <= value < _LARGEST:
        raise _Malformed("number")
    return value
