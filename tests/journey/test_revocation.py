"""What is taken away is gone: from tokens already given out within a second, on every worker, and from clients."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.journey.conftest import DOCKER_PROGRAMS, Open
from tests.services.clients import Docker, Skopeo
from tests.services.gateway import Gateway
from tests.services.images import Layout
from tests.services.wire import Connection, server_process

pytestmark = pytest.mark.journey

WRITER = ("writer", "writer's-long-password")
AGAIN = "writer's-other-password"
SCOPE = "repository:gallery/ui:pull,push"
PATH = "/v2/gallery/ui/tags/list"


@pytest.fixture(scope="module")
def hub(opened: Open) -> Iterator[Gateway]:
    with opened(workers=2) as gateway:
        gateway.cli("project", "add", "gallery").must()
        yield gateway


@pytest.fixture
def writer(hub: Gateway, skopeo: Skopeo, layout: Layout) -> Iterator[tuple[str, str]]:
    """A writer with an image, made for one test and gone after it."""
    hub.add_user(*WRITER)
    hub.cli("grant", "writer", "pusher", "gallery").must()
    layout.add_image("v1", (1000,), seed=301)
    skopeo.login(hub.registry, *WRITER).must()
    skopeo.push(layout.source("v1"), f"{hub.registry}/gallery/ui:v1").must()
    yield WRITER
    hub.cli("user", "remove", "writer").must()


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody with a token and open connections to every worker."""

    token: str
    connections: tuple[Connection, ...]

    def statuses(self) -> set[int]:
        """What each of the connections is answered now."""
        return {connection.request("GET", PATH, token=self.token).status for connection in self.connections}

    def seconds_until_refused(self) -> float:
        """How long it takes until every connection is refused, and none is answered otherwise after that."""
        begun = time.monotonic()
        while self.statuses() != {401}:
            assert time.monotonic() - begun < 10, "it is not refused at all"
        elapsed = time.monotonic() - begun
        assert all(self.statuses() == {401} for _ in range(5))
        return elapsed


@contextmanager
def holding(hub: Gateway) -> Iterator[Holder]:
    token = hub.wire.token(WRITER, SCOPE)
    with ExitStack() as closing:
        connections = tuple(
            closing.enter_context(hub.wire.until(lambda each, pid=pid: server_process(each, hub.workers()) == pid))
            for pid in hub.workers()
            for _ in range(3)
        )
        holder = Holder(token, connections)
        assert holder.statuses() == {200}
        yield holder


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        (("revoke", "writer", "gallery"), ""),
        (("user", "disable", "writer"), ""),
        (("user", "password", "writer", "--password-stdin"), AGAIN),
    ],
    ids=["revoke", "disable", "password"],
)
def test_a_token_is_worth_nothing_within_a_second_on_every_worker(
    hub: Gateway, writer: tuple[str, str], words: tuple[str, ...], stdin: str
) -> None:
    with holding(hub) as holder:
        hub.cli(*words, stdin=stdin).must()
        assert holder.seconds_until_refused() < 1
    denied = hub.events(principal="writer", kind="tags.list", outcome="denied")
    assert denied
    assert datetime.fromisoformat(denied[-1]["time"]).tzinfo == UTC


def test_a_grant_taken_while_a_layer_arrives_keeps_it_out(hub: Gateway, writer: tuple[str, str]) -> None:
    token = hub.wire.token(writer, SCOPE)
    location = hub.wire.ask("POST", "/v2/gallery/ui/blobs/uploads/", token=token).must(202).location
    with hub.wire.connect() as connection:
        head = f"PATCH {location} HTTP/1.1\r\nHost: {hub.registry}\r\nAuthorization: Bearer {token}\r\n"
        connection.socket.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode() + b"x" * 500)
        hub.cli("revoke", "writer", "gallery").must()
        connection.socket.sendall(b"x" * 500)
        answer = connection.socket.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 401 ")


