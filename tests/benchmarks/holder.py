"""A client that holds many connections in one state: idle, pulling slowly, or uploading slowly.

Told what to do by one line of JSON; says `holding` when all are there, and lets go at the next line.
"""

from __future__ import annotations

import asyncio
import json
import resource
import ssl
import sys
from typing import Any

from tests.benchmarks.wire import head

_PIECE = 32 * 1024
_PAUSE_SECONDS = 0.1


async def hold(told: dict[str, Any]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The certificate is the measuring side's own.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    there = asyncio.Semaphore(0)
    gate = asyncio.Semaphore(20)
    tasks = [asyncio.create_task(_one(told, context, gate, there)) for _ in range(told["count"])]
    for _ in tasks:
        await asyncio.wait_for(there.acquire(), 60)
    print("holding", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    print(sum(not isinstance(each, asyncio.CancelledError) for each in ended), flush=True)


async def _one(
    told: dict[str, Any], context: ssl.SSLContext, gate: asyncio.Semaphore, there: asyncio.Semaphore
) -> None:
    port, authorization = told["port"], told["authorization"]
    async with gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, limit=_PIECE)
        if told["state"] == "upload":
            place = await _begin(reader, writer, told)
            length = f"Content-Length: {told['bytes']}"
            writer.write(head(port, "PATCH", place, authorization, length, "Content-Type: application/octet-stream"))
        else:
            writer.write(head(port, "GET", told["path"], authorization))
            await reader.readuntil(b"\r\n\r\n")
    there.release()
    while True:
        await asyncio.sleep(_PAUSE_SECONDS)
        if told["state"] == "upload":
            writer.write(bytes(_PIECE))
            await writer.drain()
        elif told["state"] == "pull" and not await reader.read(_PIECE):
            return


async def _begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, told: dict[str, Any]) -> str:
    path = f"/v2/{told['repository']}/blobs/uploads/"
    writer.write(head(told["port"], "POST", path, told["authorization"], "Content-Length: 0"))
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    place = next(line.partition(":")[2].strip() for line in lines if line.lower().startswith("location:"))
    return place.partition(f":{told['port']}")[2] or place


def main() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    asyncio.run(hold(json.loads(sys.stdin.readline())))


if __name__ == "__main__":
    main()
