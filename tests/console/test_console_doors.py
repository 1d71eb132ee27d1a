"""The doors between the edges: the console's cookie opens nothing else, and nothing else opens the console."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from gateway.app import Rooms, application, opened
from gateway.console.session import COOKIE
from gateway.front import Front
from gateway.initialisation import initialise
from gateway.settings import Settings
from tests.house import OPERATOR

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rooms, Front]]:
    """A whole gateway's application, with one user."""
    data = tmp_path_factory.mktemp("doors") / "data"
    data.mkdir(mode=0o700)
    settings = Settings.for_data(data, {})
    initialise(settings)
    with opened(settings) as rooms:
        asyncio.run(rooms.administration.accounts.add_user(OPERATOR, "jane", password=PASSWORD))
        yield rooms, application(rooms, list)


def ask(front: Front, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> tuple[int, Any, bytes]:
    target, _, query = path.partition("?")
    sent = {"Host": "localhost:5000", **headers}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": target,
        "raw_path": target.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
        "client": ("192.0.2.10", 40000),
        "server": ("localhost", 5000),
    }
    messages: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    asyncio.run(front(scope, receive, send))
    told = {name.decode().lower(): value.decode("latin-1") for name, value in messages[0]["headers"]}
    return messages[0]["status"], told, b"".join(message.get("body", b"") for message in messages[1:])


def signed_in(front: Front) -> str:
    """The cookie of somebody who has just signed in."""
    form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "https://localhost:5000"}
    body = f"name=jane&password={PASSWORD.replace(' ', '+')}".encode()
    status, headers, _ = ask(front, "POST", "/console/sign-in", form, body)
    assert status == 303
    return str(headers["set-cookie"].partition(";")[0])


def test_a_browser_that_asks_for_the_host_gets_the_console(site: tuple[Rooms, Front]) -> None:
    front = site[1]
    page = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    status, headers, _ = ask(front, "GET", "/", page)
    assert (status, headers["location"]) == (303, "/console/")
    assert ask(front, "GET", "/", {"Accept": "*/*"})[0] == 404
    assert ask(front, "POST", "/", page)[0] != 303


def test_the_cookie_opens_the_console_and_nothing_else(site: tuple[Rooms, Front]) -> None:
    front = site[1]
    cookie = {"Cookie": signed_in(front)}
    assert ask(front, "GET", "/console/account", cookie)[0] == 200
    assert ask(front, "GET", "/v2/", cookie)[0] == 401
    assert ask(front, "GET", "/v2/_catalog", cookie)[0] == 401
    status, _, body = ask(front, "GET", "/token?service=registry-gateway&scope=registry:catalog:*", cookie)
    assert status == 401 or b"jane" not in base64.b64encode(body) + body
    assert ask(front, "GET", "/api/v1/projects", cookie)[0] in {401, 404}


def test_no_credential_of_other_edges_opens_the_console(site: tuple[Rooms, Front]) -> None:
    front = site[1]
    basic = "Basic " + base64.b64encode(f"jane:{PASSWORD}".encode()).decode()
    for value in (basic, "Bearer eyJhbGciOiJFUzI1NiJ9.e30.x"):
        assert ask(front, "GET", "/console/account", {"Authorization": value})[0] == 303
    token = ask(front, "GET", "/token?service=registry-gateway", {"Authorization": basic})
    assert token[0] == 200
    for cookie in (f"{COOKIE}=", f"{COOKIE}={token[2].decode()[:150]}", "gateway=x"):
        assert ask(front, "GET", "/console/account", {"Cookie": cookie})[0] == 303


def test_the_cookie_of_one_who_is_gone_opens_nothing(site: tuple[Rooms, Front]) -> None:
    rooms, front = site
    asyncio.run(rooms.administration.accounts.add_user(OPERATOR, "leaver", password=PASSWORD))
    form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "https://localhost:5000"}
    body = f"name=leaver&password={PASSWORD.replace(' ', '+')}".encode()
    cookie = {"Cookie": ask(front, "POST", "/console/sign-in", form, body)[1]["set-cookie"].partition(";")[0]}
    assert ask(front, "GET", "/console/account", cookie)[0] == 200
    asyncio.run(rooms.administration.accounts.remove_user(OPERATOR, "leaver"))
    assert ask(front, "GET", "/console/account", cookie)[0] == 303
