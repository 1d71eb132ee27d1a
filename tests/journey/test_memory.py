"""What big content costs in memory: as good as nothing, and the same whether one client moves it or twenty do."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.journey.conftest import Open
from tests.services.gateway import Gateway
from tests.services.wire import with_digest

pytestmark = [pytest.mark.journey, pytest.mark.long, pytest.mark.timeout(1200)]

WRITER = ("writer", "writer's-long-password")
SCOPE = "repository:gallery/big:pull,push"
MEBIBYTE = 1024 * 1024
PIECE = random.Random(7).randbytes(MEBIBYTE)
# Everything that a connection may hold, and what the allocator keeps of what was given back.
CONNECTION_BYTES = 2 * MEBIBYTE
SLACK_BYTES = 48 * MEBIBYTE


@pytest.fixture(scope="module")
def hub(opened: Open) -> Iterator[Gateway]:
    with opened(workers=1) as gateway:
        gateway.add_user(*WRITER)
        gateway.cli("project", "add", "gallery").must()
        gateway.cli("grant", "writer", "pusher", "gallery").must()
        yield gateway


class Watch:
    """The memory of a gateway's worker while a block lasts: what it held before, and the most it held."""

    def __init__(self, hub: Gateway) -> None:
        (self._pid,) = hub.workers()
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")
        (self.before,) = hub.memory_bytes().values()
        self._hub = hub

    @property
    def growth(self) -> int:
        """By how much it grew, at its most."""
        (most,) = self._hub.peak_memory_bytes().values()
        return most - self.before

    def report(self, what: str, seconds: float, sent: int) -> None:
        """Print the figures for the documentation."""
        print(
            f"\n{what}: {self.before / MEBIBYTE:.0f} MiB before, {self.growth / MEBIBYTE:+.0f} MiB at its most,"
            f" {sent / MEBIBYTE / seconds:.0f} MiB/s in {seconds:.0f} s"
        )


@contextmanager
def watching(hub: Gateway, what: str, sent: int) -> Iterator[Watch]:
    watch, begun = Watch(hub), time.monotonic()
    yield watch
    watch.report(what, time.monotonic() - begun, sent)


def pieces(client: int, size: int) -> Iterator[bytes]:
    """As many bytes as wanted, other ones for every client."""
    yield client.to_bytes(8, "big") + PIECE[8:]
    for _ in range(size // MEBIBYTE - 1):
        yield PIECE


def digest(client: int, size: int) -> str:
    hasher = hashlib.sha256()
    for piece in pieces(client, size):
        hasher.update(piece)
    return f"sha256:{hasher.hexdigest()}"


def push(hub: Gateway, client: int, size: int, digest: str) -> None:
    with hub.wire.connect() as connection:
        token = hub.wire.token(WRITER, SCOPE)
        begun = connection.request("POST", "/v2/gallery/big/blobs/uploads/", token=token).must(202)
        length = {"Content-Length": str(size)}
        sent = connection.request("PATCH", begun.location, token=token, body=pieces(client, size), headers=length)
        connection.request("PUT", with_digest(sent.must(202).location, digest), token=token).must(201)


def pull(hub: Gateway, size: int, digest: str) -> None:
    with hub.wire.connect() as connection:
        token = hub.wire.token(WRITER, SCOPE)
        connection.send("GET", f"/v2/gallery/big/blobs/{digest}", token=token)
        answer, received = connection.open(), 0
        hasher = hashlib.sha256()
        while piece := answer.read(MEBIBYTE):
            received += len(piece)
            hasher.update(piece)
        assert (received, f"sha256:{hasher.hexdigest()}") == (size, digest)


def together(work: Callable[[int], None], clients: int) -> None:
    failed: list[BaseException] = []

    def run(client: int) -> None:
        try:
            work(client)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


@pytest.mark.parametrize("clients", [1, 20])
def test_a_gibibyte_is_pushed_and_pulled_in_next_to_no_memory(hub: Gateway, clients: int) -> None:
    size = 1024 * MEBIBYTE
    first = 100 * clients
    digests = [digest(first + client, size) for client in range(clients)]
    with watching(hub, f"push, {clients} × {size // MEBIBYTE} MiB", clients * size) as pushing:
        together(lambda client: push(hub, first + client, size, digests[client]), clients)
    with watching(hub, f"pull, {clients} × {size // MEBIBYTE} MiB", clients * size) as pulling:
        together(lambda client: pull(hub, size, digests[client]), clients)
    assert pushing.growth < SLACK_BYTES + clients * CONNECTION_BYTES
    assert pulling.growth < SLACK_BYTES + clients * CONNECTION_BYTES
