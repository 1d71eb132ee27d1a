"""Whatever is not plainly one HTTP/1.1 request is refused, answered once, and the connection closed."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.framing import CHUNKED, Chunks, EdgeLimits, Misframed, host_name, judge
from tests.edge.serving import HOSTS, Running, closed, dial, read_reply, request, serving

GET = b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /body HTTP/1.1\r\nHost: localhost\r\n"
CHUNKS = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def running(tls_folder: Path) -> Iterator[Running]:
    with serving(tls_folder, header_seconds=2.0, linger_seconds=1.0) as server:
        yield server


REFUSED = {
    "two different lengths": (400, POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde"),
    "two equal lengths": (400, POST + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd"),
    "length with a sign": (400, POST + b"Content-Length: +5\r\n\r\nabcde"),
    "a list of lengths": (400, POST + b"Content-Length: 5, 5\r\n\r\nabcde"),
    "hexadecimal length": (400, POST + b"Content-Length: 0x5\r\n\r\nabcde"),
    "negative length": (400, POST + b"Content-Length: -1\r\n\r\n"),
    "empty length": (400, POST + b"Content-Length:\r\n\r\n"),
    "length of twenty digits": (400, POST + b"Content-Length: 99999999999999999999\r\n\r\n"),
    "length beyond 63 bits": (400, POST + b"Content-Length: 9999999999999999999\r\n\r\n"),
    "length of two numbers": (400, POST + b"Content-Length: 5 5\r\n\r\nabcde"),
    "length with an underscore": (400, POST + b"Content-Length: 1_0\r\n\r\n0123456789"),
    "length beyond ASCII": (400, POST + b"Content-Length: \xb2\r\n\r\nab"),
    "length with a vertical tab": (400, POST + b"Content-Length: 5\x0b\r\n\r\nabcde"),
    "length and chunks": (400, POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunks and length": (400, POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    "two codings": (400, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "chunked twice": (400, POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "an unknown coding": (400, POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "no coding": (400, POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n"),
    "a coding that is none": (400, POST + b"Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n"),
    "a coding with a parameter": (400, POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
    "a coding and a comma": (400, POST + b"Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n"),
    "a coding after a vertical tab": (400, POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    "a hidden coding": (400, POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    "chunks in HTTP/1.0": (400, b"POST / HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunk end XX": (400, CHUNKS + b"3\r\nabcXX0\r\n\r\n"),
    "chunk size -1": (400, CHUNKS + b"-1\r\nabc\r\n"),
    "chunk size 0x10": (400, CHUNKS + b"0x10\r\n0123456789abcdef\r\n0\r\n\r\n"),
    "chunk size with a space": (400, CHUNKS + b"3 \r\nabc\r\n0\r\n\r\n"),
    "chunk size of 20 digits": (400, CHUNKS + b"00000000000000000003\r\nabc\r\n0\r\n\r\n"),
    "chunk size beyond 63 bits": (400, CHUNKS + b"ffffffffffffffff\r\nabc"),
    "chunk size +3": (400, CHUNKS + b"+3\r\nabc\r\n0\r\n\r\n"),
    "no chunk size": (400, CHUNKS + b"\r\nabc\r\n0\r\n\r\n"),
    "last chunk -0": (400, CHUNKS + b"-0\r\n\r\n"),
    "chunk longer than its size": (400, CHUNKS + b"3\r\nabcd\r\n0\r\n\r\n"),
    "chunk ended by LF": (400, CHUNKS + b"3\r\nabc\n0\r\n\r\n"),
    "space before a chunk extension": (400, CHUNKS + b"3 ;a\r\nabc\r\n0\r\n\r\n"),
    "LF in a chunk extension": (400, CHUNKS + b"3;a\nb\r\nabc\r\n0\r\n\r\n"),
    "line end in a quoted chunk extension": (400, CHUNKS + b'3;a="\r\n"\r\nabc\r\n0\r\n\r\n'),
    "NUL in a chunk extension": (400, CHUNKS + b"3;\0\r\nabc\r\n0\r\n\r\n"),
    "chunk size ended by LF": (400, CHUNKS + b"3\nabc\r\n0\r\n\r\n"),
    "chunk extension of 1 MB": (400, CHUNKS + b"3;" + b"x" * 1_000_000 + b"\r\nabc\r\n0\r\n\r\n"),
    "trailers without end": (431, CHUNKS + b"0\r\n" + b"A: b\r\n" * 4000),
    "a trailer that is none": (400, CHUNKS + b"0\r\nnonsense\r\n\r\n"),
    "a folded trailer": (400, CHUNKS + b"0\r\nA: b\r\n c\r\n\r\n"),
    "a trailer of 9 KB": (431, CHUNKS + b"0\r\nA: " + b"b" * 9000),
    "trailers ended by LF": (400, CHUNKS + b"0\r\n\n"),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, GET + b"Host: localhost\r\n\r\n"),
    "empty host": (400, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    "host with a user": (400, b"GET / HTTP/1.1\r\nHost: evil@localhost\r\n\r\n"),
    "host with a path": (400, b"GET / HTTP/1.1\r\nHost: localhost/evil\r\n\r\n"),
    "host with port 99999": (400, b"GET / HTTP/1.1\r\nHost: localhost:99999\r\n\r\n"),
    "host with port 0": (400, b"GET / HTTP/1.1\r\nHost: localhost:0\r\n\r\n"),
    "host with port x": (400, b"GET / HTTP/1.1\r\nHost: localhost:x\r\n\r\n"),
    "host with a colon and no port": (400, b"GET / HTTP/1.1\r\nHost: localhost:\r\n\r\n"),
    "host with two ports": (400, b"GET / HTTP/1.1\r\nHost: localhost:443:443\r\n\r\n"),
    "host with user, password and port": (400, b"GET / HTTP/1.1\r\nHost: u:p@localhost:443\r\n\r\n"),
    "host with a dot at its end": (400, b"GET / HTTP/1.1\r\nHost: localhost.\r\n\r\n"),
    "a list of hosts": (400, b"GET / HTTP/1.1\r\nHost: localhost,localhost\r\n\r\n"),
    "host with a query": (400, b"GET / HTTP/1.1\r\nHost: localhost?x\r\n\r\n"),
    "folded host": (400, b"GET / HTTP/1.1\r\nHost: localhost\r\n .evil.example\r\n\r\n"),
    "IPv6 host without brackets": (400, b"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n"),
    "IPv6 host with a zone": (421, b"GET / HTTP/1.1\r\nHost: [::1%25lo]\r\n\r\n"),
    "IPv4 host as IPv6": (421, b"GET / HTTP/1.1\r\nHost: [::ffff:127.0.0.1]\r\n\r\n"),
    "shortened IPv4 host": (421, b"GET / HTTP/1.1\r\nHost: 127.1\r\n\r\n"),
    "a stranger's host": (421, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
    "absolute form": (400, b"GET https://localhost/v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "target @evil": (400, b"GET @evil HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "target *": (400, b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "target //evil": (400, b"GET //evil/v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "target with a fragment": (400, b"GET /v2/#x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "target with a NUL": (400, b"GET /v2/\0 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "target beyond ASCII": (400, b"GET /v2/\xc3\xa4 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "target with a space": (400, b"GET /v2/ x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "CONNECT": (400, b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "CONNECT to a path": (400, b"CONNECT /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "lower-case method": (400, b"get /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "an unknown method": (400, b"FETCH /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "HTTP/2's preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/2's method": (400, b"PRI / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "tab after the method": (400, b"GET\t/v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "two spaces after the method": (400, b"GET  /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "space after the version": (400, b"GET /v2/ HTTP/1.1 \r\nHost: localhost\r\n\r\n"),
    "lower-case version": (400, b"GET /v2/ http/1.1\r\nHost: localhost\r\n\r\n"),
    "HTTP/1.10": (400, b"GET /v2/ HTTP/1.10\r\nHost: localhost\r\n\r\n"),
    "two CR": (400, b"GET /v2/ HTTP/1.1\r\r\nHost: localhost\r\n\r\n"),
    "HTTP/2.0": (505, b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n"),
    "HTTP/0.9": (505, b"GET / HTTP/0.9\r\n\r\n"),
    "no version": (400, b"GET /\r\n\r\n"),
    "a leading empty line": (400, b"\r\n" + GET + b"\r\n"),
    "bare LF": (400, b"GET / HTTP/1.1\nHost: localhost\n\n"),
    "one bare LF": (400, GET + b"A: b\nC: d\r\n\r\n"),
    "bare CR": (400, GET + b"A: b\rC: d\r\n\r\n"),
    "folded header": (400, GET + b"A: b\r\n c\r\n\r\n"),
    "header without a colon": (400, GET + b"nonsense\r\n\r\n"),
    "space before the colon": (400, GET + b"A : b\r\n\r\n"),
    "NUL in a header": (400, GET + b"A: b\0c\r\n\r\n"),
    "NUL in a header's name": (400, GET + b"A\0: b\r\n\r\n"),
    "a header's name beyond ASCII": (400, GET + b"A\xff: b\r\n\r\n"),
    "a header without a name": (400, GET + b": b\r\n\r\n"),
    "DEL in a header": (400, GET + b"A: \x7f\r\n\r\n"),
    "two credentials": (400, GET + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n"),
    "coded body": (415, POST + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"),
    "other expectation": (417, POST + b"Expect: miracles\r\nContent-Length: 1\r\n\r\nx"),
    "no expectation": (417, POST + b"Expect:\r\nContent-Length: 1\r\n\r\nx"),
    "two expectations": (417, POST + b"Expect: 100-continue, miracles\r\nContent-Length: 1\r\n\r\nx"),
    "an expectation twice": (400, POST + b"Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"),
    "address of 64 KB": (414, b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "address of 9 KB": (414, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "query of 64 KB": (414, b"GET /?" + b"a=1&" * 16384 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "headers of 40 KB": (431, GET + b"A: " + b"b" * 40_000 + b"\r\n\r\n"),
    "headers without end": (431, GET + b"A: bbbbbbbbbbbbbbbbb\r\n" * 3000),
    "101 headers": (431, GET + b"A: b\r\n" * 100 + b"\r\n"),
    "cut head with LF": (400, b"GET / HTTP/1.1\n"),
}


@pytest.mark.parametrize(("status", "raw"), REFUSED.values(), ids=list(REFUSED))
def test_refused_with_an_envelope_and_closed(running: Running, status: int, raw: bytes) -> None:
    with dial(running) as connection:
        connection.sendall(raw)
        reply = read_reply(connection)
        assert reply.status == status
        assert reply.headers["connection"] == "close"
        assert reply.headers["docker-distribution-api-version"] == "registry/2.0"
        assert len(reply.headers["x-request-id"]) == 32
        assert reply.json["errors"][0]["code"]
        assert reply.json["errors"][0]["message"].endswith(".")
        assert "server" not in reply.headers
        assert closed(connection)


def test_refusals_are_heard_with_status_and_address(running: Running) -> None:
    running.refused.clear()
    with dial(running) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        read_reply(connection)
    [(status, reason, address)] = running.refused
    assert (status, address) == (421, "127.0.0.1")
    assert reason.startswith("Use one of the names this gateway is configured for. It was called evil.example")


def test_the_log_tells_the_operator_how_to_add_a_name_and_the_client_is_not_told(running: Running) -> None:
    running.refused.clear()
    with dial(running) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: new.example\r\n\r\n")
        reply = read_reply(connection)
    assert "[server] names" in running.refused[0][1]
    assert "--host new.example" in running.refused[0][1]
    assert reply.json["errors"][0]["message"] == "Use one of the names this gateway is configured for."


def test_a_request_inside_a_body_is_a_body(running: Running) -> None:
    inner = request("/v2/")
    with dial(running) as connection:
        connection.sendall(request("/body", f"Content-Length: {len(inner)}", body=inner))
        assert read_reply(connection).body.startswith(f"{len(inner)} ".encode())
        connection.sendall(request("/scope"))
        assert read_reply(connection).json["path"] == "/scope"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:5000", "127.0.0.1:1", "[::1]", "[::1]:65535", "registry.local"]
)
def test_configured_hosts_are_served(running: Running, host: str) -> None:
    with dial(running) as connection:
        connection.sendall(request("/scope", host=host))
        assert read_reply(connection).json["host"] in HOSTS


@pytest.mark.parametrize("raw", [request("/health/live", host="10.1.2.3"), b"GET /health/ready?a=b HTTP/1.0\r\n\r\n"])
def test_health_is_answered_whatever_the_host(running: Running, raw: bytes) -> None:
    with dial(running) as connection:
        connection.sendall(raw)
        assert read_reply(connection).status == 200


@pytest.mark.parametrize(
    ("status", "raw"),
    [
        (400, request("/health/live", host="a@b")),
        (400, request("/health/live", "Host: b")),
        (421, request("/health/../v2/", host="evil.example")),
        (421, request("/health/%2e%2e/v2/", host="evil.example")),
    ],
)
def test_health_is_no_way_around_the_host_check(running: Running, status: int, raw: bytes) -> None:
    with dial(running) as connection:
        connection.sendall(raw)
        assert read_reply(connection).status == status


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_upgrades_are_ignored(running: Running, protocol: str) -> None:
    lines = ["Connection: Upgrade", f"Upgrade: {protocol}", "Content-Length: 3"]
    with dial(running) as connection:
        connection.sendall(request("/body", *lines, method="POST", body=b"abc"))
        assert read_reply(connection).body.startswith(b"3 ")
        connection.sendall(request("/"))
        assert read_reply(connection).body == b"ok"


def test_trailers_never_become_headers(running: Running) -> None:
    head = b"POST /scope HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with dial(running) as connection:
        connection.sendall(head + b"3;a=b\r\nabc\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
        names = [name for name, _ in read_reply(connection).json["headers"]]
        assert "transfer-encoding" in names
        assert "authorization" not in names
        connection.sendall(request("/"))
        assert read_reply(connection).status == 200


def test_chunks_arrive_whole_however_they_are_cut(running: Running) -> None:
    pieces = [bytes([65 + n % 26]) * (n * 37 + 1) for n in range(40)]
    raw = CHUNKS + b"".join(b"%X\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
    with dial(running) as connection:
        for at in range(0, len(raw), 613):
            connection.sendall(raw[at : at + 613])
        assert read_reply(connection).body.startswith(b"%d " % sum(map(len, pieces)))


def test_a_flood_of_tiny_chunks_is_refused(running: Running) -> None:
    with dial(running) as connection:
        connection.sendall(CHUNKS + b"1\r\na\r\n" * 6000)
        assert read_reply(connection).status == 400


def test_tls_records_of_one_byte_make_a_head(running: Running) -> None:
    with dial(running) as connection:
        for byte in request("/scope", "A: b"):
            connection.sendall(bytes([byte]))
        assert ["a", "b"] in read_reply(connection).json["headers"]


def test_plain_http_gets_nothing(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as plain:
        plain.sendall(request("/"))
        try:
            answered = plain.recv(1000)
        except ConnectionError:
            answered = b""
        assert b"HTTP" not in answered


def test_alpn_offers_http_1_1_only(running: Running) -> None:
    context = ssl.create_default_context(cafile=str(running.folder / "ca.crt"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with dial(running, context=context) as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"


# the readings themselves

LIMITS = EdgeLimits(hosts=HOSTS)


@given(st.binary(max_size=200))
def test_no_bytes_but_a_request_are_judged_right(noise: bytes) -> None:
    head = GET + noise + b"\r\n\r\n"
    try:
        framing = judge(head, LIMITS)
    except Misframed:
        return
    assert framing.host == "localhost"
    assert b"\n" not in head.replace(b"\r\n", b"")
    assert b"\r\n\r\n" not in head[:-4]


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20), st.data())
def test_chunks_end_where_they_end_wherever_they_are_cut(pieces: list[bytes], data: st.DataObject) -> None:
    raw = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
    cut = data.draw(st.integers(0, len(raw)))
    chunks = Chunks()
    first = chunks.scan(raw[:cut], 0)
    if cut == len(raw):
        assert first == len(raw)
    else:
        assert first == -1
        assert chunks.scan(raw[cut:] + b"GET / HTTP/1.1", 0) == len(raw) - cut


def test_a_judged_head_tells_how_its_body_is_framed() -> None:
    assert judge(GET + b"\r\n", LIMITS).length == 0
    assert judge(POST + b"Content-Length: 12\r\n\r\n", LIMITS).length == 12
    assert judge(CHUNKS, LIMITS).length == CHUNKED
    assert judge(POST + b"Content-Length: 12\r\nExpect: 100-Continue\r\n\r\n", LIMITS).continues
    assert not judge(POST + b"Content-Length: 0\r\nExpect: 100-continue\r\n\r\n", LIMITS).continues


@pytest.mark.parametrize(
    "raw", [b"", b":80", b"a b", b"a,b", b"[::1", b"[zz]", b"::1", b"a..b", b".a", b"a:", b"[::1]x"]
)
def test_malformed_hosts_have_no_name(raw: bytes) -> None:
    assert host_name(raw) is None
