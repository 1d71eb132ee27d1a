"""Settling what was named by SHA-512: the registry behind answers with the SHA-256 of the same bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from gateway.audit.event import Kind
from gateway.change import Change
from gateway.errors import BlobUnknown
from gateway.oci.digest import Algorithm, Digest
from gateway.records import mirror
from gateway.records.behind_tables import promises, twins
from gateway.records.schema import links, manifests
from tests.contract.house import image
from tests.records.rows import column
from tests.settlement.front import LAYER, NEW_LAYER, OWNER, UI, Act, Front, body

BLOB = Digest.of(NEW_LAYER, Algorithm.SHA512)
PLAIN = image(b"{}", LAYER, annotations={"pushed by": "sha512"})
PUSHED = replace(PLAIN, digest=Digest.of(PLAIN.content, Algorithm.SHA512))


async def push_blob(front: Front) -> Change:
    upload, begun = await front.engine.uploads.begin(UI, OWNER)
    await front.commit(Kind.UPLOAD_BEGIN, begun)
    return (await front.engine.uploads.finish(upload, body(NEW_LAYER), None, BLOB))[1]


async def push_and_delete_blob(front: Front) -> Change:
    await front.commit(Kind.BLOB_PUSH, await push_blob(front))
    return front.engine.blobs.delete(UI, BLOB)


async def push_manifest(front: Front) -> Change:
    return front.put("v9", manifest=PUSHED)


def test_a_blob_that_was_pushed_by_sha512_is_settled(front_on_each: Front) -> None:
    front = front_on_each
    front.leave(Kind.BLOB_PUSH, push_blob, done=True)

    assert front.settle() == 1

    assert BLOB.text in column(front.house, links.c.digest)
    assert (front.last()["outcome"], front.last()["digest"]) == ("allowed", BLOB.text)
    assert front.run(front.engine.blobs.find(UI, BLOB)).size_bytes == len(NEW_LAYER)


async def keep(front: Front, content: bytes, digest: Digest) -> None:
    """Puts a blob into the registry behind, past the gateway."""
    begun = await front.client.ask("POST", f"/v2/{UI}/blobs/uploads/", content=b"")
    place = front.client.local(begun.headers["location"], UI.name)
    assert (await front.client.ask("PUT", f"{place}&digest={digest}", content=content)).status == 201


def sending(content: bytes) -> Act:
    """A push of *content* under the digest of another blob, which the registry behind refuses."""

    async def push(front: Front) -> Change:
        upload, begun = await front.engine.uploads.begin(UI, OWNER)
        await front.commit(Kind.UPLOAD_BEGIN, begun)
        return (await front.engine.uploads.finish(upload, body(content), None, BLOB))[1]

    return push


@pytest.mark.parametrize("sent", [b"other bytes, and longer", NEW_LAYER[::-1]], ids=["another size", "another SHA-256"])
def test_a_push_of_other_bytes_than_those_that_are_there_by_sha512_was_not_done(
    front_on_each: Front, sent: bytes
) -> None:
    front = front_on_each
    front.run(keep(front, NEW_LAYER, BLOB))
    front.leave(Kind.BLOB_PUSH, sending(sent), done=False)

    assert front.settle(later=600) == 1

    assert (front.last()["outcome"], front.last()["reason"]) == ("failed", "not_done")
    assert BLOB.text not in column(front.house, links.c.digest)
    assert column(front.house, twins.c.sha256) == []


def test_a_blob_that_was_sent_under_the_digest_of_another_stays_when_that_is_deleted(front_on_each: Front) -> None:
    front, junk = front_on_each, b"needed by others"

    async def story() -> None:
        _, change = await front.upload(UI, junk)
        await front.commit(Kind.BLOB_PUSH, change)
        await front.engine.blobs.find(UI, BLOB)
        await front.commit(Kind.BLOB_DELETE, front.engine.blobs.delete(UI, BLOB))
        assert (await front.engine.blobs.find(UI, Digest.of(junk))).size_bytes == len(junk)

    front.run(keep(front, NEW_LAYER, BLOB))
    front.leave(Kind.BLOB_PUSH, sending(junk), done=False)
    assert front.settle(later=600) == 1
    front.run(story())


def test_another_name_that_is_wrong_is_put_right_once_the_registry_says_another(front_on_each: Front) -> None:
    front = front_on_each
    front.written(lambda connection: mirror.keep_twin(connection, BLOB, Digest.of(b"anything")))
    front.run(keep(front, NEW_LAYER, BLOB))

    front.run(front.engine.blobs.find(UI, BLOB))

    assert column(front.house, twins.c.sha256) == [Digest.of(NEW_LAYER).text]


@pytest.mark.parametrize("done", [False, True], ids=["not done", "done"])
def test_a_deletion_of_a_blob_by_sha512_is_settled(front: Front, done: bool) -> None:
    front.leave(Kind.BLOB_DELETE, push_and_delete_blob, done=done)

    assert front.settle(later=120) == 1

    assert front.open_intents() == []
    assert front.last()["outcome"] == ("allowed" if done else "failed")
    assert (BLOB.text in column(front.house, links.c.digest)) is not done
    if done:
        with pytest.raises(BlobUnknown):
            front.run(front.engine.blobs.find(UI, BLOB))


async def delete_half(front: Front) -> Change:
    """A deletion of which the registry behind did the first half."""
    change = await push_and_delete_blob(front)
    assert change.elsewhere is not None

    async def run() -> None:
        assert (await front.client.ask("DELETE", f"/v2/{UI}/blobs/{BLOB}")).status == 202

    return replace(change, elsewhere=replace(change.elsewhere, run=run))


def test_a_deletion_that_left_a_blob_by_its_other_name_was_not_done_and_can_be_done_again(front: Front) -> None:
    front.leave(Kind.BLOB_DELETE, delete_half, done=True)

    assert front.settle(later=120) == 1

    assert (front.last()["outcome"], front.last()["reason"]) == ("failed", "not_done")
    assert BLOB.text in column(front.house, links.c.digest)
    front.run(front.commit(Kind.BLOB_DELETE, front.engine.blobs.delete(UI, BLOB)))
    assert BLOB.text not in column(front.house, links.c.digest)
    for digest in (BLOB, Digest.of(NEW_LAYER)):
        with pytest.raises(BlobUnknown):
            front.run(front.engine.blobs.find(UI, digest))


def test_a_blob_whose_push_by_sha512_was_settled_is_deleted_by_both_names(front: Front) -> None:
    front.leave(Kind.BLOB_PUSH, push_blob, done=True)
    assert front.settle() == 1

    front.run(front.commit(Kind.BLOB_DELETE, front.engine.blobs.delete(UI, BLOB)))

    for digest in (BLOB, Digest.of(NEW_LAYER)):
        with pytest.raises(BlobUnknown):
            front.run(front.engine.blobs.find(UI, digest))


def test_a_manifest_that_was_pushed_by_sha512_is_found_by_it_once_it_is_settled(front_on_each: Front) -> None:
    front = front_on_each
    front.leave(Kind.MANIFEST_PUSH, push_manifest, done=True)

    assert front.settle() == 1

    assert (front.last()["outcome"], front.last()["digest"]) == ("allowed", PUSHED.digest.text)
    assert front.last()["after"] == {"tags": {"v9": PLAIN.digest.text}}
    assert {PUSHED.digest.text, PLAIN.digest.text} <= set(column(front.house, manifests.c.digest))
    assert front.run(front.engine.manifests.find(UI, PUSHED.digest)).content == PLAIN.content


async def lose(front: Front, digest: Digest) -> None:
    """Deletes a blob in the registry behind, past the gateway."""
    assert (await front.client.ask("DELETE", f"/v2/{UI}/blobs/{digest}")).status == 202


async def delete_by_sha256(front: Front) -> None:
    await front.commit(Kind.BLOB_DELETE, front.engine.blobs.delete(UI, Digest.of(NEW_LAYER)))


async def push_and_delete_as_manifest(front: Front) -> None:
    await front.commit(Kind.MANIFEST_PUSH, front.put("v8", manifest=PLAIN))
    await front.commit(Kind.MANIFEST_DELETE, front.engine.manifests.delete(UI, PLAIN.digest))


async def push_manifest_as_blob(front: Front) -> Change:
    upload, begun = await front.engine.uploads.begin(UI, OWNER)
    await front.commit(Kind.UPLOAD_BEGIN, begun)
    return (await front.engine.uploads.finish(upload, body(PLAIN.content), None, PUSHED.digest))[1]


@pytest.mark.parametrize(
    ("push", "delete", "content"),
    [(push_blob, delete_by_sha256, NEW_LAYER), (push_manifest_as_blob, push_and_delete_as_manifest, PLAIN.content)],
    ids=["as a blob", "as a manifest"],
)
def test_a_push_by_sha512_whose_bytes_were_deleted_by_sha256_before_it_was_settled_is_over_and_can_be_done_again(
    front_on_each: Front, push: Act, delete: Callable[[Front], Awaitable[None]], content: bytes
) -> None:
    front, digest = front_on_each, Digest.of(content, Algorithm.SHA512)

    async def story() -> None:
        with pytest.raises(BlobUnknown):
            await front.engine.blobs.find(UI, digest)
        await front.commit(Kind.BLOB_PUSH, await push(front))
        assert (await front.engine.blobs.find(UI, digest)).size_bytes == len(content)

    front.leave(Kind.BLOB_PUSH, push, done=True)
    front.run(delete(front))

    assert front.settle(later=600) == 1

    assert (front.last()["outcome"], front.last()["reason"]) == ("failed", "not_done")
    assert front.open_intents() == []
    assert column(front.house, promises.c.digest) == []
    front.run(story())


def test_a_deletion_is_settled_of_a_blob_by_sha512_whose_bytes_went_by_sha256(front_on_each: Front) -> None:
    front = front_on_each
    front.leave(Kind.BLOB_DELETE, push_and_delete_blob, done=False)
    front.run(lose(front, Digest.of(NEW_LAYER)))

    assert front.settle(later=120) == 1

    assert (front.last()["outcome"], front.open_intents()) == ("allowed", [])
    assert BLOB.text not in column(front.house, links.c.digest)


@pytest.mark.parametrize("tags", [(), ("v9",)], ids=["by its digest", "by a tag"])
@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_manifest_that_was_never_pushed_is_not_taken_for_pushed_because_its_bytes_are_there_as_a_blob(
    front_on_each: Front, tags: tuple[str, ...], algorithm: Algorithm
) -> None:
    front = front_on_each

    async def push(front: Front) -> Change:
        return front.put(*tags, manifest=replace(PLAIN, digest=Digest.of(PLAIN.content, algorithm)))

    async def as_blob() -> None:
        _, change = await front.upload(UI, PLAIN.content)
        await front.commit(Kind.BLOB_PUSH, change)

    front.run(as_blob())
    front.leave(Kind.MANIFEST_PUSH, push, done=False)

    assert front.settle(later=600) == 1

    assert (front.last()["outcome"], front.last()["reason"]) == ("failed", "not_done")
    assert PLAIN.digest.text not in column(front.house, manifests.c.digest)


def test_a_manifest_that_was_pushed_by_a_tag_is_settled_though_its_bytes_are_there_as_a_blob(
    front_on_each: Front,
) -> None:
    front = front_on_each

    async def as_blob() -> None:
        _, change = await front.upload(UI, PLAIN.content)
        await front.commit(Kind.BLOB_PUSH, change)

    front.run(as_blob())
    front.leave(Kind.MANIFEST_PUSH, push_manifest, done=True)

    assert front.settle() == 1

    assert front.last()["outcome"] == "allowed"
    assert PLAIN.digest.text in column(front.house, manifests.c.digest)
