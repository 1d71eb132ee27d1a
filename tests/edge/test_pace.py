"""What a connection is given at a time: much, but for who is slow, and for strangers while many let us wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.protocol.pace import CROWD, LARGE_BYTES, PROVEN_BYTES, SMALL_BYTES, Pace
from tests.edge.serving import Running, Sample, dial, request, serving, wait_until
from tests.edge.test_connections_edge import narrow

#: A piece encrypted, with what TLS adds to it.
HELD_BYTES = LARGE_BYTES + 1024
MADE_READY_BYTES = 1024 * 1024


@pytest.fixture
def streaming(tls_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A server whose `/stream?n` gives *n* bytes, as many at a time as its client should have."""

    async def stream(sample: Sample, scope: Any, receive: Any, send: Any) -> None:
        left = int(scope["query_string"])
        headers = [(b"content-length", b"%d" % left)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while left:
            piece = bytes(min(left, await scope["state"]["appetite"]()))
            sample.seen.setdefault("sizes", []).append(len(piece))
            left -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})

    monkeypatch.setattr(Sample, "stream", stream)
    with serving(tls_folder) as running:
        yield running


def crowd(running: Running) -> None:
    """As if so many others let the server wait."""
    edge(running).waiting += CROWD


def waiting(running: Running) -> int:
    return int(edge(running).waiting) - CROWD


def edge(running: Running) -> Any:
    protocol: Any = running.server.config.http_protocol_class
    return protocol.edge


def take(running: Running, size: int) -> None:
    with dial(running) as connection:
        connection.sendall(request(f"/stream?{size}", "Connection: close"))
        taken = 0
        while piece := connection.recv(1 << 20):
            taken += len(piece)
        assert taken > size


def test_a_stranger_gets_much_unless_many_let_us_wait() -> None:
    pace = Pace()
    assert pace.size(crowded=False) == LARGE_BYTES
    assert pace.size(crowded=True) == SMALL_BYTES
    pace.sent(PROVEN_BYTES - 1)
    assert pace.size(crowded=True) == SMALL_BYTES
    pace.sent(1)
    assert pace.size(crowded=True) == LARGE_BYTES


def test_short_waits_make_nobody_slow() -> None:
    pace = Pace()
    for _ in range(1000):
        pace.sent(LARGE_BYTES)
        pace.waited(0.02)
        assert not pace.slow


def test_who_lets_us_wait_gets_little_until_proved_anew() -> None:
    pace = Pace()
    pace.sent(PROVEN_BYTES)
    pace.waited(PROVEN_BYTES / 2**20 + 1)
    assert pace.size(crowded=False) == SMALL_BYTES
    pace.sent(PROVEN_BYTES - 1)
    assert pace.size(crowded=False) == SMALL_BYTES
    pace.sent(1)
    assert pace.size(crowded=True) == LARGE_BYTES


def test_who_stays_slow_stays_so() -> None:
    pace = Pace()
    for _ in range(100):
        pace.sent(PROVEN_BYTES // 2)
        pace.waited(10)
        assert pace.size(crowded=False) == SMALL_BYTES


def test_who_reads_gets_large_pieces_from_the_first(streaming: Running) -> None:
    take(streaming, 2 * PROVEN_BYTES)
    sizes = streaming.seen["sizes"]
    assert min(sizes) == max(sizes) == LARGE_BYTES


def test_a_stalled_client_has_one_piece_waiting_in_the_process(streaming: Running) -> None:
    with narrow(streaming.port, streaming.folder) as connection:
        connection.sendall(request("/stream?1000000000"))
        wait_until(lambda: edge(streaming).waiting == 1)
        asked = len(streaming.seen["sizes"])
        held: Any = next(iter(streaming.server.server_state.connections))
        time.sleep(0.2)
        assert held.transport.get_write_buffer_size() <= HELD_BYTES
        assert len(streaming.seen["sizes"]) == asked
    wait_until(lambda: edge(streaming).waiting == 0)


def test_among_a_crowd_a_stalled_stranger_has_nothing_waiting(streaming: Running) -> None:
    crowd(streaming)
    with narrow(streaming.port, streaming.folder) as connection:
        connection.sendall(request("/stream?1000000000"))
        wait_until(lambda: waiting(streaming) == 1)
        assert set(streaming.seen["sizes"]) == {SMALL_BYTES}
        held: Any = next(iter(streaming.server.server_state.connections))
        assert held.transport.get_write_buffer_size() == 0
    wait_until(lambda: waiting(streaming) == 0)
    wait_until(lambda: streaming.open_connections() == 0)


def test_among_a_crowd_little_is_made_ready_for_a_stranger_who_reads_nothing(streaming: Running) -> None:
    crowd(streaming)
    with dial(streaming) as connection:
        connection.sendall(request("/stream?1000000000"))
        wait_until(lambda: waiting(streaming) == 1)
        time.sleep(0.2)
        # What its own system takes for it, and two pieces that ours holds; left to itself, it takes megabytes.
        assert sum(streaming.seen["sizes"]) < MADE_READY_BYTES
        held: Any = next(iter(streaming.server.server_state.connections))
        assert held.transport.get_write_buffer_size() == 0


def test_among_a_crowd_who_reads_gets_all_and_large_pieces_once_known(streaming: Running) -> None:
    crowd(streaming)
    take(streaming, 3 * PROVEN_BYTES)
    sizes = streaming.seen["sizes"]
    assert sizes[0] == SMALL_BYTES
    assert sizes[-2] == LARGE_BYTES


def test_among_a_crowd_who_stalls_is_cut_all_the_same(streaming: Running) -> None:
    with serving(streaming.folder, write_stall_seconds=0.5) as running:
        crowd(running)
        with narrow(running.port, running.folder) as connection:
            connection.sendall(request("/stream?1000000000"))
            wait_until(lambda: running.refused, 15)
            wait_until(lambda: running.open_connections() == 0)
        assert [status for status, *_ in running.refused] == [0]
        wait_until(lambda: waiting(running) == 0)


def test_waiting_for_room_keeps_no_file(streaming: Running) -> None:
    before = sockets()
    crowd(streaming)
    with ExitStack() as stalled:
        for _ in range(20):
            stalled.enter_context(narrow(streaming.port, streaming.folder)).sendall(request("/stream?1000000000"))
        wait_until(lambda: waiting(streaming) == 20, 15)
        assert sockets() >= before + 3 * 20
    wait_until(lambda: streaming.open_connections() == 0)
    wait_until(lambda: sockets() <= before)


def sockets() -> int:
    folder = Path("/proc/self/fd")
    # Resolved, not read: one may be closed meanwhile.
    return sum("socket:" in each.resolve().name for each in folder.iterdir())
