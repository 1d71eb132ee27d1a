"""A connection's life: it may be kept, it is bounded in every phase, and who leaves is noticed."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import ipaddress
import os
import resource
import socket
import ssl
import struct
import threading
import time
from pathlib import Path

import pytest

from gateway.protocol.hops import read_hop
from tests.edge.serving import closed, dial, read_reply, request, serving, trusting, wait_until

FAST = {"body_grace_seconds": 0.1, "body_window_seconds": 0.4}
CHUNKED = ("Transfer-Encoding: chunked",)


# requests one after another


def test_many_requests_share_a_connection(tls_folder: Path) -> None:
    with serving(tls_folder) as running, dial(running) as connection:
        for _ in range(50):
            connection.sendall(request("/"))
            reply = read_reply(connection)
            assert reply.body == b"ok"
            assert "connection" not in reply.headers
        assert running.open_connections() == 1


def test_connection_close_is_honoured(tls_folder: Path) -> None:
    with serving(tls_folder) as running, dial(running) as connection:
        connection.sendall(request("/", "Connection: close"))
        assert read_reply(connection).headers["connection"] == "close"
        assert closed(connection)


def test_http_1_0_is_answered_and_closed(tls_folder: Path) -> None:
    with serving(tls_folder) as running, dial(running) as connection:
        connection.sendall(b"GET /unknown HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n")
        reply = read_reply(connection)
        assert reply.body == b"one two three"
        assert "transfer-encoding" not in reply.headers
        assert closed(connection)


def test_replies_without_a_length_are_chunked(tls_folder: Path) -> None:
    with serving(tls_folder) as running, dial(running) as connection:
        connection.sendall(request("/unknown"))
        reply = read_reply(connection)
        assert reply.headers["transfer-encoding"] == "chunked"
        assert reply.body == b"one two three"
        connection.sendall(request("/unknown", method="HEAD"))
        assert read_reply(connection, "HEAD").body == b""
        connection.sendall(request("/"))
        assert read_reply(connection).body == b"ok"


def test_pipelined_requests_are_answered_one_at_a_time(tls_folder: Path) -> None:
    with serving(tls_folder) as running, dial(running) as connection:
        connection.sendall(request("/slow") + request("/slow") + request("/", "Connection: close"))
        time.sleep(0.3)
        assert running.seen["slow"] == 1
        connection.settimeout(5)
        raw = b""
        while piece := connection.recv(65536):
            raw += piece
        assert raw.count(b"HTTP/1.1 200") == 3
        assert raw.index(b"slow") < raw.rindex(b"slow") < raw.index(b"ok", raw.rindex(b"slow"))


def test_a_fault_of_the_application_tells_nothing(tls_folder: Path) -> None:
    with serving(tls_folder) as running, dial(running) as connection:
        connection.sendall(request("/fail"))
        reply = read_reply(connection)
        assert reply.status == 500
        assert b"secret" not in reply.body
        assert reply.json["errors"][0]["code"] == "UNKNOWN"
        assert closed(connection)


# bodies


@pytest.mark.parametrize("lines", [("Content-Length: 50331648",), CHUNKED], ids=["length", "chunked"])
def test_a_large_body_arrives_whole_in_bounded_pieces(tls_folder: Path, lines: tuple[str, ...]) -> None:
    piece = os.urandom(1 << 20)
    digest = hashlib.sha256(piece * 48).hexdigest()
    with serving(tls_folder) as running, dial(running) as connection:
        connection.sendall(request("/body", *lines, method="PUT"))
        for _ in range(48):
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if lines == CHUNKED else piece)
        if lines == CHUNKED:
            connection.sendall(b"0\r\n\r\n")
        assert read_reply(connection).body.decode() == f"{48 << 20} {digest}"
        assert running.seen["largest"] <= 1 << 20


def test_a_large_reply_arrives_whole(tls_folder: Path) -> None:
    with serving(tls_folder) as running, dial(running) as connection:
        connection.sendall(request("/stream?128"))
        assert read_reply(connection).body == bytes(range(256)) * 1024 * 128


def test_continue_is_sent_only_once_the_body_is_wanted(tls_folder: Path) -> None:
    with serving(tls_folder) as running, dial(running) as connection:
        connection.sendall(request("/body", "Expect: 100-continue", "Content-Length: 3", method="PUT"))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert read_reply(connection).body.startswith(b"3 ")


def test_a_refusal_before_the_body_sends_no_continue(tls_folder: Path) -> None:
    with serving(tls_folder) as running, dial(running) as connection:
        connection.sendall(request("/refuse", "Expect: 100-continue", "Content-Length: 3", method="PUT"))
        assert connection.recv(12) == b"HTTP/1.1 401"
        rest = b""
        while piece := connection.recv(1000):
            rest += piece
        assert b"connection: close" in rest


def test_a_small_unread_body_is_drained_and_the_connection_kept(tls_folder: Path) -> None:
    with serving(tls_folder) as running, dial(running) as connection:
        connection.sendall(request("/refuse", "Content-Length: 5000", method="PUT"))
        assert read_reply(connection).status == 401
        connection.sendall(b"x" * 5000 + request("/"))
        assert read_reply(connection).body == b"ok"


def test_a_body_that_is_never_drained_ends_the_connection(tls_folder: Path) -> None:
    with serving(tls_folder, drain_seconds=0.3) as running, dial(running) as connection:
        connection.sendall(request("/refuse", "Content-Length: 5000", method="PUT"))
        assert read_reply(connection).status == 401
        connection.settimeout(9)
        assert closed(connection)


def test_an_early_refusal_reaches_a_client_that_only_writes(tls_folder: Path) -> None:
    size = 10 << 20
    with serving(tls_folder) as running, dial(running) as connection:
        connection.sendall(request("/refuse", f"Content-Length: {size}", method="PUT"))
        connection.sendall(os.urandom(size))
        reply = read_reply(connection)
        assert (reply.status, reply.headers["connection"]) == (401, "close")
        assert closed(connection)


def test_what_follows_a_refusal_is_bounded(tls_folder: Path) -> None:
    limits = {"linger_bytes": 1 << 20, "linger_seconds": 0.4}
    with serving(tls_folder, **limits) as running, dial(running) as connection:
        connection.sendall(request("/refuse", "Content-Length: 10000000000", method="PUT"))
        with pytest.raises(OSError, match=r"."):
            connection.sendall(b"x" * (512 << 20))
        wait_until(lambda: running.open_connections() == 0)


# deadlines


def test_a_silent_connection_is_closed(tls_folder: Path) -> None:
    with serving(tls_folder, first_byte_seconds=0.3) as running, dial(running) as connection:
        began = time.monotonic()
        assert closed(connection)
        assert 0.2 < time.monotonic() - began < 3


def test_a_dripping_head_is_answered_408(tls_folder: Path) -> None:
    with serving(tls_folder, header_seconds=0.4) as running, dial(running) as connection:
        for byte in request("/")[:12]:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)
        reply = read_reply(connection)
        assert reply.status == 408
        assert closed(connection)


def test_an_idle_connection_is_closed_between_requests(tls_folder: Path) -> None:
    with serving(tls_folder, idle_seconds=0.4) as running, dial(running) as connection:
        for _ in range(3):
            connection.sendall(request("/"))
            assert read_reply(connection).body == b"ok"
            time.sleep(0.2)
        assert closed(connection)
        assert running.refused == []


def test_a_slow_answer_is_not_an_idle_connection(tls_folder: Path) -> None:
    limits = {"idle_seconds": 0.2, "header_seconds": 0.2, "first_byte_seconds": 0.2}
    with serving(tls_folder, **limits) as running, dial(running) as connection:
        connection.sendall(request("/slow"))
        assert read_reply(connection).body == b"slow"


@pytest.mark.parametrize("lines", [("Content-Length: 1000",), CHUNKED], ids=["length", "chunked"])
def test_a_dripping_body_is_answered_408(tls_folder: Path, lines: tuple[str, ...]) -> None:
    with serving(tls_folder, **FAST) as running, dial(running) as connection:
        connection.sendall(request("/body", *lines, method="PUT"))
        connection.settimeout(0.05)
        raw = b""
        for _ in range(100):
            connection.sendall(b"1\r\nx\r\n" if lines == CHUNKED else b"x")
            try:
                raw = connection.recv(1000)
                break
            except TimeoutError:
                continue
        assert raw.startswith(b"HTTP/1.1 408")
        wait_until(lambda: running.seen.get("disconnects") == 1)


def test_a_body_above_the_minimum_rate_may_take_its_time(tls_folder: Path) -> None:
    with serving(tls_folder, **FAST) as running, dial(running) as connection:
        connection.sendall(request("/body", "Content-Length: 20000", method="PUT"))
        for _ in range(20):
            connection.sendall(b"x" * 1000)
            time.sleep(0.1)
        assert read_reply(connection).body.startswith(b"20000 ")


def test_waiting_for_the_application_costs_the_client_nothing(tls_folder: Path) -> None:
    # The application asks for the body after 0.6 s; the client waits for its 100 all that time.
    with serving(tls_folder, **FAST) as running, dial(running) as connection:
        connection.sendall(request("/late", "Expect: 100-continue", "Content-Length: 3", method="PUT"))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert read_reply(connection).body == b"late"


# readers


def narrow(port: int, folder: Path) -> ssl.SSLSocket:
    """A client whose system takes only a few kilobytes before it is read."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.settimeout(10)
    plain.connect(("127.0.0.1", port))
    return trusting(folder).wrap_socket(plain, server_hostname="localhost")


