"""The protocol class by itself, on a transport that only remembers: what the application sees and may say."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from gateway.protocol import EdgeLimits, StrictProtocol, strict_protocol
from tests.edge.serving import HOSTS, answer, request


class Wire:
    """A transport that keeps what is written and never fills up."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed = False
        self.aborted = False

    def write(self, piece: bytes) -> None:
        self.written += piece

    def writelines(self, pieces: list[bytes]) -> None:
        self.written += b"".join(pieces)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ["10.1.2.3", 4567] if name == "peername" else default

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None:
        assert high <= 256 * 1024

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def connect(app: Callable[..., Any]) -> tuple[StrictProtocol, Wire]:
    protocol = strict_protocol(EdgeLimits(hosts=HOSTS))
    config = uvicorn.Config(app, http=protocol, ws="none", interface="asgi3", log_config=None)
    made = protocol(config=config, server_state=ServerState(), app_state={}, _loop=asyncio.get_running_loop())
    wire: Any = Wire()
    made.connection_made(wire)
    return made, wire


async def settle(connection: StrictProtocol) -> None:
    for _ in range(1000):
        if not connection.tasks:
            return
        await asyncio.sleep(0)
    raise AssertionError("the application did not end")


def say(raw: bytes, app: Callable[..., Any], cuts: tuple[int, ...] = ()) -> Wire:
    """Send *raw*, cut at *cuts*, to *app* and return the wire once the application is done."""

    async def talk() -> Wire:
        connection, wire = connect(app)
        for begin, end in zip((0, *cuts), (*cuts, len(raw)), strict=True):
            connection.data_received(raw[begin:end])
            await asyncio.sleep(0)
        await settle(connection)
        connection.connection_lost(None)
        return wire

    return asyncio.run(talk())


# what the application sees

BODIES = st.binary(max_size=2000)
SENT = st.lists(st.tuples(st.sampled_from(["none", "length", "chunked"]), BODIES), min_size=1, max_size=4)


def frame(kind: str, body: bytes, number: int) -> bytes:
    match kind:
        case "length":
            return request(f"/{number}", f"Content-Length: {len(body)}", method="PUT", body=body)
        case "chunked":
            pieces = [body[at : at + 700] for at in range(0, len(body), 700)]
            chunks = b"".join(b"%x;q=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
            coded = chunks + b"0\r\nX-Sum: 1\r\n\r\n"
            return request(f"/{number}", "Transfer-Encoding: chunked", method="PUT", body=coded)
        case _:
            return request(f"/{number}")


@settings(deadline=None, max_examples=150)
@given(SENT, st.data())
def test_the_same_requests_are_seen_however_the_bytes_are_cut(
    sent: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    raw = b"".join(frame(kind, body, number) for number, (kind, body) in enumerate(sent))
    cuts = tuple(sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12))))
    seen: list[tuple[str, bytes]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            assert message["type"] == "http.request"
            body += message["body"]
            if not message["more_body"]:
                break
        assert not [name for name, _ in scope["headers"] if name == b"x-sum"]
        seen.append((scope["path"], body))
        await answer(send, b"ok")

    wire = say(raw, app, cuts)
    assert seen == [(f"/{n}", b"" if kind == "none" else body) for n, (kind, body) in enumerate(sent)]
    assert wire.written.count(b"HTTP/1.1 200 OK\r\n") == len(sent)
    assert not wire.closed


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_damaged_byte_never_makes_two_requests_of_one(data: st.DataObject) -> None:
    body = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
    whole = frame(data.draw(st.sampled_from(["length", "chunked"])), body, 0)
    head = whole.index(b"\r\n\r\n") + 4
    at = data.draw(st.integers(0, head - 1))
    damaged = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    paths: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["method"])
        while (await receive()).get("more_body"):
            pass
        await answer(send, b"ok")

    # A digit of the length or the colon of its name may change what is sent: only then is the rest another request.
    if b"content-length: %d\r\n" % len(body) in damaged.lower() or b"transfer-encoding: chunked\r\n" in damaged.lower():
        say(damaged, app)
        assert "GET" not in paths


def test_the_scope_tells_what_was_asked() -> None:
    found: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.update(scope)
        await answer(send, b"ok")

    say(request("/v2/a%2Fb%20c?n=1&x=%2F", "A: B", host="LocalHost:5000"), app)
    assert (found["path"], found["raw_path"], found["query_string"]) == ("/v2/a/b c", b"/v2/a%2Fb%20c", b"n=1&x=%2F")
    assert (found["method"], found["scheme"], found["http_version"]) == ("GET", "https", "1.1")
    assert found["client"] == ("10.1.2.3", 4567)
    assert found["state"]["host"] == "localhost"
    assert (b"a", b"B") in found["headers"]


# what it may say


def spoken(*messages: dict[str, Any], method: str = "GET") -> Wire:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return say(request("/", method=method), app)


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(piece: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": piece, "more_body": more}


@pytest.mark.parametrize(
    "header", [(b"location", b"/a\r\nSet-Cookie: b"), (b"a\r\nb", b"c"), (b"a b", b"c"), (b"a", b"b\0c")]
)
def test_no_reply_is_split_by_a_header(header: tuple[bytes, bytes]) -> None:
    wire = spoken(start(header), body(b"x"))
    assert wire.written.startswith(b"HTTP/1.1 500 ")
    assert b"ookie" not in wire.written
    assert wire.closed


def test_a_reply_longer_than_promised_is_cut() -> None:
    wire = spoken(start((b"content-length", b"3")), body(b"abcd"))
    assert wire.aborted
    assert b"abcd" not in wire.written


def test_a_reply_shorter_than_promised_is_cut() -> None:
    assert spoken(start((b"content-length", b"30")), body(b"ab", more=True), body(b"c")).aborted
    assert spoken(start((b"content-length", b"30")), body(b"ab", more=True)).aborted


def test_a_missing_reply_is_a_fault() -> None:
    assert spoken().written.startswith(b"HTTP/1.1 500 ")
    assert spoken(start()).written.startswith(b"HTTP/1.1 500 ")
    assert spoken(body(b"x")).written.startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize(("status", "method"), [(204, "GET"), (304, "GET"), (200, "HEAD")])
def test_replies_without_a_body_carry_none(status: int, method: str) -> None:
    wire = spoken(start((b"content-length", b"5"), status=status), body(b"hello"), method=method)
    assert b"hello" not in wire.written
    assert b"chunked" not in wire.written
    assert not wire.closed


def test_chunks_of_a_reply_join_to_what_was_said() -> None:
    wire = spoken(start(), body(b"a" * 300, more=True), body(b"", more=True), body(b"b" * 10))
    assert bytes(wire.written).endswith(b"\r\n\r\n12c\r\n" + b"a" * 300 + b"\r\na\r\n" + b"b" * 10 + b"\r\n0\r\n\r\n")


def test_large_bodies_are_handed_on_unchanged() -> None:
    pieces = [bytes([n]) * 100_000 for n in range(12)]
    messages = [body(piece, more=n < 11) for n, piece in enumerate(pieces)]
    wire = spoken(start((b"content-length", b"1200000")), *messages)
    sent = bytes(wire.written).partition(b"\r\n\r\n")[2]
    assert hashlib.sha256(sent).digest() == hashlib.sha256(b"".join(pieces)).digest()
