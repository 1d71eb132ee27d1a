"""Damaged blobs are healed by what people do anyhow: they push the image again, with the client they have."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.engine.embedded.layout import blob_key
from gateway.oci.digest import Digest
from tests.journey.conftest import Open
from tests.services.clients import Docker, Podman, Skopeo
from tests.services.gateway import Gateway
from tests.services.images import Layout

pytestmark = pytest.mark.journey

WRITER = ("writer", "writer's-long-password")


@pytest.fixture(scope="module")
def gateway(opened: Open) -> Iterator[Gateway]:
    with opened() as running:
        running.add_user(*WRITER)
        running.cli("project", "add", "gallery").must()
        running.cli("grant", "writer", "pusher", "gallery").must()
        yield running


def file_of(gateway: Gateway, digest: str) -> Path:
    return gateway.data / blob_key(Digest.parse(digest))


def put_aside(gateway: Gateway, file: Path) -> None:
    """Damages the file, and lets a reader meet it."""
    os.truncate(file, 100)
    wire = gateway.wire
    token = wire.token(WRITER, "repository:gallery/ui:pull")
    assert wire.ask("GET", f"/v2/gallery/ui/blobs/sha256:{file.name}", token=token).status == 503
    until = time.monotonic() + 20
    while file.exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not file.exists()


def test_skopeo_heals_what_it_pushes_again(gateway: Gateway, skopeo: Skopeo, layout: Layout, client_home: Path) -> None:
    image = layout.add_image("v1", (300_000, 20_000))
    name = f"{gateway.registry}/gallery/ui:skopeo"
    skopeo.login(gateway.registry, *WRITER).must()
    skopeo.push(layout.source("v1"), name).must()
    for part in (image.layers[0], image.config):
        put_aside(gateway, file_of(gateway, part.digest))
        assert not skopeo.pull(name, f"dir:{client_home}/damaged").ok
        skopeo.push(layout.source("v1"), name).must()
        skopeo.pull(name, f"dir:{client_home}/healed").must()
    gateway.cli("check", "--deep").must()


@pytest.mark.long
def test_podman_heals_what_it_pushes_again(
    gateway: Gateway, podman: Podman, skopeo: Skopeo, layout: Layout, client_home: Path
) -> None:
    layout.add_image("v1", (300_000, 30_000))
    name = f"{gateway.registry}/gallery/ui:podman"
    podman.login(gateway.registry, *WRITER).must()
    podman.load(layout, "v1", name).must()
    podman.push(name).must()
    heal(gateway, name, lambda: podman.push(name).must(), skopeo, client_home)


@pytest.mark.long
def test_docker_heals_what_it_pushes_again(
    gateway: Gateway, docker: Docker, skopeo: Skopeo, layout: Layout, client_home: Path
) -> None:
    layout.add_image("v1", (300_000, 40_000))
    name = f"{gateway.registry}/gallery/ui:docker"
    docker.login(gateway.registry, *WRITER).must()
    docker.load(layout, "v1", name).must()
    docker.push(name).must()
    heal(gateway, name, lambda: docker.push(name).must(), skopeo, client_home)


def heal(gateway: Gateway, name: str, push: Callable[[], object], skopeo: Skopeo, home: Path) -> None:
    """Damages every blob of the image, and has it pushed again: its layers may be compressed anew."""
    skopeo.login(gateway.registry, *WRITER).must()
    manifest = skopeo.inspect(name, "--raw").json()
    for part in (manifest["config"], *manifest["layers"]):
        put_aside(gateway, file_of(gateway, part["digest"]))
    assert not skopeo.pull(name, f"dir:{home}/damaged").ok
    push()
    skopeo.pull(name, f"dir:{home}/healed").must()
