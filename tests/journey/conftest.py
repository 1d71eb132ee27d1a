"""What a journey is made with: an authority, images, and every real client with a memory of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.services.authority import Authority
from tests.services.clients import DOCKER_PROGRAMS, Ctr, Docker, Podman, Skopeo
from tests.services.daemon import scratch
from tests.services.distribution import Way, running_registry
from tests.services.engines import Engine, running_containerd, running_docker
from tests.services.gateway import Gateway, running_gateway
from tests.services.images import Layout
from tests.services.machine import ADDRESS, known_hosts, own_address, trusted

# The names that journeys give to registries on this machine.
PLAIN_NAME = "plain.test"
NAME = "hub.test"
# The one that every gateway has may be in the machine's hosts already, as the address that docker trusts unseen.
NAMES = (NAME, "registry.local", "registry.company.com")

Open = Callable[..., AbstractContextManager[Gateway]]


@pytest.fixture(scope="session")
def known_names() -> Iterator[None]:
    """The names lead to this machine; the engines start after they do: they remember the file of names for a while."""
    with own_address(), known_hosts(PLAIN_NAME), known_hosts(*NAMES, address=ADDRESS):
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


@pytest.fixture(scope="session")
def opened(known_names: None) -> Open:
    """Starts gateways: `with opened(workers=2) as gateway`; clients of this machine trust its authority meanwhile."""

    @contextmanager
    def open_one(*, name: str = NAME, workers: int = 1, **more: Any) -> Iterator[Gateway]:
        with (
            running_gateway(address=ADDRESS, name=name, workers=workers, **more) as gateway,
            trusted(gateway.registry, gateway.certificate),
        ):
            yield gateway

    return open_one


@pytest.fixture(scope="module", params=["embedded", "upstream"])
def engine(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What keeps the content, as the gateway's environment says it: the gateway itself, or a registry behind it."""
    with engine_of(request.param) as environment:
        yield environment


@contextmanager
def engine_of(kind: str) -> Iterator[dict[str, str]]:
    """The environment of a gateway whose content is kept so."""
    if kind == "embedded":
        yield {}
        return
    with scratch("behind") as directory, running_registry(directory, Way.HTPASSWD) as registry:
        yield {
            "GATEWAY_ENGINE__KIND": "upstream",
            "GATEWAY_ENGINE__URL": registry.url,
            "GATEWAY_ENGINE__USERNAME": registry.username,
            "GATEWAY_ENGINE__PASSWORD": registry.password,
        }


@pytest.fixture(scope="module")
def gateway(opened: Open) -> Iterator[Gateway]:
    """A gateway with two workers, which the tests of a module share."""
    with opened(workers=2) as running:
        yield running
