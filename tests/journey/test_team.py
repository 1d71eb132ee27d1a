"""The story at the top: one command, two people, one project, and a trail that says who did what."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.journey.conftest import Open
from tests.services.clients import DOCKER_PROGRAMS, Docker
from tests.services.gateway import Gateway, printed_password
from tests.services.images import Layout
from tests.services.machine import ADDRESS, CERTIFICATES

pytestmark = pytest.mark.journey

WRITER = ("writer", "writer's-long-password")
READER = ("reader", "reader's-long-password")


@contextmanager
def furnished(opened: Open, engine: dict[str, str]) -> Iterator[Gateway]:
    """A gateway on which the commands at the top were given, as they stand there."""
    with opened(name="registry.local", workers=2, environment=engine) as gateway:
        gateway.add_user(*WRITER)
        gateway.add_user(*READER)
        gateway.cli("project", "add", "gallery").must()
        gateway.cli("grant", "writer", "pusher", "gallery").must()
        gateway.cli("grant", "reader", "puller", "gallery").must()
        yield gateway


@pytest.fixture(scope="module")
def team(opened: Open) -> Iterator[Gateway]:
    """Such a gateway, which keeps the content itself."""
    with furnished(opened, {}) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def any_team(request: pytest.FixtureRequest, opened: Open, engine: dict[str, str]) -> Iterator[Gateway]:
    """Such a gateway, whatever keeps the content."""
    if not engine:
        yield request.getfixturevalue("team")
        return
    with furnished(opened, engine) as gateway:
        yield gateway


@pytest.fixture
def repository(client_home: Path) -> str:
    """A repository that no other test pushes to."""
    return f"gallery/{client_home.name.replace('_', '')}"


def stored(docker: Docker, registry: str) -> dict[str, str]:
    kept: dict[str, str] = json.loads(docker.auth_file.read_text())["auths"][registry]
    return kept


def test_a_writer_pushes_a_reader_only_pulls_and_the_trail_says_so(
    any_team: Gateway, docker: Docker, layout: Layout, repository: str
) -> None:
    team = any_team
    layout.add_image("v1", (200_000, 70_000), seed=101)
    image = f"{team.registry}/{repository}:v1"
    docker.load(layout, "v1", image).must()

    docker.login(team.registry, *WRITER).must()
    docker.push(image).must()
    docker.login(team.registry, *READER).must()
    denied = docker.push(image)
    assert not denied.ok
    assert f"push on {repository} is missing; reader holds puller on gallery" in denied.output
    docker.remove(image).must()
    docker.pull(image).must()
    docker.remove(image).must()

    table = team.cli("audit", "list", "--project", "gallery", "--repository", repository).must().stdout
    pushed = [line for line in table.splitlines() if "manifest.push" in line and "allowed" in line]
    assert len(pushed) == 1
    assert "writer" in pushed[0]
    assert f"{repository}:v1" in pushed[0]
    assert ADDRESS in pushed[0]
    assert any("denied" in line and "reader" in line for line in table.splitlines())
    told = team.events(project="gallery", repository=repository)
    (push,) = [event for event in told if event["kind"] == "manifest.push" and event["outcome"] == "allowed"]
    assert (push["principal"], push["address"]) == ("writer", ADDRESS)
    assert push["digest"].startswith("sha256:")
    assert push["time"].endswith("Z")
    denials = [event for event in told if event["outcome"] == "denied"]
    assert {(event["principal"], event["kind"], event["action"]) for event in denials} == {
        ("reader", "manifest.push", "push")
    }
    (pull,) = [event for event in told if event["kind"] == "manifest.pull" and event["principal"] == "reader"]
    assert pull["digest"] == push["digest"]
    assert team.is_trail_whole()


def test_docker_login_leaves_no_password_on_disk_and_logout_leaves_nothing(
    team: Gateway, docker: Docker, client_home: Path
) -> None:
    docker.login(team.registry, *WRITER).must()
    kept = stored(docker, team.registry)
    assert kept["identitytoken"]
    assert base64.b64decode(kept.get("auth", "")) in (b"", b"writer:", b"writer")
    for file in client_home.rglob("*"):
        if file.is_file():
            written = file.read_bytes()
            assert WRITER[1].encode() not in written, file
            assert base64.b64encode(":".join(WRITER).encode()) not in written, file
    docker.logout(team.registry).must()
    assert team.registry not in docker.auth_file.read_text()
    assert "denied" in docker.pull(f"{team.registry}/gallery/ui:v1").output


def test_docker_checks_our_certificate(opened: Open, docker: Docker, docker_options: list[str]) -> None:
    assert not [option for option in docker_options if "insecure" in option]
    with opened() as gateway:
        gateway.add_user(*WRITER)
        folder = CERTIFICATES / gateway.registry
        hidden = folder.with_name("hidden-by-a-test")
        folder.rename(hidden)
        try:
            untrusted = docker.login(gateway.registry, *WRITER)
        finally:
            hidden.rename(folder)
        assert not untrusted.ok
        assert "certificate signed by unknown authority" in untrusted.output
        docker.login(gateway.registry, *WRITER).must()


@pytest.fixture
def docker_options(docker: Docker) -> list[str]:
    """With what the engine was started."""
    engine = Path(docker.environment["DOCKER_HOST"].removeprefix("unix://")).parent
    pid = (engine / "pid").read_text().strip()
    arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return [*arguments, (engine / "daemon.json").read_text()]


@pytest.mark.parametrize("docker", DOCKER_PROGRAMS[:1], indirect=True, ids=["debian"])
def test_the_second_run_finds_everything_as_it_was(
    team: Gateway, docker: Docker, layout: Layout, repository: str
) -> None:
    layout.add_image("v1", (50_000,), seed=102)
    image = f"{team.registry}/{repository}:v1"
    docker.load(layout, "v1", image).must()
    docker.login(team.registry, *WRITER).must()
    docker.push(image).must()
    docker.remove(image).must()
    token = team.wire.token(READER, f"repository:{repository}:pull")
    before = _state(team)
    told = team.events()

    assert team.stop() == 0
    again = team.start()

    assert "Password" not in again
    assert _state(team) == before
    team.wire.ask("GET", f"/v2/{repository}/manifests/v1", token=token).must(200)
    docker.pull(image).must()
    docker.remove(image).must()
    after = team.events()
    assert after[: len(told)] == told
    new = [event["kind"] for event in after[len(told) :]]
    ours = [kind for kind in new if kind.startswith("gateway.") or kind in ("key.add", "account.add")]
    assert ours == ["gateway.stop", "gateway.start"]
    assert team.is_trail_whole()


@pytest.mark.parametrize("docker", DOCKER_PROGRAMS[:1], indirect=True, ids=["debian"])
def test_the_password_of_the_first_run_signs_the_administrator_in_and_makes_a_project_by_pushing(
    opened: Open, docker: Docker, layout: Layout
) -> None:
    with opened() as gateway:
        password = printed_password(gateway.log.read_text())
        layout.add_image("v1", (1000,), seed=103)
        image = f"{gateway.registry}/fresh/ui:v1"
        docker.load(layout, "v1", image).must()
        docker.login(gateway.registry, "admin", password).must()
        docker.push(image).must()
        docker.remove(image).must()
        assert [event["principal"] for event in gateway.events(kind="project.add")] == ["admin"]


def test_the_authority_is_served_for_colleagues_and_has_the_fingerprint_that_was_printed(team: Gateway) -> None:
    served = team.wire.ask("GET", "/ca.crt").must(200).body
    assert served == team.certificate.read_bytes()
    argv = ["openssl", "x509", "-noout", "-fingerprint", "-sha256"]
    shown = subprocess.run(argv, input=served, capture_output=True, check=True).stdout.decode()
    assert shown.strip().partition("=")[2] in team.log.read_text()


def _state(gateway: Gateway) -> dict[str, object]:
    nouns = ("user", "project", "token", "key")
    return {
        **{noun: gateway.cli(noun, "list", "--json").must().stdout for noun in nouns},
        "grants": gateway.cli("grant", "list", "--json").must().stdout,
        "authority": gateway.certificate.read_bytes(),
        "leaf": (gateway.data / "tls/leaf.crt").read_bytes(),
    }
