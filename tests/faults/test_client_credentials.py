"""The gateway's own credential: what it is sent to, and what never gets it."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from yarl import URL

from gateway.engine.upstream.client import Client
from gateway.engine.upstream.credential import Credential
from gateway.errors import UpstreamFailed, UpstreamUnavailable
from tests.faults.asking import BLOB, UPLOAD, body, read, way, with_client
from tests.faults.peer import Behaviour, Line, Misbehaving, Request, always, misbehaving
from tests.services.authority import Authority

PULL = "repository:gallery/ui:pull"
BASIC = "Basic " + base64.b64encode(b"gateway:secret").decode()
WHO = {"username": "gateway", "password": "secret"}


def wanting(realm: str, scope: str = PULL) -> dict[str, str]:
    return {"WWW-Authenticate": f'Bearer realm="{realm}",service="registry",scope="{scope}"'}


class Tokens:
    """A peer that wants tokens, and gives them out itself at `/token`."""

    def __init__(self, seconds: object = 300) -> None:
        self.peer: Misbehaving
        self.seconds = seconds
        self.given = 0
        self.valid: set[str] = set()
        self.at_the_desk: list[Request] = []

    def __call__(self, request: Request, line: Line) -> None:
        if request.path == "/token":
            self.at_the_desk.append(request)
            self.given += 1
            self.valid.add(f"Bearer t{self.given}")
            told = {"token": f"t{self.given}", "expires_in": self.seconds}
            line.answer(200, {"Content-Type": "application/json"}, json.dumps(told).encode())
        elif request.headers.get("authorization") in self.valid:
            line.answer(200, body=b"here")
        else:
            line.answer(401, wanting(f"{self.peer.url}/token"), b"{}")

    def scopes(self) -> list[list[str]]:
        """What was asked for at the desk."""
        queries = [parse_qsl(urlsplit(request.target).query) for request in self.at_the_desk]
        return [[value for name, value in query if name == "scope"] for query in queries]


def test_a_password_is_sent_without_being_asked_for() -> None:
    with misbehaving(always(200, body=b"here")) as peer:
        assert with_client(peer, read, **WHO) == b"here"
        assert [request.headers["authorization"] for request in peer.requests] == [BASIC]


def test_without_a_username_nothing_is_sent() -> None:
    with misbehaving(always(200)) as peer:
        with_client(peer, way("ask"))
        assert "authorization" not in peer.requests[0].headers


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("name", ["ask", "open", "send", "write"])
def test_a_refused_credential_is_the_gateways_own_trouble(name: str, status: int) -> None:
    with misbehaving(always(status, {"WWW-Authenticate": 'Basic realm="x"'}, b"<script>no</script>")) as peer:
        with pytest.raises(UpstreamFailed, match="refuses the gateway's own credential") as refused:
            with_client(peer, way(name), **WHO)
        assert not refused.value.uncertain
        with pytest.raises(UpstreamFailed, match="set username and password_file"):
            with_client(peer, way(name))


def test_what_identifies_us_is_our_own_name() -> None:
    with misbehaving(always(200)) as peer:
        with_client(peer, way("ask"))
    headers = peer.requests[0].headers
    assert headers["user-agent"] == "registry-gateway"
    assert headers["accept-encoding"] == "identity"
    assert set(headers) == {"host", "user-agent", "accept", "accept-encoding"}


def test_no_cookie_is_kept() -> None:
    async def twice(client: Client) -> None:
        await client.ask("GET", BLOB)
        await client.ask("GET", BLOB)

    with misbehaving(always(200, {"Set-Cookie": "session=1; Path=/"})) as peer:
        with_client(peer, twice)
        assert all("cookie" not in request.headers for request in peer.requests)


def test_a_token_is_got_once_for_each_scope_and_kept() -> None:
    async def often(client: Client) -> None:
        for scope in (PULL, PULL, "repository:gallery/api:pull", PULL):
            assert (await client.ask("GET", BLOB, scope=scope)).content == b"here"

    tokens = Tokens()
    with misbehaving(tokens) as tokens.peer:
        with_client(tokens.peer, often, **WHO)
    assert tokens.scopes() == [[PULL], ["repository:gallery/api:pull"]]
    assert [request.headers["authorization"] for request in tokens.at_the_desk] == [BASIC, BASIC]
    # One challenge taught where tokens are: the second scope was not refused first.
    assert len([request for request in tokens.peer.requests if request.path == BLOB]) == 5


def test_many_who_need_a_token_at_once_get_one() -> None:
    async def at_once(client: Client) -> None:
        await client.ask("GET", BLOB, scope="repository:other:pull")
        await asyncio.gather(*(client.ask("GET", BLOB, scope=PULL) for _ in range(20)))

    tokens = Tokens()
    with misbehaving(tokens) as tokens.peer:
        with_client(tokens.peer, at_once, **WHO)
    assert len(tokens.at_the_desk) == 2


@pytest.mark.parametrize("status", [200, 401, 403, 500])
def test_names_that_somebody_invents_leave_nothing_behind(status: int) -> None:
    async def at_the_desk(url: URL, headers: Mapping[str, str]) -> tuple[int, bytes]:
        await asyncio.sleep(0)
        return status, b'{"token": "t", "expires_in": 300}'

    async def invent() -> Credential:
        credential = Credential(URL("http://127.0.0.1:1"), "gateway", "secret", at_the_desk)
        for number in range(2500):
            scope = f"repository:invented/{number}:pull"
            with suppress(UpstreamFailed):
                await credential.renewed([wanting("http://127.0.0.1:1/token")["WWW-Authenticate"]], scope, BASIC)
        slow = [asyncio.create_task(credential.authorization(PULL)) for _ in range(3)]
        await asyncio.sleep(0)
        for task in slow[:2]:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        return credential

    credential = asyncio.run(invent())
    assert credential._asking == {}
    assert len(credential._tokens) <= 1000


def test_several_scopes_are_asked_for_one_by_one() -> None:
    tokens = Tokens()
    with misbehaving(tokens) as tokens.peer:
        with_client(tokens.peer, lambda client: client.ask("POST", UPLOAD, scope=f"{PULL} repository:b:pull"), **WHO)
    assert tokens.scopes() == [[PULL, "repository:b:pull"]]


def test_without_a_scope_of_ours_the_challenge_says_which() -> None:
    tokens = Tokens()
    with misbehaving(tokens) as tokens.peer:
        with_client(tokens.peer, way("ask"), **WHO)
    assert tokens.scopes() == [[PULL]]


def test_a_token_that_is_refused_is_renewed_once() -> None:
    async def forgotten(client: Client) -> None:
        await client.ask("GET", BLOB, scope=PULL)
        tokens.valid.clear()
        assert (await client.ask("GET", BLOB, scope=PULL)).content == b"here"

    tokens = Tokens()
    with misbehaving(tokens) as tokens.peer:
        with_client(tokens.peer, forgotten, **WHO)
    assert len(tokens.at_the_desk) == 2


def test_tokens_that_are_never_right_are_not_asked_for_again_and_again() -> None:
    class Stubborn(Tokens):
        def __call__(self, request: Request, line: Line) -> None:
            self.valid.clear()
            super().__call__(request, line)

    tokens = Stubborn()
    with misbehaving(tokens) as tokens.peer:
        with pytest.raises(UpstreamFailed, match="refuses the gateway's own credential"):
            with_client(tokens.peer, way("ask"), **WHO)
        assert len(tokens.peer.requests) == 3


def test_a_token_is_renewed_before_it_expires() -> None:
    async def twice(client: Client) -> None:
        await client.ask("GET", BLOB, scope=PULL)
        await asyncio.sleep(0.3)
        await client.ask("GET", BLOB, scope=PULL)

    tokens = Tokens(seconds=0.4)
    with misbehaving(tokens) as tokens.peer:
        with_client(tokens.peer, twice, **WHO)
    assert len(tokens.at_the_desk) == 2
    refused = [
        request for request in tokens.peer.requests if request.headers.get("authorization", "") not in ("", BASIC)
    ]
    assert [request.headers["authorization"] for request in refused] == ["Bearer t1", "Bearer t2"]


def test_no_token_is_kept_for_more_than_an_hour_however_long_it_is_said_to_last() -> None:
    now, asked = [1000.0], list[URL]()

    async def fetch(address: URL, headers: Mapping[str, str]) -> tuple[int, bytes]:
        asked.append(address)
        return 200, json.dumps({"token": f"t{len(asked)}", "expires_in": 10**9}).encode()

    async def story() -> None:
        credential = Credential(URL("http://127.0.0.1"), "who", "secret", fetch, lambda: now[0])
        challenge = 'Bearer realm="http://127.0.0.1/token",service="registry"'
        assert await credential.renewed([challenge], PULL, "") == "Bearer t1"
        now[0] += 3000
        assert await credential.authorization(PULL) == "Bearer t1"
        now[0] += 600
        assert await credential.authorization(PULL) == "Bearer t2"

    asyncio.run(story())


def test_a_body_is_sent_once_the_way_to_sign_in_is_known() -> None:
    tokens = Tokens()
    with misbehaving(tokens) as tokens.peer:
        answer = with_client(tokens.peer, lambda client: client.send("PATCH", UPLOAD, body(b"one"), scope=PULL), **WHO)
        assert answer.status == 200
    patched = [request for request in tokens.peer.requests if request.method == "PATCH"]
    assert [request.body for request in patched] == [b"one"]


@pytest.mark.parametrize(
    "realm",
    [
        "http://evil.example/token",
        "http://127.0.0.2:{port}/token",
        "http://127.0.0.1:{port}@evil.example/token",
        "http://user:x@127.0.0.1:{port}/token",
        "//127.0.0.1:{port}/token",
        "/token",
        "file:///etc/passwd",
        "http://127.0.0.1:{port}/to ken",
        "http://[broken/token",
        "",
    ],
)
@pytest.mark.parametrize("name", ["ask", "open", "write"])
def test_a_hostile_realm_gets_nothing(name: str, realm: str) -> None:
    with misbehaving(always(200, body=b'{"token":"t"}')) as desk:
        challenge = wanting(realm.format(port=desk.port))
        with misbehaving(always(401, challenge)) as peer, pytest.raises(UpstreamFailed):
            with_client(peer, way(name), **WHO)
        assert desk.heads == []


def test_a_realm_in_clear_gets_nothing_from_who_speaks_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with misbehaving(always(200, body=b'{"token":"t"}')) as desk:
        behaviour = always(401, wanting(f"{desk.url}/token"))
        with (
            misbehaving(behaviour, pair=authority.issue("127.0.0.1")) as peer,
            pytest.raises(UpstreamFailed, match="in clear"),
        ):
            with_client(peer, way("ask"), ca_file=authority.certificate, **WHO)
        assert desk.heads == []


def test_a_realm_on_another_port_of_the_peers_host_is_asked() -> None:
    tokens = Tokens()
    with misbehaving(tokens) as tokens.peer:
        challenge = wanting(f"{tokens.peer.url}/token")

        def peer_says(request: Request, line: Line) -> None:
            if request.headers.get("authorization") == "Bearer t1":
                line.answer(200, body=b"here")
            else:
                line.answer(401, challenge)

        with misbehaving(peer_says) as peer:
            assert with_client(peer, read, **WHO) == b"here"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (always(401), "refuses the gateway's own credential"),
        (always(500), "gives out no token"),
        (always(307, {"Location": "http://evil.example/"}), "gives out no token"),
        (always(200, body=b"<html>"), "no token"),
        (always(200, body=b"[]"), "no token"),
        (always(200, body=b"[" * 10_000), "no token"),
        (always(200, body=b"{}"), "no token"),
        (always(200, body=b'{"token": 5}'), "no token"),
        (always(200, body=b'{"token": "a\\r\\nX-Evil: 1"}'), "no token"),
        (always(200, body=b'{"token": "' + b"x" * 100_000 + b'"}'), "more than it may"),
        (lambda request, line: line.reset(), "broke off"),
        (lambda request, line: line.wait(), "takes too long"),
    ],
)
def test_a_token_server_that_fails_is_the_peers_failure(answer: Behaviour, message: str) -> None:
    with misbehaving(answer) as desk, misbehaving(always(401, wanting(f"{desk.url}/token"))) as peer:
        with pytest.raises(UpstreamUnavailable, match=message):
            with_client(peer, way("ask"), **WHO)
        assert desk.settled()


def test_a_challenge_among_others_is_found() -> None:
    tokens = Tokens()

    def peer_says(request: Request, line: Line) -> None:
        if request.headers.get("authorization") == "Bearer t1":
            line.answer(200, body=b"here")
        else:
            line.answer(401, {"WWW-Authenticate": f'Basic realm="x", bearer realm="{tokens.peer.url}/token"'})

    with misbehaving(tokens) as tokens.peer, misbehaving(peer_says) as peer:
        assert with_client(peer, read, **WHO) == b"here"


@pytest.mark.alone
def test_expiry_that_makes_no_sense_is_taken_for_a_minute() -> None:
    for seconds in (-1, "300", None, True, 0):
        tokens = Tokens(seconds)
        with misbehaving(tokens) as tokens.peer:
            began = time.monotonic()
            assert with_client(tokens.peer, read, **WHO) == b"here"
            assert time.monotonic() - began < 1
