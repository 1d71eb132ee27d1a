"""Manifests of a registry behind: what is asked again, what is remembered, what is not believed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.engine.upstream.sharing import Sharing
from gateway.errors import (
    BlobUnknown,
    ContentReferenced,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    Refusal,
    TagImmutable,
    Unsupported,
    UpstreamFailed,
    UpstreamUnavailable,
)
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import OCI_INDEX, OCI_MANIFEST, Manifest, load
from gateway.oci.names import Reference, Tag
from gateway.records import projects, schema
from gateway.records.behind_tables import untagged
from gateway.records.projects import Wishes
from tests.contract.house import OTHER, UI, House, Houses, image, index, run
from tests.engine.behind import Behind, Script, refusal, rows
from tests.faults.peer import misbehaving
from tests.services.distribution import Registry

LAYER = b"a layer"
MANIFEST = image(b"{}", LAYER)
NEWER = image(b"{}", b"another layer")
V1 = Tag("v1")
JSON = {"Content-Type": OCI_MANIFEST}


async def found(house: House, reference: Reference) -> Digest | None:
    try:
        return (await house.engine.manifests.find(UI, reference)).digest
    except ManifestUnknown:
        return None


# reading


def test_what_was_pushed_past_the_gateway_is_found_and_a_tag_that_moved_there_is_seen_at_once(
    front: House, behind: Behind
) -> None:
    async def story() -> None:
        await behind.put(UI, MANIFEST, "v1", b"{}", LAYER)
        for reference in (V1, MANIFEST.digest):
            stored = await front.engine.manifests.find(UI, reference)
            assert (stored.content, stored.media_type) == (MANIFEST.content, MANIFEST.media_type)
        await behind.put(UI, NEWER, "v1", b"another layer")
        assert await found(front, V1) == NEWER.digest

    run(story())


def test_a_tag_is_asked_for_each_time_and_sent_again_only_if_it_moved(front: House, behind: Behind) -> None:
    async def story() -> None:
        await behind.put(UI, MANIFEST, "v1", b"{}", LAYER)
        behind.client.asked.clear()
        for _ in range(3):
            assert (await front.engine.manifests.find(UI, V1)).content == MANIFEST.content
        path = f"/v2/{UI}/manifests/v1"
        assert behind.client.asked == [("GET", path, 200), ("GET", path, 304), ("GET", path, 304)]

    run(story())


def test_a_manifest_is_asked_for_by_digest_once_and_pulled_on_when_the_registry_is_gone(
    fronts: Callable[[Behind], Houses],
) -> None:
    with misbehaving(Script(GET=(200, JSON, MANIFEST.content))) as peer:
        house = fronts(Behind(peer.url)).open()

        async def before() -> None:
            for _ in range(3):
                await house.engine.manifests.find(UI, MANIFEST.digest)
            assert len(peer.requests) == 1

        run(before())

    async def after() -> None:
        assert (await house.engine.manifests.find(UI, MANIFEST.digest)).content == MANIFEST.content
        for reference, place in ((V1, UI), (MANIFEST.digest, OTHER)):
            with pytest.raises(UpstreamUnavailable):
                await house.engine.manifests.find(place, reference)

    run(after())


PAGE = b"<html>sign in</html>"
LIES = {
    "a page": (200, {"Content-Type": "text/html"}, PAGE),
    "a page said to be a manifest": (200, JSON, PAGE),
    "no type": (200, {}, MANIFEST.content),
    "another type": (200, {"Content-Type": OCI_INDEX}, MANIFEST.content),
    "a list": (200, JSON, b"[]"),
    "half of it": (200, JSON, MANIFEST.content[:-9]),
    "another digest": (200, {**JSON, "Docker-Content-Digest": NEWER.digest.text}, MANIFEST.content),
    "no digest": (200, {**JSON, "Docker-Content-Digest": "sha256:x"}, MANIFEST.content),
    "a missing page": (404, {"Content-Type": "text/html"}, PAGE),
    "a failure": (500, {}, b""),
    "too many": (429, {}, b""),
    "not modified": (304, {}, b""),
    "partial content": (206, JSON, MANIFEST.content),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_is_no_manifest_is_no_manifest_and_makes_nothing_forgotten(
    lie: str, fronts: Callable[[Behind], Houses]
) -> None:
    script = Script(PUT=(201, {}, b""), GET=LIES[lie])
    with misbehaving(script) as peer:
        house = fronts(Behind(peer.url)).open()

        async def story() -> None:
            await house.put(UI, MANIFEST, "v1")
            with pytest.raises(UpstreamFailed) as failed:
                await house.engine.manifests.find(UI, V1)
            assert "sign in" not in failed.value.message
            assert rows(house, schema.tags) == rows(house, schema.manifests) == 1
            script.answers["GET"] = (200, JSON, MANIFEST.content)
            assert await found(house, V1) == MANIFEST.digest

        run(story())


def test_other_bytes_than_those_of_the_digest_are_not_given_out(fronts: Callable[[Behind], Houses]) -> None:
    said = {**JSON, "Docker-Content-Digest": MANIFEST.digest.text}
    with misbehaving(Script(GET=(200, said, NEWER.content))) as peer:
        house = fronts(Behind(peer.url)).open()

        async def story() -> None:
            for reference in (MANIFEST.digest, V1):
                with pytest.raises(UpstreamFailed):
                    await house.engine.manifests.find(UI, reference)

        run(story())


def test_a_manifest_in_the_first_format_is_named_as_such(fronts: Callable[[Behind], Houses]) -> None:
    signed = {"Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws"}
    with misbehaving(Script(GET=(200, signed, b"{}"))) as peer:
        house = fronts(Behind(peer.url)).open()

        async def story() -> None:
            with pytest.raises(Unsupported):
                await house.engine.manifests.find(UI, V1)

        run(story())


def test_a_large_manifest_is_read_like_any_other(front: House, behind: Behind) -> None:
    async def story() -> None:
        large = image(b"{}", LAYER, annotations={f"key{number}": "x" * 400 for number in range(1000)})
        await behind.put(UI, large, "v1", b"{}", LAYER)
        assert (await front.engine.manifests.find(UI, V1)).content == large.content

    run(story())


def test_readers_share_an_asking_that_is_still_to_be_sent_and_none_that_was_sent_before_they_came() -> None:
    async def story() -> None:
        sharing: Sharing[int] = Sharing()
        gates = [asyncio.Event() for _ in range(3)]
        sent: list[int] = []

        async def question() -> int:
            number = len(sent)
            sent.append(number)
            await gates[number].wait()
            return number

        first = asyncio.create_task(sharing.ask("v1", question))
        await asyncio.sleep(0)
        others = [asyncio.create_task(sharing.ask("v1", question)) for _ in range(5)]
        await asyncio.sleep(0)
        assert sent == [0]
        others[0].cancel()
        gates[0].set()
        assert await first == 0
        await asyncio.sleep(0.01)
        assert sent == [0, 1]
        late = asyncio.create_task(sharing.ask("v1", question))
        # Nobody waits for ever for an answer that does not come.
        await asyncio.sleep(0.2)
        assert sent == [0, 1, 2]
        for gate in gates:
            gate.set()
        assert await asyncio.gather(*others[1:]) == [1, 1, 1, 1]
        assert await late == 2
        assert await sharing.ask("v2", lambda: asyncio.sleep(0, 7)) == 7

    asyncio.run(story())


def test_what_went_wrong_for_one_asking_is_told_to_those_who_shared_it_and_to_nobody_else() -> None:
    async def story() -> None:
        sharing: Sharing[int] = Sharing()

        async def fails() -> int:
            await asyncio.sleep(0.01)
            raise UpstreamFailed("no")

        told = await asyncio.gather(*(sharing.ask("v1", fails) for _ in range(3)), return_exceptions=True)
        assert [type(each) for each in told] == [UpstreamFailed] * 3
        assert await sharing.ask("v1", lambda: asyncio.sleep(0, 7)) == 7

    asyncio.run(story())


# pushing


def test_a_pushed_manifest_is_there_and_known_here_with_its_subject_and_layers(front: House, behind: Behind) -> None:
    async def story() -> None:
        for blob in (b"{}", LAYER):
            await behind.keep(UI, blob)
        about = image(b"{}", LAYER, subject=MANIFEST)
        await front.put(UI, about, "v1", "v2")
        for name in ("v1", "v2", about.digest):
            answer = await behind.client.ask("HEAD", f"/v2/{UI}/manifests/{name}", headers={"Accept": OCI_MANIFEST})
            assert answer.headers["docker-content-digest"] == about.digest.text
        page = await front.engine.listings.referrers(UI, MANIFEST.digest, after="", limit=9)
        assert [each.digest for each in page.entries] == [about.digest]
        assert (rows(front, schema.links), rows(front, schema.edges)) == (2, 2)
        assert rows(front, schema.manifest_bodies) == rows(front, schema.intents) == 0

    run(story())


def test_a_refused_manifest_leaves_nothing_here(front: House, behind: Behind) -> None:
    async def story() -> None:
        await behind.keep(UI, b"{}")
        with pytest.raises(ManifestBlobUnknown) as refused:
            await front.put(UI, MANIFEST, "v1")
        assert refused.value.missing == (Digest.of(LAYER).text,)
        for table in (schema.manifests, schema.tags, schema.edges, schema.intents):
            assert rows(front, table) == 0

    run(story())


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(400, "MANIFEST_INVALID"), ManifestInvalid),
        (refusal(400, "TAG_INVALID"), ManifestInvalid),
        (refusal(400, "MANIFEST_BLOB_UNKNOWN", {"digest": Digest.of(LAYER).text}), ManifestBlobUnknown),
        (refusal(405, "UNSUPPORTED"), Unsupported),
        (refusal(413, "MANIFEST_INVALID"), ManifestTooLarge),
        (refusal(400, "UNHEARD_OF"), UpstreamFailed),
        ((400, {"Content-Type": "text/html"}, PAGE), UpstreamFailed),
    ],
)
def test_a_refusal_is_told_in_our_words_and_is_certain(
    answer: tuple[int, dict[str, str], bytes], kind: type[Refusal], fronts: Callable[[Behind], Houses]
) -> None:
    with misbehaving(Script(PUT=answer)) as peer:
        house = fronts(Behind(peer.url)).open()

        async def story() -> None:
            with pytest.raises(kind) as refused:
                await house.put(UI, MANIFEST, "v1")
            assert "own words" not in refused.value.message
            if isinstance(refused.value, ManifestBlobUnknown):
                assert refused.value.missing == (Digest.of(LAYER).text,)

        run(story())
        assert rows(house, schema.intents) == 0


@pytest.mark.parametrize(
    "second",
    [
        (500, {}, b""),
        refusal(400, "TAG_INVALID"),
        (201, {"Docker-Content-Digest": NEWER.digest.text}, b""),
        refusal(429, "TOOMANYREQUESTS"),
    ],
    ids=["fails", "refuses", "lies", "is asked too often"],
)
def test_a_push_of_which_only_half_was_done_stays_to_be_settled(
    second: tuple[int, dict[str, str], bytes], fronts: Callable[[Behind], Houses]
) -> None:
    script = Script(PUT=(201, {}, b""))
    script.answers[f"PUT /v2/{UI}/manifests/v2"] = second
    with misbehaving(script) as peer:
        house = fronts(Behind(peer.url)).open()

        async def story() -> None:
            with pytest.raises(UpstreamFailed) as refused:
                await house.put(UI, MANIFEST, "v1", "v2")
            assert refused.value.uncertain

        run(story())
        assert (rows(house, schema.intents), rows(house, schema.manifests)) == (1, 0)


def test_a_push_of_which_other_bytes_were_taken_stays_to_be_settled(fronts: Callable[[Behind], Houses]) -> None:
    with misbehaving(Script(PUT=(201, {"Docker-Content-Digest": NEWER.digest.text}, b""))) as peer:
        house = fronts(Behind(peer.url)).open()

        async def story() -> None:
            with pytest.raises(UpstreamFailed) as refused:
                await house.put(UI, MANIFEST, "v1")
            assert refused.value.uncertain

        run(story())
        assert (rows(house, schema.intents), rows(house, schema.manifests)) == (1, 0)


def test_an_immutable_tag_that_was_pushed_past_the_gateway_is_not_moved_either(front: House, behind: Behind) -> None:
    async def story() -> None:
        await front.push_image(UI, "known")
        front.apply(projects.set_project(UI.project, Wishes(immutable=("v*",))))
        await behind.put(UI, MANIFEST, "v1", b"{}", LAYER)
        await behind.put(UI, NEWER, "newer", b"another layer")
        with pytest.raises(TagImmutable):
            await front.put(UI, NEWER, "v1")
        assert await found(front, V1) == MANIFEST.digest
        # The same again moves nothing.
        await front.put(UI, MANIFEST, "v1")
        assert rows(front, schema.intents) == 0

    run(story())


def test_a_manifest_pushed_by_sha512_is_kept_here_and_goes_with_its_twin(front: House, behind: Behind) -> None:
    async def story() -> None:
        for blob in (b"{}", LAYER):
            await behind.keep(UI, blob)
        manifest = image(b"{}", LAYER, subject=NEWER, algorithm=Algorithm.SHA512)
        plain = Digest.of(manifest.content)
        await front.put(UI, manifest, "v1")
        for reference, digest in ((manifest.digest, manifest.digest), (V1, plain), (plain, plain)):
            assert await found(front, reference) == digest
        page = await front.engine.listings.referrers(UI, NEWER.digest, after="", limit=9)
        assert [each.digest for each in page.entries] == [manifest.digest]
        await front.commit(front.engine.manifests.delete(UI, manifest.digest))
        for gone in (manifest.digest, V1, plain):
            assert await found(front, gone) is None
        assert rows(front, schema.manifests) == rows(front, schema.manifest_bodies) == rows(front, schema.tags) == 0
        with pytest.raises(ManifestUnknown):
            await front.commit(front.engine.manifests.delete(UI, manifest.digest))

    run(story())


NAMING = {
    "config": image(LAYER, b"{}"),
    "layer": image(b"{}", LAYER),
    "index": index([(LAYER, "application/octet-stream")]),
}


@pytest.mark.parametrize("plain", NAMING.values(), ids=NAMING)
def test_what_a_manifest_names_by_sha512_is_named_by_the_sha256_that_the_refusal_tells(
    front: House, behind: Behind, plain: Manifest
) -> None:
    digest, long = Digest.of(LAYER), Digest.of(LAYER, Algorithm.SHA512)
    manifest = load(plain.content.replace(digest.text.encode(), long.text.encode()), plain.media_type)

    async def refused() -> str:
        with pytest.raises(ManifestInvalid) as caught:
            await front.put(UI, manifest, "v1")
        assert await found(front, V1) is None
        assert rows(front, schema.intents) == 0
        return caught.value.message

    async def story() -> None:
        await front.push(UI, b"{}")
        assert f"Push {long} by its SHA-256" in await refused()
        await behind.keep(UI, LAYER, Algorithm.SHA512)
        assert f"Name {long} as {digest}" in await refused()
        assert (await behind.client.ask("DELETE", f"/v2/{UI}/blobs/{digest}")).status == 202
        assert f"Push {long} by its SHA-256" in await refused()
        await front.push(UI, LAYER)
        await front.put(UI, plain, "v1")
        assert await found(front, V1) == plain.digest

    run(story())


# removing


async def push_as_both(front: House, algorithm: Algorithm = Algorithm.SHA256) -> None:
    """The image, and its bytes as a blob too: the registry unlinks both when it is told to delete the manifest."""
    await front.push_image(UI)
    await front.push(UI, MANIFEST.content, algorithm)


def test_a_manifest_that_is_a_layer_too_is_kept_while_an_image_names_it_or_one_on_its_way(front: House) -> None:
    async def story() -> None:
        await push_as_both(front)
        naming = image(b"{}", MANIFEST.content)
        push = front.engine.manifests.put(UI, naming, [])
        deletion = front.engine.manifests.delete(UI, MANIFEST.digest)
        assert push.elsewhere is not None
        assert deletion.elsewhere is not None
        with front.database.writer() as connection:
            push.elsewhere.intend(connection, {})
            with pytest.raises(ContentReferenced):
                deletion.elsewhere.intend(connection, {})
            push.elsewhere.drop(connection)
            deletion.elsewhere.intend(connection, {})
            with pytest.raises(ManifestBlobUnknown):
                push.elsewhere.intend(connection, {})
            deletion.elsewhere.drop(connection)
        await front.put(UI, naming, "v1")
        with pytest.raises(ContentReferenced):
            await front.commit(front.engine.manifests.delete(UI, MANIFEST.digest))
        assert await front.pull(UI, MANIFEST.digest) == MANIFEST.content
        await front.commit(front.engine.manifests.delete(UI, naming.digest))
        await front.commit(front.engine.manifests.delete(UI, MANIFEST.digest))
        # Those of the config and of the layer are left.
        assert (rows(front, schema.links), rows(front, schema.intents)) == (2, 0)
        with pytest.raises(BlobUnknown):
            await front.engine.blobs.find(UI, MANIFEST.digest)

    run(story())


def test_a_manifest_is_kept_while_a_blob_by_sha512_needs_its_bytes(front: House) -> None:
    async def story() -> None:
        await push_as_both(front, Algorithm.SHA512)
        blob = Digest.of(MANIFEST.content, Algorithm.SHA512)
        with pytest.raises(ContentReferenced) as refused:
            await front.commit(front.engine.manifests.delete(UI, MANIFEST.digest))
        assert blob.text in refused.value.message
        assert await front.pull(UI, blob) == MANIFEST.content
        await front.commit(front.engine.blobs.delete(UI, blob))
        assert await found(front, MANIFEST.digest) == MANIFEST.digest
        await front.commit(front.engine.manifests.delete(UI, MANIFEST.digest))
        assert await found(front, MANIFEST.digest) is None

    run(story())


def test_an_index_on_its_way_does_not_keep_the_manifests_that_it_lists(front: House) -> None:
    async def story() -> None:
        await front.push_image(UI)
        push = front.engine.manifests.put(UI, index([(MANIFEST.content, MANIFEST.media_type)]), [])
        deletion = front.engine.manifests.delete(UI, MANIFEST.digest)
        assert push.elsewhere is not None
        assert deletion.elsewhere is not None
        with front.database.writer() as connection:
            push.elsewhere.intend(connection, {})
            deletion.elsewhere.intend(connection, {})
            for each in (push, deletion):
                each.elsewhere.drop(connection)

    run(story())


def test_what_was_pushed_past_the_gateway_can_be_deleted(front: House, behind: Behind) -> None:
    async def story() -> None:
        await behind.put(UI, MANIFEST, "v1", b"{}", LAYER)
        await front.commit(front.engine.manifests.delete(UI, MANIFEST.digest))
        assert await found(front, V1) is None

    run(story())


def test_a_removed_tag_is_hidden_until_it_moves(front: House, behind: Behind) -> None:
    async def story() -> None:
        await behind.put(UI, MANIFEST, "v1", b"{}", LAYER)
        notes = await front.commit(front.engine.manifests.untag(UI, V1))
        assert notes.before == {"tags": {"v1": MANIFEST.digest.text}}
        for _ in range(2):
            assert await found(front, V1) is None
        assert await found(front, MANIFEST.digest) == MANIFEST.digest
        with pytest.raises(ManifestUnknown):
            await front.commit(front.engine.manifests.untag(UI, V1))
        await behind.put(UI, NEWER, "v1", b"another layer")
        assert await found(front, V1) == NEWER.digest
        await behind.put(UI, MANIFEST, "v1")
        assert await found(front, V1) is None
        await front.put(UI, MANIFEST, "v1")
        assert await found(front, V1) == MANIFEST.digest
        assert rows(front, untagged) == 0

    run(story())


def test_a_removed_tag_is_hidden_from_every_process_at_once(fronts: Callable[[Behind], Houses], behind: Behind) -> None:
    async def story() -> None:
        houses = fronts(behind)
        here, there = houses.open(), houses.open()
        await behind.put(UI, MANIFEST, "v1", b"{}", LAYER)
        assert await found(there, V1) == MANIFEST.digest
        await here.commit(here.engine.manifests.untag(UI, V1))
        assert await found(there, V1) is None

    run(story())


def test_what_the_registry_lost_can_still_be_deleted_here(front: House, behind: Behind, registry: Registry) -> None:
    async def story() -> None:
        await front.push_image(UI, "v1")
        registry.forget()
        assert await found(front, V1) is None
        assert rows(front, schema.manifests) == rows(front, schema.tags) == 1
        notes = await front.commit(front.engine.manifests.delete(UI, MANIFEST.digest))
        assert notes.before == {"tags": {"v1": MANIFEST.digest.text}}
        assert rows(front, schema.manifests) == rows(front, schema.tags) == rows(front, schema.intents) == 0
        with pytest.raises(ManifestUnknown):
            await front.commit(front.engine.manifests.delete(UI, MANIFEST.digest))
        assert rows(front, schema.intents) == 0

    run(story())


@pytest.mark.parametrize(
    ("answer", "kind", "intents"),
    [
        (refusal(405, "UNSUPPORTED"), Unsupported, 0),
        ((404, {"Content-Type": "text/html"}, PAGE), UpstreamFailed, 0),
        ((200, {"Content-Length": "x"}, b""), UpstreamFailed, 1),
        ((500, {}, b""), UpstreamFailed, 1),
    ],
    ids=["unsupported", "page", "garbage", "failure"],
)
def test_nothing_is_forgotten_because_a_deletion_failed(
    answer: tuple[int, dict[str, str], bytes],
    kind: type[Refusal],
    intents: int,
    fronts: Callable[[Behind], Houses],
) -> None:
    with misbehaving(Script(PUT=(201, {}, b""), DELETE=answer)) as peer:
        house = fronts(Behind(peer.url)).open()

        async def story() -> None:
            await house.put(UI, MANIFEST, "v1")
            with pytest.raises(kind):
                await house.commit(house.engine.manifests.delete(UI, MANIFEST.digest))

        run(story())
        assert rows(house, schema.manifests) == rows(house, schema.tags) == 1
        assert rows(house, schema.intents) == intents


def test_an_index_is_pushed_once_its_children_are_there(front: House) -> None:
    async def story() -> None:
        whole = index([(MANIFEST.content, MANIFEST.media_type)])
        with pytest.raises(ManifestBlobUnknown) as refused:
            await front.put(UI, whole, "v1")
        assert refused.value.missing == (MANIFEST.digest.text,)
        await front.push_image(UI)
        await front.put(UI, whole, "v1")
        assert await found(front, V1) == whole.digest

    run(story())


def test_a_manifest_that_only_says_what_it_is_within_is_given_out(fronts: Callable[[Behind], Houses]) -> None:
    fields = {key: value for key, value in json.loads(MANIFEST.content).items() if key != "mediaType"}
    content = json.dumps(fields).encode()
    with misbehaving(Script(GET=(200, {"Content-Type": f"{OCI_MANIFEST}; charset=utf-8"}, content))) as peer:
        house = fronts(Behind(peer.url)).open()
        stored = run(house.engine.manifests.find(UI, V1))
        assert stored == replace(stored, digest=Digest.of(content), media_type=OCI_MANIFEST, content=content)
