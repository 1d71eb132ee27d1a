"""Speaking with the registry behind: whole answers, streams both ways, and nothing it says is believed blindly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import aiohttp
from yarl import URL

from gateway.errors import UpstreamFailed, UpstreamSlow

PIECE_BYTES = 256 * 1024
LIMIT_BYTES = 4 * 1024 * 1024 + 64 * 1024
READS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Peer:
    """The registry behind us: `http://HOST:PORT` or `https://HOST[:PORT][/PREFIX]`, and our credential."""

    url: str
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for what."""

    connect_seconds: float = 5
    answer_seconds: float = 30
    idle_seconds: float = 30
    min_bytes_per_second: int = 1024
    window_seconds: float = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer read whole; the names of its headers are lower-case."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    method: str = "GET"


class Streamed:
    """An answer whose body is read as it comes; the names of its headers are lower-case."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.status = answer.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in answer.headers.items()}

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body in pieces of at most 256 KiB; raises `UpstreamFailed` or `UpstreamSlow`."""
        try:
            async for piece in self._answer.content.iter_any():
                for first in range(0, len(piece), PIECE_BYTES):
                    yield piece[first : first + PIECE_BYTES]
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamFailed("The registry behind broke off; try again.") from error


class Client:
    """Requests to one peer; makes its connections lazily, for the loop that runs."""

    def __init__(self, peer: Peer, patience: Patience = Patience()) -> None:
        self._peer = peer
        self._patience = patience
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        limit_bytes: int = LIMIT_BYTES,
        scope: str = "",
    ) -> Answer:
        """The answer, read whole; more than *limit_bytes* of it raise `UpstreamFailed`."""
        return await self._whole(method, path, headers, content, limit_bytes)

    @asynccontextmanager
    async def _open(self, path: str, headers: Mapping[str, str] | None) -> AsyncIterator[Streamed]:
        try:
            answer = await self._session().request("GET", self._url(path), headers=headers, allow_redirects=False)
        except TimeoutError as error:
            raise UpstreamSlow("The registry behind took too long; try again.") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamFailed("The registry behind does not answer; try again.") from error
        try:
            yield Streamed(answer)
        finally:
            answer.close()

    def open(
        self, path: str, *, headers: Mapping[str, str] | None = None, scope: str = ""
    ) -> AbstractAsyncContextManager[Streamed]:
        """A GET whose body is read as it comes; leaving early closes the connection."""
        return self._open(path, headers)

    async def send(
        self,
        method: str,
        path: str,
        body: AsyncIterator[bytes],
        *,
        headers: Mapping[str, str] | None = None,
        scope: str = "",
    ) -> Answer:
        """Streams *body* there, chunked; what *body* itself raises is raised as it is."""
        return await self._whole(method, path, headers, body, LIMIT_BYTES)

    def local(self, location: str, repository: str) -> str:
        """The path and query of a `Location` that is an upload of *repository* on our peer, else `UpstreamFailed`."""
        parts = urlsplit(location)
        prefix = urlsplit(self._peer.url).path.rstrip("/")
        path = parts.path.removeprefix(prefix)
        if not path.startswith(f"/v2/{repository}/blobs/uploads/"):
            raise UpstreamFailed("The registry behind names a place that is none of its uploads.")
        return path + (f"?{parts.query}" if parts.query else "")

    def refuse(self, answer: Answer | Streamed) -> UpstreamFailed:
        """What is raised for an answer that makes no sense here; nothing the peer wrote is in it."""
        return UpstreamFailed(f"The registry behind answered with {answer.status}; try again later.")

    @property
    def trouble(self) -> str:
        """Why the peer is left alone now, "" if it is not."""
        return ""

    async def close(self) -> None:
        """Lets go of the connections of the loop that runs."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()

    async def _whole(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        content: bytes | AsyncIterator[bytes] | None,
        limit: int,
    ) -> Answer:
        try:
            async with self._session().request(
                method, self._url(path), headers=headers, data=content, allow_redirects=False
            ) as answer:
                whole = await answer.content.read()
        except TimeoutError as error:
            raise UpstreamSlow("The registry behind took too long.", uncertain=method not in READS) from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamFailed("The registry behind broke off.", uncertain=method not in READS) from error
        if len(whole) > limit:
            raise UpstreamFailed("The registry behind sends more than it may.")
        return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, whole, method)

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=1024, use_dns_cache=False),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={"User-Agent": "registry-gateway", "Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(sock_connect=self._patience.connect_seconds),
                read_bufsize=PIECE_BYTES,
            )
            self._sessions[loop] = session
        return session

    def _url(self, path: str) -> URL:
        return URL(self._peer.url.rstrip("/") + path, encoded=True)
