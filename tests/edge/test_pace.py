"""What a connection is given at a time: little while it is unknown or slow, much once it keeps up."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from gateway.protocol.pace import PROVEN_BYTES, SLOW_BYTES, Pace
from tests.edge.serving import Sample, dial, request, serving, wait_until
from tests.edge.test_connections_edge import narrow

MOST = 256 * 1024
#: One piece encrypted, with what TLS adds to it, on top of one that was not yet over the mark.
HELD_BYTES = 2 * SLOW_BYTES + 1024


def stream(sample: Sample, size: int) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        left = size
        while left:
            piece = bytes(min(left, scope["state"]["appetite"]()))
            sample.seen["largest"] = max(sample.seen.get("largest", 0), len(piece))
            left -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})

    return app


def take(pace: Pace, size: int) -> None:
    for _ in range(size // SLOW_BYTES):
        pace.sent(SLOW_BYTES)


def test_a_client_nobody_knows_gets_little_and_one_that_keeps_up_gets_more() -> None:
    pace = Pace(MOST)
    take(pace, PROVEN_BYTES - SLOW_BYTES)
    assert pace.appetite() == SLOW_BYTES
    assert pace.sent(SLOW_BYTES)
    assert pace.appetite() == MOST
    assert not pace.sent(MOST)


def test_short_waits_make_nobody_slow() -> None:
    pace = Pace(MOST)
    take(pace, PROVEN_BYTES)
    for _ in range(1000):
        assert not pace.waited(0.02)
        pace.sent(MOST)
    assert pace.appetite() == MOST


def test_a_client_that_lets_us_wait_gets_little_until_it_has_proved_itself_anew() -> None:
    pace = Pace(MOST)
    take(pace, PROVEN_BYTES)
    assert pace.waited(PROVEN_BYTES / 2**20 + 1)
    assert pace.appetite() == SLOW_BYTES
    take(pace, PROVEN_BYTES - SLOW_BYTES)
    assert pace.appetite() == SLOW_BYTES
    pace.sent(SLOW_BYTES)
    assert pace.appetite() == MOST


def test_a_slow_client_never_reaches_large_pieces() -> None:
    pace = Pace(MOST)
    for _ in range(100):
        take(pace, PROVEN_BYTES // 2)
        pace.waited(10)
        assert pace.appetite() == SLOW_BYTES


def test_a_limit_below_the_small_size_is_kept() -> None:
    pace = Pace(1000)
    take(pace, PROVEN_BYTES)
    assert pace.appetite() == 1000
    assert not pace.waited(100)


def test_a_client_that_stalls_has_little_waiting_in_the_process(tls_folder: Path, monkeypatch: Any) -> None:
    async def endless(sample: Sample, scope: Any, receive: Any, send: Any) -> None:
        await stream(sample, 1 << 30)(scope, receive, send)

    monkeypatch.setattr(Sample, "stream", endless)
    with serving(tls_folder) as running, narrow(running.port, tls_folder) as connection:
        connection.sendall(request("/stream"))
        wait_until(running.open_connections)
        held: Any = next(iter(running.server.server_state.connections))
        wait_until(lambda: held.flow.write_paused)
        time.sleep(0.2)
        assert held.flow.write_paused
        assert held.transport.get_write_buffer_size() <= HELD_BYTES
        assert running.seen["largest"] == SLOW_BYTES


def test_a_client_that_reads_gets_large_pieces(tls_folder: Path, monkeypatch: Any) -> None:
    size = 8 * PROVEN_BYTES

    async def much(sample: Sample, scope: Any, receive: Any, send: Any) -> None:
        await stream(sample, size)(scope, receive, send)

    monkeypatch.setattr(Sample, "stream", much)
    with serving(tls_folder) as running, dial(running) as connection:
        connection.sendall(request("/stream", "Connection: close"))
        taken = 0
        while piece := connection.recv(1 << 20):
            taken += len(piece)
        assert taken > size
        assert running.seen["largest"] == MOST