def test_a_client_that_never_reads_is_cut_and_held_little(tls_folder: Path) -> None:
    with serving(tls_folder, write_stall_seconds=0.5) as running, narrow(running.port, tls_folder) as connection:
        connection.sendall(request("/stream?4000"))
        wait_until(lambda: running.seen.get("cut"), 8)
        assert running.seen["sent"] < 16 << 20
        wait_until(lambda: running.open_connections() == 0)
        assert running.refused[-1][0] == 0


def test_a_client_that_trickles_is_cut(tls_folder: Path) -> None:
    limits = {"write_stall_seconds": 0.5, "write_min_bytes_per_second": 4 << 20}
    with serving(tls_folder, **limits) as running, narrow(running.port, tls_folder) as connection:
        connection.sendall(request("/stream?4000"))
        taken = 0
        while not running.refused and taken < 10_000_000:
            taken += len(connection.recv(4096))
            time.sleep(0.02)
        wait_until(lambda: running.seen.get("cut"))
        with pytest.raises(ConnectionResetError):
            connection.unwrap()


def test_a_client_that_reads_steadily_is_served_to_the_end(tls_folder: Path) -> None:
    limits = {"write_stall_seconds": 0.4, "write_min_bytes_per_second": 1024}
    with serving(tls_folder, **limits) as running, narrow(running.port, tls_folder) as connection:
        connection.sendall(request("/stream?8", "Connection: close"))
        size = 0
        while piece := connection.recv(16384):
            size += len(piece)
            time.sleep(0.01)
        assert size > 8 * 256 * 1024
        assert running.refused == []


