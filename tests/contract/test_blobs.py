"""What every engine promises of blobs."""

from __future__ import annotations

import os

import pytest

from gateway.errors import BlobUnknown, ContentReferenced, ManifestInvalid
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import OCI_MANIFEST, load
from gateway.oci.names import Tag
from tests.contract.house import OTHER, UI, WRITER, House, Houses, body, image, read, run

CONTENT = bytes(range(256)) * 5000


def test_a_blob_is_read_back_byte_for_byte(house: House) -> None:
    async def story() -> None:
        for content in (CONTENT, b"x", b""):
            blob = await house.push(UI, content)
            assert blob.size_bytes == len(content)
            assert await house.pull(UI, Digest.of(content)) == content

    run(story())


def test_a_blob_is_found_by_the_algorithm_it_was_pushed_under(house: House) -> None:
    async def story() -> None:
        digest = Digest.of(CONTENT, Algorithm.SHA512)
        await house.push(UI, CONTENT, Algorithm.SHA512)
        assert await house.pull(UI, digest) == CONTENT
        if house.nature.keeps_algorithms_apart:
            with pytest.raises(BlobUnknown):
                await house.engine.blobs.find(UI, Digest.of(CONTENT))
        else:
            assert await house.pull(UI, Digest.of(CONTENT)) == CONTENT

    run(story())


@pytest.mark.parametrize(("first", "last"), [(0, 0), (0, 9), (70_000, 200_000), (1, len(CONTENT) - 1)])
def test_any_range_is_read_exactly_and_in_pieces_of_256_kib_at_most(house: House, first: int, last: int) -> None:
    async def story() -> None:
        blob = await house.push(UI, CONTENT)
        pieces = [piece async for piece in house.engine.blobs.read(blob, first, last)]
        assert b"".join(pieces) == CONTENT[first : last + 1]
        assert max(map(len, pieces)) <= 256 * 1024

    run(story())


def test_pieces_are_as_small_as_they_are_wanted(house: House) -> None:
    async def appetite() -> int:
        return 32 * 1024

    async def story() -> None:
        blob = await house.push(UI, CONTENT)
        for first in (0, 1):
            coming = house.engine.blobs.read(blob, first, blob.size_bytes - 1, appetite)
            pieces = [piece async for piece in coming]
            assert b"".join(pieces) == CONTENT[first:]
            assert max(map(len, pieces)) <= 32 * 1024

    run(story())


def test_a_blob_is_invisible_from_where_it_was_not_linked(house: House) -> None:
    async def story() -> None:
        blob = await house.push(UI, CONTENT)
        for stranger in (OTHER, Digest.of(b"never pushed")):
            place, digest = (stranger, blob.digest) if stranger is OTHER else (UI, stranger)
            with pytest.raises(BlobUnknown):
                await house.engine.blobs.find(place, digest)  # type: ignore[arg-type]

    run(story())


def test_a_mount_makes_the_blob_readable_from_its_target(house: House) -> None:
    async def story() -> None:
        blob = await house.push(UI, CONTENT)
        notes = await house.commit(house.engine.blobs.mount(UI, OTHER, blob.digest))
        assert notes.digest == blob.digest.text
        assert notes.result == blob.size_bytes
        assert await house.pull(OTHER, blob.digest) == CONTENT
        await house.commit(house.engine.blobs.mount(UI, OTHER, blob.digest))
        await house.commit(house.engine.blobs.delete(UI, blob.digest))
        assert await house.pull(OTHER, blob.digest) == CONTENT

    run(story())


def test_a_mount_takes_nothing_its_source_does_not_hold(house: House) -> None:
    async def story() -> None:
        blob = await house.push(UI, CONTENT)
        with pytest.raises(BlobUnknown):
            await house.commit(house.engine.blobs.mount(OTHER, UI, blob.digest))
        with pytest.raises(BlobUnknown):
            await house.commit(house.engine.blobs.mount(UI, OTHER, Digest.of(b"never pushed")))

    run(story())


def test_what_was_mounted_by_sha512_can_be_read(house: House) -> None:
    async def story() -> None:
        digest = Digest.of(CONTENT, Algorithm.SHA512)
        await house.push(UI, CONTENT, Algorithm.SHA512)
        if house.nature.keeps_algorithms_apart:
            await house.commit(house.engine.blobs.mount(UI, OTHER, digest))
        else:
            with pytest.raises(BlobUnknown):
                await house.commit(house.engine.blobs.mount(UI, OTHER, digest))
            await house.push(OTHER, CONTENT, Algorithm.SHA512)
        assert await house.pull(OTHER, digest) == CONTENT

    run(story())


