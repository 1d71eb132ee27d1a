"""What a journey is made with: an authority, images, and every real client with a memory of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.authority import Authority
from tests.services.clients import DOCKER_PROGRAMS, Ctr, Docker, Podman, Skopeo
from tests.services.daemon import scratch
from tests.services.engines import Engine, running_containerd, running_docker
from tests.services.images import Layout
from tests.services.machine import known_hosts

# The names that journeys give to registries on this machine.
NAMES = ("plain.test", "registry.local", "registry.company.com")


@pytest.fixture(scope="session")
def known_names() -> Iterator[None]:
    """NAMES lead to this machine; the engines start after they do, for they remember the file of names for a while."""
    with known_hosts(*NAMES):
        yield


@pytest.fixture(scope="session")
def containerd_engine(known_names: None) -> Iterator[Engine]:
    """One containerd for the whole run."""
    with running_containerd() as engine:
        yield engine


@pytest.fixture(scope="session")
def docker_engine(containerd_engine: Engine) -> Iterator[Engine]:
    """One dockerd for the whole run."""
    with running_docker(containerd_engine) as engine:
        yield engine


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    """A private CA; trust it for a registry with `trusted(registry, authority.certificate)`."""
    with scratch("ca") as directory:
        yield Authority(directory)


@pytest.fixture
def client_home() -> Iterator[Path]:
    """Where a test's clients keep what they remember."""
    with scratch("home") as directory:
        yield directory


@pytest.fixture
def layout(client_home: Path) -> Layout:
    """An empty OCI layout to fill with images."""
    return Layout.create(client_home / "layout")


@pytest.fixture
def skopeo(client_home: Path) -> Skopeo:
    """skopeo, signed in nowhere."""
    return Skopeo(client_home / "skopeo")


@pytest.fixture
def podman(client_home: Path) -> Podman:
    """podman, signed in nowhere, with an empty store."""
    return Podman(client_home / "podman")


@pytest.fixture(params=DOCKER_PROGRAMS, ids=lambda program: str(program.parent))
def docker(request: pytest.FixtureRequest, client_home: Path, docker_engine: Engine) -> Docker:
    """docker, signed in nowhere; a test runs once with each docker program of this machine."""
    return Docker(client_home / "docker", docker_engine, request.param)


@pytest.fixture
def ctr(client_home: Path, containerd_engine: Engine) -> Ctr:
    """containerd's client."""
    return Ctr(client_home / "ctr", containerd_engine)
