"""What every engine promises of manifests."""

from __future__ import annotations

import json

import pytest

from gateway.errors import ManifestBlobUnknown, ManifestInvalid, ManifestUnknown
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, load
from gateway.oci.names import Reference, Tag
from tests.contract.house import LAYER, OTHER, UI, House, Houses, image, index, run

NOT_DISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


async def is_there(house: House, reference: Reference) -> bool:
    try:
        await house.engine.manifests.find(UI, reference)
    except ManifestUnknown:
        return False
    return True


def test_a_manifest_is_found_by_tag_and_by_digest_byte_for_byte(house: House) -> None:
    async def story() -> None:
        manifest = await house.push_image(UI, "v1", "latest")
        for reference in (Tag("v1"), Tag("latest"), manifest.digest):
            for _ in range(2):
                found = await house.engine.manifests.find(UI, reference)
                assert (found.content, found.digest) == (manifest.content, manifest.digest)
                assert found.media_type == manifest.media_type

    run(story())


def test_a_manifest_pushed_by_sha512_is_found_by_it(house: House) -> None:
    async def story() -> None:
        await house.push_image(UI)
        manifest = image(b"{}", b"a layer", algorithm=Algorithm.SHA512)
        await house.put(UI, manifest)
        assert (await house.engine.manifests.find(UI, manifest.digest)).digest == manifest.digest

    run(story())


def test_a_manifest_is_refused_while_something_it_names_is_not_in_the_repository(house: House) -> None:
    async def story() -> None:
        await house.push(OTHER, b"a layer")
        await house.push(UI, b"{}")
        manifest = image(b"{}", b"a layer", b"never pushed")
        with pytest.raises(ManifestBlobUnknown) as refused:
            await house.put(UI, manifest, "v1")
        assert refused.value.missing == (Digest.of(b"a layer").text, Digest.of(b"never pushed").text)
        assert not await is_there(house, Tag("v1"))
        assert not await is_there(house, manifest.digest)

    run(story())


def test_a_manifest_does_not_stand_in_for_a_layer_of_an_image(house: House) -> None:
    async def story() -> None:
        child = await house.push_image(UI)
        manifest = image(b"{}", child.content)
        with pytest.raises(ManifestBlobUnknown) as refused:
            await house.put(UI, manifest, "v1")
        assert refused.value.missing == (child.digest.text,)
        assert not await is_there(house, Tag("v1"))

    run(story())


def test_layers_that_need_not_be_kept_are_not_asked_for(house: House) -> None:
    async def story() -> None:
        await house.push(UI, b"{}")
        manifest = image(b"{}", b"elsewhere", layer_type=FOREIGN)
        if house.nature.takes_foreign_layers:
            await house.put(UI, manifest, "v1")
        else:
            with pytest.raises(ManifestBlobUnknown):
                await house.put(UI, manifest, "v1")
        assert await is_there(house, Tag("v1")) is house.nature.takes_foreign_layers

    run(story())


@pytest.mark.parametrize(
    ("media_type", "layer_type"),
    [(OCI_MANIFEST, NOT_DISTRIBUTABLE), (DOCKER_MANIFEST, FOREIGN)],
    ids=["oci", "docker"],
)
def test_layers_that_lie_elsewhere_are_taken_or_refused_for_good(
    house: House, media_type: str, layer_type: str
) -> None:
    async def story() -> None:
        await house.push(UI, b"{}")
        fields = json.loads(image(b"{}", b"elsewhere", layer_type=layer_type).content)
        fields["mediaType"] = media_type
        fields["layers"][0]["urls"] = ["https://elsewhere.test/layer"]
        manifest = load(json.dumps(fields).encode(), media_type)
        if house.nature.takes_foreign_layers:
            await house.put(UI, manifest, "v1")
        else:
            with pytest.raises(ManifestInvalid) as refused:
                await house.put(UI, manifest, "v1")
            assert manifest.layers[0].digest.text in refused.value.message
            assert "validation.manifests.urls.allow" in refused.value.message
        assert await is_there(house, Tag("v1")) is house.nature.takes_foreign_layers

    run(story())


BLOBS = {
    "empty": b"{}",
    "list": b"[1]",
    "layer": b"\x1f\x8b a layer",
    "config": b'{"architecture": "amd64"}',
    "image": image(b"{}", b"a layer", annotations={"kept": "as a blob"}).content,
    "index": index([]).content,
    "first format": b'{"schemaVersion":1,"name":"x","tag":"y"}',
    "no type": b'{"schemaVersion":2}',
}


@pytest.mark.parametrize("content", BLOBS.values(), ids=BLOBS)
def test_a_blob_is_not_deleted_as_a_manifest(house: House, content: bytes) -> None:
    async def story() -> None:
        for algorithm in Algorithm:
            blob = await house.push(UI, content, algorithm)
            with pytest.raises(ManifestUnknown):
                await house.commit(house.engine.manifests.delete(UI, blob.digest))
            assert await house.pull(UI, blob.digest) == content

    run(story())


@pytest.mark.parametrize("content", list(BLOBS.values())[:4], ids=list(BLOBS)[:4])
def test_a_blob_is_no_manifest(house: House, content: bytes) -> None:
    async def story() -> None:
        for algorithm in Algorithm:
            blob = await house.push(UI, content, algorithm)
            assert not await is_there(house, blob.digest)

    run(story())


@pytest.mark.parametrize("content", BLOBS.values(), ids=BLOBS)
def test_the_layer_of_an_image_is_not_deleted_as_a_manifest(house: House, content: bytes) -> None:
    async def story() -> None:
        naming = await house.push_image(UI, "v1", layer=content)
        with pytest.raises(ManifestUnknown):
            await house.commit(house.engine.manifests.delete(UI, Digest.of(content)))
        assert await is_there(house, naming.digest)
        assert await house.pull(UI, Digest.of(content)) == content

    run(story())


