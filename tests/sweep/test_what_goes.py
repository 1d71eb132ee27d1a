"""What a sweep removes and what it leaves, what it says of it, and what it plans."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.engine.embedded.layout import SWEPT
from gateway.engine.stores.clearing import Clearing, Removal
from gateway.engine.stores.filesystem import Filesystem
from gateway.engine.sweeping import Amount, Swept
from gateway.errors import BlobUnknown
from gateway.oci.digest import Digest
from tests.contract.house import index
from tests.sweep.stage import DAY, HOUR, OTHER, UI, WRITER, Stage, body

LOOSE = b"what nothing names"


def test_what_a_manifest_names_stays_and_what_none_names_goes(stage: Stage) -> None:
    async def story() -> None:
        manifest = await stage.push_image(UI, "v1", layer=b"kept")
        untagged = await stage.push_image(UI, layer=b"kept by a manifest without a tag")
        await stage.put(UI, index([(manifest.content, manifest.media_type)]), "multi")
        digest = await stage.push(UI, LOOSE)
        stage.clock.now += 2 * DAY

        receipt = await stage.sweep()

        one = Amount(1, len(LOOSE))
        assert receipt.gone == Swept(links=one, blobs=one, files=one)
        assert receipt.gone.freed_bytes == len(LOOSE)
        assert not stage.file(digest).exists()
        with pytest.raises(BlobUnknown):
            await stage.engine.blobs.find(UI, digest)
        for layer in (b"{}", b"kept", b"kept by a manifest without a tag"):
            assert await stage.pull(UI, Digest.of(layer)) == layer
        assert (await stage.engine.manifests.find(UI, untagged.digest)).content == untagged.content
        assert await stage.push(UI, LOOSE) == digest
        assert await stage.pull(UI, digest) == LOOSE

    stage.run(story())


def test_a_plan_changes_nothing_and_says_what_the_sweep_then_does(stage: Stage) -> None:
    async def story() -> None:
        await stage.push_image(UI, "v1")
        await stage.push(UI, LOOSE)
        await stage.push(OTHER, b"more")
        await stage.begin(UI)
        stage.put_file(b"a stray")
        (stage.house.data / "imports").mkdir()
        (stage.house.data / "imports" / "left").write_bytes(b"12345")
        stage.clock.now += 2 * DAY
        before = stage.rows(), stage.files()

        plan = await stage.plan()

        assert (stage.rows(), stage.files()) == before
        assert plan.going.links == plan.going.blobs == plan.going.files == Amount(2, len(LOOSE) + 4)
        assert plan.going.strays == Amount(1, 7)
        assert plan.going.uploads == Amount(1)
        assert plan.going.leftovers == Amount(1, 5)
        assert (await stage.sweep()).gone == plan.going
        assert (await stage.plan()).empty

    stage.run(story())


def test_a_receipt_adds_up_with_the_bytes_on_the_disk(stage: Stage) -> None:
    async def story() -> None:
        await stage.push_image(UI, "v1")
        for number in range(40):
            await stage.push(UI, b"loose %d" % number)
        stage.clock.now += 2 * DAY
        stage.put_file(b"a stray")

        receipt = await stage.sweep()

        before, gone, after = receipt.before, receipt.gone, receipt.after
        assert (before.balanced, after.balanced) == (True, True)
        assert gone.blobs == gone.files == gone.links
        assert gone.blobs.count == 40
        assert before.recorded == after.recorded + gone.blobs
        assert before.stored == after.stored + gone.files + gone.strays
        on_disk = {name: content for name, content in stage.files().items() if name.startswith("blobs/")}
        assert after.stored == Amount(len(on_disk), sum(map(len, on_disk.values()))) == Amount(2, 9)

    stage.run(story())


def test_a_blob_that_another_repository_needs_stays_there(stage: Stage) -> None:
    async def story() -> None:
        await stage.push_image(UI, "v1", layer=LOOSE)
        digest = await stage.push(OTHER, LOOSE)
        stage.clock.now += 2 * DAY

        receipt = await stage.sweep()

        assert (receipt.gone.links, receipt.gone.blobs) == (Amount(1, len(LOOSE)), Amount())
        assert await stage.pull(UI, digest) == LOOSE
        with pytest.raises(BlobUnknown):
            await stage.engine.blobs.find(OTHER, digest)

    stage.run(story())


def test_what_was_unlinked_goes_at_once(stage: Stage) -> None:
    async def story() -> None:
        digest = await stage.push(UI, LOOSE)
        await stage.commit(stage.engine.blobs.delete(UI, digest))
        receipt = await stage.sweep()
        assert receipt.gone.files == Amount(1, len(LOOSE))
        assert stage.files() == {}

    stage.run(story())


# the grace period


def test_what_is_within_its_grace_stays_and_is_counted(stage: Stage) -> None:
    async def story() -> None:
        digest = await stage.push(UI, LOOSE)
        stage.clock.now += DAY - 1
        receipt = await stage.sweep()
        assert (receipt.gone, receipt.waiting) == (Swept(), Amount(1, len(LOOSE)))
        assert await stage.pull(UI, digest) == LOOSE

    stage.run(story())


@pytest.mark.parametrize("how", ["asked for", "pushed again", "mounted again"])
def test_what_is_needed_again_has_its_grace_anew(stage: Stage, how: str) -> None:
    async def story() -> None:
        digest = await stage.push(UI, LOOSE)
        await stage.push(OTHER, LOOSE)
        await stage.engine.blobs.find(UI, digest)
        stage.clock.now += 2 * DAY
        match how:
            case "asked for":
                await stage.engine.blobs.find(UI, digest)
            case "pushed again":
                await stage.push(UI, LOOSE)
            case _:
                await stage.commit(stage.engine.blobs.mount(OTHER, UI, digest))
        stage.clock.now += DAY - HOUR
        receipt = await stage.sweep()
        assert (receipt.gone.links.count, receipt.waiting.count) == (1, 1)
        await stage.push_image(UI, "v1", layer=LOOSE)
        stage.clock.now += 9 * DAY
        await stage.sweep()
        assert await stage.pull(UI, digest) == LOOSE

    stage.run(story())


def test_what_is_asked_for_again_and_again_stays_as_long(stage: Stage) -> None:
    async def story() -> None:
        digest = await stage.push(UI, LOOSE)
        for _ in range(30):
            await stage.engine.blobs.find(UI, digest)
            stage.clock.now += DAY // 10
        assert (await stage.sweep()).waiting.count == 1
        assert await stage.pull(UI, digest) == LOOSE

    stage.run(story())


def test_what_a_deleted_manifest_named_has_its_grace_from_then(stage: Stage) -> None:
    async def story() -> None:
        manifest = await stage.push_image(UI, "v1")
        stage.clock.now += 9 * DAY
        await stage.delete(UI, manifest.digest)
        assert (await stage.sweep()).waiting.count == 2
        stage.clock.now += DAY
        assert (await stage.sweep()).gone.blobs.count == 2
        assert stage.files() == {}

    stage.run(story())


def test_a_clock_that_was_put_back_makes_nothing_old(stage: Stage) -> None:
    async def story() -> None:
        digest = await stage.push(UI, LOOSE)
        stray = stage.put_file(b"a stray")
        upload = await stage.begin(UI)
        stage.clock.now -= 30 * DAY
        for grace_seconds in (0, DAY):
            receipt = await stage.sweep(grace_seconds)
            assert (receipt.gone, receipt.waiting.count) == (Swept(), 1)
        assert stray.exists()
        await stage.engine.uploads.find(UI, WRITER, upload.id)
        assert await stage.pull(UI, digest) == LOOSE

    stage.run(story())


# files without records, records without files


def test_a_file_without_a_record_goes_when_it_is_old_and_what_is_no_blob_never(stage: Stage) -> None:
    async def story() -> None:
        await stage.push_image(UI, "v1")
        stray = stage.put_file(b"a stray")
        foreign = stray.parent / "notes.txt"
        foreign.write_bytes(b"not ours")
        elsewhere = stray.parent / ("0" * 64)
        elsewhere.write_bytes(b"on the wrong shelf")
        young = await stage.sweep(DAY)
        assert (young.gone, young.after.strays, young.after.balanced) == (Swept(), Amount(1, 7), True)
        stage.clock.now += 2 * DAY
        old = await stage.sweep(DAY)
        assert (old.gone, old.after.foreign) == (Swept(strays=Amount(1, 7)), 2)
        assert (stray.exists(), foreign.exists(), elsewhere.exists()) == (False, True, True)

    stage.run(story())


def test_a_file_with_another_name_frees_nothing(stage: Stage) -> None:
    async def story() -> None:
        digest = await stage.push(UI, LOOSE)
        os.link(stage.file(digest), stage.house.data / "another name")
        stage.clock.now += 2 * DAY
        receipt = await stage.sweep()
        assert (receipt.gone.files, receipt.gone.freed_bytes) == (Amount(1, len(LOOSE)), 0)
        assert (stage.house.data / "another name").read_bytes() == LOOSE

    stage.run(story())


def test_what_is_damaged_is_told_and_not_made_worse(stage: Stage) -> None:
    async def story() -> None:
        await stage.push_image(UI, "v1")
        stage.file(Digest.of(b"{}")).unlink()
        stage.file(Digest.of(b"a layer")).write_bytes(b"short")
        for content in (LOOSE, b"what leads elsewhere"):
            stage.file(await stage.push(UI, content)).unlink()
        stage.file(Digest.of(b"what leads elsewhere")).symlink_to(stage.file(Digest.of(b"a layer")))
        stage.clock.now += 2 * DAY

        receipt = await stage.sweep()

        assert (receipt.gone.blobs.count, receipt.gone.files.count) == (2, 0)
        assert (receipt.after.missing, receipt.after.misfits) == (Amount(1, 2), Amount(1, 5))
        assert not receipt.after.balanced
        assert stage.file(Digest.of(b"a layer")).exists()

    stage.run(story())


# uploads


def test_uploads_that_expired_go_and_those_that_did_not_can_be_finished(stage: Stage) -> None:
    async def story() -> None:
        async def append(content: bytes) -> str:
            upload = await stage.begin(UI)
            await stage.commit((await stage.engine.uploads.append(upload, body(content), None)).change)
            return upload.id

        await append(b"old")
        stage.clock.now += DAY - HOUR
        living = await append(b"alive")
        stage.clock.now += 2 * HOUR
        orphan = stage.house.data / "uploads" / "6c8ba2c7-5f11-4a3e-8f3e-0123456789ab"
        orphan.write_bytes(b"an orphan")
        foreign = stage.house.data / "uploads" / "notes.txt"
        foreign.write_bytes(b"not ours")

        receipt = await stage.sweep(0)

        assert (receipt.gone.uploads, receipt.gone.spools) == (Amount(1), Amount(2, 12))
        assert foreign.exists()
        upload = await stage.engine.uploads.find(UI, WRITER, living)
        blob, change = await stage.engine.uploads.finish(upload, body(b"!"), None, Digest.of(b"alive!"))
        await stage.commit(change)
        assert await stage.pull(UI, blob.digest) == b"alive!"

    stage.run(story())


def test_a_spool_that_somebody_writes_to_stays_with_its_row(stage: Stage) -> None:
    async def story() -> None:
        upload = await stage.begin(UI)
        stage.clock.now += 2 * DAY
        spool = Filesystem(stage.house.data).grow(f"uploads/{upload.id}")
        receipt = await stage.sweep(0)
        assert (receipt.gone, receipt.busy) == (Swept(), 1)
        spool.release()
        assert (await stage.sweep(0)).gone == Swept(uploads=Amount(1), spools=Amount(1))

    stage.run(story())


def test_links_go_page_by_page_and_none_is_passed_over(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.engine.embedded.sweep._LINKS", 2)

    async def story() -> None:
        contents = [b"%d" % number for number in range(5)]
        for place in (UI, OTHER):
            for content in contents:
                await stage.push(place, content)
        await stage.push_image(UI, "v1", layer=contents[3])
        stage.clock.now += 2 * DAY

        receipt = await stage.sweep()

        assert receipt.gone.links.count == 9
        assert sorted(digest for _, digest, *_ in stage.rows()["links"]) == sorted(
            Digest.of(content).text for content in (contents[3], b"{}")
        )

    stage.run(story())


def test_what_cannot_be_removed_is_told_and_the_rest_goes(tmp_path: Path) -> None:
    clearing, removal = Clearing(tmp_path, SWEPT), Removal()
    doomed = []
    # More than there are threads: what lies behind the one that stays goes as well.
    for number in range(30):
        (tmp_path / f"{number}").write_bytes(b"old")
        found = clearing.doom(f"{number}")
        assert found is not None
        assert found.move()
        doomed.append(found)
    [stuck, *_] = (tmp_path / SWEPT).iterdir()
    stuck.unlink()
    stuck.mkdir()

    removal.begin(doomed)
    with pytest.raises(OSError, match=stuck.name):
        removal.let_end()
    removal.close()

    assert [each.name for each in (tmp_path / SWEPT).iterdir()] == [stuck.name]


def test_files_are_gone_when_the_removal_is_closed(tmp_path: Path) -> None:
    clearing, removal = Clearing(tmp_path, SWEPT), Removal()
    for batch in range(3):
        for number in range(20):
            (tmp_path / f"{batch}-{number}").write_bytes(b"old")
        doomed = [found for number in range(20) if (found := clearing.doom(f"{batch}-{number}")) is not None]
        assert all(each.move() for each in doomed)
        removal.begin(doomed)
    removal.close()

    assert not list((tmp_path / SWEPT).iterdir())
