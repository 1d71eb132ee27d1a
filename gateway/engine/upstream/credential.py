"""The gateway's own credential at the registry behind: a password, or tokens got with it."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from yarl import URL

from gateway.engine.upstream import places
from gateway.errors import Lack, UpstreamDistrust, UpstreamFailed

#: A token that lives shorter is renewed for every request: nothing else would be right.
_MARGIN_SECONDS = 10.0
_DEFAULT_SECONDS = 60.0
_LONGEST_SECONDS = 3600.0
_MOST_TOKENS = 1000
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,16384}", re.ASCII)
_BEARER = re.compile(r"(?:^|,)\s*Bearer\s+(.*)", re.ASCII | re.IGNORECASE)
_PARAMETER = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', re.ASCII)

#: Asks for a token: an address and headers, to a status and a body.
Fetch = Callable[[URL, Mapping[str, str]], Awaitable[tuple[int, bytes]]]


@dataclass(frozen=True, slots=True)
class Desk:
    """Where tokens are given out, and for which service; *scope* is what a challenge asked for."""

    realm: URL
    service: str
    scope: str


@dataclass(slots=True)
class _Asking:
    """Those who want a token for one scope: one asks, and what it gets serves all."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: int = 0


class Credential:
    """
    What is put into `Authorization` for the peer, and for nobody else.

    A password is sent unasked, until the peer asks for tokens instead: then they are got beforehand, one per scope,
    and kept until shortly before they expire.
    """

    def __init__(
        self, peer: URL, username: str, password: str, fetch: Fetch, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._peer = peer
        pair = base64.b64encode(f"{username}:{password}".encode()).decode()
        self._basic = f"Basic {pair}" if username else ""
        self._fetch = fetch
        self._clock = clock
        self._desk: Desk | None = None
        self._tokens: dict[str, tuple[str, float]] = {}
        self._asking: dict[str, _Asking] = {}
        self.proven = False
        """Whether the peer has accepted what it was sent, or said what it wants: a body can be sent at once."""

    async def authorization(self, scope: str) -> str:
        """The header's value for *scope*, "" for none; asks for a token if it needs one."""
        if self._desk is None:
            return self._basic
        known = self._known(scope)
        if known or not scope:
            return known
        return await self._token(self._desk, scope, "")

    async def renewed(self, challenges: Sequence[str], scope: str, refused: str) -> str:
        """
        Another value than *refused*, which the peer has just answered with *challenges*; "" if there is none.

        Raises `UpstreamFailed` when the peer asks for tokens from where our credential must not go.
        """
        desk = self._challenged(challenges)
        if desk is None:
            return ""
        self._desk, self.proven = desk, True
        return await self._token(desk, scope, refused)

    def forget(self, scope: str) -> None:
        """Drops the token for *scope*: it was refused."""
        self._tokens.pop(scope, None)

    def refused(self) -> UpstreamDistrust:
        """What to raise when the peer does not let us in with what we have."""
        if self._basic:
            return UpstreamDistrust(_REFUSED, Lack.RIGHT)
        return UpstreamDistrust(_WANTED, Lack.CREDENTIAL)

    def _known(self, scope: str) -> str:
        value, until = self._tokens.get(scope, ("", 0.0))
        return value if self._clock() < until else ""

    def _challenged(self, challenges: Sequence[str]) -> Desk | None:
        for challenge in challenges:
            bearer = _BEARER.search(challenge)
            if bearer is not None:
                found = dict(_PARAMETER.findall(bearer[1]))
                realm = places.realm(self._peer, found.get("realm", ""))
                return Desk(realm, found.get("service", ""), found.get("scope", ""))
        return None

    async def _token(self, desk: Desk, scope: str, refused: str) -> str:
        asking = self._asking.setdefault(scope, _Asking())
        asking.wanted += 1
        try:
            async with asking.lock:
                known = self._known(scope)
                if known and known != refused:
                    return known
                token, seconds = await self._asked(desk, scope or desk.scope)
                value = f"Bearer {token}"
                self._prune()
                self._tokens[scope] = (value, self._clock() + seconds - min(_MARGIN_SECONDS, seconds / 2))
                return value
        finally:
            asking.wanted -= 1
            # Whoever invents names leaves nothing behind, whether or not there are tokens for them.
            if not asking.wanted:
                self._asking.pop(scope, None)

    async def _asked(self, desk: Desk, scope: str) -> tuple[str, float]:
        query = [("service", desk.service)] if desk.service else []
        query += [("scope", each) for each in scope.split()]
        address = desk.realm.update_query([*desk.realm.query.items(), *query])
        status, body = await self._fetch(address, {"Authorization": self._basic} if self._basic else {})
        if status in (401, 403):
            raise self.refused()
        if status != 200:
            raise UpstreamFailed("The registry behind gives out no token; look at its token server.")
        return _read(body)

    def _prune(self) -> None:
        if len(self._tokens) >= _MOST_TOKENS:
            now = self._clock()
            self._tokens = {scope: kept for scope, kept in self._tokens.items() if kept[1] > now}
        if len(self._tokens) >= _MOST_TOKENS:
            self._tokens.clear()


_REFUSED = (
    "The registry behind refuses the gateway's own credential; "
    "check username and password_file in the gateway's configuration, and what they may do there."
)
_WANTED = "The registry behind asks for a credential; set username and password_file in the gateway's configuration."


def _read(body: bytes) -> tuple[str, float]:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise UpstreamFailed("The token server of the registry behind answers with something that is no token.")
    token = told.get("token") or told.get("access_token")
    if not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
        raise UpstreamFailed("The token server of the registry behind answers with something that is no token.")
    seconds = told.get("expires_in")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds > 0:
        seconds = _DEFAULT_SECONDS
    return token, float(min(seconds, _LONGEST_SECONDS))
