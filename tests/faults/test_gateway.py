"""A whole gateway in front of a registry that fails: what its clients are told, what is recorded, and that it heals."""

from __future__ import annotations

import gzip
import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.peer import Behaviour, Hangup, Line, Misbehaving, Request, always, head, misbehaving
from tests.faults.shelf import Shelf, digest_of
from tests.services.authority import Authority
from tests.services.daemon import free_port
from tests.services.gateway import Gateway, running_gateway
from tests.services.wire import Answer, Wire, with_digest

WRITER = ("writer", "correct horse battery")
REPOSITORY = "gallery/ui"
TYPE = "application/vnd.oci.image.manifest.v1+json"
PARTS = b"the right bytes of a configuration", b"the right bytes of a layer" * 40
LARGE = b"the right bytes, many times" * 200_000
DOOMED = b"to be deleted"
SECRET = "upstream-secret-password"
SETTINGS = """\
[server]
names = ["registry.local"]
port = {port}
workers = 1

[engine]
root = "data"
kind = "upstream"
url = "{url}"
username = "gateway"
password = "{secret}"
{more}
"""


@dataclass
class Site:
    """A gateway, the peer behind it, what the peer holds, and an image pushed through."""

    gateway: Gateway
    peer: Misbehaving
    shelf: Shelf
    token: str = ""

    @property
    def wire(self) -> Wire:
        return self.gateway.wire

    @contextmanager
    def fault(self, behaviour: Behaviour) -> Iterator[None]:
        """The peer does this, to everything, for as long as the block lasts."""
        self.peer.behaviour = behaviour
        try:
            yield
        finally:
            self.peer.behaviour = self.shelf


def manifest(note: str = "right") -> bytes:
    config, layer = (
        {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest_of(part), "size": len(part)}
        for kind, part in zip(("config.v1+json", "layer.v1.tar+gzip"), PARTS, strict=True)
    )
    fields = {"schemaVersion": 2, "mediaType": TYPE, "config": config, "layers": [layer]}
    return json.dumps({**fields, "annotations": {"note": note}}).encode()


def change_something(site: Site) -> None:
    """What was answered from memory before is asked for again, and there is a blob to delete."""
    site.wire.push_blob(REPOSITORY, site.token, DOOMED, digest_of(DOOMED))


@contextmanager
def standing(peer: Misbehaving, shelf: Shelf, more: str = "") -> Iterator[Site]:
    port = free_port()
    settings = SETTINGS.format(port=port, url=peer.url, secret=SECRET, more=more)
    with running_gateway(port=port, config=settings) as gateway:
        gateway.add_user(*WRITER)
        gateway.cli("project", "add", "gallery").must()
        gateway.cli("grant", "writer", "maintainer", "gallery").must()
        site = Site(gateway, peer, shelf)
        site.token = site.wire.token(WRITER, f"repository:{REPOSITORY}:pull,push,delete")
        for part in (*PARTS, LARGE):
            site.wire.push_blob(REPOSITORY, site.token, part, digest_of(part))
        push_manifest(site).must(201)
        yield site


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    shelf = Shelf()
    with misbehaving(shelf) as peer, standing(peer, shelf) as site:
        yield site


def pull_manifest(site: Site) -> Answer:
    return site.wire.ask("GET", f"/v2/{REPOSITORY}/manifests/v1", token=site.token)


def pull_blob(site: Site, part: bytes = PARTS[1]) -> Answer:
    return site.wire.ask("GET", f"/v2/{REPOSITORY}/blobs/{digest_of(part)}", token=site.token)


def list_tags(site: Site) -> Answer:
    return site.wire.ask("GET", f"/v2/{REPOSITORY}/tags/list", token=site.token)


def push_manifest(site: Site) -> Answer:
    headers = {"Content-Type": TYPE}
    return site.wire.ask("PUT", f"/v2/{REPOSITORY}/manifests/v1", token=site.token, body=manifest(), headers=headers)


def push_blob(site: Site) -> Answer:
    content = str(time.monotonic()).encode()
    begun = site.wire.ask("POST", f"/v2/{REPOSITORY}/blobs/uploads/", token=site.token).must(202)
    return site.wire.ask("PUT", with_digest(begun.location, digest_of(content)), token=site.token, body=content)


def delete_blob(site: Site) -> Answer:
    return site.wire.ask("DELETE", f"/v2/{REPOSITORY}/blobs/{digest_of(DOOMED)}", token=site.token)


Act = Callable[[Site], Answer]
PULLS: dict[str, tuple[Act, str]] = {
    "manifest pull": (pull_manifest, "manifest.pull"),
    "blob pull": (pull_blob, "blob.pull"),
}
PUSHES: dict[str, tuple[Act, str]] = {
    "manifest push": (push_manifest, "manifest.push"),
    "blob push": (push_blob, "blob.push"),
    "blob delete": (delete_blob, "blob.delete"),
}
ACTS = {**PULLS, **PUSHES}


