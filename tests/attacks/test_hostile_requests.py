"""Paths, names, bodies and heads made to be misread: each is refused, none is a fault, none shows a file."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from gateway.oci.media import DOCKER_MANIFEST, OCI_INDEX
from tests.attacks.site import CONFIG_TYPE, LAYER_TYPE, OCI_MANIFEST, Site, head, read_answer
from tests.protocol.harness import Answer, descriptor, image, sha256

DIGEST = sha256(b"x")


def plain(answer: Answer, *statuses: int, kind: str = "application/json") -> None:
    """A refusal as documented: JSON, numbered, without anything of ours or of the sender's markup in it."""
    assert answer.status in statuses, (answer.status, answer.body)
    assert answer.header("content-type") == kind
    assert answer.header("x-request-id")
    assert "server" not in answer.told
    text = answer.body.decode()
    for leak in ("Traceback", "/gateway/", "site-packages", "sqlite", "SELECT", "gateway.db", "root:x:0", "<script"):
        assert leak not in text, text


TRAVERSALS = (
    "/v2/../../../etc/passwd",
    "/v2/..%2f..%2f..%2fetc%2fpasswd",
    "/v2/%2e%2e/%2e%2e/etc/passwd",
    "/v2/%252e%252e%252fetc%252fpasswd",
    "/v2/..\\..\\etc\\passwd",
    "/v2/..%5c..%5cetc%5cpasswd",
    "/v2/alpha/../beta/manifests/v1",
    "/v2/alpha/./app/manifests/v1",
    "/v2/alpha//app/manifests/v1",
    "/v2//alpha/app/manifests/v1",
    "//v2/alpha/app/manifests/v1",
    "/V2/alpha/app/manifests/v1",
    "/v2/alpha/app/manifests/v1/",
    "/v2/alpha/app/manifests/../v1",
    "/v2/alpha/app/manifests/..%2f..%2fkeys%2fsecret",
    "/v2/alpha/app/manifests/v1%00",
    "/v2/alpha/app%00/manifests/v1",
    "/v2/alpha%2fapp/manifests/v1",
    "/v2/%61lpha/app/manifests/v1",
    "/v2/alpha/app;x=1/manifests/v1",
    "/v2/alpha/app/manifests/v1;x",
    "/v2/alpha/app/blobs/../../../../etc/passwd",
    "/v2/alpha/app/blobs/sha256:../../../etc/passwd",
    f"/v2/alpha/app/blobs/{DIGEST.upper()}",
    f"/v2/alpha/app/blobs/{DIGEST[:-1]}",
    f"/v2/alpha/app/blobs/{DIGEST}0",
    f"/v2/alpha/app/blobs/{DIGEST}%0a",
    f"/v2/alpha/app/blobs/sha1:{'0' * 40}",
    f"/v2/alpha/app/blobs/sha512:{'0' * 64}",
    "/v2/alpha/app/blobs/sha256:",
    "/v2/alpha/app/blobs/",
    "/v2/alpha/app/blobs/uploads/..%2f..%2f..%2fkeys%2fsecret",
    "/v2/alpha/app/blobs/uploads/....//....//etc/passwd",
    "/v2/alpha/app/referrers/latest",
    "/v2/ALPHA/app/manifests/v1",
    "/v2/alpha/-app/manifests/v1",
    "/v2/alpha/app-/manifests/v1",
    "/v2/a..b/manifests/v1",
    "/v2/\u0430lpha/app/manifests/v1".encode("utf-8").decode("latin-1"),
    "/v2/" + quote("\u0430lpha") + "/app/manifests/v1",
    "/v2/" + "a" * 300 + "/manifests/v1",
    "/v2/" + "a/" * 150 + "b/manifests/v1",
    "/v2/_catalog/manifests/v1",
    "/v2/manifests/v1",
    "/v2/blobs/uploads/",
    "/v2/tags/list",
    "/v2/%2f/manifests/v1",
    "/v2/alpha/app/manifests/%ff%fe",
    "/v2/alpha/app/manifests/%zz",
    "/etc/passwd",
    "/ui/../keys/secret",
    "/ui/..%2f..%2fkeys/secret",
    "/api/..%2fkeys%2fsecret",
    "/static/../../gateway.toml",
    "/keys/secret",
    "/gateway.db",
    "/.env",
    "/.git/config",
    "/metrics",
    "/debug/pprof",
    "/ca.crt/../gateway.db",
    "/ca.crt%00.txt",
    "/health/../keys/secret",
    "/.well-known/../keys/secret",
)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_paths_have_one_reading_or_none(site: Site, method: str) -> None:
    token = site.widest("root", "alpha/app")
    for path in TRAVERSALS:
        kind = "application/problem+json" if path.startswith("/api/") else "application/json"
        plain(site.ask(method, path, token=token), 400, 401, 404, 405, kind=kind)
    assert site.ask("GET", "/v2/alpha/app/manifests/v1", token=token).body == site.manifest


