"""The registry edge as clients meet it: a small ASGI client, and a world of projects and accounts behind it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

from gateway.access.credentials import Credentials
from gateway.access.keys import KeyRing
from gateway.access.passwords import HashingPool
from gateway.access.secrets import Secrets
from gateway.access.tokens import Tokens
from gateway.administration import Administration
from gateway.audit.event import Kind
from gateway.engine.embedded.assembly import embedded
from gateway.oci.media import OCI_INDEX, OCI_MANIFEST
from gateway.protocol.heads import Head, Heads
from gateway.records.credentials import CredentialRecords
from gateway.records.keys import StoredKeys
from gateway.registry.edge import Registry
from gateway.registry.request import Parts
from tests.house import GATEWAY, OPERATOR, House, opened

SERVICE = "registry.test"
ISSUER = "https://registry.test"
HOST = "registry.test:5000"
REALM = f"https://{HOST}/token"
PASSWORD = "correct horse battery"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
#: Projects alpha and beta are private, pub may be pulled by anybody.
GRANTS = (
    ("alice", "pusher", "alpha"),
    ("bob", "puller", "alpha"),
    ("dave", "maintainer", "alpha"),
    ("carol", "pusher", "beta"),
    ("alice", "pusher", "pub"),
)


class HungUp(OSError):
    """What the server's `send` raises when the client is gone."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; *complete* is whether the reply reached its end."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    complete: bool

    def header(self, name: str) -> str:
        """The header's only value; "" if it is not there."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else ""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the one error that is told."""
        [error] = self.json()["errors"]
        return str(error["code"])

    @property
    def told(self) -> dict[str, str]:
        """The headers that may be compared: everything but the request's own number and second."""
        return {name: value for name, value in self.headers if name not in {"x-request-id", "date"}}