def test_an_index_does_not_keep_the_manifests_that_it_lists(house: House) -> None:
    async def story() -> None:
        child = await house.push_image(UI)
        await house.put(UI, index([(child.content, child.media_type)]), "v1")
        await house.commit(house.engine.manifests.delete(UI, child.digest))
        assert not await is_there(house, child.digest)

    run(story())


def test_a_child_pushed_by_sha512_is_listed_by_it_or_by_the_digest_that_the_refusal_names(house: House) -> None:
    async def story() -> None:
        await house.push_image(UI)
        child = image(b"{}", b"a layer", annotations={"of": "an index"}, algorithm=Algorithm.SHA512)
        await house.put(UI, child)
        plain = index([(child.content, child.media_type)])
        content = plain.content.replace(Digest.of(child.content).text.encode(), child.digest.text.encode())
        by_it = load(content, OCI_INDEX)
        if house.nature.keeps_algorithms_apart:
            await house.put(UI, by_it, "v1")
        else:
            with pytest.raises(ManifestInvalid) as refused:
                await house.put(UI, by_it, "v1")
            assert child.digest.text in refused.value.message
            assert Digest.of(child.content).text in refused.value.message
            await house.put(UI, plain, "v1")
        assert await is_there(house, Tag("v1"))

    run(story())


def test_the_children_of_an_index_are_manifests_or_blobs_of_the_repository(house: House) -> None:
    async def story() -> None:
        child = await house.push_image(UI)
        await house.push(UI, b"cache")
        whole = index([(child.content, child.media_type), (b"cache", LAYER)])
        await house.put(UI, whole, "many")
        assert (await house.engine.manifests.find(UI, Tag("many"))).media_type == OCI_INDEX
        with pytest.raises(ManifestBlobUnknown):
            await house.put(OTHER, whole)
        await house.put(UI, index([]), "empty")

    run(story())


def test_a_moved_tag_is_told_with_where_it_was(house: House) -> None:
    async def story() -> None:
        old = await house.push_image(UI, "v1")
        await house.push(UI, b"another layer")
        new = image(b"{}", b"another layer")
        notes = await house.put(UI, new, "v1", "v2")
        assert notes.before == {"tags": {"v1": old.digest.text}}
        assert notes.after == {"tags": {"v1": new.digest.text, "v2": new.digest.text}}
        assert notes.digest == new.digest.text
        assert await is_there(house, old.digest)

    run(story())


def test_a_moved_tag_is_seen_by_every_process_at_once(houses: Houses) -> None:
    async def story() -> None:
        here, there = houses.open(), houses.open()
        old = await here.push_image(UI, "v1")
        assert (await there.engine.manifests.find(UI, Tag("v1"))).digest == old.digest
        new = await here.push_image(UI, "v1", layer=b"another layer")
        assert (await there.engine.manifests.find(UI, Tag("v1"))).digest == new.digest
        await here.commit(here.engine.manifests.delete(UI, new.digest))
        for reference in (Tag("v1"), new.digest):
            assert not await is_there(there, reference)

    run(story())


def test_pushing_a_manifest_again_changes_nothing(house: House) -> None:
    async def story() -> None:
        manifest = await house.push_image(UI, "v1")
        notes = await house.put(UI, manifest, "v1")
        assert notes.before == notes.after == {"tags": {"v1": manifest.digest.text}}
        assert await is_there(house, manifest.digest)

    run(story())


def test_a_deleted_manifest_takes_its_tags_along_and_no_others(house: House) -> None:
    async def story() -> None:
        manifest = await house.push_image(UI, "v1", "v2")
        kept = await house.push_image(UI, "v3", layer=b"another layer")
        await house.push_image(OTHER, "v1")
        notes = await house.commit(house.engine.manifests.delete(UI, manifest.digest))
        assert notes.before == {"tags": {"v1": manifest.digest.text, "v2": manifest.digest.text}}
        for gone in (manifest.digest, Tag("v1"), Tag("v2")):
            assert not await is_there(house, gone)
        assert await is_there(house, kept.digest)
        assert (await house.engine.manifests.find(OTHER, Tag("v1"))).content == manifest.content
        with pytest.raises(ManifestUnknown):
            await house.commit(house.engine.manifests.delete(UI, manifest.digest))

    run(story())


def test_a_deleted_manifest_can_be_pushed_again(house: House) -> None:
    async def story() -> None:
        manifest = await house.push_image(UI, "v1")
        await house.commit(house.engine.manifests.delete(UI, manifest.digest))
        await house.put(UI, manifest, "v1")
        assert (await house.engine.manifests.find(UI, Tag("v1"))).content == manifest.content

    run(story())


def test_a_removed_tag_leaves_the_manifest(house: House) -> None:
    async def story() -> None:
        manifest = await house.push_image(UI, "v1", "v2")
        notes = await house.commit(house.engine.manifests.untag(UI, Tag("v1")))
        assert notes.before == {"tags": {"v1": manifest.digest.text}}
        assert not await is_there(house, Tag("v1"))
        assert await is_there(house, Tag("v2"))
        assert await is_there(house, manifest.digest)
        for missing in (UI, OTHER):
            with pytest.raises(ManifestUnknown):
                await house.commit(house.engine.manifests.untag(missing, Tag("v1")))

    run(story())


def test_nothing_is_found_where_there_is_nothing(house: House) -> None:
    async def story() -> None:
        manifest = await house.push_image(OTHER, "v1")
        for reference in (Tag("v1"), manifest.digest):
            assert not await is_there(house, reference)
        with pytest.raises(ManifestUnknown):
            await house.commit(house.engine.manifests.delete(UI, manifest.digest))

    run(story())
