"""A real server on a real TLS socket for the tests of the edge, and clients that say exactly what they are told."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from gateway.certificates import LivePair
from gateway.protocol import ClientDisconnected, EdgeLimits, bind, strict_protocol
from gateway.server import EdgeServer, Worker

HOSTS = frozenset({"localhost", "127.0.0.1", "::1", "registry.local"})


@dataclass(slots=True)
class Running:
    port: int
    folder: Path
    server: EdgeServer
    refused: list[tuple[int, str, str]] = field(default_factory=list)
    reloads: list[Any] = field(default_factory=list)
    seen: dict[str, Any] = field(default_factory=dict)

    def open_connections(self) -> int:
        return len(self.server.server_state.connections)


class Sample:
    """A small application that does, by path, what the edge must cope with."""

    def __init__(self, seen: dict[str, Any]) -> None:
        self.seen = seen

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.live(receive, send)
            return
        act: Callable[..., Any] = getattr(self, scope["path"].strip("/").split("/")[0] or "root", self.root)
        await act(scope, receive, send)

    async def live(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                self.seen["shutdown"] = True
                return

    async def root(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen["requests"] = self.seen.get("requests", 0) + 1
        await answer(send, b"ok")

    async def fail(self, scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("a secret nobody may see")

    async def scope(self, scope: Any, receive: Any, send: Any) -> None:
        await read_all(receive)
        shown = {
            "client": scope["client"],
            "host": scope["state"]["host"],
            "path": scope["path"],
            "query": scope["query_string"].decode(),
            "headers": [[n.decode(), v.decode("latin-1")] for n, v in scope["headers"]],
        }
        await answer(send, json.dumps(shown).encode())

    async def body(self, scope: Any, receive: Any, send: Any) -> None:
        size, digest, largest = 0, hashlib.sha256(), 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.seen["disconnects"] = self.seen.get("disconnects", 0) + 1
                return
            size += len(message["body"])
            largest = max(largest, len(message["body"]))
            digest.update(message["body"])
            if not message["more_body"]:
                break
        self.seen["largest"] = largest
        await answer(send, f"{size} {digest.hexdigest()}".encode())

    async def refuse(self, scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"no", status=401)

    async def slow(self, scope: Any, receive: Any, send: Any) -> None:
        await read_all(receive)
        self.seen["slow"] = self.seen.get("slow", 0) + 1
        await asyncio.sleep(0.6)
        await answer(send, b"slow")

    async def late(self, scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.8)
        await read_all(receive)
        await answer(send, b"late")

    async def stream(self, scope: Any, receive: Any, send: Any) -> None:
        pieces, piece = int(scope["query_string"]), bytes(range(256)) * 1024
        headers = [(b"content-length", b"%d" % (pieces * len(piece)))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            for number in range(pieces):
                await send({"type": "http.response.body", "body": piece, "more_body": number + 1 < pieces})
                self.seen["sent"] = (number + 1) * len(piece)
        except ClientDisconnected:
            self.seen["cut"] = True
            raise

    async def unknown(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for text in (b"one ", b"two ", b"three"):
            await send({"type": "http.response.body", "body": text, "more_body": text != b"three"})


async def read_all(receive: Any) -> None:
    while (await receive()).get("more_body"):
        pass


async def answer(send: Any, body: bytes, status: int = 200) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def serving(folder: Path, drain_for: float = 5.0, **limits: Any) -> Iterator[Running]:
    """The sample application behind the real edge, in a thread of its own, with the pair in *folder*."""
    live = LivePair(folder / "leaf.crt", folder / "leaf.key")
    seen: dict[str, Any] = {}
    refused: list[tuple[int, str, str]] = []
    reloads: list[Any] = []
    app: Any = Sample(seen)
    heard = Worker(app, reloads.append, lambda *heard: refused.append(heard), lambda: seen.update(draining=True))
    ready = threading.Event()
    config = uvicorn.Config(
        app,
        http=strict_protocol(EdgeLimits(**{"hosts": HOSTS, **limits}), heard.on_refused),
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    server = EdgeServer(config, heard, live, drain_for, ready.set)
    sockets = bind("127.0.0.1", 0)
    port = sockets[0].getsockname()[1]

    def work() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve(sockets))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert ready.wait(10)
        yield Running(port, folder, server, refused, reloads, seen)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / "ca.crt"))


@contextlib.contextmanager
def dial(running: Running, host: str = "localhost", context: ssl.SSLContext | None = None) -> Iterator[ssl.SSLSocket]:
    """A TLS connection whose every operation ends within ten seconds."""
    context = context or trusting(running.folder)
    with (
        socket.create_connection(("127.0.0.1", running.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as wrapped,
    ):
        yield wrapped


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def read_reply(connection: ssl.SSLSocket, method: str = "GET") -> Reply:
    response = HTTPResponse(connection, method=method)
    try:
        response.begin()
        body = response.read()
        return Reply(response.status, {n.lower(): v for n, v in response.getheaders()}, body)
    finally:
        response.close()


def request(path: str = "/", *lines: str, method: str = "GET", host: str = "localhost", body: bytes = b"") -> bytes:
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", *lines]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def closed(connection: ssl.SSLSocket) -> bool:
    """Whether the server ends the connection without another byte."""
    try:
        return connection.recv(1) == b""
    except (ssl.SSLError, ConnectionError):
        return True


def wait_until(holds: Callable[[], Any], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)