@dataclass(slots=True)
class World:
    """Everything behind one registry edge, and ways to ask it things."""

    house: House
    acts: Administration
    registry: Registry
    keys: StoredKeys
    ring: KeyRing
    clock: Clock
    heads: Heads = field(default_factory=Heads)
    """What the edge would remember of requests that come again; `ask` treats equal ones as it would."""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def ask(
        self,
        method: str,
        target: str,
        *,
        token: str = "",
        body: bytes | Sequence[bytes] = b"",
        cut: bool = False,
        deaf_after: int | None = None,
        address: str = "192.0.2.10",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """
        One request. *cut* hangs up after *body*; *deaf_after* so many messages of the reply.

        A `Content-Length` is sent for a body given as bytes, none for one given in pieces.
        """
        sent = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        pieces = [body] if isinstance(body, bytes) else list(body)
        named = {name.lower() for name, _ in sent}
        if isinstance(body, bytes) and body and "content-length" not in named:
            sent.append(("Content-Length", str(len(body))))
        if "host" not in named:
            sent.append(("Host", HOST))
        if token:
            sent.append(("Authorization", f"Bearer {token}"))
        return asyncio.run(self._ask(method, target, sent, pieces, cut, deaf_after, address))

    async def _ask(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        pieces: Sequence[bytes],
        cut: bool,
        deaf_after: int | None,
        address: str,
    ) -> Answer:
        path, _, query = target.partition("?")
        coming: list[MutableMapping[str, Any]] = [
            {"type": "http.request", "body": piece, "more_body": cut or place < len(pieces) - 1}
            for place, piece in enumerate(pieces)
        ]
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            await asyncio.sleep(0)
            return coming.pop(0) if coming else {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            await asyncio.sleep(0)
            if deaf_after is not None and len(sent) >= deaf_after:
                raise HungUp
            sent.extend(_spelled_out(message))

        scope = {
            "type": "http",
            "method": method,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
            "client": (address, 40000),
        }
        if not cut and pieces == [b""]:
            content = repr((method, target, headers)).encode()
            scope["state"] = {"head": self.heads.find(content) or Head(self.heads, content, HOST, {})}
        await self.registry(scope, receive, send)
        if not sent:
            return Answer(0, (), b"", False)
        start = sent[0]
        told = tuple((name.decode(), value.decode("latin-1")) for name, value in start["headers"])
        content = b"".join(message["body"] for message in sent[1:])
        complete = len(sent) > 1 and not sent[-1]["more_body"]
        if complete:
            self._check_framing(method, start["status"], told, content)
        return Answer(start["status"], told, content, complete)

    @staticmethod
    def _check_framing(method: str, status: int, told: Sequence[tuple[str, str]], content: bytes) -> None:
        """What holds for every whole reply."""
        headers = dict(told)
        if method == "HEAD" or status in {204, 304}:
            assert content == b""
        else:
            assert int(headers["content-length"]) == len(content)
        assert headers["docker-distribution-api-version"] == "registry/2.0"
        assert len(headers["x-request-id"]) == 32

    # who asks

    def sign_in(self, name: str, *scopes: str, password: str = PASSWORD, **parameters: str) -> Answer:
        """`GET /token` with Basic, or with nothing for "" as the name."""
        query = urlencode([*(("scope", scope) for scope in scopes), *parameters.items()])
        headers = {"Authorization": basic(name, password)} if name else {}
        return self.ask("GET", f"/token?{query}", headers=headers)

    def token(self, name: str, *scopes: str) -> str:
        answer = self.sign_in(name, *scopes, service=SERVICE)
        assert answer.status == 200, answer.body
        return str(answer.json()["token"])

    def widest(self, name: str, *repositories: str) -> str:
        """A token with all that *name* can get on *repositories*."""
        return self.token(name, *(f"repository:{repository}:*" for repository in repositories))

    # what is there

    def name(self, project: str = "alpha") -> str:
        """A repository's name that no other test uses."""
        return f"{project}/r{next(self.numbers)}"

    def push_blob(self, token: str, repository: str, content: bytes) -> str:
        digest = sha256(content)
        answer = self.ask("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", token=token, body=content)
        assert answer.status == 201, answer.body
        return digest

    def push_manifest(
        self, token: str, repository: str, reference: str, content: bytes, media_type: str = OCI_MANIFEST
    ) -> Answer:
        return self.ask(
            "PUT",
            f"/v2/{repository}/manifests/{reference}",
            token=token,
            body=content,
            headers={"Content-Type": media_type},
        )

    def push_image(self, token: str, repository: str, *tags: str, layer: bytes = b"a layer", **more: Any) -> bytes:
        """Pushes an image under *tags*, or by its digest alone; answers its manifest's bytes."""
        self.push_blob(token, repository, b"{}")
        self.push_blob(token, repository, layer)
        content = image(b"{}", layer, **more)
        for reference in tags or (sha256(content),):
            answer = self.push_manifest(token, repository, reference, content)
            assert answer.status == 201, answer.body
        return content

    def begin(self, token: str, repository: str) -> str:
        """Begins an upload; answers its location."""
        answer = self.ask("POST", f"/v2/{repository}/blobs/uploads/", token=token)
        assert answer.status == 202, answer.body
        return answer.header("location")

    # what was remembered

    def records(self, **search: Any) -> list[dict[str, Any]]:
        return self.house.records(**search)

    @contextmanager
    def watching(self) -> Iterator[list[dict[str, Any]]]:
        """The events that came to the trail inside, in order; filled in at the end."""
        before = len(self.records())
        seen: list[dict[str, Any]] = []
        yield seen
        seen += self.records()[before:]


@dataclass(slots=True)
class Clock:
    """A clock that can be put forward."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@contextmanager
def world_on(url: str, data: Path, *, trash_seconds: int = 0) -> Iterator[World]:
    with opened(url, data) as house:
        secrets = Secrets(b"s" * 32)
        hashing = HashingPool(cost=4, workers=1)
        keys = StoredKeys(house.database, secrets)
        engine = embedded(data, house.database, trash_seconds=trash_seconds)
        parts_of = (house.gate, house.database, engine, house.trail, secrets, hashing, keys)
        acts = Administration(*parts_of, trash_seconds=trash_seconds)
        ring = KeyRing(keys, house.database.versions.policy)
        records = CredentialRecords(house.database)
        clock = Clock()
        parts = Parts(
            gate=house.gate,
            engine=engine,
            credentials=Credentials(records, records, secrets, hashing, records, floor_seconds=0.0),
            tokens=Tokens(ring, ISSUER, SERVICE, 300),
            jwks=ring.jwks,
            realm_for=lambda host: REALM,
            service=SERVICE,
            now=clock,
        )
        world = World(house, acts, Registry(parts), keys, ring, clock)
        house.run(_populate(world))
        try:
            yield world
        finally:
            hashing.close()


async def _populate(world: World) -> None:
    async with world.house.gate.passage(GATEWAY, Kind.KEY_ADD) as passage:
        await passage.commit(world.keys.add_first(datetime.now(UTC)))
    acts = world.acts
    for name in ("alice", "bob", "dave", "carol", "mallory"):
        await acts.accounts.add_user(OPERATOR, name, password=PASSWORD)
    await acts.accounts.add_user(OPERATOR, "auditor", password=PASSWORD, auditor=True)
    await acts.accounts.add_user(OPERATOR, "root", password=PASSWORD, administrator=True)
    await acts.projects.add_project(OPERATOR, "alpha")
    await acts.projects.add_project(OPERATOR, "beta")
    await acts.projects.add_project(OPERATOR, "pub", public=True)
    for name, role, reach in GRANTS:
        await acts.grants.add_grant(OPERATOR, name, role, reach)


def _spelled_out(message: MutableMapping[str, Any]) -> Sequence[MutableMapping[str, Any]]:
    """A message of the edge's extension as the two that it stands for."""
    if message["type"] != "http.response.repeat":
        return (message,)
    lines = (message["lines"] + message["fresh"]).split(b"\r\n")[:-1]
    headers = [tuple(line.split(b": ", 1)) for line in lines]
    start = {"type": "http.response.start", "status": message["status"], "headers": headers}
    return start, {"type": "http.response.body", "body": message["body"], "more_body": False}


def limited(world: World, **parts: Any) -> World:
    """The same world behind an edge that differs in *parts*."""
    return replace(world, registry=Registry(replace(world.registry.parts, **parts)))


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def sha512(content: bytes) -> str:
    return "sha512:" + hashlib.sha512(content).hexdigest()


def descriptor(content: bytes, media_type: str, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": sha256(content), "size": len(content), **more}


def image(config: bytes, *layers: bytes, subject: bytes = b"", **more: object) -> bytes:
    fields: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config, CONFIG_TYPE),
        "layers": [descriptor(layer, LAYER_TYPE) for layer in layers],
        **more,
    }
    if subject:
        fields["subject"] = descriptor(subject, OCI_MANIFEST)
    return json.dumps(fields).encode()


def index(*children: tuple[bytes, str], **more: object) -> bytes:
    manifests = [descriptor(content, media_type) for content, media_type in children]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests, **more}).encode()


def challenge_of(answer: Answer) -> dict[str, str]:
    """The parameters of the one Bearer challenge."""
    value = answer.header("www-authenticate")
    scheme, _, rest = value.partition(" ")
    assert scheme == "Bearer"
    parameters: dict[str, str] = {}
    while rest:
        name, _, rest = rest.partition('="')
        text, _, rest = rest.partition('"')
        parameters[name] = text
        rest = rest.removeprefix(",")
    return parameters


def in_query(text: str) -> str:
    return quote(text, safe="")