class Tampered(Line):
    """A line on which a behaving registry's answers are changed before they are sent."""

    def __init__(
        self, line: Line, change: Callable[[Mapping[str, str], bytes], tuple[Mapping[str, str], bytes]]
    ) -> None:
        self._line = line
        self._change = change

    def answer(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        headers, body = self._change(headers or {}, body)
        self._line.answer(status, headers, body)


def reset(request: Request, line: Line) -> None:
    line.reset()


def cut_head(request: Request, line: Line) -> None:
    line.say(head(200, {"Content-Type": TYPE, "Content-Length": "2"})[:30])
    raise Hangup


def cut_body(request: Request, line: Line) -> None:
    status = {"PUT": 201, "PATCH": 202, "POST": 202, "DELETE": 202}.get(request.method, 200)
    line.say(head(status, {"Content-Type": TYPE, "Content-Length": "1000"}) + b"{")
    raise Hangup


PAGE = b"<html><script>alert('the peer was here')</script></html>"
HTML = {"Content-Type": "text/html", "Set-Cookie": "peer=1", "X-Peer": "here"}
FAULTS: dict[str, Behaviour] = {
    "reset": reset,
    "error": always(500, HTML, PAGE),
    "unavailable": always(503, {**HTML, "Retry-After": "86400"}, PAGE),
    "flooded": always(429, HTML, PAGE),
    "forbidden": always(403, HTML, PAGE),
    "unauthorized": always(401, {**HTML, "WWW-Authenticate": 'Bearer realm="http://evil.example/token"'}, PAGE),
    "head cut": cut_head,
    "body cut": cut_body,
    "page": always(200, HTML, PAGE),
    "not a registry's 404": always(404, HTML, PAGE),
    "redirected in circles": lambda request, line: line.answer(307, {"Location": request.target}),
    "redirected to the link": always(307, {"Location": "http://169.254.169.254/latest/meta-data"}),
    "not http": lambda request, line: line.say(b"SSH-2.0-OpenSSH_9.2p1\r\n"),
}


def told(answer: Answer, *statuses: int) -> str:
    """The message of an error that is told as it should be."""
    answer.must(*(statuses or (502, 503, 504)))
    (error,) = answer.json["errors"]
    assert error["code"] == "UNAVAILABLE"
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.headers["x-request-id"]) >= 16
    assert int(answer.headers["retry-after"]) <= 60
    assert not {"set-cookie", "x-peer", "www-authenticate"} & answer.headers.keys()
    whole = answer.body.decode() + str(answer.headers)
    for secret in ("peer was here", "evil.example", "169.254", SECRET, "Traceback", "aiohttp", str(Path.cwd())):
        assert secret not in whole
    return str(error["message"])


def assert_failed(site: Site, *answers: tuple[Answer, str]) -> None:
    """Holds that each request's last event says that it failed, because of the peer."""
    events = {event["request_id"]: event for event in site.gateway.events(project="gallery")}
    for answer, kind in answers:
        event = events[answer.headers["x-request-id"]]
        assert (event["kind"], event["outcome"]) in {(kind, "failed"), ("blob.pull.ended", "failed")}, event
        assert event["reason"].startswith("upstream_"), event