# leaving


def test_send_raises_once_the_client_is_gone(tls_folder: Path) -> None:
    with serving(tls_folder) as running:
        with dial(running) as connection:
            connection.sendall(request("/stream?4000"))
            connection.recv(1000)
        wait_until(lambda: running.seen.get("cut"))


def test_receive_tells_once_the_client_is_gone(tls_folder: Path) -> None:
    with serving(tls_folder) as running:
        with dial(running) as connection:
            connection.sendall(request("/body", "Content-Length: 1000", method="PUT", body=b"x" * 10))
            wait_until(lambda: running.server.server_state.tasks)
        wait_until(lambda: running.seen.get("disconnects") == 1)


def test_a_lost_connection_lets_go_of_its_tls_without_the_garbage_collector(tls_folder: Path) -> None:
    def held() -> int:
        return sum(type(each) is ssl.SSLObject for each in gc.get_objects())

    with serving(tls_folder) as running:
        gc.collect()
        before = held()
        gc.disable()
        try:
            for path in ("/", "/stream?200") * 10:
                with dial(running) as connection:
                    connection.sendall(request(path))
                    assert connection.recv(1)
            wait_until(lambda: running.open_connections() == 0)
            # The last of them may still be unwinding.
            wait_until(lambda: held() <= before)
        finally:
            gc.enable()


@pytest.mark.parametrize("how", ["reset", "notify"])
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        request("/body", "Content-Length: 100", method="PUT", body=b"x" * 10),
        request("/body", *CHUNKED, method="PUT", body=b"5\r\nab"),
        request("/slow"),
        request("/stream?4000"),
        request("/refuse", "Content-Length: 10000000", method="PUT", body=b"x" * 10),
    ],
    ids=["silent", "head", "body", "chunk", "waiting", "reply", "refused"],
)
def test_leaving_in_any_phase_leaves_nothing_behind(tls_folder: Path, sent: bytes, how: str) -> None:
    with serving(tls_folder) as running:
        with dial(running) as first:
            first.sendall(request("/"))
            read_reply(first)
        wait_until(lambda: running.open_connections() == 0)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with dial(running) as connection:
                connection.sendall(sent)
                time.sleep(0.02)
                if how == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    connection.settimeout(0.2)
                    with contextlib.suppress(OSError, ValueError):
                        connection.unwrap()
        wait_until(lambda: running.open_connections() == 0 and not running.server.server_state.tasks)
        wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)
        assert running.server.config.http_protocol_class.edge.addresses == {}  # type: ignore[attr-defined]


