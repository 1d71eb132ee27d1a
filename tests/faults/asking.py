"""What the tests of a misbehaving peer have in common: a client with little patience, and what it makes of the peer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from gateway.engine.upstream.client import Client, Patience, Peer, Shares
from tests.faults.peer import Misbehaving

T = TypeVar("T")

QUICK = Patience(connect_seconds=1, answer_seconds=0.6, idle_seconds=0.4, window_seconds=0.5)
#: Within which even the slowest refusal of a quick client has to be there.
BUDGET_SECONDS = 3.0
BLOB = "/v2/gallery/ui/blobs/sha256:" + "a" * 64
UPLOAD = "/v2/gallery/ui/blobs/uploads/one?_state=x"


def with_client(
    peer: Misbehaving | str,
    act: Callable[[Client], Awaitable[T]],
    *,
    patience: Patience = QUICK,
    shares: Shares | None = None,
    username: str = "",
    password: str = "",
    ca_file: Path | None = None,
) -> T:
    """What *act* does with a client of the peer, within the budget; every connection is gone afterwards."""
    url = peer if isinstance(peer, str) else peer.url

    async def run() -> T:
        client = Client(Peer(url, username, password, ca_file), patience, shares or Shares())
        try:
            async with asyncio.timeout(BUDGET_SECONDS):
                return await act(client)
        finally:
            await client.close()

    result = asyncio.run(run())
    assert isinstance(peer, str) or peer.settled(), f"{peer.connections} connections are left"
    return result


async def read(client: Client, path: str = BLOB) -> bytes:
    """A blob, streamed."""
    async with client.open(path) as streamed:
        return b"".join([piece async for piece in streamed.pieces()])


async def body(*pieces: bytes) -> AsyncIterator[bytes]:
    """A body in pieces."""
    for piece in pieces:
        yield piece


def way(name: str) -> Callable[[Client], Awaitable[object]]:
    """One way to use a client, by name: `ask`, `open`, `send`, `write`."""
    match name:
        case "ask":
            return lambda client: client.ask("GET", BLOB)
        case "open":
            return read
        case "write":
            return lambda client: client.ask("PUT", "/v2/gallery/ui/manifests/v1", content=b"{}")
        case _:
            return _send


async def _send(client: Client) -> object:
    # As after a POST: the client knows that it needs no credential.
    client._credential.proven = True
    return await client.send("PATCH", UPLOAD, body(b"one", b"two"))