def test_what_was_pushed_by_sha512_and_deleted_is_readable_by_no_digest(house: House) -> None:
    async def story() -> None:
        digest = Digest.of(CONTENT, Algorithm.SHA512)
        for place in (UI, OTHER):
            await house.push(place, CONTENT, Algorithm.SHA512)
        await house.commit(house.engine.blobs.delete(UI, digest))
        for name in (digest, Digest.of(CONTENT)):
            with pytest.raises(BlobUnknown):
                await house.engine.blobs.find(UI, name)
        with pytest.raises(BlobUnknown):
            await house.commit(house.engine.blobs.delete(UI, digest))
        assert await house.pull(OTHER, digest) == CONTENT
        await house.push(UI, CONTENT, Algorithm.SHA512)
        assert await house.pull(UI, digest) == CONTENT

    run(story())


def test_a_layer_that_came_by_sha512_in_parts_is_named_by_it_or_by_the_digest_that_the_refusal_names(
    houses: Houses,
) -> None:
    digest = Digest.of(CONTENT, Algorithm.SHA512)

    async def story() -> None:
        here, there = houses.open(), houses.open()
        await here.push(UI, b"{}")
        upload, begun = await here.engine.uploads.begin(UI, WRITER)
        await here.commit(begun)
        await here.commit((await here.engine.uploads.append(upload, body(CONTENT[:5]), 0)).change)
        upload = await there.engine.uploads.find(UI, WRITER, upload.id)
        _, linked = await there.engine.uploads.finish(upload, body(CONTENT[5:]), 5, digest)
        await there.commit(linked)
        plain = image(b"{}", CONTENT)
        named = load(plain.content.replace(Digest.of(CONTENT).text.encode(), digest.text.encode()), OCI_MANIFEST)
        if here.nature.keeps_algorithms_apart:
            await here.put(UI, named, "v1")
            with pytest.raises(BlobUnknown):
                await here.commit(here.engine.blobs.delete(UI, Digest.of(CONTENT)))
        else:
            with pytest.raises(ManifestInvalid) as refused:
                await here.put(UI, named, "v1")
            assert f"Name {digest} as {Digest.of(CONTENT)}" in refused.value.message
            await here.put(UI, plain, "v1")
            for name in (digest, Digest.of(CONTENT)):
                with pytest.raises(ContentReferenced):
                    await here.commit(here.engine.blobs.delete(UI, name))
        found = await there.engine.manifests.find(UI, Tag("v1"))
        (layer,) = load(found.content, OCI_MANIFEST).layers
        assert await there.pull(UI, layer.digest) == CONTENT

    run(story())


def test_a_deletion_by_a_digest_that_the_repository_does_not_hold_takes_nothing(house: House) -> None:
    async def story() -> None:
        digest = Digest.of(CONTENT, Algorithm.SHA512)
        await house.push(OTHER, CONTENT, Algorithm.SHA512)
        await house.push(UI, CONTENT)
        with pytest.raises(BlobUnknown):
            await house.commit(house.engine.blobs.delete(UI, digest))
        assert await house.pull(UI, Digest.of(CONTENT)) == CONTENT

    run(story())


def test_a_deleted_blob_is_gone_here_and_nowhere_else_at_once_for_every_process(houses: Houses) -> None:
    async def story() -> None:
        here, there = houses.open(), houses.open()
        blob = await here.push(UI, CONTENT)
        await here.push(OTHER, CONTENT)
        assert await there.pull(UI, blob.digest) == CONTENT
        await here.commit(here.engine.blobs.delete(UI, blob.digest))
        for house in (here, there):
            with pytest.raises(BlobUnknown):
                await house.engine.blobs.find(UI, blob.digest)
            assert await house.pull(OTHER, blob.digest) == CONTENT
        with pytest.raises(BlobUnknown):
            await here.commit(here.engine.blobs.delete(UI, blob.digest))

    run(story())


def test_a_blob_a_manifest_names_is_not_deleted_until_the_manifest_is(house: House) -> None:
    async def story() -> None:
        manifest = await house.push_image(UI, "v1")
        layer = manifest.layers[0].digest
        with pytest.raises(ContentReferenced):
            await house.commit(house.engine.blobs.delete(UI, layer))
        await house.commit(house.engine.manifests.delete(UI, manifest.digest))
        await house.commit(house.engine.blobs.delete(UI, layer))

    run(story())


def test_two_uploads_of_the_same_bytes_both_succeed(house: House) -> None:
    async def story() -> None:
        content = os.urandom(300_000)
        await house.push(UI, content)
        await house.push(UI, content)
        await house.push(OTHER, content)
        blob = await house.engine.blobs.find(OTHER, Digest.of(content))
        assert await read(house.engine, blob) == content

    run(story())
