"""Peers that are down, slow, or break off, as the client sees them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.engine.upstream.client import Client, Patience
from gateway.errors import UpstreamFailed, UpstreamSlow, UpstreamUnavailable
from tests.faults.asking import BLOB, QUICK, read, way, with_client
from tests.faults.peer import Behaviour, Line, Request, always, head, misbehaving
from tests.services.authority import Authority
from tests.services.daemon import free_port

ALL = ["ask", "open", "send", "write"]
READS = ["ask", "open"]
WRITES = ["send", "write"]


def failing(behaviour: Behaviour, name: str) -> UpstreamUnavailable:
    with misbehaving(behaviour) as peer, pytest.raises(UpstreamUnavailable) as refused:
        with_client(peer, way(name))
    return refused.value


@pytest.mark.parametrize("name", ALL)
def test_a_peer_that_is_down_has_certainly_done_nothing(name: str) -> None:
    with pytest.raises(UpstreamFailed, match="takes no connection") as refused:
        with_client(f"http://127.0.0.1:{free_port()}", way(name))
    assert not refused.value.uncertain


def test_a_name_that_nobody_knows_is_said_to_be_the_reason() -> None:
    with pytest.raises(UpstreamFailed, match="name of the registry behind is not known"):
        with_client("http://registry.invalid:5000", way("ask"))


@pytest.mark.parametrize("name", ALL)
def test_a_peer_that_says_nothing_is_not_waited_for_longer_than_allowed(name: str) -> None:
    began = time.monotonic()
    refusal = failing(lambda request, line: line.wait(), name)
    assert isinstance(refusal, UpstreamSlow)
    assert QUICK.answer_seconds <= time.monotonic() - began < QUICK.answer_seconds + 1
    assert refusal.uncertain == (name in WRITES)


@pytest.mark.parametrize("name", ALL)
def test_a_head_that_drips_does_not_stretch_the_time_for_it(name: str) -> None:
    refusal = failing(lambda request, line: line.drip(head(200, {"X-Long": "y" * 500}), 0.1), name)
    assert isinstance(refusal, UpstreamSlow)


@pytest.mark.parametrize("name", ["ask", "open"])
def test_a_body_at_a_byte_a_moment_is_too_slow(name: str) -> None:
    def slowly(request: Request, line: Line) -> None:
        line.say(head(200, {"Content-Length": "1000"}))
        line.drip(b"x" * 1000, 0.05)

    assert isinstance(failing(slowly, name), UpstreamSlow)


def test_a_body_that_stops_in_the_middle_is_not_waited_for() -> None:
    def stopping(request: Request, line: Line) -> None:
        line.say(head(200, {"Content-Length": "100000"}) + b"x" * 50000)
        line.wait()

    assert isinstance(failing(stopping, "open"), UpstreamSlow)


def test_a_reader_that_takes_its_time_is_not_held_against_the_peer() -> None:
    size = 3_000_000

    async def leisurely(client: Client) -> int:
        got = 0
        async with client.open(BLOB) as streamed:
            async for piece in streamed.pieces():
                got += len(piece)
                await asyncio.sleep(0.1)
        return got

    quick = Patience(answer_seconds=0.6, idle_seconds=0.2, window_seconds=0.2, min_bytes_per_second=10_000_000)
    with misbehaving(always(200, body=b"x" * size)) as peer:
        assert with_client(peer, leisurely, patience=quick) == size


@pytest.mark.parametrize("name", ALL)
def test_a_connection_closed_instead_of_an_answer_is_a_failure(name: str) -> None:
    refusal = failing(lambda request, line: line.reset(), name)
    assert isinstance(refusal, UpstreamFailed)
    assert refusal.uncertain == (name in WRITES)


@pytest.mark.parametrize("cut", [1, 12, 16, 30, -3])
@pytest.mark.parametrize("name", ALL)
def test_a_head_that_is_cut_is_a_failure(name: str, cut: int) -> None:
    def cutting(request: Request, line: Line) -> None:
        line.say(head(200, {"Content-Length": "0", "Docker-Content-Digest": "sha256:0"})[:cut])
        line.reset()

    refusal = failing(cutting, name)
    assert isinstance(refusal, UpstreamFailed)
    assert refusal.uncertain == (name in WRITES)


@pytest.mark.parametrize("orderly", [True, False])
@pytest.mark.parametrize("name", ALL)
def test_a_body_that_is_cut_is_never_a_whole_one(name: str, orderly: bool) -> None:
    def cutting(request: Request, line: Line) -> None:
        line.say(head(200, {"Content-Length": "1000"}) + b"x" * 999)
        if not orderly:
            line.reset()
        raise ConnectionError

    refusal = failing(cutting, name)
    assert isinstance(refusal, UpstreamFailed)
    assert refusal.uncertain == (name in WRITES)


@pytest.mark.parametrize("name", READS)
def test_chunks_that_end_without_their_last_one_are_never_a_whole_body(name: str) -> None:
    def cutting(request: Request, line: Line) -> None:
        line.say(head(200, {"Transfer-Encoding": "chunked"}) + b"5\r\nhello\r\n")
        raise ConnectionError

    assert isinstance(failing(cutting, name), UpstreamFailed)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"y" * 100_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x00\x05nonsense",
    ],
    ids=["ssh", "length", "lengths", "chunks", "long", "tls"],
)
def test_what_is_not_http_is_a_failure(name: str, said: bytes) -> None:
    def babbling(request: Request, line: Line) -> None:
        line.say(said)
        line.wait()

    assert isinstance(failing(babbling, name), UpstreamFailed)


def test_a_read_is_tried_once_more_on_a_connection_that_ended_before_its_answer() -> None:
    def resetting_once(request: Request, line: Line) -> None:
        if len(peer.requests) == 1:
            line.reset()
        line.answer(200, body=b"here")

    with misbehaving(resetting_once) as peer:
        assert with_client(peer, read) == b"here"
        assert len(peer.requests) == 2


@pytest.mark.parametrize("name", [*READS, *WRITES])
def test_nothing_is_tried_more_often_than_it_may(name: str) -> None:
    with misbehaving(lambda request, line: line.reset()) as peer:
        with pytest.raises(UpstreamFailed):
            with_client(peer, way(name))
        assert len(peer.requests) == (2 if name in READS else 1)


def test_a_certificate_that_has_expired_is_not_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with misbehaving(always(200), pair=authority.issue("127.0.0.1", days=-1)) as peer:
        with pytest.raises(UpstreamFailed, match="certificate that is not trusted") as refused:
            with_client(peer, way("write"), username="gateway", password="secret", ca_file=authority.certificate)
        assert not refused.value.uncertain
        assert peer.heads == []


def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with (
        misbehaving(always(200), pair=authority.issue("registry.example")) as peer,
        pytest.raises(UpstreamFailed, match="certificate that is not trusted"),
    ):
        with_client(peer, way("ask"), ca_file=authority.certificate)


def test_a_certificate_of_a_ca_that_was_not_named_is_not_trusted(tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    with misbehaving(always(200), pair=Authority(tmp_path).issue("127.0.0.1")) as peer:
        for ca_file in (Authority(others).certificate, None):
            with pytest.raises(UpstreamFailed, match="certificate that is not trusted"):
                with_client(peer, way("ask"), ca_file=ca_file)


def test_a_certificate_of_the_named_ca_is_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with misbehaving(always(200, body=b"here"), pair=authority.issue("127.0.0.1")) as peer:
        assert with_client(peer, read, ca_file=authority.certificate) == b"here"


def test_a_ca_file_that_is_missing_is_said_to_be_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UpstreamFailed, match="CA file"):
        with_client("https://127.0.0.1:1", way("ask"), ca_file=tmp_path / "ca.crt")


def test_a_peer_that_speaks_no_tls_is_said_to_speak_none() -> None:
    with misbehaving(always(200)) as peer, pytest.raises(UpstreamFailed, match="TLS"):
        with_client(peer.url.replace("http:", "https:"), way("ask"))


@pytest.mark.parametrize("name", ALL)
def test_connections_are_used_again_and_none_is_left(name: str) -> None:
    async def often(client: Client) -> None:
        for _ in range(20):
            await way(name)(client)
        assert peer.connections == 1

    with misbehaving(always(200, body=b"here")) as peer:
        with_client(peer, often)
        assert peer.connected == 1


def test_connections_that_failed_are_not_kept() -> None:
    def cutting(request: Request, line: Line) -> None:
        line.say(head(200, {"Content-Length": "1000"}) + b"x" * 10)
        line.wait()

    async def often(client: Client) -> None:
        for _ in range(4):
            for name in ("open", "ask"):
                client._circuit.answered()
                with pytest.raises(UpstreamSlow):
                    await way(name)(client)
        assert await asyncio.to_thread(peer.settled)

    hasty = Patience(answer_seconds=0.15, idle_seconds=0.1)
    with misbehaving(cutting) as peer:
        with_client(peer, often, patience=hasty)
        assert peer.connected == 8


def test_leaving_a_stream_early_closes_its_connection_and_no_other() -> None:
    async def leave(client: Client) -> None:
        async with client.open(BLOB) as streamed:
            async for _ in streamed.pieces():
                break
        assert await asyncio.to_thread(peer.settled)
        assert not client.trouble
        assert (await client.ask("GET", "/v2/")).status == 200

    def endless(request: Request, line: Line) -> None:
        if request.path == "/v2/":
            line.answer(200)
            return
        line.say(head(200, {"Content-Length": str(1 << 30)}))
        while True:
            line.say(b"x" * 65536)

    with misbehaving(endless) as peer:
        with_client(peer, leave)


def test_a_stream_that_is_not_read_holds_the_peer_back() -> None:
    sent = 0

    def endless(request: Request, line: Line) -> None:
        nonlocal sent
        line.say(head(200, {"Content-Length": str(1 << 30)}))
        while True:
            line.say(b"x" * 65536)
            sent += 65536

    async def stall(client: Client) -> None:
        async with client.open(BLOB) as streamed:
            pieces = streamed.pieces()
            await anext(pieces)
            await asyncio.sleep(0.5)
            before = sent
            await asyncio.sleep(0.5)
            assert sent == before

    with misbehaving(endless) as peer:
        with_client(peer, stall)
    assert sent < 32 * 1024 * 1024


def test_who_is_cancelled_leaves_no_connection() -> None:
    async def cancelled(client: Client) -> None:
        task = asyncio.create_task(client.ask("GET", BLOB))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(peer.settled)
        assert not client.trouble

    with misbehaving(lambda request, line: line.wait()) as peer:
        with_client(peer, cancelled)


async def until(came: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not came():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def cut_stream(request: Request, line: Line) -> None:
    line.say(head(200, {"Content-Length": "1000"}) + b"x")
    raise ConnectionError


@pytest.mark.parametrize("fault", [cut_stream, always(500), always(503), lambda request, line: line.reset()])
def test_a_peer_that_fails_five_times_is_left_alone_until_it_answers(
    fault: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.engine.upstream.client.REST_SECONDS", 0.2)
    monkeypatch.setattr("gateway.engine.upstream.circuit.REST_SECONDS", 0.2)

    async def story(client: Client) -> None:
        for _ in range(5):
            assert not client.trouble
            with suppress(UpstreamFailed):
                await read(client)
        if fault is cut_stream:
            # That may be the fault of what was read: the peer is asked for something else first.
            await until(lambda: bool(client.trouble))
        assert client.trouble.startswith("The registry behind ")
        heads = len(peer.heads)
        for name in ALL:
            with pytest.raises(UpstreamUnavailable) as refused:
                await way(name)(client)
            assert type(refused.value) is UpstreamUnavailable
            assert refused.value.retry_after_seconds >= 1
        assert len(peer.heads) == heads
        peer.behaviour = always(200)
        # Nobody asks for anything; it finds out by itself.
        await until(lambda: not client.trouble)
        assert (await client.ask("GET", BLOB)).status == 200

    with misbehaving(fault) as peer:
        with_client(peer, story)


OWN = {"Docker-Distribution-Api-Version": "registry/2.0", "Content-Type": "application/json"}


def stumbling(request: Request, line: Line) -> None:
    """A registry that fails at what it is asked for, as Distribution does at a manifest it cannot read."""
    if request.target == "/v2/":
        line.answer(200, OWN, b"{}")
    else:
        line.answer(500, OWN, b'{"errors":[{"code":"UNKNOWN","message":"unknown error"}]}')


def cutting(request: Request, line: Line) -> None:
    if request.target == "/v2/":
        line.answer(403, OWN, b'{"errors":[{"code":"DENIED","message":"no"}]}')
    else:
        cut_stream(request, line)


@pytest.mark.parametrize("fault", [stumbling, cutting])
def test_a_registry_that_fails_at_some_things_and_greets_goes_on_being_asked(fault: Behaviour) -> None:
    async def story(client: Client) -> None:
        for _ in range(23):
            with suppress(UpstreamFailed):
                await read(client)
            assert not client.trouble
        await until(lambda: client._asking is not None and client._asking.done())
        assert not client.trouble

    with misbehaving(fault) as peer:
        with_client(peer, story)
        assert 1 <= [target for _, target, _ in peer.heads].count("/v2/") <= 4


def test_a_registry_that_answers_others_meanwhile_is_not_left_alone_because_it_does_not_greet() -> None:
    sound = BLOB.replace("a", "b")

    def mute(request: Request, line: Line) -> None:
        if request.target == "/v2/":
            line.wait()
        elif request.target == sound:
            line.answer(200, {"Content-Length": "1"}, b"x")
        else:
            line.answer(500, OWN, b"{}")

    async def story(client: Client) -> None:
        for _ in range(5):
            with suppress(UpstreamFailed):
                await read(client)
        await until(lambda: client._asking is not None)
        assert await read(client, sound) == b"x"
        await until(lambda: client._asking is not None and client._asking.done())
        assert not client.trouble

    with misbehaving(mute) as peer:
        with_client(peer, story)


def test_who_asks_all_the_time_for_what_is_damaged_keeps_nobody_out_of_a_registry_that_is_well_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.engine.upstream.client.REST_SECONDS", 0.2)
    # Somebody else gets the first try, and with it the pace of those that follow.
    monkeypatch.setattr("gateway.engine.upstream.circuit.REST_SECONDS", 0.15)

    def away(request: Request, line: Line) -> None:
        time.sleep(0.03)
        line.reset()

    def well(request: Request, line: Line) -> None:
        if request.target == BLOB:
            time.sleep(0.03)
        stumbling(request, line)

    async def poll(client: Client) -> None:
        while True:
            with suppress(UpstreamUnavailable):
                await read(client)
            await asyncio.sleep(0.005)

    async def story(client: Client) -> None:
        pollers = [asyncio.create_task(poll(client)) for _ in range(4)]
        await until(lambda: bool(client.trouble))
        await asyncio.sleep(0.6)
        before = len(peer.heads)
        peer.behaviour = well
        await until(lambda: not client.trouble)
        assert (await client.ask("GET", "/v2/")).status == 200
        for each in pollers:
            each.cancel()
        await asyncio.gather(*pollers, return_exceptions=True)
        assert any(target == BLOB for _, target, _ in peer.heads[before:])

    with misbehaving(away) as peer:
        with_client(peer, story)


def test_a_registry_that_is_well_again_is_found_so_though_others_take_every_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.engine.upstream.client.REST_SECONDS", 0.2)

    async def story(client: Client) -> None:
        for _ in range(5):
            with suppress(UpstreamFailed):
                await read(client)
        client._circuit._next_try += 1000
        peer.behaviour = stumbling
        await until(lambda: not client.trouble)

    with misbehaving(always(503)) as peer:
        with_client(peer, story)


def test_a_peer_that_fails_again_and_again_is_greeted_by_one_alone() -> None:
    async def story(client: Client) -> None:
        greeting = []
        for _ in range(2):
            for _ in range(5):
                with suppress(UpstreamFailed):
                    await read(client)
            assert client.trouble
            await asyncio.sleep(0.01)
            greeting.append(client._watching)
            client._circuit.answered()
        assert greeting[0] is greeting[1]

    with misbehaving(always(503)) as peer:
        with_client(peer, story)


def test_a_registry_that_is_not_well_itself_is_left_alone_until_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.engine.upstream.client.REST_SECONDS", 0.2)
    monkeypatch.setattr("gateway.engine.upstream.circuit.REST_SECONDS", 0.2)

    def unwell(request: Request, line: Line) -> None:
        # As Distribution answers everything while its storage is away.
        line.answer(503, OWN, b'{"errors":[{"code":"UNAVAILABLE"}]}')

    async def story(client: Client) -> None:
        for _ in range(5):
            with suppress(UpstreamFailed):
                await read(client)
        assert client.trouble == "The registry behind has failed with status 503."
        await asyncio.sleep(0.7)
        assert client.trouble
        peer.behaviour = stumbling
        await until(lambda: not client.trouble)

    with misbehaving(unwell) as peer:
        with_client(peer, story)