def assert_whole(site: Site) -> None:
    """Holds that the gateway gives what was pushed, and nothing else that came in between."""
    assert pull_manifest(site).must(200).body == manifest()
    assert pull_blob(site).must(200).body == PARTS[1]
    assert list_tags(site).must(200).json["tags"] == ["v1"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_in_our_words_recorded_as_failed_and_over_when_it_is_over(site: Site, fault: str) -> None:
    answers = []
    for do, kind in ACTS.values():
        change_something(site)
        with site.fault(FAULTS[fault]):
            began = time.monotonic()
            answers.append((do(site), kind))
            assert time.monotonic() - began < 5
        assert told(answers[-1][0], 502).startswith("The registry behind "), kind
        # Nothing of it was kept, and nobody has to do anything.
        do(site).must(200, 201, 202)
        assert_whole(site)
    assert_failed(site, *answers)


LIES: dict[str, Callable[[Mapping[str, str], bytes], tuple[Mapping[str, str], bytes]]] = {
    "wrong bytes": lambda headers, body: (headers, body.replace(b"right", b"wrong")),
    "wrong bytes that claim nothing": lambda headers, body: (
        {name: value for name, value in headers.items() if name != "Docker-Content-Digest"},
        body.replace(b"right", b"wrong"),
    ),
    "a page's type": lambda headers, body: ({**headers, "Content-Type": "text/html"}, body),
    "a length too long": lambda headers, body: ({**headers, "Content-Length": str(len(body) + 9)}, body),
    "a length too short": lambda headers, body: ({**headers, "Content-Length": str(len(body) - 9)}, body),
    "compressed": lambda headers, body: ({**headers, "Content-Encoding": "gzip"}, gzip.compress(body)),
    "too few bytes": lambda headers, body: (headers, body[:-9]),
    "too many bytes": lambda headers, body: ({**headers, "Content-Length": str(len(body) + 9)}, body + b"more bytes"),
}


@pytest.mark.parametrize("lie", LIES)
def test_bytes_that_are_not_those_asked_for_are_never_given_out(site: Site, lie: str) -> None:
    def lying(request: Request, line: Line) -> None:
        site.shelf(request, line if request.method == "HEAD" else Tampered(line, LIES[lie]))
        raise Hangup

    answers = []
    # By digest, of a manifest that nobody has asked for yet.
    fresh = manifest(f"right, unlike {lie}")
    site.wire.ask(
        "PUT",
        f"/v2/{REPOSITORY}/manifests/{digest_of(fresh)}",
        token=site.token,
        body=fresh,
        headers={"Content-Type": TYPE},
    ).must(201)

    def by_digest(site: Site) -> Answer:
        return site.wire.ask("GET", f"/v2/{REPOSITORY}/manifests/{digest_of(fresh)}", token=site.token)

    for do, kind in ((by_digest, "manifest.pull"), (pull_blob, "blob.pull")):
        with site.fault(lying):
            answers.append((do(site), kind))
        told(answers[-1][0], 502)
        do(site).must(200)
    assert by_digest(site).must(200).body == fresh
    assert_whole(site)
    assert_failed(site, *answers)


def test_a_blob_that_is_said_to_be_empty_is_not_given_out_as_one(site: Site) -> None:
    content = b"never asked about before"
    site.wire.push_blob(REPOSITORY, site.token, content, digest_of(content))
    with site.fault(always(200)):
        answer = pull_blob(site, content)
    told(answer, 502)
    assert pull_blob(site, content).must(200).body == content
    assert_failed(site, (answer, "blob.pull"))


def test_a_tag_whose_bytes_are_not_those_that_its_digest_says_is_not_given_out(site: Site) -> None:
    def lying(request: Request, line: Line) -> None:
        headers = {"Content-Type": TYPE, "Docker-Content-Digest": digest_of(manifest())}
        line.answer(200, headers, manifest("wrong"))

    with site.fault(lying):
        answer = pull_manifest(site)
    told(answer, 502)
    assert_whole(site)
    assert_failed(site, (answer, "manifest.pull"))


@pytest.mark.parametrize("how", ["cut", "wrong at the end", "wrong at the beginning"])
def test_a_download_with_wrong_or_missing_bytes_is_never_complete(site: Site, how: str) -> None:
    def failing(request: Request, line: Line) -> None:
        if request.method == "HEAD":
            site.shelf(request, line)
            return
        content = {
            "cut": LARGE[:-1000],
            "wrong at the end": LARGE[:-1] + b"!",
            "wrong at the beginning": b"!" + LARGE[1:],
        }[how]
        line.say(head(200, {"Content-Length": str(len(LARGE))}) + content)
        raise Hangup

    path = f"/v2/{REPOSITORY}/blobs/{digest_of(LARGE)}"
    with site.fault(failing), site.wire.connect() as connection:
        connection.send("GET", path, token=site.token)
        answer = connection.open()
        number = answer.headers["X-Request-Id"]
        with pytest.raises((http.client.IncompleteRead, OSError)):
            answer.read()
    assert pull_blob(site, LARGE).must(200).body == LARGE
    ended = [event for event in site.gateway.events(kind="blob.pull.ended") if event["request_id"] == number]
    assert [event["outcome"] for event in ended] == ["failed"]
    assert 0 < ended[0]["bytes"] < len(LARGE)


def test_a_redirect_to_another_host_is_followed_without_the_credential_and_its_bytes_are_checked(site: Site) -> None:
    for content, status in ((PARTS[1], 200), (b"x" * len(PARTS[1]), 502)):
        change_something(site)
        with misbehaving(always(200, body=content)) as storage:
            with site.fault(always(307, {"Location": f"{storage.url}/bucket"})):
                pull_blob(site).must(status)
            assert {request.headers.get("authorization") for request in storage.requests} == {None}
            assert site.token not in str(storage.requests)


def test_what_the_client_sends_stays_with_us(site: Site) -> None:
    before = len(site.peer.requests)
    headers = {"Cookie": "mine=1", "X-Forwarded-For": "10.1.2.3", "Proxy-Authorization": "Basic eDp5", "TE": "trailers"}
    path = f"/v2/{REPOSITORY}/manifests/v1?x=1"
    site.wire.ask("GET", path, token=site.token, headers=headers).must(200)
    for request in site.peer.requests[before:]:
        assert "?" not in request.target
        assert set(request.headers) <= {
            "host",
            "accept",
            "accept-encoding",
            "user-agent",
            "authorization",
            "if-none-match",
        }
        assert request.headers["authorization"].startswith("Basic ")
        assert site.token not in str(request)


@pytest.mark.long
def test_a_peer_that_is_slow_costs_its_time_and_no_more(site: Site) -> None:
    def slowly(request: Request, line: Line) -> None:
        if request.method == "HEAD":
            site.shelf(request, line)
        elif request.method == "PUT":
            line.wait()
        elif request.path.endswith("/manifests/v1"):
            line.say(head(200, {"Content-Type": TYPE, "Content-Length": "1000"}))
            line.drip(b"{" * 1000, 1)
        elif "/blobs/" in request.path:
            line.say(head(200, {"Content-Length": str(len(PARTS[1]))}) + PARTS[1][:100])
            line.wait()
        else:
            line.drip(head(200, {"Content-Type": TYPE, "X-Long": "y" * 1000}), 1)

    def pull_other(site: Site) -> Answer:
        return site.wire.ask("GET", f"/v2/{REPOSITORY}/manifests/other", token=site.token)

    change_something(site)
    acts = (PULLS["manifest pull"], PULLS["blob pull"], PUSHES["manifest push"], (pull_other, "manifest.pull"))
    began = time.monotonic()
    with site.fault(slowly), ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda act: (act[0](site), act[1]), acts))
    # The longest there is: to the head of an answer, and as long again for the rest of it.
    assert time.monotonic() - began < 70
    for answer, _ in answers:
        assert "too" in told(answer, 504)
    assert_whole(site)
    assert_failed(site, *answers)