def test_docker_is_out_after_its_password_changed(
    hub: Gateway, writer: tuple[str, str], docker: Docker, layout: Layout
) -> None:
    name = f"{hub.registry}/gallery/ui:v2"
    docker.load(layout, "v1", name).must()
    docker.login(hub.registry, *writer).must()
    docker.push(name).must()
    hub.cli("user", "password", "writer", "--password-stdin", stdin=AGAIN).must()
    out = docker.push(name)
    assert not out.ok
    assert "unauthorized" in out.output.lower()
    assert not docker.pull(name).ok
    docker.login(hub.registry, "writer", AGAIN).must()
    docker.push(name).must()
    docker.remove(name).must()


@pytest.mark.parametrize("docker", DOCKER_PROGRAMS[:1], indirect=True, ids=["debian"])
def test_an_offline_token_is_listed_and_revoked(hub: Gateway, writer: tuple[str, str], docker: Docker) -> None:
    name = f"{hub.registry}/gallery/ui:v1"
    docker.login(hub.registry, *writer).must()
    docker.pull(name).must()
    (token,) = hub.cli("token", "list", "writer", "--json").json()
    assert token["client"] == "docker"
    hub.cli("token", "revoke", str(token["id"])).must()
    assert hub.cli("token", "list", "writer", "--json").json() == []
    out = docker.pull(name)
    assert not out.ok
    assert "unauthorized" in out.output.lower()
    docker.login(hub.registry, *writer).must()
    docker.pull(name).must()
    hub.cli("token", "revoke", "--all", "writer").must()
    assert not docker.pull(name).ok
    docker.remove(name).must()


@pytest.mark.parametrize("docker", DOCKER_PROGRAMS[:1], indirect=True, ids=["debian"])
def test_an_offline_token_survives_a_restart(hub: Gateway, writer: tuple[str, str], docker: Docker) -> None:
    name = f"{hub.registry}/gallery/ui:v1"
    docker.login(hub.registry, *writer).must()
    hub.restart()
    docker.pull(name).must()
    docker.remove(name).must()


# robots


@pytest.mark.parametrize("docker", DOCKER_PROGRAMS[:1], indirect=True, ids=["debian"])
def test_a_job_pushes_as_a_robot_until_its_secret_is_changed(
    hub: Gateway, docker: Docker, layout: Layout, client_home: Path
) -> None:
    made = hub.cli("robot", "add", "gallery/ci", "pusher", "--json").json()
    assert set(made) == {"name", "secret", "expires"}
    layout.add_image("v1", (2000,), seed=311)
    name = f"{hub.registry}/gallery/job:v1"
    docker.load(layout, "v1", name).must()
    docker.login(hub.registry, "gallery+ci", made["secret"]).must()
    docker.push(name).must()
    elsewhere = f"{hub.registry}/other/job:v1"
    docker.tag(name, elsewhere).must()
    assert not docker.push(elsewhere).ok
    rotated = hub.cli("robot", "rotate", "gallery+ci", "--json").json()
    assert rotated["secret"] != made["secret"]
    assert not docker.push(name).ok
    assert not docker.login(hub.registry, "gallery+ci", made["secret"]).ok
    docker.login(hub.registry, "gallery+ci", rotated["secret"]).must()
    docker.push(name).must()
    docker.remove(name, elsewhere).must()
    (first, *_) = hub.events(repository="gallery/job", kind="manifest.push")
    assert (first["principal"], first["principal_kind"]) == ("gallery+ci", "robot")


def test_a_robot_ends_when_its_time_is_over(hub: Gateway, skopeo: Skopeo) -> None:
    made = hub.cli("robot", "add", "gallery/brief", "puller", "--expires", "8s", "--json").json()
    robot = ("gallery+brief", made["secret"])
    skopeo.login(hub.registry, *robot).must()
    token = hub.wire.token(robot, "repository:gallery/job:pull")
    expires = datetime.fromisoformat(made["expires"]).timestamp()
    time.sleep(max(0.0, expires - time.time()) + 1.1)
    assert "invalid username/password" in skopeo.login(hub.registry, *robot).output
    hub.wire.ask("GET", "/v2/gallery/job/tags/list", token=token).must(401)
