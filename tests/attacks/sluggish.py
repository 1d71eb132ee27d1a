"""A thousand clients that are slow in every way there is, in a process of their own.

    hang    TCP and no handshake          drip    a head, a byte every other second
    idle    TLS and no request            feed    an upload's body, likewise
    deaf    a large blob, never read      sip     the same, a little now and then

Whoever is cut off comes back, as an attacker would. Says `ready` when all are connected; ends when its input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

KINDS = ("hang", "idle", "drip", "feed", "deaf", "sip")
_PACE_SECONDS = 2.0
_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Target:
    port: int
    token: str
    repository: str
    digest: str

    def head(self, method: str, path: str, *lines: str) -> bytes:
        sent = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {self.token}", *lines, "", ""]
        return "\r\n".join(sent).encode()


@dataclass(slots=True)
class Slow:
    """One client of one kind, from an address of its own neighbourhood."""

    target: Target
    kind: str
    address: str
    door: asyncio.Semaphore
    arrived: asyncio.Event
    trust: ssl.SSLContext

    async def live(self) -> None:
        while True:
            with contextlib.suppress(OSError, ssl.SSLError, EOFError, asyncio.IncompleteReadError, TimeoutError):
                await self._visit()
            await asyncio.sleep(_PACE_SECONDS)

    async def _visit(self) -> None:
        secure = None if self.kind == "hang" else self.trust
        async with self.door:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1",
                self.target.port,
                ssl=secure,
                server_hostname="localhost" if secure else None,
                local_addr=(self.address, 0),
                limit=1024,
            )
        self.arrived.set()
        try:
            await self._dawdle(reader, writer)
        finally:
            writer.transport.abort()

    async def _dawdle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = f"/v2/{self.target.repository}"
        match self.kind:
            case "drip":
                await self._drip(writer, self.target.head("GET", f"{place}/manifests/v1") * 50)
            case "feed":
                length = ("Content-Length: 100000",)
                writer.write(self.target.head("POST", f"{place}/blobs/uploads/?digest={self.target.digest}", *length))
                await self._drip(writer, b"x" * 100_000)
            case "deaf":
                writer.write(self.target.head("GET", f"{place}/blobs/{self.target.digest}"))
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                await asyncio.sleep(3600)
            case "sip":
                writer.write(self.target.head("GET", f"{place}/blobs/{self.target.digest}"))
                async for _ in _sips(reader):
                    await asyncio.sleep(_PACE_SECONDS)
            case _:
                await reader.read(1)

    async def _drip(self, writer: asyncio.StreamWriter, content: bytes) -> None:
        for byte in content:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(_PACE_SECONDS)


async def _sips(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while piece := await reader.read(256):
        yield piece


async def besiege(target: Target, number: int, authority: str) -> None:
    """*number* slow clients, evenly of all kinds, until the standard input ends."""
    # Attackers bring machines of their own: here they take only what time the gateway and its good clients leave, which
    # the lowest niceness would not do: it still has its share of each few milliseconds.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    trust = ssl.create_default_context(cafile=authority)
    door = asyncio.Semaphore(_AT_ONCE)
    clients = [
        Slow(target, KINDS[n % len(KINDS)], f"127.1.{n // 100}.{n % 100 // 10 + 1}", door, asyncio.Event(), trust)
        for n in range(number)
    ]
    living = [asyncio.create_task(client.live()) for client in clients]
    for client in clients:
        await client.arrived.wait()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for each in living:
        each.cancel()
    await asyncio.gather(*living, return_exceptions=True)


if __name__ == "__main__":
    port, token, repository, digest, number, authority = sys.argv[1:]
    asyncio.run(besiege(Target(int(port), token, repository, digest), int(number), authority))