def test_tags_outside_the_grammar_are_refused_and_not_echoed(site: Site) -> None:
    token = site.widest("alice", "alpha/app")
    for tag in (
        ".a",
        "-a",
        "a" * 129,
        "a/b",
        "sha256:abc",
        "@",
        "a%0ab",
        "a b",
        "<script>alert(1)</script>",
        "a\\b",
        "é",
    ):
        for method in ("GET", "PUT", "DELETE"):
            target = f"/v2/alpha/app/manifests/{quote(tag, safe='%')}"
            body = site.manifest if method == "PUT" else None
            answer = site.ask(method, target, token=token, body=body, headers={"Content-Type": OCI_MANIFEST})
            plain(answer, 400, 404)
        bent = quote(tag, safe="")
        answer = site.ask(
            "PUT",
            f"/v2/alpha/app/manifests/{sha256(site.manifest)}?tag={bent}",
            token=token,
            body=site.manifest,
            headers={"Content-Type": OCI_MANIFEST},
        )
        plain(answer, 400)


def test_manifests_that_could_be_taken_for_something_else_are_refused(site: Site) -> None:
    name = site.name()
    token = site.widest("alice", name)
    site.push_blob(token, name, b"{}")
    good = json.loads(image(b"{}"))
    for kind in ("text/html", "image/svg+xml", "", "application/json", "application/xml", "text/html; charset=utf-8"):
        plain(site.put(token, name, "t", json.dumps(good).encode(), kind), 400, 415)
    plain(site.ask("PUT", f"/v2/{name}/manifests/t", token=token, body=json.dumps(good).encode()), 400, 415)
    both = {**good, "manifests": []}
    signed = {**good, "schemaVersion": 1}
    html = b"<html><script>alert(1)</script></html>"
    other = {**good, "mediaType": DOCKER_MANIFEST}
    deep = b'{"schemaVersion":2,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    many = {**good, "layers": [descriptor(b"{}", LAYER_TYPE)] * 4097}
    wide = {**good, "annotations": {str(n): "v" for n in range(5000)}}
    surrogate = json.dumps({**good, "annotations": {"a": "\ud800"}}).encode()
    for content in (
        *(json.dumps(each).encode() for each in (both, signed, other, many, wide)),
        *(b"", b"{}", b"[]", b"null", b"\x00", b"\xff\xfe", html, deep, surrogate),
        json.dumps(good).encode().replace(b"{", b'{"schemaVersion":2,', 1),
        json.dumps(good).encode().replace(b'"layers": []', b'"layers": NaN'),
        json.dumps(good).encode().replace(b'"layers": []', b'"layers": [' + b"1" * 5000 + b"]"),
        b"\xef\xbb\xbf" + json.dumps(good).encode(),
    ):
        plain(site.put(token, name, "t", content), 400)
    for kind in (OCI_INDEX,):
        plain(site.put(token, name, "t", json.dumps(good).encode(), kind), 400)
    assert site.ask("GET", f"/v2/{name}/manifests/t", token=token).status == 404
    assert site.put(token, name, "t", json.dumps(good).encode()).status == 201
    seen = site.ask("GET", f"/v2/{name}/manifests/t", token=token)
    assert (seen.header("content-type"), seen.header("x-content-type-options")) == (OCI_MANIFEST, "nosniff")


def test_bytes_of_blobs_are_never_markup(site: Site) -> None:
    name = site.name("pub")
    token = site.widest("alice", name)
    digest = site.push_blob(token, name, b"<html><script>alert(1)</script></html>")
    seen = site.ask("GET", f"/v2/{name}/blobs/{digest}", token=token, headers={"Accept": "text/html"})
    assert seen.header("content-type") == "application/octet-stream"
    assert seen.header("x-content-type-options") == "nosniff"