# who it is


def test_the_address_is_the_sockets_whatever_headers_say(tls_folder: Path) -> None:
    with serving(tls_folder) as running, dial(running) as connection:
        connection.sendall(
            request("/scope", "X-Forwarded-For: 9.9.9.9", "Forwarded: for=9.9.9.9", "X-Real-IP: 9.9.9.9")
        )
        assert read_reply(connection).json["client"] == ["127.0.0.1", connection.getsockname()[1]]


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        (["X-Forwarded-For: 9.9.9.9"], "9.9.9.9"),
        (["X-Forwarded-For: 1.1.1.1, 9.9.9.9"], "9.9.9.9"),
        (["X-Forwarded-For: 1.1.1.1, 9.9.9.9, 127.0.0.2"], "9.9.9.9"),
        (["X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 9.9.9.9"], "9.9.9.9"),
        (["X-Forwarded-For: 2001:db8::7"], "2001:db8::7"),
        (["X-Forwarded-For: 9.9.9.9:51234"], "9.9.9.9"),
        (["X-Forwarded-For: 1.1.1.1, 9.9.9.9:51234, 127.0.0.2:443"], "9.9.9.9"),
        (["X-Forwarded-For: [2001:db8::7]:443"], "2001:db8::7"),
        (["X-Forwarded-For: [2001:db8::7]"], "2001:db8::7"),
        (["X-Forwarded-For: [::ffff:9.9.9.9]:1"], "9.9.9.9"),
        *(
            ([f"X-Forwarded-For: {text}"], "127.0.0.1")
            for text in (
                "9.9.9.9:",
                "9.9.9.9:port",
                "9.9.9.9:123456",
                "9.9.9:80",
                "[9.9.9.9]:80",
                "[2001:db8::7",
                "[]:1",
            )
        ),
        (["X-Forwarded-For: 9.9.9.9, nonsense"], "127.0.0.1"),
        (["X-Forwarded-For: nonsense, 127.0.0.2"], "127.0.0.2"),
        ([], "127.0.0.1"),
    ],
)
def test_a_trusted_proxy_names_its_client(tls_folder: Path, lines: list[str], client: str) -> None:
    trusted = (ipaddress.ip_network("127.0.0.0/8"),)
    with serving(tls_folder, trusted_proxies=trusted) as running, dial(running) as connection:
        connection.sendall(request("/scope", *lines))
        assert read_reply(connection).json["client"][0] == client


@pytest.mark.parametrize("text", ["[{}", "[{}]", "[{}]:", "{}", "[::1]{}", "::1%{}", "[fe80::1%{}]:443"])
def test_a_hop_of_any_length_is_read_in_a_moment(text: str) -> None:
    begun = time.process_time()
    for filling in ":", "1:", "1", "1.", "%", " ", "[", "]", "::1]":
        assert read_hop(text.format(filling * 100_000)) is None
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize(
    "text",
    [
        "fe80:1111:2222:3333:4444:5555:6666:7777%enp0s31f6.4094",
        "[fe80:1111:2222:3333:4444:5555:6666:7777%enp0s31f6.4094]:65535",
        "[0000:0000:0000:0000:0000:ffff:255.255.255.255]:65535",
    ],
)
def test_the_longest_addresses_are_read(text: str) -> None:
    assert read_hop(text) is not None


