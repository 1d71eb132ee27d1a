"""Bodies that are sent to a peer, and answers that are read whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.engine.port import Interrupted
from gateway.engine.upstream.answers import promised
from gateway.engine.upstream.client import Answer, Client, Patience
from gateway.engine.upstream.flow import Pace
from gateway.errors import UpstreamFailed, UpstreamSlow, UpstreamUnavailable
from tests.faults.asking import BLOB, UPLOAD, body, way, with_client
from tests.faults.peer import Line, Request, always, head, misbehaving, sockets_to


async def patch(client: Client, pieces: AsyncIterator[bytes]) -> Answer:
    client._credential.proven = True
    return await client.send("PATCH", UPLOAD, pieces)


def test_a_body_arrives_as_it_was_sent_and_chunked() -> None:
    with misbehaving(always(202, {"Location": UPLOAD, "Range": "0-5"})) as peer:
        answer = with_client(peer, lambda client: patch(client, body(b"one", b"", b"two")))
        assert (answer.status, answer.headers["location"], answer.method) == (202, UPLOAD, "PATCH")
        (request,) = peer.requests
    assert request.body == b"onetwo"
    assert request.headers["transfer-encoding"] == "chunked"
    assert request.target == UPLOAD


def test_a_body_without_a_byte_is_sent_as_one() -> None:
    with misbehaving(always(202)) as peer:
        with_client(peer, lambda client: patch(client, body()))
        assert [request.body for request in peer.requests] == [b""]


@pytest.mark.parametrize(
    "error", [Interrupted("gone"), OSError("gone"), ConnectionResetError(), TimeoutError(), ValueError()]
)
def test_what_a_body_raises_is_raised_as_it_is_and_the_peer_sees_no_end(error: Exception) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"one"
        while not peer.heads:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        raise error

    async def run(client: Client) -> None:
        with pytest.raises(type(error)) as raised:
            await patch(client, broken())
        assert raised.value is error
        assert not client.trouble

    with misbehaving(always(202)) as peer:
        with_client(peer, run)
        assert [method for method, _, _ in peer.heads] == ["PATCH"]
        assert peer.requests == []


def test_a_client_that_is_slow_to_send_is_not_held_against_the_peer() -> None:
    async def leisurely() -> AsyncIterator[bytes]:
        for _ in range(4):
            await asyncio.sleep(0.3)
            yield b"x"

    with misbehaving(always(202)) as peer:
        patience = Patience(answer_seconds=0.2, idle_seconds=0.2)
        assert with_client(peer, lambda client: patch(client, leisurely()), patience=patience).status == 202
        assert peer.requests[0].body == b"xxxx"


def test_a_peer_is_too_slow_if_less_than_it_has_to_send_comes_in_a_whole_window() -> None:
    pace = Pace(Patience(min_bytes_per_second=1000, window_seconds=10))
    for size in (4_000, 6_000):
        pace.came(size, 5)

    # Each window begins anew.
    pace.came(9_999, 5)
    with pytest.raises(UpstreamSlow):
        pace.came(0, 5)


def test_a_peer_that_takes_no_more_is_not_waited_for_and_nothing_piles_up() -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 65536
            yield b"x" * 65536

    async def stalled(client: Client) -> None:
        with pytest.raises(UpstreamSlow) as refused:
            await patch(client, endless())
        assert refused.value.uncertain
        # What the peer never took does not keep the connection for ever.
        async with asyncio.timeout(2):
            while sockets_to(peer.port):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    with misbehaving(always(202)) as peer:
        peer.before = lambda method, target, line: line.sleep(5)
        patience = Patience(connect_seconds=0.5, answer_seconds=0.5, idle_seconds=0.5)
        with_client(peer, stalled, patience=patience)
    assert taken < 32 * 1024 * 1024


def test_a_peer_that_breaks_off_in_the_middle_of_a_body_is_a_failure() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0)

    with misbehaving(always(202)) as peer:
        peer.before = lambda method, target, line: line.reset()
        with pytest.raises(UpstreamFailed) as refused:
            with_client(peer, lambda client: patch(client, endless()))
        assert refused.value.uncertain


def test_an_answer_before_the_end_of_the_body_ends_it() -> None:
    asked = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield b"x" * 100
            await asyncio.sleep(0.01)

    async def early(client: Client) -> None:
        answer = await patch(client, endless())
        assert (answer.status, answer.content) == (404, b"{}")
        before = asked
        await asyncio.sleep(0.1)
        assert asked == before

    def at_once(method: str, target: str, line: Line) -> None:
        line.answer(404, body=b"{}")
        line.wait()

    with misbehaving(always(202)) as peer:
        peer.before = at_once
        with_client(peer, early)


def test_a_cancelled_body_leaves_no_connection() -> None:
    async def stuck() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.sleep(60)

    async def cancelled(client: Client) -> None:
        task = asyncio.create_task(patch(client, stuck()))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(peer.settled)

    with misbehaving(always(202)) as peer:
        with_client(peer, cancelled)
        assert peer.requests == []


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_that_is_too_long_is_not_taken_into_memory(chunked: bool) -> None:
    sent = 0

    def endless(request: Request, line: Line) -> None:
        nonlocal sent
        line.say(head(200, {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(1 << 40)}))
        while True:
            line.say(b"10000\r\n" + b"x" * 65536 + b"\r\n" if chunked else b"x" * 65536)
            sent += 65536

    with misbehaving(endless) as peer:
        with pytest.raises(UpstreamFailed, match="more than it may"):
            with_client(peer, lambda client: client.ask("GET", BLOB, limit_bytes=100_000))
        assert peer.settled()
    assert sent < 32 * 1024 * 1024


def test_an_answer_at_its_limit_is_taken() -> None:
    with misbehaving(always(200, body=b"x" * 1000)) as peer:
        assert len(with_client(peer, lambda client: client.ask("GET", BLOB, limit_bytes=1000)).content) == 1000
        with pytest.raises(UpstreamFailed):
            with_client(peer, lambda client: client.ask("GET", BLOB, limit_bytes=999))


def test_bytes_behind_the_announced_length_are_not_the_next_answer() -> None:
    def lying(request: Request, line: Line) -> None:
        line.say(head(200, {"Content-Length": "2"}) + b"ok" + head(200, {"Content-Length": "4"}) + b"evil")

    async def twice(client: Client) -> None:
        assert (await client.ask("GET", BLOB)).content == b"ok"
        assert (await client.ask("GET", BLOB)).content == b"ok"

    with misbehaving(lying) as peer:
        with_client(peer, twice)


def test_the_length_in_the_answer_to_a_head_is_not_waited_for() -> None:
    with misbehaving(lambda request, line: line.answer(200, {"Content-Length": "1000"})) as peer:
        answer = with_client(peer, lambda client: client.ask("HEAD", BLOB))
        assert (answer.headers["content-length"], answer.content) == ("1000", b"")


def test_pieces_are_of_bounded_size_whatever_the_chunks_are() -> None:
    async def largest(client: Client) -> tuple[int, int]:
        async with client.open(BLOB) as streamed:
            sizes = [len(piece) async for piece in streamed.pieces()]
        return max(sizes), sum(sizes)

    def in_chunks(request: Request, line: Line) -> None:
        line.say(head(200, {"Transfer-Encoding": "chunked"}))
        for _ in range(4):
            line.say(b"100000\r\n" + b"x" * 1048576 + b"\r\n")
        line.say(b"0\r\n\r\n")

    with misbehaving(in_chunks) as peer:
        most, whole = with_client(peer, largest)
    assert 0 < most <= 256 * 1024
    assert whole == 4 * 1024 * 1024


@pytest.mark.parametrize(("status", "method", "uncertain"), [
    (500, "PUT", True), (502, "PATCH", True), (503, "DELETE", True), (500, "GET", False), (429, "PUT", False),
    (400, "PUT", False), (200, "GET", False), (200, "PUT", True),
])  # fmt: skip
def test_a_refusal_says_whether_a_write_may_have_been_done(status: int, method: str, uncertain: bool) -> None:
    async def refused(client: Client) -> UpstreamUnavailable:
        return client.refuse(await client.ask(method, BLOB))

    with misbehaving(always(status, {"Content-Type": "text/html"}, b"<script>secret</script>")) as peer:
        refusal = with_client(peer, refused)
    assert isinstance(refusal, UpstreamFailed)
    assert refusal.uncertain is uncertain
    assert "secret" not in refusal.message
    assert refusal.message.startswith("The registry behind ")


def test_errors_of_the_peer_and_of_a_flood_are_answers_to_judge() -> None:
    for status in (404, 429, 500, 503):
        with misbehaving(always(status, body=b"{}")) as peer:
            answer = with_client(peer, way("ask"))
            assert isinstance(answer, Answer)
            assert answer.status == status


@pytest.mark.parametrize(("status", "uncertain"), [(201, True), (500, True), (400, False)])
def test_more_of_an_answer_to_a_write_than_is_read_says_whether_it_may_have_been_done(
    status: int, uncertain: bool
) -> None:
    flood = always(status, body=b"x" * (5 * 1024 * 1024))
    with misbehaving(flood) as peer, pytest.raises(UpstreamFailed, match="more than it may") as refused:
        with_client(peer, way("write"))
    assert refused.value.uncertain is uncertain


@pytest.mark.parametrize(("method", "uncertain"), [("PUT", True), ("HEAD", False)])
def test_a_digest_that_is_none_does_not_mean_that_a_write_was_not_done(method: str, uncertain: bool) -> None:
    with misbehaving(always(201, {"Docker-Content-Digest": "sha256:junk"})) as peer:
        answer = with_client(peer, lambda client: client.ask(method, BLOB))
    with pytest.raises(UpstreamFailed, match="names a digest that is none") as refused:
        promised(answer)
    assert refused.value.uncertain is uncertain