def test_manifests_are_bounded_before_they_are_read(site: Site) -> None:
    token = site.widest("alice", "alpha/app")
    bearer = ("Authorization", f"Bearer {token}")
    kind = ("Content-Type", OCI_MANIFEST)
    begun = time.monotonic()
    for length in ("4194305", "1000000000000000", "9223372036854775807"):
        request = head("PUT", "/v2/alpha/app/manifests/big", [bearer, kind, ("Content-Length", length)], "localhost")
        plain(site.send(request), 413)
    for length in ("9223372036854775808", "99999999999999999999", "-1", "+5", "0x5", "5,5", "5 5", "1e3", ""):
        request = head("PUT", "/v2/alpha/app/manifests/big", [bearer, kind, ("Content-Length", length)], "localhost")
        plain(site.send(request), 400, 413)
    assert time.monotonic() - begun < 10
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with site.connect() as wire:
        chunked = ("Transfer-Encoding", "chunked")
        wire.sendall(head("PUT", "/v2/alpha/app/manifests/big", [bearer, kind, chunked], "localhost"))
        try:
            for _ in range(70):
                wire.sendall(chunk)
        except OSError:
            pass
        plain(read_answer(wire), 413)


def test_documents_made_to_be_read_slowly_hold_nobody_up(site: Site) -> None:
    token = site.widest("alice", "alpha/app")
    start = b'{"schemaVersion":2,"manifests":[],"x":'
    bombs = [
        start + b"[" + b"[]," * 1_390_000 + b"1]}",
        start + b"[" + b'{"a":{}},' * 460_000 + b"1]}",
        start + b"{" + b",".join(b'"%d":1' % number for number in range(330_000)) + b"}}",
        start + b'"' + b"\\u0041" * 690_000 + b'"}',
        start + b"[" + b"1," * 1_900_000 + b"1]}",
    ]
    stop = threading.Event()

    def push(number: int) -> set[int]:
        found = set()
        while not stop.is_set():
            found.add(site.put(token, "alpha/app", "bomb", bombs[number % len(bombs)], OCI_INDEX).status)
        return found

    with ThreadPoolExecutor(5) as pool:
        pushing = [pool.submit(push, number) for number in range(5)]
        time.sleep(0.5)
        begun = time.monotonic()
        for _ in range(10):
            assert site.ask("GET", "/v2/alpha/app/manifests/v1", token=token).status == 200
        taken = time.monotonic() - begun
        stop.set()
        assert set().union(*(each.result() for each in pushing)) <= {201, 400}
    # The bombs come from this very machine: what is asked for is that others are served at all, not how fast.
    assert taken < 20


def test_nothing_is_unpacked(site: Site) -> None:
    token = site.widest("alice", "alpha/app")
    bomb = gzip.compress(bytes(10_000_000))
    for encoding in ("gzip", "x-gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip"):
        headers = {"Content-Type": OCI_MANIFEST, "Content-Encoding": encoding}
        plain(site.ask("PUT", "/v2/alpha/app/manifests/z", token=token, body=bomb, headers=headers), 415)
        form = {"Content-Type": "application/x-www-form-urlencoded", "Content-Encoding": encoding}
        plain(site.ask("POST", "/token", body=bomb, headers=form), 415)


def test_heads_are_bounded(site: Site) -> None:
    token = site.widest("alice", "alpha/app")
    plain(site.ask("GET", "/v2/" + "a" * 65_536, token=token), 414)
    plain(site.ask("GET", "/v2/alpha/app/tags/list?n=" + "1" * 65_536, token=token), 414)
    plain(site.ask("GET", "/v2/alpha/app/tags/list?" + "a=1&" * 1000, token=token), 400)
    plain(site.ask("GET", "/v2/alpha/app/tags/list", token=token, headers=[("X", "y")] * 200), 431)
    plain(site.ask("GET", "/v2/alpha/app/tags/list", token=token, headers=[("X", "y" * 40_000)]), 431)
    scopes = "&".join(f"scope=repository:pub/a{n}:pull" for n in range(90))
    assert site.ask("GET", f"/token?{scopes}").status == 200
    scopes = "&".join(f"scope=repository:pub/a{n}:pull" for n in range(500))
    plain(site.ask("GET", f"/token?{scopes}"), 400, 414)
    for query in ("n=-1", "n=x", "n=1.5", "n=%D9%A3", "n=0x10", "n=+1", "n= 1"):
        plain(site.ask("GET", f"/v2/alpha/app/tags/list?{quote(query, safe='=%+')}", token=token), 400)
    for query in ("n=999999999999999999999", "last=%00", "last=%ff%fe", "last=" + "z" * 5000, "last=%ED%A0%80", "n=0"):
        assert site.ask("GET", f"/v2/alpha/app/tags/list?{query}", token=token).status == 200, query
        assert site.ask("GET", f"/v2/_catalog?{query}", token=site.token("alice", "registry:catalog:*")).status == 200


