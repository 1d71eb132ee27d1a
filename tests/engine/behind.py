"""Engines in front of a registry, with a client that remembers what was asked, and ways to go past the gateway."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.engine.port import Engine
from gateway.engine.upstream.assembly import upstream
from gateway.engine.upstream.client import Answer, Client, Peer, Streamed
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import Manifest
from gateway.oci.names import Repository
from gateway.records.database import Database
from tests.contract.house import UPSTREAM, Clock, House, Nature
from tests.faults.peer import Line, Request


class Remembering(Client):
    """A client that remembers what was asked, and what came: (method, path, status)."""

    def __init__(self, url: str) -> None:
        super().__init__(Peer(url))
        self.asked: list[tuple[str, str, int]] = []
        self.opened: list[str] = []

    async def ask(self, method: str, path: str, **more: Any) -> Answer:
        answer = await super().ask(method, path, **more)
        self.asked.append((method, path, answer.status))
        return answer

    def open(
        self, path: str, *, headers: Mapping[str, str] | None = None, scope: str = ""
    ) -> AbstractAsyncContextManager[Streamed]:
        self.opened.append(path)
        return super().open(path, headers=headers, scope=scope)


@dataclass
class Behind:
    """Opens engines in front of what listens at *url*; *clients* are theirs, in order."""

    url: str
    clients: list[Remembering] = field(default_factory=list)
    nature: Nature = UPSTREAM

    def open(self, data: Path, database: Database, clock: Clock, **options: Any) -> Engine:
        self.clients.append(Remembering(self.url))
        return upstream(data, database, self.clients[-1], clock=clock, **options)

    def begin(self) -> None:
        return None

    @property
    def client(self) -> Remembering:
        return self.clients[0]

    async def keep(self, repository: Repository, content: bytes, algorithm: Algorithm = Algorithm.SHA256) -> None:
        """Puts a blob into the registry, past the gateway."""
        begun = await self.client.ask("POST", f"/v2/{repository}/blobs/uploads/", content=b"")
        place = self.client.local(begun.headers["location"], repository.name)
        digest = Digest.of(content, algorithm)
        answer = await self.client.ask("PUT", f"{place}&digest={digest}", content=content)
        assert answer.status == 201

    async def put(self, repository: Repository, manifest: Manifest, name: str, *blobs: bytes) -> None:
        """Puts a manifest and what it names into the registry, past the gateway."""
        for blob in blobs:
            await self.keep(repository, blob)
        answer = await self.client.ask(
            "PUT",
            f"/v2/{repository}/manifests/{name}",
            headers={"Content-Type": manifest.media_type},
            content=manifest.content,
        )
        assert answer.status == 201


def refusal(status: int, code: str, detail: object = None) -> tuple[int, dict[str, str], bytes]:
    """How a registry says no."""
    told = {"errors": [{"code": code, "message": "its own words", "detail": detail}]}
    return status, {"Content-Type": "application/json; charset=utf-8"}, json.dumps(told).encode()


class Script:
    """Answers by method, or by method and path; everything else is 404 and nothing a registry says."""

    def __init__(self, **answers: tuple[int, dict[str, str], bytes]) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = dict(answers)

    def __call__(self, request: Request, line: Line) -> None:
        named = f"{request.method} {request.target}"
        status, headers, body = self.answers.get(named) or self.answers.get(request.method) or (404, {}, b"")
        if request.method == "HEAD":
            headers = {"Content-Length": str(len(body)), **headers}
            body = b""
        line.answer(status, headers, body)


def rows(house: House, table: Any) -> int:
    """How many rows a table has."""
    return house.database.read_now(lambda connection: len(connection.execute(table.select()).all()))