def test_a_trusted_proxy_that_names_no_address_is_told_of_once_a_minute(
    tls_folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = (ipaddress.ip_network("127.0.0.0/8"),)

    def told() -> list[str]:
        return [each.getMessage() for each in caplog.records if "X-Forwarded-For" in each.getMessage()]

    with serving(tls_folder, trusted_proxies=trusted) as running, dial(running) as connection:
        for lines in ([], ["X-Forwarded-For: 9.9.9.9"]):
            connection.sendall(request("/scope", *lines))
            read_reply(connection)
        assert told() == []
        for _ in range(3):
            connection.sendall(request("/scope", "X-Forwarded-For: a-secret"))
            read_reply(connection)
        (line,) = told()
        assert "127.0.0.1" in line
        assert "a-secret" not in line
        monkeypatch.setattr("gateway.protocol.hops._TOLD_SECONDS", 0.0)
        connection.sendall(request("/scope", "X-Forwarded-For: a-secret"))
        read_reply(connection)
        assert len(told()) == 2


def test_one_address_has_only_so_many_connections(tls_folder: Path) -> None:
    with serving(tls_folder, connections_per_address=2) as running, dial(running) as one:
        with dial(running) as two, dial(running) as three:
            reply = read_reply(three)
            assert reply.status == 429
            assert reply.json["errors"][0]["code"] == "TOOMANYREQUESTS"
            for connection in (one, two):
                connection.sendall(request("/"))
                assert read_reply(connection).body == b"ok"
        wait_until(lambda: running.open_connections() == 1)
        with dial(running) as four:
            four.sendall(request("/"))
            assert read_reply(four).body == b"ok"


def knock(port: int) -> socket.socket | None:
    """A TCP connection that says nothing; None when the server has dropped it already."""
    try:
        return socket.create_connection(("127.0.0.1", port), timeout=5)
    except ConnectionResetError:
        return None


def is_open(connection: socket.socket) -> bool:
    connection.settimeout(0.02)
    try:
        return bool(connection.recv(1))
    except TimeoutError:
        return True
    except ConnectionResetError:
        return False


def test_connections_beyond_the_share_are_dropped_before_a_handshake(tls_folder: Path) -> None:
    with serving(tls_folder, connections_per_address=8) as running:
        silent = [each for each in (knock(running.port) for _ in range(40)) if each is not None]
        try:
            wait_until(lambda: sum(map(is_open, silent)) == 10)
            assert 1 <= len(running.refused) <= 3, "a flood is told once a second"
        finally:
            for each in silent:
                each.close()
        wait_until(lambda: not running.server._edge.knocking)
        with dial(running) as connection:
            connection.sendall(request("/"))
            assert read_reply(connection).body == b"ok"


def test_a_process_out_of_files_accepts_again_once_it_has_some(tls_folder: Path) -> None:
    with serving(tls_folder) as running:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        spare = len(os.listdir("/proc/self/fd"))
        client = socket.socket()
        client.settimeout(10)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
            client.connect(("127.0.0.1", running.port))
            time.sleep(0.2)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with trusting(tls_folder).wrap_socket(client, server_hostname="localhost") as connection:
            connection.sendall(request("/"))
            assert read_reply(connection).body == b"ok"


def test_a_trusted_proxy_is_not_counted(tls_folder: Path) -> None:
    limits = {"connections_per_address": 1, "trusted_proxies": (ipaddress.ip_network("127.0.0.0/8"),)}
    with serving(tls_folder, **limits) as running, dial(running), dial(running) as second:
        second.sendall(request("/"))
        assert read_reply(second).body == b"ok"


# draining


def test_a_drain_finishes_what_is_in_hand_and_closes_what_is_idle(tls_folder: Path) -> None:
    with serving(tls_folder) as running, dial(running) as idle, dial(running) as busy:
        idle.sendall(request("/"))
        read_reply(idle)
        busy.sendall(request("/slow"))
        wait_until(lambda: running.seen.get("slow"))
        running.server.should_exit = True
        assert closed(idle)
        reply = read_reply(busy)
        assert reply.body == b"slow"
        assert reply.headers["connection"] == "close"
        assert running.seen["draining"]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", running.port), timeout=2)
    assert running.seen["shutdown"]


def test_a_drain_ends_even_if_a_request_does_not(tls_folder: Path) -> None:
    with serving(tls_folder, drain_for=0.3) as running, dial(running) as busy:
        busy.sendall(request("/body", "Content-Length: 10", method="PUT"))
        wait_until(lambda: running.server.server_state.tasks)
        began = time.monotonic()
        running.server.should_exit = True
        wait_until(lambda: running.seen.get("shutdown"))
        assert time.monotonic() - began < 4
        assert closed(busy)


def test_a_hundred_slow_clients_do_not_hinder_a_good_one(tls_folder: Path) -> None:
    with serving(tls_folder, connections_per_address=500) as running:
        slow = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(100)]
        try:
            with dial(running) as connection:
                began = time.monotonic()
                for _ in range(20):
                    connection.sendall(request("/"))
                    assert read_reply(connection).body == b"ok"
                assert time.monotonic() - began < 5
        finally:
            for each in slow:
                each.close()
        assert threading.active_count() < 10
