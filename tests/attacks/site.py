"""A real gateway to attack: its process, an honest and a hostile way to speak to it, and what it kept of that."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import jwt

from gateway.access.keys import KeyRing
from gateway.app import Rooms, opened
from gateway.audit.trail import Search
from gateway.initialisation import initialise
from gateway.oci.media import OCI_MANIFEST
from gateway.settings import Settings
from tests.house import OPERATOR
from tests.protocol.harness import CONFIG_TYPE, GRANTS, LAYER_TYPE, Answer, basic, image, sha256
from tests.services.daemon import free_port

R = TypeVar("R")

__all__ = ["CONFIG_TYPE", "LAYER_TYPE", "OCI_MANIFEST", "Site", "standing"]

SERVICE = "registry-gateway"
PROGRAM = Path(sys.executable).with_name("gateway")
UPLOADS = 25
PROXY = "127.0.0.250"
USERS = ("alice", "bob", "dave", "carol", "mallory", "auditor", "root")
SECRET_LAYER = b"bytes that only members of alpha may read"


@dataclass(slots=True)
class Site:
    """A running gateway."""

    data: Path
    settings: Settings
    rooms: Rooms
    process: subprocess.Popen[bytes]
    log: Path
    password: str
    """The first administrator's, told when the gateway was made."""
    trust: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    tokens: dict[tuple[str, ...], tuple[float, str]] = field(default_factory=dict)
    manifest: bytes = b""
    addresses: int = 10
    numbers: int = 0

    @property
    def port(self) -> int:
        return self.settings.server.port

    def run(self, act: Coroutine[Any, Any, R]) -> R:
        """An act of administration, by another process than those that serve."""
        return asyncio.run(act)

    def address(self) -> str:
        """An address of this machine that nobody has used yet."""
        self.addresses += 1
        return f"127.0.{self.addresses // 250}.{self.addresses % 250 + 1}"

    def name(self, project: str = "alpha") -> str:
        self.numbers += 1
        return f"{project}/r{self.numbers}"

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def restart(self, signal_number: int = signal.SIGTERM) -> None:
        """Ends the gateway, kindly or not, and starts it again on the same data."""
        self.process.send_signal(signal_number)
        self.process.wait(60)
        self.process = _started(self.data, self.log)

    # speaking

    def connect(self, address: str = "127.0.0.1") -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=30, source_address=(address, 0))
        return self.trust.wrap_socket(raw, server_hostname="localhost")

    def send(self, content: bytes, *, address: str = "127.0.0.1") -> Answer:
        """Raw bytes to a connection of their own; the one answer to them."""
        with self.connect(address) as wire:
            wire.sendall(content)
            return read_answer(wire)

    def ask(
        self,
        method: str,
        target: str,
        *,
        token: str = "",
        body: bytes | None = None,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        address: str = "127.0.0.1",
        host: str = "localhost",
    ) -> Answer:
        sent = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        if token:
            sent.append(("Authorization", f"Bearer {token}"))
        if body is not None and "content-length" not in {name.lower() for name, _ in sent}:
            sent.append(("Content-Length", str(len(body))))
        return self.send(head(method, target, sent, f"{host}:{self.port}") + (body or b""), address=address)

    def sign_in(self, name: str, password: str = "", *scopes: str, address: str = "127.0.0.1", **query: str) -> Answer:
        asked = urlencode([("service", SERVICE), *(("scope", scope) for scope in scopes), *query.items()])
        headers = {"Authorization": basic(name, password or password_of(name))} if name else {}
        return self.ask("GET", f"/token?{asked}", headers=headers, address=address)

    def token(self, name: str, *scopes: str) -> str:
        until, kept = self.tokens.get((name, *scopes), (0.0, ""))
        if until < time.monotonic():
            answer = self.sign_in(name, "", *scopes)
            assert answer.status == 200, answer.body
            kept = str(answer.json()["token"])
            self.tokens[name, *scopes] = time.monotonic() + 120, kept
        return kept

    def widest(self, name: str, *repositories: str) -> str:
        return self.token(name, *(f"repository:{repository}:*" for repository in repositories))

    # content

    def push_blob(self, token: str, repository: str, content: bytes) -> str:
        digest = sha256(content)
        answer = self.ask("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", token=token, body=content)
        assert answer.status == 201, answer.body
        return digest

    def push_image(self, token: str, repository: str, tag: str, layer: bytes = b"a layer") -> bytes:
        self.push_blob(token, repository, b"{}")
        self.push_blob(token, repository, layer)
        content = image(b"{}", layer)
        assert self.put(token, repository, tag, content).status == 201
        return content

    def put(self, token: str, repository: str, reference: str, content: bytes, kind: str = OCI_MANIFEST) -> Answer:
        target = f"/v2/{repository}/manifests/{reference}"
        return self.ask("PUT", target, token=token, body=content, headers={"Content-Type": kind})

    def begin(self, token: str, repository: str) -> str:
        answer = self.ask("POST", f"/v2/{repository}/blobs/uploads/", token=token)
        assert answer.status == 202, answer.body
        return answer.header("location")

    # what it kept

    def events(self, **search: Any) -> list[dict[str, Any]]:
        return [event.record() for event in self.rooms.trail.export(Search(**search))]

    def event_of(self, answer: Answer) -> dict[str, Any]:
        """The one event of the request that *answer* answers."""
        return self.events_of(answer)[-1]

    def events_of(self, answer: Answer) -> list[dict[str, Any]]:
        number = answer.header("x-request-id")
        latest = [event.record() for event in self.rooms.trail.page(Search(), limit=60)]
        return [each for each in reversed(latest) if each["request_id"] == number]

    # forging

    def claims(self, name: str, *repositories: str) -> dict[str, Any]:
        """What a real token for *name* says."""
        return dict(jwt.decode(self.widest(name, *repositories), options={"verify_signature": False}))

    def ring(self) -> KeyRing:
        return KeyRing(self.rooms.stored_keys, self.rooms.directory.version)

    def sign(self, claims: Mapping[str, Any] | bytes, header: Mapping[str, Any] | None = None) -> str:
        """*claims*, whatever they say, signed with the gateway's own key."""
        key = self.ring().current()
        assert key.private is not None
        payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        told = {"alg": "ES256", "kid": key.kid, "typ": "JWT"} if header is None else header
        signing = f"{segment(json.dumps(told).encode())}.{segment(payload)}"
        signature = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).sign(signing.encode(), key.private)
        return f"{signing}.{segment(signature)}"


