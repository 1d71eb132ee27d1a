"""The connections to the registry behind: kept open, trusted as configured, their failures told in words of our own."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from gateway.engine.upstream import places
from gateway.engine.upstream.slots import Shares, Slots
from gateway.errors import Lack, UpstreamDistrust, UpstreamFailed, UpstreamSlow, UpstreamUnavailable

READS = frozenset({"GET", "HEAD"})
REDIRECTIONS = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS = 5
#: Measured: what a stream holds is at most twice this and one piece more.
BUFFER_BYTES = 32 * 1024
KEEP_ALIVE_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Patience:
    """
    How long is waited, in seconds: for a connection, for the head of an answer (and as long again for an answer that
    is read whole), for the next piece of a body either way; and how slow the peer may send over a window.
    """

    connect_seconds: float = 5
    answer_seconds: float = 30
    idle_seconds: float = 30
    min_bytes_per_second: int = 1024
    window_seconds: float = 30


class Broken(Exception):
    """A connection that ended before its answer: raised in place of aiohttp's own, which would have it try again."""


#: Everything by which a connection may fail.
FAILURES = (aiohttp.ClientError, HttpProcessingError, Broken, OSError)


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise Broken from error


@dataclass(slots=True)
class Lines:
    """
    What one event loop has open towards the peer, and wherever it redirects to.

    Each request is made within one of the *slots*, which has at most one connection at a time.
    """

    peer: URL
    ca_file: Path | None
    patience: Patience
    shares: Shares
    session: aiohttp.ClientSession = field(init=False)
    slots: Slots = field(init=False)
    _own: ssl.SSLContext | None = None
    _other: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self.slots = Slots(self.shares)
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                # The slots are the limit: waiting in the pool would count as a peer that cannot be connected to.
                limit=0,
                use_dns_cache=False,
                resolver=places.Cautious(self.peer.raw_host or ""),
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                socket_factory=self._socket,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"User-Agent": "registry-gateway", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(connect=self.patience.connect_seconds),
            read_bufsize=BUFFER_BYTES,
        )

    async def request(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None = None,
        *,
        own: bool = True,
    ) -> aiohttp.ClientResponse:
        """One request, once: only a GET or HEAD is sent again when its connection ends before any answer."""
        return await self.session.request(
            method,
            url,
            headers=headers,
            data=body,
            allow_redirects=False,
            ssl=self._trust(own) if url.scheme == "https" else True,
            middlewares=() if method in READS else (_once,),
        )

    async def follow(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        authorization: str,
        body: bytes | AsyncIterator[bytes] | None,
    ) -> aiohttp.ClientResponse:
        """
        The answer to a request to the peer, at the end of at most five redirects, which only reads follow.

        *authorization* goes to the peer alone, and not any more once it has sent us elsewhere.
        """
        url, own = URL(f"{self.peer}{path}", encoded=True), True
        for _ in range(MOST_REDIRECTS + 1):
            sent = {**headers, "Authorization": authorization} if own and authorization else headers
            answer = await self.request(method, url, sent, body, own=own)
            if answer.status not in REDIRECTIONS:
                return answer
            answer.close()
            if method not in READS:
                raise UpstreamFailed(
                    "The registry behind redirects a write; let the gateway's url lead to it directly."
                )
            url = places.redirected(url, answer.headers.get("Location", ""))
            own = own and places.same_origin(url, self.peer)
        raise UpstreamFailed("The registry behind redirects in circles; look at its storage's settings.")

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, *_ = address
        made = socket.socket(family, kind, protocol)
        # A connection that is closed still waits for the peer to take what was sent: not longer than we would.
        patience = int(1000 * (self.patience.idle_seconds + self.patience.connect_seconds))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
        return made

    def _trust(self, own: bool) -> ssl.SSLContext:
        """The peer's certificate comes from the configured CA alone; others' from those that the system trusts."""
        if own and self.ca_file is not None:
            if self._own is None:
                self._own = _context(self.ca_file)
            return self._own
        if self._other is None:
            self._other = _context(None)
        return self._other


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        message = "The CA file for the registry behind cannot be read; check ca_file."
        raise UpstreamDistrust(message, Lack.AUTHORITY) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def told(error: BaseException, method: str) -> UpstreamUnavailable:
    """
    What a failed connection is to whoever asked, in a sentence of our own.

    It is uncertain unless the request was a read, or was certainly not sent.
    """
    match error:
        case aiohttp.ConnectionTimeoutError():
            return UpstreamSlow("The registry behind cannot be connected to in time; try again.")
        case aiohttp.ClientConnectorCertificateError():
            message = "The registry behind shows a certificate that is not trusted; renew it, or set ca_file to its CA."
            return UpstreamDistrust(message, Lack.TRUST)
        case aiohttp.ClientSSLError():
            message = "The registry behind speaks no TLS that can be trusted; check its url and ca_file."
            return UpstreamDistrust(message, Lack.TLS)
        case aiohttp.ClientConnectorDNSError():
            return UpstreamFailed("The name of the registry behind is not known; check its url.")
        case aiohttp.ClientConnectorError():
            return UpstreamFailed("The registry behind takes no connection; check that it runs.")
        case TimeoutError():
            return UpstreamSlow("The registry behind takes too long; try again.", uncertain=method not in READS)
        case _:
            return UpstreamFailed("The registry behind broke off; try again.", uncertain=method not in READS)
