"""What is begun survives: another worker goes on with it, a restart does, and what was acknowledged is there."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.journey.conftest import Open
from tests.services.clients import Skopeo
from tests.services.daemon import POLL_SECONDS
from tests.services.gateway import Gateway
from tests.services.images import Layout
from tests.services.wire import Connection, server_process, with_digest

pytestmark = pytest.mark.journey

WRITER = ("writer", "writer's-long-password")
CHUNK_BYTES = 3_000_000
REPOSITORY = "gallery/broken"
SCOPE = f"repository:{REPOSITORY}:pull,push"


@pytest.fixture(scope="module")
def hub(opened: Open) -> Iterator[Gateway]:
    with opened(workers=2) as gateway:
        gateway.add_user(*WRITER)
        gateway.cli("project", "add", "gallery").must()
        gateway.cli("grant", "writer", "pusher", "gallery").must()
        yield gateway


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def to_worker(hub: Gateway, pid: int) -> Connection:
    """A connection that this very worker answers."""
    return hub.wire.until(lambda connection: server_process(connection, hub.workers()) == pid)


def begin(hub: Gateway, token: str) -> str:
    return hub.wire.ask("POST", f"/v2/{REPOSITORY}/blobs/uploads/", token=token).must(202).location


def pull(hub: Gateway, token: str, digest: str) -> bytes:
    return hub.wire.ask("GET", f"/v2/{REPOSITORY}/blobs/{digest}", token=token).must(200).body


def test_an_upload_goes_on_wherever_its_requests_arrive(hub: Gateway) -> None:
    token = hub.wire.token(WRITER, SCOPE)
    chunks = [noise(CHUNK_BYTES, number) for number in range(4)]
    location, answered = begin(hub, token), []
    for number, chunk in enumerate(chunks):
        pid = hub.workers()[number % 2]
        with to_worker(hub, pid) as connection:
            location = connection.request("PATCH", location, token=token, body=chunk).must(202).location
            answered.append(pid)
    for pid in hub.workers():
        with to_worker(hub, pid) as connection:
            status = connection.request("GET", location, token=token).must(204)
            assert status.headers["range"] == f"0-{4 * CHUNK_BYTES - 1}"
    whole = b"".join(chunks)
    hub.wire.ask("PUT", with_digest(location, sha256(whole)), token=token).must(201)
    assert set(answered) == set(hub.workers())
    for pid in hub.workers():
        with to_worker(hub, pid) as connection:
            found = connection.request("GET", f"/v2/{REPOSITORY}/blobs/{sha256(whole)}", token=token).must(200)
            assert sha256(found.body) == sha256(whole)


def test_what_one_worker_is_told_the_other_knows_at_once(hub: Gateway) -> None:
    token = hub.wire.token(WRITER, SCOPE)
    first, second = (to_worker(hub, pid) for pid in hub.workers())
    with first, second:
        for number in range(20):
            content = noise(100, number)
            path = f"/v2/{REPOSITORY}/blobs/{sha256(content)}"
            second.request("HEAD", path, token=token).must(404)
            begun = first.request("POST", f"/v2/{REPOSITORY}/blobs/uploads/", token=token).must(202)
            first.request("PUT", with_digest(begun.location, sha256(content)), token=token, body=content).must(201)
            second.request("HEAD", path, token=token).must(200)
            first, second = second, first


def kill_everything(hub: Gateway) -> None:
    hub.kill()
    hub.start()


def kill_the_workers(hub: Gateway) -> None:
    gone = hub.workers()
    for pid in gone:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(OSError, AssertionError):
            replaced = hub.workers()
            if len(replaced) == 2 and not set(replaced) & set(gone):
                hub.wire.ask("GET", "/health/ready").must(200)
                return
        time.sleep(POLL_SECONDS)
    raise AssertionError("the workers were not replaced")


@pytest.mark.parametrize("end", [kill_everything, kill_the_workers])
def test_an_upload_that_was_killed_is_resumed_from_what_was_acknowledged(
    hub: Gateway, end: Callable[[Gateway], None]
) -> None:
    token = hub.wire.token(WRITER, SCOPE)
    whole = noise(3 * CHUNK_BYTES, 11)
    location = begin(hub, token)
    location = hub.wire.ask("PATCH", location, token=token, body=whole[:CHUNK_BYTES]).must(202).location
    with hub.wire.connect() as cut:
        head = f"PATCH {location} HTTP/1.1\r\nHost: {hub.registry}\r\nAuthorization: Bearer {token}\r\n"
        cut.socket.sendall(f"{head}Content-Length: {CHUNK_BYTES}\r\n\r\n".encode())
        cut.socket.sendall(whole[CHUNK_BYTES : CHUNK_BYTES + 1_000_000])
        time.sleep(0.3)
        end(hub)
    status = hub.wire.ask("GET", location, token=token).must(204)
    assert status.headers["range"] == f"0-{CHUNK_BYTES - 1}"
    rest = whole[CHUNK_BYTES:]
    resumed = {"Content-Range": f"{CHUNK_BYTES}-{len(whole) - 1}"}
    location = hub.wire.ask("PATCH", status.location, token=token, body=rest, headers=resumed).must(202).location
    hub.wire.ask("PUT", with_digest(location, sha256(whole)), token=token).must(201)
    assert sha256(pull(hub, token, sha256(whole))) == sha256(whole)
    assert hub.is_trail_whole()


def test_a_stop_lets_a_chunk_arrive_and_the_next_start_goes_on_with_it(hub: Gateway) -> None:
    token = hub.wire.token(WRITER, SCOPE)
    whole = noise(2 * CHUNK_BYTES, 12)
    location = begin(hub, token)
    with hub.wire.connect() as connection:
        head = f"PATCH {location} HTTP/1.1\r\nHost: {hub.registry}\r\nAuthorization: Bearer {token}\r\n"
        connection.socket.sendall(f"{head}Content-Length: {CHUNK_BYTES}\r\n\r\n".encode())
        connection.socket.sendall(whole[: CHUNK_BYTES // 2])
        time.sleep(0.3)
        hub.terminate()
        until_refused(hub)
        connection.socket.sendall(whole[CHUNK_BYTES // 2 : CHUNK_BYTES])
        answer = connection.socket.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 202 ")
    assert hub.ended() == 0
    hub.start()
    status = hub.wire.ask("GET", location, token=token).must(204)
    assert status.headers["range"] == f"0-{CHUNK_BYTES - 1}"
    last = with_digest(status.location, sha256(whole))
    hub.wire.ask("PUT", last, token=token, body=whole[CHUNK_BYTES:]).must(201)
    assert sha256(pull(hub, token, sha256(whole))) == sha256(whole)


def test_a_stop_lets_a_pull_end(hub: Gateway) -> None:
    token = hub.wire.token(WRITER, SCOPE)
    content = noise(40_000_000, 13)
    hub.wire.push_blob(REPOSITORY, token, content, sha256(content))
    with hub.wire.connect() as connection:
        connection.send("GET", f"/v2/{REPOSITORY}/blobs/{sha256(content)}", token=token)
        answer = connection.open()
        received = answer.read(1_000_000)
        hub.terminate()
        until_refused(hub)
        assert hub.daemon.is_running
        received += answer.read()
    assert sha256(received) == sha256(content)
    assert hub.ended() == 0
    (pulled,) = [each for each in hub.events(digest=sha256(content)) if each["kind"].startswith("blob.pull")]
    assert pulled["outcome"] == "allowed"
    hub.start()


def until_refused(hub: Gateway) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            hub.wire.connect().close()
        except ConnectionError:
            return
        time.sleep(POLL_SECONDS)
    raise AssertionError("it goes on taking connections while it stops")


@dataclass(slots=True)
class Pusher:
    """Somebody who pushes one image after the other until told to stop, and knows what was acknowledged."""

    skopeo: Skopeo
    layout: Layout
    registry: str
    tags: list[str]
    acknowledged: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        """Push until told to stop, or until there is nothing left."""
        while self.tags and not stop.is_set():
            tag = self.tags.pop(0)
            pushed = self.skopeo.push(self.layout.source(tag), f"{self.registry}/{REPOSITORY}:{tag}")
            (self.acknowledged if pushed.ok else self.failed).append(tag)


def test_whatever_was_acknowledged_before_a_kill_is_there_after_it(hub: Gateway, client_home: Path) -> None:
    layout = Layout.create(client_home / "many")
    digests: dict[str, str] = {}
    pushers = []
    for who in range(4):
        tags = [f"v{who}-{number}" for number in range(14)]
        for number, tag in enumerate(tags):
            image = layout.add_image(tag, (400_000, 150_000, 10_000), seed=1000 + 100 * who + number)
            digests[tag] = image.manifest.digest
        skopeo = Skopeo(client_home / f"skopeo{who}")
        skopeo.login(hub.registry, *WRITER).must()
        pushers.append(Pusher(skopeo, layout, hub.registry, tags))
    for more, pause in ((4, 0.05), (4, 0.2), (4, 0.4)):
        stop = threading.Event()
        wanted = more + sum(len(pusher.acknowledged) for pusher in pushers)
        threads = [threading.Thread(target=pusher.run, args=(stop,)) for pusher in pushers]
        for thread in threads:
            thread.start()
        # However fast the machine is: some were acknowledged, and others are under way.
        deadline = time.monotonic() + 60
        while sum(len(pusher.acknowledged) for pusher in pushers) < wanted and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        time.sleep(pause)
        stop.set()
        hub.kill()
        for thread in threads:
            thread.join()
        hub.start()
    acknowledged = [tag for pusher in pushers for tag in pusher.acknowledged]
    assert len(acknowledged) >= 12
    assert [tag for pusher in pushers for tag in pusher.failed], "no kill hit a push"
    token = hub.wire.token(WRITER, SCOPE)
    with hub.wire.connect() as connection:
        for tag in acknowledged:
            answer = connection.request("GET", f"/v2/{REPOSITORY}/manifests/{tag}", token=token).must(200)
            assert sha256(answer.body) == digests[tag]
            for part in (answer.json["config"], *answer.json["layers"]):
                blob = connection.request("GET", f"/v2/{REPOSITORY}/blobs/{part['digest']}", token=token).must(200)
                assert sha256(blob.body) == part["digest"]
    pushed = [event["reference"] for event in hub.events(kind="manifest.push", outcome="allowed")]
    assert set(acknowledged) <= set(pushed)
    assert hub.is_trail_whole()
    for pusher in pushers:
        for tag in pusher.failed:
            pusher.skopeo.push(layout.source(tag), f"{hub.registry}/{REPOSITORY}:{tag}").must()
