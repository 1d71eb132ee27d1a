"""Where a peer may send us, and what goes along."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from yarl import URL

from gateway.engine.upstream import places
from gateway.engine.upstream.client import Client, Peer
from gateway.errors import Invalid, UpstreamFailed
from tests.faults.asking import BLOB, read, way, with_client
from tests.faults.peer import Behaviour, Line, Request, always, misbehaving

HOME = "http://127.0.0.1:5001"


def redirecting(location: str, status: int = 307) -> Behaviour:
    return always(status, {"Location": location})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_read_is_redirected_and_the_credential_does_not_go_along(status: int) -> None:
    with misbehaving(always(200, body=b"stored elsewhere")) as storage:
        peer_says = redirecting(f"{storage.url}/bucket/a%2Fb?signature=x%2By%3D", status)
        with misbehaving(peer_says) as peer:
            content = with_client(peer, read, username="gateway", password="secret")
        assert content == b"stored elsewhere"
        (request,) = storage.requests
    assert peer.requests[0].headers["authorization"].startswith("Basic ")
    assert "authorization" not in request.headers
    assert "cookie" not in request.headers
    assert request.target == "/bucket/a%2Fb?signature=x%2By%3D"


def test_a_range_goes_along_with_a_redirect() -> None:
    async def part(client: Client) -> bytes:
        async with client.open(BLOB, headers={"Range": "bytes=1-2"}) as streamed:
            return b"".join([piece async for piece in streamed.pieces()])

    with misbehaving(always(206, body=b"ar")) as storage, misbehaving(redirecting(f"{storage.url}/x")) as peer:
        assert with_client(peer, part) == b"ar"
        assert storage.requests[0].headers["range"] == "bytes=1-2"


def test_a_credential_stays_behind_once_the_peer_has_sent_us_away() -> None:
    def behaviour(request: Request, line: Line) -> None:
        if request.path == BLOB:
            line.answer(307, {"Location": f"{storage.url}/x"})
        else:
            line.answer(200, body=b"back")

    with misbehaving(behaviour) as peer, misbehaving(redirecting(f"{peer.url}/internal")) as storage:
        assert with_client(peer, read, username="gateway", password="secret") == b"back"
    assert ["authorization" in request.headers for request in peer.requests] == [True, False]


def test_a_redirect_on_the_peer_itself_keeps_the_credential() -> None:
    def behaviour(request: Request, line: Line) -> None:
        if request.path == BLOB:
            line.answer(307, {"Location": "/storage/x"})
        else:
            line.answer(200, body=b"here")

    with misbehaving(behaviour) as peer:
        assert with_client(peer, read, username="gateway", password="secret") == b"here"
    assert all("authorization" in request.headers for request in peer.requests)


@pytest.mark.parametrize("status", [401, 403])
def test_a_storage_that_refuses_says_nothing_of_our_credential(status: int) -> None:
    challenge = {"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:1/token"'}
    with misbehaving(always(status, challenge)) as storage, misbehaving(redirecting(f"{storage.url}/x")) as peer:
        answer = with_client(peer, lambda client: client.ask("GET", BLOB), username="gateway", password="secret")
        assert answer.status == status
        assert len(peer.requests) == 1


@pytest.mark.parametrize("name", ["ask", "open"])
def test_a_redirect_loop_ends(name: str) -> None:
    with misbehaving(redirecting(BLOB)) as peer:
        with pytest.raises(UpstreamFailed, match="in circles"):
            with_client(peer, way(name))
        assert len(peer.requests) == 6


@pytest.mark.parametrize("name", ["send", "write"])
def test_a_write_is_not_redirected(name: str) -> None:
    with misbehaving(always(200)) as other, misbehaving(redirecting(f"{other.url}/x")) as peer:
        with pytest.raises(UpstreamFailed, match="redirects a write") as refused:
            with_client(peer, way(name))
        assert not refused.value.uncertain
        assert other.heads == []


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/x",
        "http://[::ffff:169.254.169.254]/x",
        "http://2852039166/x",
        "http://0xa9fea9fe/x",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "http://",
        "http://user:secret@127.0.0.1/x",
        "http://127.0.0.1:99999/x",
        "//[broken/x",
        "\\\\host\\x",
        "/a b",
        "",
    ],
)
def test_a_redirect_to_where_nobody_should_go_is_not_followed(location: str) -> None:
    with misbehaving(redirecting(location)) as peer, pytest.raises(UpstreamFailed):
        with_client(peer, read)


def test_a_name_that_leads_to_a_link_local_address_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def lying(host: Any, *more: Any, **others: Any) -> Any:
        return real("169.254.169.254" if host == "metadata.example" else host, *more, **others)

    monkeypatch.setattr(socket, "getaddrinfo", lying)
    with misbehaving(redirecting("http://metadata.example/x")) as peer, pytest.raises(UpstreamFailed):
        with_client(peer, read)


def test_a_redirect_never_leaves_tls() -> None:
    with pytest.raises(UpstreamFailed, match="https to http"):
        places.redirected(URL("https://registry.example/v2/x"), "http://registry.example/v2/x")
    assert str(places.redirected(URL("http://a.example/x"), "https://b.example/y?z=1#f")) == "https://b.example/y?z=1"


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/v2/gallery/ui/blobs/uploads/1-2?_state=a%3D", "/v2/gallery/ui/blobs/uploads/1-2?_state=a%3D"),
        (f"{HOME}/v2/gallery/ui/blobs/uploads/x", "/v2/gallery/ui/blobs/uploads/x"),
        ("x?y=1", "/v2/gallery/ui/blobs/uploads/x?y=1"),
    ],
)
def test_the_location_of_an_upload_is_its_path_on_the_peer(location: str, path: str) -> None:
    assert Client(Peer(HOME)).local(location, "gallery/ui") == path


def test_a_location_below_a_prefix_is_given_without_it() -> None:
    client = Client(Peer("https://registry.example/mirror/"))
    expected = "/v2/gallery/ui/blobs/uploads/x"
    assert client.local(f"https://registry.example:443/mirror{expected}", "gallery/ui") == expected
    with pytest.raises(UpstreamFailed):
        client.local(f"https://registry.example{expected}", "gallery/ui")


@pytest.mark.parametrize(
    "location",
    [
        "",
        "/",
        "/v2/gallery/ui/blobs/uploads/",
        "/v2/gallery/other/blobs/uploads/x",
        "/v2/gallery/ui/blobs/uploads/../../../other/blobs/uploads/x",
        "/v2/gallery/ui/blobs/uploads/..",
        "/v2/gallery/ui/blobs/uploads/%2e%2e",
        "/v2/gallery/ui/blobs/uploads/x/y",
        "/v2/gallery/ui/blobs/uploads/x#fragment",
        "/v2/gallery/ui/blobs/uploads/x y",
        "/v2/gallery/ui/blobs/uploads/x\r\nHost: evil",
        "//evil.example/v2/gallery/ui/blobs/uploads/x",
        "http://evil.example/v2/gallery/ui/blobs/uploads/x",
        "http://127.0.0.1:5002/v2/gallery/ui/blobs/uploads/x",
        "http://127.0.0.1/v2/gallery/ui/blobs/uploads/x",
        "https://127.0.0.1:5001/v2/gallery/ui/blobs/uploads/x",
        "http://127.0.0.1:5001@evil.example/v2/gallery/ui/blobs/uploads/x",
        "http://user@127.0.0.1:5001/v2/gallery/ui/blobs/uploads/x",
        "http://[broken/v2/gallery/ui/blobs/uploads/x",
        "file:///v2/gallery/ui/blobs/uploads/x",
        "/v2/gallery/ui/blobs/uploads/" + "x" * 9000,
    ],
)
def test_a_location_that_is_no_upload_of_the_repository_on_the_peer_is_refused(location: str) -> None:
    with pytest.raises(UpstreamFailed):
        Client(Peer(HOME)).local(location, "gallery/ui")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "registry.example",
        "127.0.0.1:5001",
        "ftp://registry.example",
        "http://",
        "http://user:secret@registry.example",
        "http://registry.example?x=1",
        "http://registry.example/?",
        "http://registry.example#x",
        "http://registry.example:99999",
        "http://registry example",
    ],
)
def test_a_peer_has_a_bare_address(url: str) -> None:
    with pytest.raises(Invalid):
        Peer(url)


def test_a_peer_does_not_show_its_password() -> None:
    assert "secret" not in repr(Peer(HOME, "gateway", "secret"))
