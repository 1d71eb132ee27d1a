"""Blobs of a registry behind: streamed, proved while they pass, and never complete when they are wrong."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.change import Change, Notes
from gateway.engine.port import Blob
from gateway.engine.upstream.adopt import Survey
from gateway.engine.upstream.blobs import UpstreamBlobs
from gateway.errors import (
    BlobUnknown,
    ContentReferenced,
    ManifestBlobUnknown,
    Refusal,
    Unavailable,
    Unsupported,
    UpstreamFailed,
)
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import OCI_MANIFEST, Manifest, load
from gateway.oci.names import Repository
from gateway.records import adoption, mirror, schema, usage
from gateway.records.adoption import Found, Known
from gateway.records.behind_tables import twins
from gateway.records.content import Act
from tests.contract.house import OTHER, UI, WRITER, House, Houses, body, image, read, run
from tests.engine.behind import Behind, Script, refusal, rows
from tests.faults.peer import Line, Request, misbehaving
from tests.services.distribution import Registry, running_registry

CONTENT = os.urandom(1_000_000)
DIGEST = Digest.of(CONTENT)
PATH = f"/v2/{UI}/blobs/{DIGEST}"
PAGE = b"<html>sign in</html>"


async def given(house: House, blob: Blob, first: int = 0, last: int | None = None) -> tuple[bytes, Exception | None]:
    """What came before the end, and why there was no more."""
    came = b""
    try:
        async for piece in house.engine.blobs.read(blob, first, blob.size_bytes - 1 if last is None else last):
            came += piece
    except Exception as error:
        return came, error
    return came, None


# what it weighs


def claiming(manifest: Manifest, sizes: dict[bytes, int]) -> Manifest:
    """The same image with other sizes of what it names."""
    fields = json.loads(manifest.content)
    for entry in (fields["config"], *fields["layers"]):
        entry["size"] = next((size for held, size in sizes.items() if entry["digest"] == Digest.of(held).text), 0)
    return load(json.dumps(fields).encode(), manifest.media_type)


@pytest.mark.parametrize(
    ("learned", "claimed"), [("found", 1), ("read", 5_000_000_000), ("pushed", 5_000_000_000), ("mounted", 1)]
)
def test_a_size_that_a_manifest_claimed_is_put_right_once_the_true_one_is_known(
    front: House, behind: Behind, learned: str, claimed: int
) -> None:
    layer, config = os.urandom(2000), os.urandom(20)
    manifest = claiming(image(config, layer), {layer: claimed, config: 20})
    also = Repository("gallery/api")

    async def story() -> None:
        for place in (UI, OTHER, also):
            await behind.keep(place, config)
            await behind.keep(place, layer)
            await front.put(place, manifest, "v1")
        # Of the gallery two repositories hold it, which count once.
        assert {used - len(manifest.content) for used in counted(front)} == {20 + claimed}
        match learned:
            case "found":
                await front.engine.blobs.find(OTHER, Digest.of(layer))
            case "read":
                assert await front.pull(UI, Digest.of(layer)) == layer
            case "pushed":
                await front.push(Repository("attic/ui"), layer)
            case _:
                await front.commit(front.engine.blobs.mount(UI, Repository("attic/ui"), Digest.of(layer)))
        expected = 20 + len(layer)
        places = counted(front)
        assert {used - len(manifest.content) for used in places[:2]} == {expected}
        assert places[2:] == ([len(layer)] if learned in {"pushed", "mounted"} else [])
        # What goes again weighs what it weighs now: nothing of a claim is left.
        for place in (UI, OTHER, also) if learned == "found" else ():
            await front.commit(front.engine.manifests.delete(place, manifest.digest))
            await front.commit(front.engine.blobs.delete(place, Digest.of(layer)))
            await front.commit(front.engine.blobs.delete(place, Digest.of(config)))
        assert counted(front)[:2] == [0, 0] or learned != "found"

    run(story())


def counted(front: House) -> list[int]:
    """What the projects use by their counters, in the order in which they came; each is what they hold."""

    def look(connection: Any) -> list[int]:
        found = connection.execute(schema.projects.select().order_by(schema.projects.c.id)).all()
        used = [row.used_bytes for row in found]
        assert used == [usage.measured(connection, row.id)[1] for row in found]
        return used

    return front.database.read_now(look)


# reading


def test_what_was_pushed_past_the_gateway_is_read_whole_and_in_part(front: House, behind: Behind) -> None:
    async def story() -> None:
        await behind.keep(UI, CONTENT)
        blob = await front.engine.blobs.find(UI, DIGEST)
        assert blob.size_bytes == len(CONTENT)
        for first, last in ((0, len(CONTENT) - 1), (0, 0), (70_000, 700_000), (1, len(CONTENT) - 1)):
            assert await read(front.engine, blob, first, last) == CONTENT[first : last + 1]

    run(story())


def test_a_blob_is_asked_for_once_a_minute_or_when_its_repository_changed(front: House, behind: Behind) -> None:
    async def story() -> None:
        await behind.keep(UI, CONTENT)
        now = 0.0
        blobs = UpstreamBlobs(
            behind.client,
            front.database,
            front.engine.blobs._threads,  # type: ignore[attr-defined]
            front.engine.blobs._acts,  # type: ignore[attr-defined]
            front.engine.blobs._holds,  # type: ignore[attr-defined]
            lambda: now,
        )
        behind.client.asked.clear()
        for moment in (0.0, 30.0, 59.0, 61.0):
            now = moment
            await blobs.find(UI, DIGEST)
        assert behind.client.asked == [("HEAD", PATH, 200)] * 2
        await front.commit(front.engine.blobs.mount(UI, UI, DIGEST))
        behind.client.asked.clear()
        await blobs.find(UI, DIGEST)
        assert len(behind.client.asked) == 1

    run(story())


def served(answer: Callable[[Request, Line], None]) -> Callable[[Request, Line], None]:
    """A registry that says it has the blob, and gives what *answer* gives."""

    def behave(request: Request, line: Line) -> None:
        if request.method == "HEAD":
            line.answer(200, {"Content-Length": str(len(CONTENT)), "Docker-Content-Digest": DIGEST.text})
        else:
            answer(request, line)

    return behave


def cut(request: Request, line: Line) -> None:
    line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CONTENT) + CONTENT[:700_000])
    line.reset()


def chunked(content: bytes) -> Callable[[Request, Line], None]:
    def answer(request: Request, line: Line) -> None:
        line.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        line.say(b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content))

    return answer


def plain(status: int, headers: dict[str, str], content: bytes) -> Callable[[Request, Line], None]:
    return lambda request, line: line.answer(status, headers, content)


WRONG = {
    "other bytes": plain(200, {}, CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])),
    "other bytes at the start": plain(200, {}, bytes([CONTENT[0] ^ 1]) + CONTENT[1:]),
    "fewer bytes": plain(200, {}, CONTENT[:-1]),
    "more bytes": plain(200, {}, CONTENT + b"x"),
    "fewer bytes, no length": chunked(CONTENT[:-1]),
    "more bytes, no length": chunked(CONTENT + b"x"),
    "a cut": cut,
    "a page": plain(200, {"Content-Type": "text/html"}, CONTENT),
    "compressed": plain(200, {"Content-Encoding": "gzip"}, CONTENT),
    "a part": plain(206, {"Content-Range": f"bytes 0-9/{len(CONTENT)}"}, CONTENT[:10]),
    "a failure": plain(500, {}, b""),
    "nothing": plain(204, {}, b""),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_bytes_never_come_to_an_end(wrong: str, fronts: Callable[[Behind], Houses]) -> None:
    with misbehaving(served(WRONG[wrong])) as peer:
        house = fronts(Behind(peer.url)).open()

        async def story() -> None:
            blob = await house.engine.blobs.find(UI, DIGEST)
            came, error = await given(house, blob)
            assert isinstance(error, UpstreamFailed)
            assert len(came) < len(CONTENT)

        run(story())
        assert peer.settled()


def test_bytes_that_come_without_a_length_are_given_out_if_they_are_right(
    fronts: Callable[[Behind], Houses],
) -> None:
    with misbehaving(served(chunked(CONTENT))) as peer:
        house = fronts(Behind(peer.url)).open()

        async def story() -> None:
            assert await house.pull(UI, DIGEST) == CONTENT

        run(story())


def test_a_registry_that_knows_no_ranges_is_read_through(fronts: Callable[[Behind], Houses]) -> None:
    with misbehaving(served(plain(200, {}, CONTENT))) as peer:
        house = fronts(Behind(peer.url)).open()

        async def story() -> None:
            blob = await house.engine.blobs.find(UI, DIGEST)
            assert (await given(house, blob, 70_000, 700_000)) == (CONTENT[70_000:700_001], None)

        run(story())
        assert peer.settled()


@pytest.mark.parametrize(
    "answer",
    [
        plain(206, {"Content-Range": f"bytes 1-11/{len(CONTENT)}"}, CONTENT[1:11]),
        plain(206, {"Content-Range": "bytes 0-9/10"}, CONTENT[:10]),
        plain(206, {}, CONTENT[:10]),
        plain(206, {"Content-Range": f"bytes 0-9/{len(CONTENT)}"}, CONTENT[:9]),
        plain(416, {}, b""),
    ],
    ids=["shifted", "of another", "unsaid", "shorter", "refused"],
)
def test_another_part_than_was_asked_for_is_refused(
    answer: Callable[[Request, Line], None], fronts: Callable[[Behind], Houses]
) -> None:
    with misbehaving(served(answer)) as peer:
        house = fronts(Behind(peer.url)).open()

        async def story() -> None:
            blob = await house.engine.blobs.find(UI, DIGEST)
            came, error = await given(house, blob, 0, 9)
            assert isinstance(error, UpstreamFailed)
            assert came == b""

        run(story())


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/html", "Content-Length": "9"},
        {"Content-Length": "9", "Docker-Content-Digest": Digest.of(b"other").text},
        # Of no bytes none would be compared.
        {"Content-Length": "0"},
    ],
    ids=["page", "other", "empty"],
)
def test_a_blob_is_not_found_in_an_answer_that_is_none(
    headers: dict[str, str], fronts: Callable[[Behind], Houses]
) -> None:
    with misbehaving(lambda request, line: line.answer(200, headers, b"")) as peer:
        house = fronts(Behind(peer.url)).open()

        async def story() -> None:
            for _ in range(2):
                with pytest.raises(UpstreamFailed):
                    await house.engine.blobs.find(UI, DIGEST)

        run(story())


def test_a_blob_that_went_since_it_was_found_is_unknown_and_not_remembered(
    front: House, behind: Behind, registry: Registry
) -> None:
    async def story() -> None:
        await behind.keep(UI, CONTENT)
        blob = await front.engine.blobs.find(UI, DIGEST)
        registry.forget()
        assert await front.engine.blobs.find(UI, DIGEST) == blob
        came, error = await given(front, blob)
        assert (came, type(error)) == (b"", BlobUnknown)
        with pytest.raises(BlobUnknown):
            await front.engine.blobs.find(UI, DIGEST)

    run(story())


def test_a_reader_who_leaves_early_takes_the_connection_along(fronts: Callable[[Behind], Houses]) -> None:
    def endless(request: Request, line: Line) -> None:
        line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CONTENT) + CONTENT[:500_000])
        line.wait()

    with misbehaving(served(endless)) as peer:
        house = fronts(Behind(peer.url)).open()

        async def story() -> None:
            blob = await house.engine.blobs.find(UI, DIGEST)
            pieces = house.engine.blobs.read(blob, 0, len(CONTENT) - 1)
            await anext(pieces)
            await pieces.aclose()  # type: ignore[attr-defined]
            assert await asyncio.to_thread(peer.settled)

        run(story())


# mounting


def test_a_mount_makes_the_blob_the_targets_too_and_counts_it_here(front: House, behind: Behind) -> None:
    async def story() -> None:
        await behind.keep(UI, CONTENT)
        notes = await front.commit(front.engine.blobs.mount(UI, OTHER, DIGEST))
        assert (notes.result, notes.detail) == (len(CONTENT), {"from": UI.name})
        assert await front.pull(OTHER, DIGEST) == CONTENT
        assert (rows(front, schema.links), rows(front, schema.intents)) == (1, 0)

    run(story())


def test_a_mount_that_the_registry_makes_an_upload_of_is_none_and_leaves_none(
    front: House, behind: Behind, registry: Registry
) -> None:
    async def story() -> None:
        await behind.keep(UI, CONTENT)
        blob = await front.engine.blobs.find(UI, DIGEST)
        # Gone, and still remembered.
        registry.forget()
        assert await front.engine.blobs.find(UI, DIGEST) == blob
        with pytest.raises(BlobUnknown):
            await front.commit(front.engine.blobs.mount(UI, OTHER, DIGEST))
        assert ("POST", f"/v2/{OTHER}/blobs/uploads/?mount={DIGEST}&from={UI}", 202) in behind.client.asked
        (cancelled,) = [status for method, _, status in behind.client.asked if method == "DELETE"]
        assert cancelled == 204
        assert (rows(front, schema.links), rows(front, schema.intents)) == (0, 0)

    run(story())


# removing


def test_a_blob_is_kept_while_a_manifest_here_names_it_or_one_on_its_way(front: House, behind: Behind) -> None:
    async def story() -> None:
        layer = b"a layer"
        digest = Digest.of(layer)
        for blob in (b"{}", layer):
            await behind.keep(UI, blob)
        manifest = image(b"{}", layer)
        push = front.engine.manifests.put(UI, manifest, [])
        deletion = front.engine.blobs.delete(UI, digest)
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
        await front.put(UI, manifest)
        with pytest.raises(ContentReferenced):
            await front.commit(front.engine.blobs.delete(UI, digest))
        assert await front.pull(UI, digest) == layer

    run(story())


LONG = Digest.of(CONTENT, Algorithm.SHA512)


def naming(layer: Digest, content: bytes) -> Manifest:
    """An image that names its layer by that digest."""
    written = image(b"{}", content).content.replace(Digest.of(content).text.encode(), layer.text.encode())
    return load(written, OCI_MANIFEST)


async def adopt(front: House, behind: Behind, manifest: Manifest) -> None:
    """Puts the manifest into the registry, past the gateway, and adopts it."""
    await behind.put(UI, manifest, "adopted")
    known = await front.database.read(lambda connection: adoption.known(connection, UI))
    async for found in Survey(behind.client).read(UI, known):
        front.apply(Change(partial(enter, found, known), repositories=(UI,)))


def enter(found: Found, known: Known, connection: Any) -> Notes:
    return adoption.index(connection, UI, found, known, Act(1, done=True))


@pytest.mark.parametrize("named", [LONG, DIGEST], ids=["sha512", "sha256"])
@pytest.mark.parametrize("deleted", [LONG, DIGEST], ids=["by sha512", "by sha256"])
def test_a_blob_of_two_names_goes_by_both_and_stays_while_a_manifest_names_it_by_one(
    front: House, behind: Behind, named: Digest, deleted: Digest
) -> None:
    async def story() -> None:
        await front.push(UI, b"{}")
        await front.push(UI, CONTENT, Algorithm.SHA512)
        manifest = naming(named, CONTENT)
        await adopt(front, behind, manifest)
        with pytest.raises(ContentReferenced):
            await front.commit(front.engine.blobs.delete(UI, deleted))
        for name in (LONG, DIGEST):
            assert await front.pull(UI, name) == CONTENT
        await front.commit(front.engine.manifests.delete(UI, manifest.digest))
        await front.commit(front.engine.blobs.delete(UI, deleted))
        for name in (LONG, DIGEST):
            with pytest.raises(BlobUnknown):
                await front.engine.blobs.find(UI, name)
        # That of the config is left.
        assert (rows(front, schema.links), rows(front, schema.intents)) == (1, 0)

    run(story())


def test_a_manifest_that_names_a_blob_otherwise_than_its_deletion_does_is_not_taken_meanwhile(front: House) -> None:
    async def story() -> None:
        await front.push(UI, b"{}")
        await front.push(UI, CONTENT, Algorithm.SHA512)
        for deleted, named in ((LONG, DIGEST), (DIGEST, LONG)):
            deletion = front.engine.blobs.delete(UI, deleted)
            push = front.engine.manifests.put(UI, naming(named, CONTENT), [])
            assert deletion.elsewhere is not None
            assert push.elsewhere is not None
            with front.database.writer() as connection:
                deletion.elsewhere.intend(connection, {})
                with pytest.raises(ManifestBlobUnknown):
                    push.elsewhere.intend(connection, {})
                deletion.elsewhere.drop(connection)

    run(story())


@pytest.mark.parametrize("asked", [False, True], ids=["never asked for", "asked for"])
def test_the_other_name_of_what_came_past_the_gateway_is_learned_before_anything_is_deleted(
    front: House, behind: Behind, asked: bool
) -> None:
    async def story() -> None:
        await behind.keep(UI, CONTENT, Algorithm.SHA512)
        if asked:
            await front.engine.blobs.find(UI, LONG)
        else:
            with pytest.raises(Unavailable):
                await front.commit(front.engine.blobs.delete(UI, LONG))
            assert await front.pull(UI, LONG) == CONTENT
        await front.commit(front.engine.blobs.delete(UI, LONG))
        for name in (LONG, DIGEST):
            with pytest.raises(BlobUnknown):
                await front.engine.blobs.find(UI, name)
        with pytest.raises(BlobUnknown):
            await front.commit(front.engine.blobs.delete(UI, LONG))
        assert rows(front, schema.intents) == 0

    run(story())


def test_what_an_adopted_image_names_by_sha512_stays_when_its_sha256_is_to_go_though_nobody_asked_for_it_by_either(
    front: House, behind: Behind
) -> None:
    async def story() -> None:
        await front.push(UI, b"{}")
        await behind.keep(UI, CONTENT, Algorithm.SHA512)
        await adopt(front, behind, naming(LONG, CONTENT))
        with pytest.raises(ContentReferenced):
            await front.commit(front.engine.blobs.delete(UI, DIGEST))
        assert await front.pull(UI, LONG) == CONTENT
        assert rows(front, schema.intents) == 0

    run(story())


def test_what_an_adopted_image_names_by_sha512_stays_when_its_bytes_are_to_go_as_a_manifest(
    front: House, behind: Behind
) -> None:
    async def story() -> None:
        inner = await front.push_image(UI)
        blob = Digest.of(inner.content, Algorithm.SHA512)
        await behind.keep(UI, inner.content, Algorithm.SHA512)
        await adopt(front, behind, naming(blob, inner.content))
        with pytest.raises(ContentReferenced):
            await front.commit(front.engine.manifests.delete(UI, inner.digest))
        assert await front.pull(UI, blob) == inner.content

    run(story())


@pytest.mark.parametrize("caches", [False, True], ids=["without a cache", "with a cache"])
def test_a_blob_by_sha512_is_unknown_without_its_sha256_and_is_there_again_once_it_is_pushed_again(
    fronts: Callable[[Behind], Houses], tmp_path: Path, caches: bool
) -> None:
    with running_registry(tmp_path, caches=caches) as registry:
        behind = Behind(registry.url)
        front = fronts(behind).open()

        async def story() -> None:
            for known in (True, False):
                await front.push(UI, CONTENT, Algorithm.SHA512)
                await lose(behind, DIGEST)
                if not known:
                    forget_names(front)
                with pytest.raises(BlobUnknown):
                    await front.engine.blobs.find(UI, LONG)
            await front.push(UI, CONTENT, Algorithm.SHA512)
            assert await front.pull(UI, LONG) == CONTENT

        run(story())


@pytest.mark.parametrize("plain", [refusal(500, "UNKNOWN"), (503, {}, b""), (200, {}, CONTENT)])
def test_a_registry_that_fails_at_more_than_a_sha512_has_failed(
    plain: tuple[int, dict[str, str], bytes], fronts: Callable[[Behind], Houses]
) -> None:
    script = Script(HEAD=refusal(500, "UNKNOWN"))
    script.answers[f"HEAD {PATH}"] = plain
    with misbehaving(script) as peer:
        house = fronts(Behind(peer.url)).open()

        async def story() -> None:
            for _ in range(2):
                with pytest.raises(UpstreamFailed):
                    await house.engine.blobs.find(UI, LONG)
                mirror.learn_twin(house.database, LONG, DIGEST)

        run(story())


@pytest.mark.parametrize("asked", [LONG, DIGEST], ids=["by sha512", "by sha256"])
def test_a_blob_by_sha512_that_lost_its_sha256_is_deleted_and_keeps_nothing_else_from_being_deleted(
    front: House, behind: Behind, asked: Digest
) -> None:
    async def story() -> None:
        image = await front.push_image(UI, "v1")
        await front.push(UI, b"loose")
        await front.push(UI, CONTENT, Algorithm.SHA512)
        broken = naming(LONG, CONTENT)
        await adopt(front, behind, broken)
        await lose(behind, DIGEST)
        await front.commit(front.engine.manifests.delete(UI, image.digest))
        await front.commit(front.engine.blobs.delete(UI, Digest.of(b"loose")))
        await front.commit(front.engine.manifests.delete(UI, broken.digest))
        await front.commit(front.engine.blobs.delete(UI, asked))
        with pytest.raises(BlobUnknown):
            await front.commit(front.engine.blobs.delete(UI, asked))
        assert (await behind.client.ask("HEAD", f"/v2/{UI}/blobs/{LONG}")).status == 404
        assert rows(front, schema.intents) == 0

    run(story())


def test_nothing_is_asked_of_blobs_that_do_not_go(front: House, behind: Behind) -> None:
    async def story() -> None:
        await front.push(UI, b"loose")
        fields = json.loads(naming(LONG, CONTENT).content)
        fields["layers"] *= 20
        for number, layer in enumerate(fields["layers"]):
            fields["layers"][number] = {**layer, "digest": Digest.of(b"%d" % number, Algorithm.SHA512).text}
        lost = load(json.dumps(fields).encode(), OCI_MANIFEST)
        front.apply(Change(partial(enter, Found((lost,)), Known()), repositories=(UI,)))
        await front.commit(front.engine.blobs.delete(UI, Digest.of(b"loose")))
        assert [path for _, path, _ in behind.client.asked if "sha512" in path] == []

    run(story())


def test_a_blob_that_came_by_sha512_in_parts_goes_with_the_same_bytes_that_are_being_deleted_meanwhile(
    fronts: Callable[[Behind], Houses], behind: Behind
) -> None:
    async def story() -> None:
        houses = fronts(behind)
        front, other = houses.open(), houses.open()
        await front.push(UI, CONTENT)
        upload, begun = await front.engine.uploads.begin(UI, WRITER)
        await front.commit(begun)
        await front.commit((await front.engine.uploads.append(upload, body(CONTENT[:5]), 0)).change)
        upload = await other.engine.uploads.find(UI, WRITER, upload.id)
        _, linked = await other.engine.uploads.finish(upload, body(CONTENT[5:]), 5, LONG)
        deletion = front.engine.blobs.delete(UI, DIGEST)
        assert deletion.elsewhere is not None
        with front.database.writer() as connection:
            deletion.elsewhere.intend(connection, {})
            connection.commit()
        await other.commit(linked)
        await deletion.elsewhere.run()
        front.apply(deletion)
        deletion.release()
        for name in (LONG, DIGEST):
            with pytest.raises(BlobUnknown):
                await front.engine.blobs.find(UI, name)
        await front.commit(front.engine.blobs.delete(UI, LONG))
        assert (rows(front, schema.links), rows(front, schema.uploads), rows(front, schema.intents)) == (0, 0, 0)

    run(story())


def test_a_deletion_takes_nothing_that_was_wrongly_taken_for_the_same_blob(front: House) -> None:
    async def story() -> None:
        junk = b"needed by others"
        await front.push(UI, junk)
        await front.push(UI, CONTENT, Algorithm.SHA512)
        with front.database.writer() as connection:
            mirror.keep_twin(connection, LONG, Digest.of(junk))
            connection.commit()
        with pytest.raises(Unavailable):
            await front.commit(front.engine.blobs.delete(UI, LONG))
        await front.commit(front.engine.blobs.delete(UI, LONG))
        assert await front.pull(UI, Digest.of(junk)) == junk
        for name in (LONG, DIGEST):
            with pytest.raises(BlobUnknown):
                await front.engine.blobs.find(UI, name)

    run(story())


async def lose(behind: Behind, digest: Digest) -> None:
    """Deletes a blob in the registry behind, past the gateway."""
    assert (await behind.client.ask("DELETE", f"/v2/{UI}/blobs/{digest}")).status == 202


def forget_names(front: House) -> None:
    with front.database.writer() as connection:
        connection.execute(twins.delete())
        connection.commit()


@pytest.mark.parametrize("answer", [(503, {}, b""), refusal(405, "UNSUPPORTED")], ids=["failure", "unsupported"])
def test_a_deletion_that_stops_between_two_names_is_left_to_be_settled(
    answer: tuple[int, dict[str, str], bytes], fronts: Callable[[Behind], Houses]
) -> None:
    gone = {"Docker-Content-Digest": DIGEST.text}
    script = Script(HEAD=(200, gone, CONTENT), DELETE=(202, {}, b""))
    script.answers[f"DELETE {PATH}"] = answer
    with misbehaving(script) as peer:
        house = fronts(Behind(peer.url)).open()

        async def story() -> None:
            await house.engine.blobs.find(UI, LONG)
            with pytest.raises(UpstreamFailed) as failed:
                await house.commit(house.engine.blobs.delete(UI, LONG))
            assert failed.value.uncertain

        run(story())
        asked = [request.target for request in peer.requests if request.method == "DELETE"]
        assert asked == [f"/v2/{UI}/blobs/{LONG}", PATH]
        assert rows(house, schema.intents) == 1


def test_what_the_registry_lost_can_still_be_deleted_here(front: House, behind: Behind, registry: Registry) -> None:
    async def story() -> None:
        await behind.keep(UI, CONTENT)
        await front.commit(front.engine.blobs.mount(UI, OTHER, DIGEST))
        registry.forget()
        assert rows(front, schema.links) == 1
        await front.commit(front.engine.blobs.delete(OTHER, DIGEST))
        assert rows(front, schema.links) == 0
        with pytest.raises(BlobUnknown):
            await front.commit(front.engine.blobs.delete(OTHER, DIGEST))
        assert rows(front, schema.intents) == 0

    run(story())


@pytest.mark.parametrize(
    ("answer", "kind", "intents"),
    [
        (refusal(405, "UNSUPPORTED"), Unsupported, 0),
        ((404, {"Content-Type": "text/html"}, PAGE), UpstreamFailed, 0),
        ((503, {}, b""), UpstreamFailed, 1),
    ],
    ids=["unsupported", "page", "failure"],
)
def test_nothing_is_forgotten_because_a_deletion_failed(
    answer: tuple[int, dict[str, str], bytes],
    kind: type[Refusal],
    intents: int,
    fronts: Callable[[Behind], Houses],
) -> None:
    script = Script(HEAD=(200, {}, CONTENT), POST=(201, {}, b""), DELETE=answer)
    with misbehaving(script) as peer:
        house = fronts(Behind(peer.url)).open()

        async def story() -> None:
            await house.commit(house.engine.blobs.mount(UI, OTHER, DIGEST))
            with pytest.raises(kind):
                await house.commit(house.engine.blobs.delete(OTHER, DIGEST))

        run(story())
        assert (rows(house, schema.links), rows(house, schema.intents)) == (1, intents)