def await_readiness(site: Site, status: int) -> None:
    until = time.monotonic() + 15
    while site.wire.ask("GET", "/health/ready").status != status:
        assert time.monotonic() < until, "it has not noticed how the registry is now"
        time.sleep(0.2)


def test_readiness_tells_of_a_peer_that_is_down_though_nobody_asks_for_anything(site: Site) -> None:
    site.wire.ask("GET", "/health/ready").must(200)
    site.peer.stop()
    try:
        # For some seconds, what was heard last is believed.
        await_readiness(site, 503)
        assert "takes no connection" in site.wire.ask("GET", "/health/ready").json["reason"]
    finally:
        site.peer.start()
    await_readiness(site, 200)
    assert_whole(site)


@pytest.mark.alone
def test_a_peer_that_is_down_is_left_alone_and_found_again(site: Site) -> None:
    known = f"/v2/{REPOSITORY}/manifests/{digest_of(manifest())}"
    change_something(site)
    site.wire.ask("GET", known, token=site.token).must(200)
    site.peer.stop()
    try:
        for _ in range(5):
            told(pull_manifest(site), 502)
        # What cannot have changed is still given out, to those who may.
        assert site.wire.ask("GET", known, token=site.token).must(200).body == manifest()
        site.wire.ask("GET", known).must(401)
        began = time.monotonic()
        answers = [(do(site), kind) for do, kind in ACTS.values()]
        assert time.monotonic() - began < 2
        for answer, _ in answers:
            told(answer, 503)
            assert 1 <= int(answer.headers["retry-after"]) <= 5
        ready = site.wire.ask("GET", "/health/ready").must(503)
        assert "registry behind" in ready.json["reason"]
        assert SECRET not in ready.body.decode()
    finally:
        site.peer.start()
    await_readiness(site, 200)
    assert_whole(site)
    assert_failed(site, *answers)


def test_failures_leave_no_connections_behind(site: Site) -> None:
    for fault in (reset, cut_body, FAULTS["page"], FAULTS["error"]):
        for _ in range(3):
            with site.fault(fault):
                told(pull_manifest(site))
            pull_manifest(site).must(200)
    # One is kept for the next request, and one for settling what is uncertain.
    assert site.peer.settled(most=2)


def test_a_certificate_that_expires_closes_the_registry_and_a_new_one_opens_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    shelf = Shelf()
    more = f'ca_file = "{authority.certificate}"'
    with misbehaving(shelf, pair=authority.issue("127.0.0.1")) as peer, standing(peer, shelf, more) as site:
        peer.stop()
        peer.pair = authority.issue("127.0.0.1", days=-1)
        peer.start()
        before = len(peer.heads)
        answer = pull_manifest(site)
        assert "certificate" in told(answer, 502)
        assert len(peer.heads) == before
        assert_failed(site, (answer, "manifest.pull"))
        peer.stop()
        peer.pair = authority.issue("127.0.0.1")
        peer.start()
        assert_whole(site)