def test_ranges_are_read_strictly(site: Site) -> None:
    token = site.widest("alice", "alpha/app")
    digest = site.push_blob(token, "alpha/app", b"0123456789")
    for text in (
        *("bytes=0-0", "bytes=-1", "bytes=9-", "bytes=0-99999999999999999999", "bytes=10-", "bytes=5-1", "bytes=-0"),
        *("bytes=" + "0-0," * 500, "bytes=a-b", "bits=0-1", "bytes", "bytes=", "bytes=--1", "bytes= 0 - 1", "\xff"),
        "bytes=" + "9" * 5000 + "-",
    ):
        answer = site.ask("GET", f"/v2/alpha/app/blobs/{digest}", token=token, headers={"Range": text})
        assert answer.status in {200, 206, 416}, text
        assert len(answer.body) <= 10 or answer.status == 416


def test_hosts_are_those_of_the_settings(site: Site) -> None:
    forwarded = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "Forwarded": "host=evil.example"}
    answer = site.ask("GET", "/v2/", headers={**forwarded, "X-Forwarded-Prefix": "/evil", "X-Original-URL": "/evil"})
    assert b"evil" not in answer.body
    assert all("evil" not in value for _, value in answer.headers)
    for host in (
        "evil.example",
        "localhost.evil.example",
        "evil@localhost",
        "localhost/evil",
        "localhost:1:2",
        "",
        "[::1",
    ):
        raw = f"GET /v2/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        answer = site.send(raw)
        assert answer.status in {400, 421}, host
        assert b"evil" not in answer.body
    for raw in (
        b"GET /v2/ HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET https://localhost/v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET @evil HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v2/ HTTP/1.1\nHost: localhost\n\n",
        b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
        b"GET /v2/ HTTP/2.0\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX-\xff: 1\r\n\r\n",
    ):
        assert 400 <= site.send(raw).status < 500 or site.send(raw).status == 505, raw


@pytest.mark.parametrize(
    "path", ["/v2/", "/v2/alpha/app/manifests/v1", "/token", "/health/live", "/ca.crt", "/console/"]
)
def test_methods_that_are_none_of_ours_do_nothing(site: Site, path: str) -> None:
    """Nothing is echoed, nothing is opened, nothing is told of what else there is."""
    token = site.widest("root", "alpha/app")
    for method in ("TRACE", "OPTIONS", "PROPFIND", "LOCK", "PURGE", "LINK"):
        answer = site.ask(method, path, token=token, headers={"X-Canary": "echo of mine", "Max-Forwards": "0"})
        assert answer.status in {400, 401, 404, 405}, (method, answer.status)
        assert b"echo of mine" not in answer.body
        assert not [name for name, _ in answer.headers if name.startswith("access-control-")]
    plain(site.ask("CONNECT", path, token=token), 400)
    plain(site.ask("PRI", path, token=token), 400)
    assert site.ask("GET", "/v2/alpha/app/manifests/v1", token=token).body == site.manifest


def test_one_request_is_never_two(site: Site) -> None:
    """Bodies of requests that take none, and lengths read two ways, carry no second request."""
    inner = b"GET /v2/alpha/app/manifests/v1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for outer in (
        b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(inner),
        b"HEAD /v2/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(inner),
        b"DELETE /v2/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(inner),
        b"POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: %d\r\n\r\n" % len(inner),
    ):
        with site.connect() as wire:
            wire.sendall(outer + inner)
            content = b""
            while piece := wire.recv(65536):
                content += piece
        assert content.count(b"HTTP/1.1 ") == 1, outer


def test_foreign_layers_and_odd_configs_are_data(site: Site) -> None:
    name = site.name()
    token = site.widest("alice", name)
    site.push_blob(token, name, b"{}")
    document = json.loads(image(b"{}"))
    kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    document["layers"] = [{**descriptor(b"far away", kind), "urls": ["http://127.0.0.1:1/x", "file:///etc/passwd"]}]
    assert site.put(token, name, "t", json.dumps(document).encode()).status == 201
    document["config"]["mediaType"] = CONFIG_TYPE + "\r\nX: y"
    plain(site.put(token, name, "t2", json.dumps(document).encode()), 400)


def test_plain_http_is_not_spoken(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as raw:
        raw.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        content = b""
        try:
            while piece := raw.recv(4096):
                content += piece
        except ConnectionError:
            pass
    assert b"HTTP/1.1 200" not in content
    assert b"Bearer" not in content
