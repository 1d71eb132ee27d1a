"""Whether a registry answers around the gateway: on this machine's addresses, and on those that its names lead to."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

#: A whole probe takes no longer; they run beside each other.
PROBE_SECONDS = 10.0
#: Nothing but this machine itself gets there.
LOOPBACK = frozenset({"127.0.0.1", "::1"})

_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 2.0
_RESOLVE_SECONDS = 5.0
_AT_ONCE = 32
_ANSWER_BYTES = 32 * 1024
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a registry may be listening: *host* is what a client would call it, *address* where that leads."""

    host: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Reached:
    """A registry that answered at *place*; *free* says that it asked for no password."""

    place: Place
    scheme: str
    free: bool

    @property
    def url(self) -> str:
        return f"{self.scheme}://{_spelled(self.place)}"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    head: str
    body: bytes


async def places_of(url: str) -> tuple[Place, ...]:
    """Where the registry at *url*, which is http or https, listens, seen from here."""
    host = urlsplit(url).hostname or ""
    return tuple(Place(host, address, port_of(url)) for address in await addresses_of(host))


def port_of(url: str) -> int:
    """The port of an http or https *url*."""
    parts = urlsplit(url)
    return parts.port or _PORTS[parts.scheme]


async def addresses_of(host: str) -> tuple[str, ...]:
    """The addresses that *host* leads to, seen from here; none if it is not known here."""
    with contextlib.suppress(OSError):
        looking = asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        found = await asyncio.wait_for(looking, _RESOLVE_SECONDS)
        return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    return ()


def own_addresses(proc: Path = Path("/proc/net")) -> tuple[str, ...]:
    """The addresses of this machine's interfaces, link-local ones apart; *proc* is where the kernel lists them."""
    found = re.findall(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL", _read(proc / "fib_trie"))
    sixes = re.findall(r"(?m)^[0-9a-f]{32}", _read(proc / "if_inet6"))
    found += [str(ipaddress.IPv6Address(bytes.fromhex(six))) for six in sixes]
    return tuple(address for address in dict.fromkeys(found) if not ipaddress.ip_address(address).is_link_local)


async def places(names: Iterable[str], ports: Iterable[int], spared: Iterable[Place]) -> tuple[Place, ...]:
    """
    Where a registry could be reached from elsewhere: each of *ports* on the addresses of this machine and of *names*.

    Loopback addresses that only this machine reaches are not among them, nor what is *spared*.
    """
    known = tuple(names)
    led = zip(known, await asyncio.gather(*map(addresses_of, known)), strict=True)
    hosts = [(host, address) for host, addresses in led for address in addresses]
    hosts += [(address, address) for address in own_addresses()]
    passed_over = {(place.address, place.port) for place in spared}
    # One probe for each address: the name it was first found by is the one clients use.
    found: dict[tuple[str, int], Place] = {}
    for host, address in hosts:
        for port in dict.fromkeys(ports):
            if address not in LOOPBACK and (address, port) not in passed_over:
                found.setdefault((address, port), Place(host, address, port))
    return tuple(found.values())


async def registries(asked: Sequence[Place]) -> tuple[Reached, ...]:
    """The registries that answer at the places *asked*, in that order; gateways are none. No credential is sent."""
    few = asyncio.Semaphore(_AT_ONCE)

    async def ask(place: Place) -> Reached | None:
        async with few:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(_reach(place), PROBE_SECONDS)
        return None

    return tuple(found for found in await asyncio.gather(*map(ask, asked)) if found is not None)


async def _reach(place: Place) -> Reached | None:
    for scheme in ("http", "https"):
        answer = await _get(place, scheme, "/v2/")
        if answer is None:
            return None
        if answer.status in (200, 401) and "\r\ndocker-distribution-api-version:" in answer.head:
            alive = await _get(place, scheme, "/health/live")
            if alive is not None and alive.status == 200 and b'"alive"' in alive.body:
                return None  # a gateway: whoever asks there passes the gate
            return Reached(place, scheme, free=answer.status == 200)
    return None


async def _get(place: Place, scheme: str, path: str) -> _Answer | None:
    """What is answered there, with status 0 if it is no HTTP; None if nobody listens."""
    spelled = _spelled(place)
    head = f"GET {path} HTTP/1.1\r\nHost: {spelled}\r\nUser-Agent: gateway-doctor\r\nConnection: close\r\n\r\n"
    context = _any_certificate() if scheme == "https" else None
    name = place.host if context is not None else None
    try:
        opening = asyncio.open_connection(place.address, place.port, ssl=context, server_hostname=name)
        reader, writer = await asyncio.wait_for(opening, _CONNECT_SECONDS)
    except OSError:
        return None
    content = bytearray()
    try:
        writer.write(head.encode("ascii"))
        # One that keeps the connection open, or waits for more, has said what it had to say.
        with contextlib.suppress(OSError):
            await asyncio.wait_for(_read_into(content, reader), _ANSWER_SECONDS)
    finally:
        writer.transport.abort()
    return _answer(bytes(content))


async def _read_into(content: bytearray, reader: asyncio.StreamReader) -> None:
    while len(content) < _ANSWER_BYTES:
        piece = await reader.read(_ANSWER_BYTES)
        if not piece:
            return
        content += piece


def _answer(content: bytes) -> _Answer:
    head, _, body = content.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.[01] ([0-9]{3})\b", head)
    return _Answer(int(status[1]) if status else 0, head.decode("latin-1").lower(), body)


def _any_certificate() -> ssl.SSLContext:
    # Nothing secret is sent; whoever answers, and under whatever name, is a way around.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _spelled(place: Place) -> str:
    return f"[{place.host}]:{place.port}" if ":" in place.host else f"{place.host}:{place.port}"


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except OSError:
        return ""
