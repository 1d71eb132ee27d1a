"""Many requests on one connection, at once and in every order: each gets its own answer, in its own name, in turn."""

from __future__ import annotations

import contextlib
import json
import re

import pytest

from tests.attacks.site import OCI_MANIFEST, Site, head
from tests.protocol.harness import sha256

GET = "/v2/alpha/app/manifests/v1"


def answers(site: Site, content: bytes) -> list[tuple[int, bytes]]:
    """Every answer to *content*, which is sent as it is; the last request closes."""
    got = b""
    with site.connect() as wire:
        wire.settimeout(20)
        with contextlib.suppress(ConnectionError, OSError):
            wire.sendall(content)
        with contextlib.suppress(ConnectionError, OSError):
            while piece := wire.recv(65536):
                got += piece
    found = []
    while got:
        start, _, rest = got.partition(b"\r\n\r\n")
        status = int(start.split(b" ")[1])
        length = re.search(rb"(?i)\r\ncontent-length: ([0-9]+)", start)
        size = int(length[1]) if length else 0
        found.append((status, rest[:size]))
        got = rest[size:]
    return found


def request(
    site: Site, target: str, token: str = "", *, method: str = "GET", body: bytes = b"", last: bool = False
) -> bytes:
    headers = [("Authorization", f"Bearer {token}")] if token else []
    if body:
        headers += [("Content-Length", str(len(body))), ("Content-Type", OCI_MANIFEST)]
    return head(method, target, headers, f"localhost:{site.port}", close=last) + body


def test_each_of_many_has_the_rights_of_its_own_token(site: Site) -> None:
    alice, mallory = site.widest("alice", "alpha/app"), site.widest("mallory", "alpha/app")
    order = [alice, mallory, "", "junk"] * 25
    content = b"".join(request(site, GET, token) for token in order) + request(site, "/v2/", last=True)
    got = answers(site, content)
    assert [status for status, _ in got] == [200, 401, 401, 401] * 25 + [401]
    assert all((body == site.manifest) == (status == 200) for status, body in got)


def test_answers_come_in_the_order_of_their_requests(site: Site) -> None:
    name = site.name()
    token = site.widest("alice", name)
    contents = [b"blob number %d" % number for number in range(20)]
    for content in contents:
        site.push_blob(token, name, content)
    asked = [request(site, f"/v2/{name}/blobs/{sha256(content)}", token) for content in contents]
    got = answers(site, b"".join(asked) + request(site, "/v2/", token, last=True))
    assert [body for _, body in got[:-1]] == contents


def test_a_flood_on_one_connection_is_taken_one_at_a_time_and_in_bounded_memory(site: Site) -> None:
    token = site.widest("alice", "alpha/app")
    one = request(site, GET, token)
    got = answers(site, one * 1500 + request(site, "/v2/", token, last=True))
    # All of them, or as many as were taken before the connection was closed on the sender: never a mixed-up answer.
    assert got
    assert {body for status, body in got[:-1] if status == 200} == {site.manifest}
    assert {status for status, _ in got} <= {200, 400, 429}


@pytest.mark.parametrize(
    "broken",
    [
        b"GET /v2/ HTTP/1.1\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /v2/ HTTP/3.0\r\nHost: localhost\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ],
    ids=["no host", "a stranger's host", "framed twice", "another version", "noise"],
)
def test_nothing_behind_a_broken_request_is_answered(site: Site, broken: bytes) -> None:
    token = site.widest("alice", "alpha/app")
    got = answers(site, request(site, GET, token) + broken + request(site, GET, token) * 3)
    assert [status for status, _ in got][:1] == [200]
    assert len(got) == 2
    assert 400 <= got[1][0] <= 505
    assert got[1][0] != 500


def test_a_body_that_is_refused_is_not_read_as_a_request(site: Site) -> None:
    mallory, alice = site.widest("mallory", "alpha/app"), site.widest("alice", "alpha/app")
    inner = request(site, GET, alice)
    outer = request(site, "/v2/alpha/app/manifests/v2", mallory, method="PUT", body=inner)
    got = answers(site, outer + request(site, "/v2/", alice, last=True))
    assert [status for status, _ in got] == [401, 200]
    assert json.loads(got[0][1])["errors"][0]["code"]