def password_of(name: str) -> str:
    return f"password of {name}"


def segment(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def head(method: str, target: str, headers: Sequence[tuple[str, str]], host: str, *, close: bool = True) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, *(["Connection: close"] if close else []), "", ""]).encode("latin-1")


def read_answer(wire: ssl.SSLSocket) -> Answer:
    """What comes back until the server closes; status 0 when nothing does."""
    content = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := wire.recv(65536):
            content += piece
    start, _, body = content.partition(b"\r\n\r\n")
    if not start:
        return Answer(0, (), b"", False)
    first, *lines = start.decode("latin-1").split("\r\n")
    told = tuple((name.lower(), value) for name, _, value in (line.partition(": ") for line in lines))
    return Answer(int(first.split(" ")[1]), told, body, True)


@contextmanager
def standing(data: Path, workers: int = 2, people: Sequence[str] = USERS) -> Iterator[Site]:
    """
    A gateway on *data*, furnished with *people* and what they are granted, until the end of the block.

    It must survive the block, and be killed by nobody else.
    """
    port = free_port()
    data.mkdir(mode=0o700, parents=True)
    (data / "gateway.toml").write_text(
        f'[server]\nport = {port}\nworkers = {workers}\ntrusted_proxies = ["{PROXY}/32"]\n\n'
        f"[limits]\nuploads_per_principal = {UPLOADS}\n\n"
        '[logging]\nlevel = "debug"\nformat = "json"\n'
    )
    settings = Settings.for_data(data, {})
    made_with = initialise(settings).password
    assert made_with is not None
    log = data.parent / "log"
    with opened(settings) as rooms:
        asyncio.run(_furnish(rooms, people))
        made = Site(data, settings, rooms, _started(data, log), log, made_with)
        try:
            made.trust.load_verify_locations(data / "tls" / "ca.crt")
            made.manifest = made.push_image(made.widest("alice", "alpha/app"), "alpha/app", "v1", SECRET_LAYER)
            yield made
            assert made.process.poll() is None, log.read_text()[-3000:]
        finally:
            made.stop()


def _started(data: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        begun = output.tell()
        command = [str(PROGRAM), "--data", str(data), "up"]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    for _ in range(600):
        if b"Ready: " in log.read_bytes()[begun:]:
            return process
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


async def _furnish(rooms: Rooms, people: Sequence[str]) -> None:
    acts = rooms.administration
    # Their passwords are hashed beside each other: that is what furnishing takes.
    await asyncio.gather(
        *(
            acts.accounts.add_user(
                OPERATOR, name, password=password_of(name), administrator=name == "root", auditor=name == "auditor"
            )
            for name in people
        )
    )
    for name, public in (("alpha", False), ("beta", False), ("pub", True), ("alpha2", False), ("alpha-x", False)):
        await acts.projects.add_project(OPERATOR, name, public=public)
    for name, role, reach in (*GRANTS, ("root", "owner", "alpha2")):
        if name in people:
            await acts.grants.add_grant(OPERATOR, name, role, reach)


def now() -> int:
    return int(datetime.now(UTC).timestamp())
