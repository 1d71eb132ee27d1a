"""Connections to the registry behind when all of a kind are in use: others go on, and the peer is not blamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import pytest

from gateway.engine.upstream.circuit import FAILURES
from gateway.engine.upstream.client import Client, Patience, Shares, Streamed
from gateway.errors import UpstreamUnavailable
from tests.faults.asking import BLOB, UPLOAD, read, way, with_client
from tests.faults.peer import Line, Request, head, misbehaving

FEW = Shares(downloads=2, uploads=1, answers=1, wait_seconds=0.1)
#: So little that a pool would be waited for longer than a connection is.
PATIENT = Patience(connect_seconds=0.05, answer_seconds=5, idle_seconds=5)


def endless_blobs(request: Request, line: Line) -> None:
    """A healthy registry with one blob that never ends."""
    if request.target != BLOB:
        line.answer(200, body=b"here")
        return
    line.say(head(200, {"Content-Length": str(1 << 30)}) + b"x")
    line.wait()


async def begun(client: Client, stack: AsyncExitStack) -> Streamed:
    """A download that is under way, and goes on no further."""
    streamed = await stack.enter_async_context(client.open(BLOB))
    await anext(streamed.pieces())
    return streamed


async def refused(client: Client, name: str) -> None:
    with pytest.raises(UpstreamUnavailable, match=r"Too many .* try again") as refusal:
        await way(name)(client)
    assert type(refusal.value) is UpstreamUnavailable
    assert not refusal.value.uncertain
    assert not client.trouble


def test_downloads_that_take_all_their_connections_stop_no_other_request_and_are_not_the_peers_fault() -> None:
    async def crowd(client: Client) -> None:
        async with AsyncExitStack() as stack:
            for _ in range(FEW.downloads):
                await begun(client, stack)
            for _ in range(FAILURES + 1):
                await refused(client, "open")
                for name in ("write", "send"):
                    await way(name)(client)
                assert (await client.ask("GET", "/v2/")).content == b"here"
            assert peer.connections <= FEW.downloads + FEW.uploads + FEW.answers
        async with AsyncExitStack() as stack:
            await begun(client, stack)

    with misbehaving(endless_blobs) as peer:
        with_client(peer, crowd, patience=PATIENT, shares=FEW)


def test_an_upload_that_goes_on_for_long_stops_neither_downloads_nor_answers() -> None:
    going_on = asyncio.Event()

    async def slow_body() -> AsyncIterator[bytes]:
        yield b"one"
        await going_on.wait()

    async def crowd(client: Client) -> None:
        client._credential.proven = True
        upload = asyncio.create_task(client.send("PATCH", UPLOAD, slow_body()))
        while not peer.heads:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for _ in range(FAILURES + 1):
            await refused(client, "send")
        async with AsyncExitStack() as stack:
            await begun(client, stack)
            assert (await client.ask("GET", "/v2/")).status == 200
        going_on.set()
        assert (await upload).status == 200
        await way("send")(client)

    with misbehaving(endless_blobs) as peer:
        with_client(peer, crowd, patience=PATIENT, shares=FEW)


def test_answers_that_are_long_in_coming_count_against_the_peer_but_those_who_wait_behind_them_do_not() -> None:
    async def crowd(client: Client) -> None:
        first = asyncio.create_task(client.ask("GET", "/v2/"))
        while not peer.heads:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for _ in range(FAILURES + 1):
            await refused(client, "ask")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    with misbehaving(lambda request, line: line.wait()) as peer:
        with_client(peer, crowd, patience=PATIENT, shares=FEW)


def test_who_waits_gets_the_first_connection_that_is_free() -> None:
    async def crowd(client: Client) -> None:
        async with AsyncExitStack() as waiting:
            async with AsyncExitStack() as stack:
                for _ in range(FEW.downloads):
                    await begun(client, stack)
                task = asyncio.create_task(begun(client, waiting))
                await asyncio.sleep(0.1)
                assert not task.done()
            assert (await task).status == 200

    patient = Shares(downloads=2, uploads=1, answers=1, wait_seconds=2)
    with misbehaving(endless_blobs) as peer:
        with_client(peer, crowd, patience=PATIENT, shares=patient)


def test_who_is_cancelled_while_waiting_takes_no_connection_along() -> None:
    async def crowd(client: Client) -> None:
        async with AsyncExitStack() as stack:
            held = [AsyncExitStack() for _ in range(FEW.downloads)]
            for each in held:
                await begun(client, await stack.enter_async_context(each))
            waiting = [asyncio.create_task(read(client)) for _ in range(8)]
            await asyncio.sleep(0.05)
            for task in waiting[:7]:
                task.cancel()
            # The last is cancelled in the very moment in which a connection gets free for it.
            await held[0].aclose()
            waiting[7].cancel()
            ended = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in ended)
        assert await asyncio.to_thread(peer.settled)
        async with AsyncExitStack() as stack:
            for _ in range(FEW.downloads):
                await begun(client, stack)
            await refused(client, "open")

    patient = Shares(downloads=2, uploads=1, answers=1, wait_seconds=0.5)
    with misbehaving(endless_blobs) as peer:
        with_client(peer, crowd, patience=PATIENT, shares=patient)


def test_a_peer_that_cannot_be_asked_whether_it_is_well_for_want_of_a_connection_is_not_left_alone() -> None:
    def stumbling(request: Request, line: Line) -> None:
        if request.target == BLOB:
            line.answer(500, {"Docker-Distribution-Api-Version": "registry/2.0"}, b"{}")
        else:
            line.wait()

    async def crowd(client: Client) -> None:
        waiting = asyncio.ensure_future(client.ask("GET", "/v2/gallery/ui/tags/list"))
        await asyncio.sleep(0.05)
        for _ in range(FAILURES):
            with suppress(UpstreamUnavailable):
                await read(client)
        assert client._asking is not None
        await client._asking
        assert not client.trouble
        waiting.cancel()

    with misbehaving(stumbling) as peer:
        with_client(peer, crowd, patience=PATIENT, shares=FEW)
