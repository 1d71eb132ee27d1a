"""Probing for registries around the gateway: real sockets, peers that answer in every way, and no wrong alarm."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from gateway.probes import Place, Reached, own_addresses, places, places_of, port_of, registries
from tests.services.authority import Authority

MARK = "Docker-Distribution-Api-Version: registry/2.0\r\n"
OPEN, CLOSED = f"HTTP/1.1 200 OK\r\n{MARK}\r\n{{}}", f"HTTP/1.1 401 Unauthorized\r\n{MARK}\r\n{{}}"
FOREIGN = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>"

Peer = Callable[[str], Awaitable[str] | str]


def probed(
    peer: Peer, pair: ssl.SSLContext | None = None, *, host: str = "127.0.0.1", lingers: bool = False
) -> tuple[Sequence[Reached], int]:
    """What is found where *peer* answers each request (its head) with a text; and the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.readexactly(1)
            if first == b"\x16":  # a handshake, where none is known
                return
            said = peer((first + await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write((said if isinstance(said, str) else await said).encode())
            await asyncio.sleep(60 if lingers else 0)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def probing() -> tuple[Sequence[Reached], int]:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=pair)
        port = int(server.sockets[0].getsockname()[1])
        async with server:
            return await registries([Place(host, "127.0.0.1", port)]), port

    return asyncio.run(probing())


def only(path: str, said: str) -> Peer:
    return lambda head: said if head.startswith(f"GET {path} HTTP/1.1\r\n") else "HTTP/1.1 404 Not Found\r\n\r\n"


@pytest.mark.parametrize(("said", "free"), [(OPEN, True), (CLOSED, False)], ids=["free", "asking"])
def test_a_registry_is_found_and_whether_it_asks_for_a_password(said: str, free: bool) -> None:
    found, port = probed(only("/v2/", said))
    assert [(each.url, each.free) for each in found] == [(f"http://127.0.0.1:{port}", free)]


def test_a_registry_behind_any_certificate_is_found(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("elsewhere.example", days=-1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    found, port = probed(only("/v2/", OPEN), context, host="hub.example")
    assert [each.url for each in found] == [f"https://hub.example:{port}"]


def test_the_name_of_a_place_is_what_is_asked_for_and_nothing_secret_is_sent() -> None:
    heads: list[str] = []

    def peer(head: str) -> str:
        heads.append(head)
        return OPEN if head.startswith("GET /v2/") else FOREIGN

    found, port = probed(peer, host="hub.example")
    assert len(found) == 1
    assert all(f"\r\nHost: hub.example:{port}\r\n" in head for head in heads)
    assert not any("authorization" in head.lower() for head in heads)


@pytest.mark.parametrize("said", [OPEN, CLOSED], ids=["free", "asking"])
def test_a_gateway_is_no_way_around(said: str) -> None:
    alive = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"status":"alive"}'
    found, _ = probed(lambda head: said if head.startswith("GET /v2/") else alive)
    assert found == ()


@pytest.mark.parametrize(
    "said",
    [FOREIGN, f"HTTP/1.1 404 Not Found\r\n{MARK}\r\n", f"HTTP/1.1 301 Moved\r\n{MARK}\r\n", "220 mail\r\n", "", MARK],
)
def test_what_is_no_registry_is_not_taken_for_one(said: str) -> None:
    found, _ = probed(lambda head: said)
    assert found == ()


def test_a_registry_that_keeps_the_connection_open_is_found_all_the_same() -> None:
    found, _ = probed(only("/v2/", OPEN), lingers=True)
    assert len(found) == 1


def test_silence_and_refusal_take_no_longer_than_they_may() -> None:
    async def silence(head: str) -> str:
        await asyncio.sleep(60)
        return OPEN

    begun = time.monotonic()
    found, port = probed(silence)
    assert found == ()
    # Nobody listens there any more.
    assert asyncio.run(registries([Place("127.0.0.1", "127.0.0.1", port)] * 100)) == ()
    assert time.monotonic() - begun < 8


def test_the_kernel_lists_the_addresses_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "fib_trie").write_text(
        "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n"
        "        |-- 127.0.0.1\n              /32 host LOCAL\n        |-- 192.0.2.2\n           /32 host LOCAL\n"
        "        |-- 192.0.2.255\n           /32 link BROADCAST\n        |-- 192.0.2.2\n           /32 host LOCAL\n"
    )
    (tmp_path / "if_inet6").write_text(
        "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n20010db8000000000000000000000002 04 40 00 82     eth0\n"
    )
    assert own_addresses(tmp_path) == ("127.0.0.1", "192.0.2.2", "2001:db8::2")
    assert own_addresses(tmp_path / "nothing") == ()
    assert "127.0.0.1" in own_addresses()


def test_every_address_but_loopback_and_what_is_spared_is_a_place() -> None:
    spared = Place("127.0.0.3", "127.0.0.3", 5001)
    names = ("localhost", "127.0.0.1", "::1", "nowhere.invalid", "127.0.0.2", "127.0.0.3")
    found = asyncio.run(places(names, (5001, 5000, 5000), [spared]))
    named = [(place.host, place.port) for place in found if place.host in names]
    assert named == [("127.0.0.2", 5001), ("127.0.0.2", 5000), ("127.0.0.3", 5000)]
    own = set(own_addresses()) - {"127.0.0.1", "::1"}
    assert {place.address for place in found} == own | {"127.0.0.2", "127.0.0.3"}
    assert {place.port for place in found} == {5001, 5000}


@pytest.mark.parametrize(
    ("url", "port"),
    [("http://127.0.0.1:5001", 5001), ("http://127.0.0.1", 80), ("https://127.0.0.1/prefix", 443)],
)
def test_where_a_url_leads(url: str, port: int) -> None:
    assert port_of(url) == port
    assert asyncio.run(places_of(url)) == (Place("127.0.0.1", "127.0.0.1", port),)
