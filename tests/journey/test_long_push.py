"""A push that takes longer than its token lives: what each client does between its requests, and that it arrives."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.journey.conftest import DOCKER_PROGRAMS, NAME
from tests.services.clients import Ctr, Docker, Podman, Result, Skopeo
from tests.services.daemon import free_port
from tests.services.gateway import Gateway, running_gateway
from tests.services.images import Image, Layout
from tests.services.machine import ADDRESS, trusted
from tests.services.slow import slow_line

pytestmark = [pytest.mark.journey, pytest.mark.long, pytest.mark.timeout(600)]

WRITER = ("writer", "writer's-long-password")
TOKEN_SECONDS = 60
LEEWAY_SECONDS = 30
BYTES_PER_SECOND = 1_200_000
# Side by side on the slow line these end after about 50, 83 and 112 seconds.
LAYER_BYTES = (20_000_000, 40_000_000, 75_000_000)
SETTINGS = """\
[server]
names = ["{name}"]
bind = "{address}"
port = {port}
external_port = {line}
workers = 2

[engine]
root = "data"

[tokens]
lifetime_seconds = {seconds}
"""


@pytest.fixture
def slow(known_names: None) -> Iterator[tuple[Gateway, str]]:
    """A gateway whose tokens live a minute, and what clients call it at the other end of a slow line."""
    port, line = free_port(), free_port()
    settings = SETTINGS.format(name=NAME, address=ADDRESS, port=port, line=line, seconds=TOKEN_SECONDS)
    with (
        running_gateway(name=NAME, address=ADDRESS, port=port, config=settings) as gateway,
        slow_line(port, BYTES_PER_SECOND, line, ADDRESS),
        trusted(f"{NAME}:{line}", gateway.certificate),
    ):
        gateway.add_user(*WRITER)
        gateway.cli("project", "add", "gallery").must()
        gateway.cli("grant", "writer", "pusher", "gallery").must()
        yield gateway, f"{NAME}:{line}"


def outlives(gateway: Gateway, image: Image, push: Callable[[], Result]) -> list[dict[str, Any]]:
    """Push, and hold that it lasted, arrived whole, and that nobody was asked to sign in again; gives the events."""
    begun = time.time()
    pushed = push().must()
    lasted = time.time() - begun
    assert lasted > TOKEN_SECONDS + LEEWAY_SECONDS, pushed.output
    told = [event for event in gateway.events() if seconds(event) >= begun and event["kind"] != "audit.export"]
    report(told, begun, lasted)
    blobs = {event["digest"] for event in told if event["kind"] == "blob.push" and event["outcome"] == "allowed"}
    # docker and podman pack the layers themselves, into other bytes.
    assert len(blobs) == len(image.layers) + 1
    assert [event["outcome"] for event in told if event["kind"] == "manifest.push"] == ["allowed"]
    assert gateway.is_trail_whole()
    return told


def seconds(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


def report(told: list[dict[str, Any]], begun: float, lasted: float) -> None:
    """Print what came when, and with which token: what `pytest -s` shows is what the documentation says."""
    names: dict[str, str] = {}
    print(f"\nthe push took {lasted:.0f} s; events, by the second in which their requests began:")
    for event in told:
        number = event.get("detail", {}).get("id") if event["kind"] == "token.issue" else event.get("credential_id", "")
        name = names.setdefault(str(number), f"token {len(names) + 1}") if number else "-"
        took = event.get("duration_ms", 0) / 1000
        print(
            f"  {seconds(event) - begun:6.1f} +{took:5.1f}  {event['kind']:<16} {event['outcome']:<8} {name:<9}"
            f" {event.get('reason', '')} {event.get('credential', '')} {event.get('agent', '')[:30]}"
        )


def tokens(told: list[dict[str, Any]]) -> int:
    return Counter(event["kind"] for event in told)["token.issue"]


def test_skopeo_fetches_another_token(slow: tuple[Gateway, str], skopeo: Skopeo, layout: Layout) -> None:
    gateway, registry = slow
    image = layout.add_image("v1", LAYER_BYTES, seed=501)
    skopeo.login(registry, *WRITER).must()
    told = outlives(gateway, image, lambda: skopeo.push(layout.source("v1"), f"{registry}/gallery/slow:v1"))
    assert tokens(told) >= 2


def test_podman_fetches_another_token(slow: tuple[Gateway, str], podman: Podman, layout: Layout) -> None:
    gateway, registry = slow
    image = layout.add_image("v1", LAYER_BYTES, seed=502)
    name = f"{registry}/gallery/slow:v1"
    podman.load(layout, "v1", name).must()
    podman.login(registry, *WRITER).must()
    told = outlives(gateway, image, lambda: podman.push(name))
    assert tokens(told) >= 2


@pytest.mark.parametrize("docker", DOCKER_PROGRAMS[:1], indirect=True, ids=["debian"])
def test_docker_fetches_another_token_with_its_offline_token(
    slow: tuple[Gateway, str], docker: Docker, layout: Layout
) -> None:
    gateway, registry = slow
    image = layout.add_image("v1", LAYER_BYTES, seed=503)
    name = f"{registry}/gallery/slow:v1"
    docker.load(layout, "v1", name).must()
    docker.login(registry, *WRITER).must()
    told = outlives(gateway, image, lambda: docker.push(name))
    docker.remove(name).must()
    assert tokens(told) >= 2
    assert {event["credential"] for event in told if event["kind"] == "token.issue"} == {"offline_token"}


def test_containerd_ends_its_push_with_the_one_token_it_keeps(
    slow: tuple[Gateway, str], ctr: Ctr, layout: Layout
) -> None:
    # Asked for another one at the manifest, version 1.6 has given the request's body away before: its token must last.
    gateway, registry = slow
    image = layout.add_image("v1", LAYER_BYTES, seed=504)
    name = f"{registry}/gallery/slow:v1"
    ctr.trust(registry, gateway.certificate)
    ctr.load(layout, "v1", name).must()
    told = outlives(gateway, image, lambda: ctr.push(name, WRITER))
    ctr.remove(name, "loaded:v1").must()
    assert tokens(told) == 1
