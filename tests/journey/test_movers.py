"""Every client moves what people move: big images, whole indexes, what others may not push, what anybody may pull."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journey.conftest import DOCKER_PROGRAMS, Open, engine_of
from tests.services.clients import Ctr, Docker, Podman, Result, Skopeo
from tests.services.gateway import Gateway
from tests.services.images import GREETING, OCI_INDEX, Layout

pytestmark = pytest.mark.journey

WRITER = ("writer", "writer's-long-password")
READER = ("reader", "reader's-long-password")
KEEPER = ("keeper", "keeper's-long-password")

MEGABYTE = 1_000_000
# A few hundred megabytes, as images are: one big layer, some middling, some small. In front of another registry a
# tenth of it is as good: what is bigger there is a matter of the figures.
LAYER_BYTES = (180 * MEGABYTE, 80 * MEGABYTE, 35 * MEGABYTE, 4 * MEGABYTE, 900_000, 1)
MISSING = "push on gallery/{} is missing; reader holds puller on gallery"


@pytest.fixture(scope="module", params=["embedded", pytest.param("upstream", marks=pytest.mark.long)])
def engine(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What keeps the content; the whole of it in front of a registry takes its time."""
    with engine_of(request.param) as environment:
        yield environment


@pytest.fixture(scope="module")
def big(engine: dict[str, str]) -> tuple[int, ...]:
    """The layers of a big image."""
    return tuple(max(1, size // 10) for size in LAYER_BYTES) if engine else LAYER_BYTES


@pytest.fixture(scope="module")
def hub(opened: Open, engine: dict[str, str]) -> Iterator[Gateway]:
    """A gateway with a project of each kind and somebody for each role; two workers."""
    with opened(workers=2, environment=engine) as gateway:
        for who in (WRITER, READER, KEEPER):
            gateway.add_user(*who)
        gateway.cli("project", "add", "gallery").must()
        gateway.cli("project", "add", "open", "--public").must()
        gateway.cli("grant", "reader", "puller", "gallery").must()
        for project in ("gallery", "open"):
            gateway.cli("grant", "writer", "pusher", project).must()
        gateway.cli("grant", "keeper", "maintainer", "gallery").must()
        yield gateway


def denied_push(result: Result, repository: str) -> bool:
    """Whether a push failed, and the client passed on which right is missing."""
    return not result.ok and MISSING.format(repository) in result.output


def same_content(layout: Layout, pulled: Layout, *digests: str) -> bool:
    return all(_sha256(pulled.blob(each)) == _sha256(layout.blob(each)) == each for each in digests)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


# skopeo


def test_skopeo_moves_a_big_image_byte_for_byte(
    hub: Gateway, skopeo: Skopeo, layout: Layout, client_home: Path, big: tuple[int, ...]
) -> None:
    image = layout.add_image("v1", big, seed=201)
    skopeo.login(hub.registry, *WRITER).must()
    skopeo.push(layout.source("v1"), f"{hub.registry}/gallery/skopeo:v1").must()
    pulled = Layout.create(client_home / "pulled")
    skopeo.login(hub.registry, *READER).must()
    skopeo.pull(f"{hub.registry}/gallery/skopeo:v1", pulled.source("v1")).must()
    assert same_content(layout, pulled, *(part.digest for part in (image.manifest, image.config, *image.layers)))


def test_skopeo_moves_an_index_whole(hub: Gateway, skopeo: Skopeo, layout: Layout, client_home: Path) -> None:
    index, images = layout.add_index("multi", [50_000, 2000], seed=202)
    skopeo.login(hub.registry, *WRITER).must()
    skopeo.push(layout.source("multi"), f"{hub.registry}/gallery/index:multi", "--all").must()
    pulled = Layout.create(client_home / "pulled")
    skopeo.pull(f"{hub.registry}/gallery/index:multi", pulled.source("multi"), "--all").must()
    children = [entry["digest"] for entry in json.loads(layout.read(index.digest))["manifests"]]
    assert len(children) == len(images) + 1
    assert same_content(layout, pulled, index.digest, *children)


def test_skopeo_is_told_which_right_is_missing(hub: Gateway, skopeo: Skopeo, layout: Layout) -> None:
    layout.add_image("v1", (1000,), seed=203)
    skopeo.login(hub.registry, *READER).must()
    assert denied_push(skopeo.push(layout.source("v1"), f"{hub.registry}/gallery/denied:v1"), "denied")


def test_skopeo_deletes_a_manifest_with_all_its_tags(hub: Gateway, skopeo: Skopeo, layout: Layout) -> None:
    layout.add_image("v1", (1000,), seed=204)
    reference = f"{hub.registry}/gallery/deleted"
    skopeo.login(hub.registry, *WRITER).must()
    for tag in ("v1", "v2"):
        skopeo.push(layout.source("v1"), f"{reference}:{tag}").must()
    assert not skopeo.delete(f"{reference}:v1").ok
    assert skopeo.list_tags(reference).json()["Tags"] == ["v1", "v2"]
    skopeo.login(hub.registry, *KEEPER).must()
    skopeo.delete(f"{reference}:v1").must()
    assert not skopeo.inspect(f"{reference}:v2", "--raw").ok
    outcomes = [(event["principal"], event["outcome"]) for event in hub.events(kind="manifest.delete")]
    assert set(outcomes) == {("writer", "denied"), ("keeper", "allowed")}


def test_anybody_pulls_what_is_public_and_nothing_else(
    hub: Gateway, skopeo: Skopeo, layout: Layout, client_home: Path
) -> None:
    layout.add_image("v1", (1000,), seed=205)
    skopeo.login(hub.registry, *WRITER).must()
    for project in ("open", "gallery"):
        skopeo.push(layout.source("v1"), f"{hub.registry}/{project}/anybody:v1").must()
    nobody = Skopeo(client_home / "nobody")
    pulled = Layout.create(client_home / "pulled")
    nobody.pull(f"{hub.registry}/open/anybody:v1", pulled.source("v1")).must()
    assert not nobody.pull(f"{hub.registry}/gallery/anybody:v1", pulled.source("v2")).ok
    assert not nobody.push(layout.source("v1"), f"{hub.registry}/open/anybody:v2").ok
    (pull,) = hub.events(kind="manifest.pull", repository="open/anybody")
    assert (pull["principal_kind"], pull["outcome"]) == ("anonymous", "allowed")


# podman


@pytest.mark.long
def test_podman_moves_a_big_image(hub: Gateway, podman: Podman, layout: Layout, big: tuple[int, ...]) -> None:
    layout.add_image("v1", big, seed=211)
    name = f"{hub.registry}/gallery/podman:v1"
    podman.load(layout, "v1", name).must()
    before = podman.inspect(name).json()[0]
    podman.login(hub.registry, *WRITER).must()
    podman.push(name).must()
    podman.remove(name).must()
    podman.login(hub.registry, *READER).must()
    podman.pull(name).must()
    after = podman.inspect(name).json()[0]
    assert (after["Id"], after["RootFS"]) == (before["Id"], before["RootFS"])


def test_podman_is_told_which_right_is_missing_and_pulls_what_is_public(
    hub: Gateway, podman: Podman, layout: Layout, client_home: Path
) -> None:
    layout.add_image("v1", (1000,), seed=212)
    name = f"{hub.registry}/gallery/podman-denied:v1"
    podman.load(layout, "v1", name).must()
    podman.login(hub.registry, *READER).must()
    assert denied_push(podman.push(name), "podman-denied")
    public = f"{hub.registry}/open/podman:v1"
    podman.login(hub.registry, *WRITER).must()
    podman.tag(name, public).must()
    podman.push(public).must()
    podman.logout(hub.registry).must()
    podman.remove(public).must()
    podman.pull(public).must()
    assert not podman.pull(f"{hub.registry}/gallery/podman:v1").ok


# docker


@pytest.mark.long
@pytest.mark.parametrize("docker", DOCKER_PROGRAMS[:1], indirect=True, ids=["debian"])
def test_docker_moves_a_big_image(hub: Gateway, docker: Docker, layout: Layout, big: tuple[int, ...]) -> None:
    layout.add_image("v1", big, seed=221)
    name = f"{hub.registry}/gallery/docker:v1"
    docker.load(layout, "v1", name).must()
    before = docker.inspect(name).json()[0]
    docker.login(hub.registry, *WRITER).must()
    docker.push(name).must()
    docker.remove(name).must()
    docker.login(hub.registry, *READER).must()
    docker.pull(name).must()
    after = docker.inspect(name).json()[0]
    docker.remove(name).must()
    assert (after["Id"], after["RootFS"]) == (before["Id"], before["RootFS"])


def test_docker_runs_what_it_pulled_and_pulls_its_own_kind_out_of_an_index(
    hub: Gateway, docker: Docker, skopeo: Skopeo, layout: Layout
) -> None:
    layout.add_runnable_image("v1")
    _, images = layout.add_index("multi", [3000], seed=222)
    program = docker.argv[0].strip("/").replace("/", "-")
    name = f"{hub.registry}/gallery/{program}:v1"
    docker.load(layout, "v1", name).must()
    docker.login(hub.registry, *WRITER).must()
    docker.push(name).must()
    docker.remove(name).must()
    docker.pull(name).must()
    assert docker.run_container(name).must().stdout.strip() == GREETING
    docker.remove(name).must()
    skopeo.login(hub.registry, *WRITER).must()
    skopeo.push(layout.source("multi"), f"{hub.registry}/gallery/{program}:multi", "--all").must()
    index = f"{hub.registry}/gallery/{program}:multi"
    docker.pull(index).must()
    assert docker.inspect(index).json()[0]["Id"] == images[0].config.digest
    docker.remove(index).must()


def test_docker_is_told_which_right_is_missing_and_pulls_what_is_public(
    hub: Gateway, docker: Docker, layout: Layout
) -> None:
    layout.add_image("v1", (1000,), seed=223)
    program = docker.argv[0].strip("/").replace("/", "-")
    name, public = f"{hub.registry}/gallery/{program}-denied:v1", f"{hub.registry}/open/{program}:v1"
    docker.load(layout, "v1", name).must()
    docker.login(hub.registry, *READER).must()
    assert denied_push(docker.push(name), f"{program}-denied")
    docker.tag(name, public).must()
    docker.login(hub.registry, *WRITER).must()
    docker.push(public).must()
    docker.logout(hub.registry).must()
    docker.remove(name, public).must()
    docker.pull(public).must()
    docker.remove(public).must()
    assert not docker.pull(name).ok


# containerd


@pytest.mark.long
def test_containerd_moves_a_big_image(hub: Gateway, ctr: Ctr, layout: Layout, big: tuple[int, ...]) -> None:
    image = layout.add_image("v1", big, seed=231)
    name = f"{hub.registry}/gallery/ctr:v1"
    ctr.trust(hub.registry, hub.certificate)
    ctr.load(layout, "v1", name).must()
    ctr.push(name, WRITER).must()
    ctr.remove(name, "loaded:v1").must()
    ctr.pull(name, READER).must()
    held = ctr.run("content", "ls", "-q").must().stdout.split()
    ctr.remove(name).must()
    assert {image.manifest.digest, *(layer.digest for layer in image.layers)} <= set(held)


def test_containerd_moves_an_index_whole(hub: Gateway, ctr: Ctr, layout: Layout) -> None:
    index, images = layout.add_index("v1", [5000], seed=232)
    name = f"{hub.registry}/gallery/ctr-index:v1"
    ctr.trust(hub.registry, hub.certificate)
    ctr.load(layout, "v1", name, "--all-platforms").must()
    ctr.push(name, WRITER).must()
    ctr.remove(name, "loaded:v1").must()
    ctr.fetch(name, READER).must()
    held = ctr.run("content", "ls", "-q").must().stdout.split()
    ctr.remove(name).must()
    assert {index.digest, *(image.manifest.digest for image in images)} <= set(held)


def test_containerd_is_told_which_right_is_missing_and_pulls_what_is_public(
    hub: Gateway, ctr: Ctr, layout: Layout
) -> None:
    layout.add_image("v1", (1000,), seed=233)
    ctr.trust(hub.registry, hub.certificate)
    name, public = f"{hub.registry}/gallery/ctr-denied:v1", f"{hub.registry}/open/ctr:v1"
    ctr.load(layout, "v1", name).must()
    denied = ctr.push(name, READER)
    # Of a refusal containerd passes on only its kind; which right is missing stands in the trail.
    assert not denied.ok
    assert "insufficient_scope" in denied.output
    refused = {(event["principal"], event["action"]) for event in hub.events(repository="gallery/ctr-denied")}
    assert ("reader", "push") in refused
    ctr.run("images", "tag", name, public).must()
    ctr.push(public, WRITER).must()
    ctr.remove(name, public, "loaded:v1").must()
    ctr.pull(public).must()
    ctr.remove(public).must()
    assert not ctr.pull(f"{hub.registry}/gallery/ctr:v1").ok


# without a client


def test_a_tag_is_deleted_alone(hub: Gateway, skopeo: Skopeo, layout: Layout) -> None:
    image = layout.add_image("v1", (1000,), seed=241)
    skopeo.login(hub.registry, *WRITER).must()
    for tag in ("v1", "v2"):
        skopeo.push(layout.source("v1"), f"{hub.registry}/gallery/tags:{tag}").must()
    token = hub.wire.token(KEEPER, "repository:gallery/tags:pull,delete")
    path = "/v2/gallery/tags/manifests"
    hub.wire.ask("DELETE", f"{path}/v1", token=token).must(202)
    hub.wire.ask("GET", f"{path}/v1", token=token).must(404)
    hub.wire.ask("GET", f"{path}/v2", token=token).must(200)
    hub.wire.ask("GET", f"{path}/{image.manifest.digest}", token=token).must(200)
    assert [event["reference"] for event in hub.events(kind="tag.delete")] == ["v1"]


def test_what_is_about_an_image_is_listed_with_it(hub: Gateway, skopeo: Skopeo, layout: Layout) -> None:
    image = layout.add_image("v1", (1000,), seed=242)
    skopeo.login(hub.registry, *WRITER).must()
    skopeo.push(layout.source("v1"), f"{hub.registry}/gallery/subject:v1").must()
    artifact = layout.add_artifact("sbom", image.manifest, "application/spdx+json", b'{"spdx": 1}')
    token = hub.wire.token(WRITER, "repository:gallery/subject:pull,push")
    for part in (artifact.config, *artifact.layers):
        hub.wire.push_blob("gallery/subject", token, layout.read(part.digest), part.digest)
    pushed = hub.wire.ask(
        "PUT",
        f"/v2/gallery/subject/manifests/{artifact.manifest.digest}",
        token=token,
        body=layout.read(artifact.manifest.digest),
        headers={"Content-Type": artifact.manifest.media_type},
    ).must(201)
    assert pushed.headers["oci-subject"] == image.manifest.digest
    listing = f"/v2/gallery/subject/referrers/{image.manifest.digest}"
    listed = hub.wire.ask("GET", listing, token=hub.wire.token(READER, "repository:gallery/subject:pull")).must(200)
    assert listed.headers["content-type"] == OCI_INDEX
    (entry,) = listed.json["manifests"]
    assert (entry["digest"], entry["artifactType"]) == (artifact.manifest.digest, "application/spdx+json")
    other = hub.wire.ask("GET", f"{listing}?artifactType=other/type", token=token).must(200)
    assert other.json["manifests"] == []
    assert other.headers["oci-filters-applied"] == "artifactType"


def test_the_trail_of_all_this_is_whole(hub: Gateway) -> None:
    assert hub.is_trail_whole()
