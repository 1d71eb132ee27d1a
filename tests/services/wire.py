"""HTTPS as bare as it gets: one connection, one request, and nothing that a client would do by itself."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

Body = bytes | Iterable[bytes] | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def location(self) -> str:
        """Where to go on."""
        return self.headers["location"]

    def must(self, *statuses: int) -> Answer:
        """This very answer; fails the test when it has none of the statuses."""
        assert self.status in statuses, f"{self.status} instead of {statuses}: {self.body[:500]!r}"
        return self


class Connection:
    """One TLS connection; `request` may be called again and again."""

    def __init__(self, wire: Wire) -> None:
        raw = socket.create_connection((wire.address, wire.port), timeout=60)
        try:
            self.socket = wire.trust().wrap_socket(raw, server_hostname=wire.name, do_handshake_on_connect=False)
            self.socket.do_handshake()
        except BaseException:
            self.socket.close()
            raise
        self._http = http.client.HTTPConnection(wire.name, wire.port, timeout=60)
        self._http.sock = self.socket
        # What opens a second connection unasked hides which process answers.
        self._http.auto_open = 0

    @property
    def ports(self) -> tuple[int, int]:
        """Our port, and the server's."""
        return self.socket.getsockname()[1], self.socket.getpeername()[1]

    def request(
        self,
        method: str,
        path: str,
        *,
        token: str = "",
        basic: tuple[str, str] | None = None,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and read the whole answer."""
        self.send(method, path, token=token, basic=basic, body=body, headers=headers)
        return self.receive()

    def send(
        self,
        method: str,
        path: str,
        *,
        token: str = "",
        basic: tuple[str, str] | None = None,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a request whole."""
        sent = dict(headers or {})
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if basic:
            sent["Authorization"] = "Basic " + base64.b64encode(":".join(basic).encode()).decode()
        self._http.request(method, path, body=body, headers=sent)

    def receive(self) -> Answer:
        """Read an answer whole."""
        with self._http.getresponse() as answer:
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def open(self) -> http.client.HTTPResponse:
        """The answer, its body still to be read."""
        return self._http.getresponse()

    def certificate(self) -> bytes:
        """The certificate that the server showed."""
        shown = self.socket.getpeercert(binary_form=True)
        assert shown is not None
        return shown

    def close(self) -> None:
        """Close it, with no more ado."""
        self._http.close()
        self.socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Wire:
    """A server, its name and whom to trust; each `ask` is a connection of its own."""

    name: str
    port: int
    ca: Path
    address: str = "127.0.0.1"
    _trust: list[ssl.SSLContext] = field(default_factory=list)

    def trust(self) -> ssl.SSLContext:
        """A TLS context that trusts the CA alone."""
        if not self._trust:
            self._trust.append(ssl.create_default_context(cafile=str(self.ca)))
        return self._trust[0]

    def connect(self) -> Connection:
        """A new connection."""
        return Connection(self)

    def ask(self, method: str, path: str, **more: Any) -> Answer:
        """One request on a connection of its own; `more` as of `Connection.request`."""
        with self.connect() as connection:
            return connection.request(method, path, **more)

    def token(self, basic: tuple[str, str] | None, *scopes: str) -> str:
        """A bearer token for the scopes."""
        query = urlencode([("scope", scope) for scope in scopes])
        told = self.ask("GET", f"/token?{query}", basic=basic).must(200).json
        assert isinstance(told, dict)
        return str(told["token"])

    def push_blob(self, repository: str, token: str, content: bytes, digest: str) -> None:
        """Upload a blob in one piece."""
        begun = self.ask("POST", f"/v2/{repository}/blobs/uploads/", token=token).must(202)
        self.ask("PUT", with_digest(begun.location, digest), token=token, body=content).must(201)

    def until(self, connection: Callable[[Connection], bool], most: int = 200) -> Connection:
        """The first new connection that is as wanted; the test fails when `most` are not."""
        for _ in range(most):
            opened = self.connect()
            if connection(opened):
                return opened
            opened.close()
        raise AssertionError(f"none of {most} connections was as wanted")


def with_digest(location: str, digest: str) -> str:
    """An upload's location with the digest that finishes it."""
    return f"{location}{'&' if '?' in location else '?'}digest={quote(digest)}"


def server_process(connection: Connection, among: Iterable[int]) -> int:
    """Which of the processes answers a connection; wants root's eyes, for workers hide from all others."""
    ours, theirs = connection.ports
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        local, remote = (int(columns[n].partition(":")[2], 16) for n in (1, 2))
        if (local, remote) == (theirs, ours):
            found = f"socket:[{columns[9]}]"
            for pid in among:
                if any(_points_to(entry, found) for entry in Path(f"/proc/{pid}/fd").iterdir()):
                    return pid
    raise AssertionError("no process holds the other end of the connection")


def _points_to(entry: Path, target: str) -> bool:
    try:
        return str(entry.readlink()) == target
    except FileNotFoundError:
        return False
