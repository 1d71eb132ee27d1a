"""The clients of the journeys work: against a registry that is not ours, so that a red journey is about ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.authority import Authority
from tests.services.clients import Ctr, Docker, Podman, Result, Skopeo
from tests.services.daemon import scratch
from tests.services.distribution import PASSWORD, USER, running_distribution
from tests.services.images import GREETING, Layout
from tests.services.machine import trusted

pytestmark = pytest.mark.journey

LAYER_BYTES = (300_000, 1, 2_000_000)


@pytest.fixture(scope="module")
def registry(authority: Authority, known_names: None) -> Iterator[str]:
    pair = authority.issue("127.0.0.1", "localhost", "plain.test")
    with scratch("dist") as directory, running_distribution(directory, pair) as port:
        name = f"plain.test:{port}"
        with trusted(name, authority.certificate):
            yield name


def refused(result: Result) -> bool:
    return not result.ok and any(word in result.output.lower() for word in ("unauthorized", "basic auth", "denied"))


def test_skopeo_moves_an_image_unchanged(skopeo: Skopeo, registry: str, layout: Layout, client_home: Path) -> None:
    image = layout.add_image("v1", LAYER_BYTES)
    assert refused(skopeo.push(layout.source("v1"), f"{registry}/plain/skopeo:v1"))
    skopeo.login(registry, USER, PASSWORD).must()
    skopeo.push(layout.source("v1"), f"{registry}/plain/skopeo:v1").must()
    pulled = Layout.create(client_home / "pulled")
    skopeo.pull(f"{registry}/plain/skopeo:v1", pulled.source("v1")).must()
    for part in (image.manifest, image.config, *image.layers):
        assert pulled.read(part.digest) == layout.read(part.digest)
    assert skopeo.list_tags(f"{registry}/plain/skopeo").json()["Tags"] == ["v1"]
    skopeo.delete(f"{registry}/plain/skopeo:v1").must()
    assert not skopeo.inspect(f"{registry}/plain/skopeo:v1").ok


def test_skopeo_moves_an_index_whole(skopeo: Skopeo, registry: str, layout: Layout) -> None:
    index, images = layout.add_index("multi", [1000, 2000])
    skopeo.login(registry, USER, PASSWORD).must()
    skopeo.push(layout.source("multi"), f"{registry}/plain/index:multi", "--all").must()
    assert skopeo.inspect(f"{registry}/plain/index:multi", "--raw").must().stdout.encode() == layout.read(index.digest)
    for image in images:
        skopeo.inspect(f"{registry}/plain/index@{image.manifest.digest}", "--raw").must()


def test_podman_pushes_and_pulls(podman: Podman, registry: str, layout: Layout) -> None:
    layout.add_image("v1", LAYER_BYTES, seed=1)
    name = f"{registry}/plain/podman:v1"
    podman.load(layout, "v1", name).must()
    assert refused(podman.push(name))
    podman.login(registry, USER, PASSWORD).must()
    podman.push(name).must()
    before = podman.inspect(name).json()[0]["Id"]
    podman.remove(name).must()
    podman.pull(name).must()
    assert podman.inspect(name).json()[0]["Id"] == before


def test_docker_pushes_pulls_and_runs(docker: Docker, registry: str, layout: Layout) -> None:
    layout.add_runnable_image("v1")
    name = f"{registry}/plain/docker:v1"
    docker.load(layout, "v1", name).must()
    assert refused(docker.push(name))
    assert refused(docker.login(registry, USER, "wrong"))
    docker.login(registry, USER, PASSWORD).must()
    docker.push(name).must()
    docker.remove(name).must()
    docker.pull(name).must()
    assert docker.run_container(name).must().stdout.strip() == GREETING
    docker.remove(name).must()


def test_containerd_pushes_and_pulls(ctr: Ctr, registry: str, layout: Layout, authority: Authority) -> None:
    layout.add_index("v1", [5000])
    name = f"{registry}/plain/ctr:v1"
    ctr.trust(registry, authority.certificate)
    ctr.load(layout, "v1", name, "--all-platforms").must()
    assert refused(ctr.push(name, (USER, "wrong")))
    ctr.push(name, (USER, PASSWORD)).must()
    ctr.remove(name, "loaded:v1").must()
    ctr.fetch(name, (USER, PASSWORD)).must()
    ctr.remove(name).must()
    ctr.pull(name, (USER, PASSWORD)).must()
    ctr.remove(name).must()
