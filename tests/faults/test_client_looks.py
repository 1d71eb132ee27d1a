"""Looking at how the registry behind is while nobody asks it for anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.engine.upstream.client import Client
from tests.faults.asking import BLOB, QUICK, read, with_client
from tests.faults.peer import Behaviour, Line, Request, always, misbehaving
from tests.services.daemon import free_port

OWN = {"Docker-Distribution-Api-Version": "registry/2.0", "Content-Type": "application/json"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.engine.upstream.client._PAUSE_SECONDS", 0.1)


def looked(behaviour: Behaviour, *, then: Callable[[Client], Awaitable[None]] | None = None) -> tuple[str, int]:
    """What a look at such a peer finds, and how often it was greeted."""

    async def story(client: Client) -> str:
        if then is not None:
            await then(client)
        await client.look()
        return client.trouble

    with misbehaving(behaviour) as peer:
        trouble = with_client(peer, story)
        return trouble, [target for _, target, _ in peer.heads].count("/v2/")


def test_a_peer_that_takes_no_connection_is_found_out_by_one_look() -> None:
    async def story(client: Client) -> str:
        await client.look()
        return client.trouble

    found = with_client(f"http://127.0.0.1:{free_port()}", story)
    assert found == "The registry behind takes no connection; check that it runs."


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        (always(503), "has failed with status 503"),
        (always(500, OWN, b"{}"), "has failed with status 500"),
        (lambda request, line: line.reset(), "broke off"),
        (lambda request, line: line.wait(), "takes too long"),
    ],
)
def test_one_that_answers_no_greeting_is_left_alone_and_it_is_said_why(behaviour: Behaviour, told: str) -> None:
    assert told in looked(behaviour)[0]


@pytest.mark.parametrize("status", [200, 401, 403, 404])
def test_one_that_answers_has_no_trouble_and_is_greeted_once(status: int) -> None:
    assert looked(always(status, {**OWN, "WWW-Authenticate": 'Basic realm="x"'}, b"{}")) == ("", 1)


def test_one_that_was_heard_lately_is_not_greeted() -> None:
    async def ask(client: Client) -> None:
        assert (await client.ask("GET", BLOB)).status == 200

    assert looked(always(200), then=ask) == ("", 0)


def test_a_greeting_that_is_lost_alone_is_no_outage() -> None:
    lost = [True]

    def once(request: Request, line: Line) -> None:
        if lost and lost.pop():
            line.answer(503)
        else:
            line.answer(200, OWN, b"{}")

    assert looked(once) == ("", 2)


def test_one_that_answers_others_meanwhile_is_not_left_alone() -> None:
    def mute(request: Request, line: Line) -> None:
        if request.target == "/v2/":
            line.wait()
        else:
            line.answer(200, {"Content-Length": "1"}, b"x")

    async def story(client: Client) -> str:
        looking = asyncio.create_task(client.look())
        await asyncio.sleep(0.2)
        assert await read(client) == b"x"
        await looking
        return client.trouble

    with misbehaving(mute) as peer:
        assert with_client(peer, story) == ""


def test_however_many_look_the_peer_is_greeted_by_one_and_not_at_all_while_it_is_left_alone() -> None:
    async def story(client: Client) -> None:
        await asyncio.gather(*(client.look() for _ in range(50)))
        assert client.trouble
        await asyncio.gather(*(client.look() for _ in range(50)))
        assert len(peer.heads) == 2

    with misbehaving(always(503)) as peer:
        with_client(peer, story)


def test_whoever_looks_waits_no_longer_for_a_peer_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.engine.upstream.client._LOOK_SECONDS", 0.2)

    async def story(client: Client) -> None:
        async with asyncio.timeout(QUICK.answer_seconds - 0.1):
            await client.look()
        assert not client.trouble
        async with asyncio.timeout(2):
            while not client.trouble:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    with misbehaving(lambda request, line: line.wait()) as peer:
        with_client(peer, story)


def test_a_look_that_was_given_up_leaves_the_look_of_others_alone() -> None:
    async def story(client: Client) -> None:
        first = asyncio.create_task(client.look())
        second = asyncio.create_task(client.look())
        await asyncio.sleep(0.05)
        first.cancel()
        await second
        assert client.trouble

    with misbehaving(always(503)) as peer:
        with_client(peer, story)
