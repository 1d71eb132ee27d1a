"""A real TCP peer that does what a test tells it to, and mostly what no registry should."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.services.authority import Pair

_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Request:
    """What came: the names of the headers are lower-case; *target* is the path with its query."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The path alone."""
        return self.target.partition("?")[0]


class Hangup(Exception):
    """Raised by a behaviour to close the connection."""


class Line:
    """One connection, as a behaviour sees it."""

    def __init__(self, raw: socket.socket, stopped: threading.Event) -> None:
        self.socket = raw
        self._stopped = stopped
        self._rest = b""

    def say(self, said: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(said)

    def answer(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        """A proper answer."""
        length = {} if status in (204, 304) else {"Content-Length": str(len(body))}
        self.say(head(status, {**length, **(headers or {})}) + body)

    def drip(self, said: bytes, seconds: float) -> None:
        """Send a byte, wait, send the next, until all is sent or the test ends."""
        for each in said:
            self.say(bytes([each]))
            if self._stopped.wait(seconds):
                raise Hangup

    def wait(self, seconds: float = 60) -> None:
        """Do nothing for so long, or until the other side or the test ends."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._stopped.is_set():
                raise Hangup
            if select.select([self.socket], [], [], 0.02)[0]:
                came = self.socket.recv(65536)
                if not came:
                    raise Hangup
                self._rest += came

    def sleep(self, seconds: float) -> None:
        """Do nothing, not even look at what comes, for so long or until the test ends."""
        self._stopped.wait(seconds)
        raise Hangup

    def reset(self) -> None:
        """Break the connection off, with no farewell."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        raise Hangup

    def read_head(self) -> tuple[str, str, dict[str, str]] | None:
        """The next request's method, target and headers; None when there is none."""
        while b"\r\n\r\n" not in self._rest:
            came = self.socket.recv(65536)
            if not came:
                return None
            self._rest += came
            if self._rest.startswith(b"\x16"):
                # As servers do when TLS is spoken to them where they expect none.
                self.say(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                return None
        text, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *others = text.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = (line.partition(":") for line in others)
        return method, target, {name.lower(): value.strip() for name, _, value in pairs}

    def read_body(self, headers: Mapping[str, str]) -> bytes:
        """The body that the headers announce."""
        if headers.get("transfer-encoding") != "chunked":
            return self._exactly(int(headers.get("content-length", "0")))
        body = b""
        while size := int(self._line(), 16):
            body += self._exactly(size)
            self._line()
        self._line()
        return body

    def _line(self) -> bytes:
        while b"\r\n" not in self._rest:
            self._more()
        line, _, self._rest = self._rest.partition(b"\r\n")
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._more()
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def _more(self) -> None:
        came = self.socket.recv(65536)
        if not came:
            raise Hangup
        self._rest += came


Behaviour = Callable[[Request, Line], None]


class Misbehaving:
    """
    A peer on 127.0.0.1; over TLS with a *pair* of certificate and key.

    *behaviour* answers each request; *before* sees only its head, and may do the worst. `requests` holds what came,
    whole, `heads` what came at all; `connections` counts those that are open now, `connected` all there were. It can
    be stopped and started again, on the same port.
    """

    def __init__(self, behaviour: Behaviour, pair: Pair | None = None) -> None:
        self.behaviour = behaviour
        self.pair = pair
        self.before: Callable[[str, str, Line], None] | None = None
        self.port = 0
        self.requests: list[Request] = []
        self.heads: list[tuple[str, str, Mapping[str, str]]] = []
        self.connections = 0
        self.connected = 0
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'https' if self.pair else 'http'}://127.0.0.1:{self.port}"

    def settled(self, most: int = 0, seconds: float = 5) -> bool:
        """Whether no more than so many connections are open, at the latest after so long."""
        until = time.monotonic() + seconds
        while self.connections > most and time.monotonic() < until:
            time.sleep(0.01)
        return self.connections <= most

    def start(self) -> None:
        """Take connections."""
        trust = None
        if self.pair is not None:
            trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            trust.load_cert_chain(self.pair.certificate, self.pair.key)
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._run(self._accept, self._listener, trust, self._stopped)

    def stop(self) -> None:
        """Take no more, and end those there are."""
        self._stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for raw in self._sockets:
                with suppress(OSError):
                    raw.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=35)
        self._threads.clear()

    def _run(self, act: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=act, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, trust: ssl.SSLContext | None, stopped: threading.Event) -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            raw.settimeout(60)
            with self._lock:
                self.connections += 1
                self.connected += 1
            self._run(self._attend, raw, trust, stopped)

    def _attend(self, raw: socket.socket, trust: ssl.SSLContext | None, stopped: threading.Event) -> None:
        try:
            # Other errors are the test's own, and fail it: unseen, they would look like a peer that broke off.
            with suppress(ConnectionError, TimeoutError, ssl.SSLError, Hangup):
                if trust is not None:
                    raw = trust.wrap_socket(raw, server_side=True)
                with self._lock:
                    self._sockets.add(raw)
                self._converse(Line(raw, stopped))
        finally:
            with self._lock:
                self._sockets.discard(raw)
                self.connections -= 1
            raw.close()

    def _converse(self, line: Line) -> None:
        while (came := line.read_head()) is not None:
            method, target, headers = came
            self.heads.append(came)
            if self.before is not None:
                self.before(method, target, line)
            request = Request(method, target, headers, line.read_body(headers))
            self.requests.append(request)
            self.behaviour(request, line)


def sockets_to(port: int) -> int:
    """How many connections to a local port are not yet gone on this side."""
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    waiting = "06"
    return sum(int(each[2].partition(":")[2], 16) == port and each[3] != waiting for each in lines)


def head(status: int, headers: Mapping[str, str] | None = None) -> bytes:
    """The head of an answer, as written."""
    lines = [f"HTTP/1.1 {status} Any", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def always(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Behaviour:
    """Gives every request the same answer."""

    def answer(request: Request, line: Line) -> None:
        line.answer(
            status, {"Content-Length": str(len(body)), **(headers or {})}, b"" if request.method == "HEAD" else body
        )

    return answer


@contextmanager
def misbehaving(behaviour: Behaviour, *, pair: Pair | None = None) -> Iterator[Misbehaving]:
    """Such a peer for as long as the block lasts."""
    peer = Misbehaving(behaviour, pair)
    peer.start()
    try:
        yield peer
    finally:
        peer.stop()
