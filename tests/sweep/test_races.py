"""Sweeps while others push, finish, import, and while they are killed: what was acknowledged stays pullable."""

from __future__ import annotations

import asyncio
import fcntl
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.change import Change, Notes
from gateway.engine.embedded.importing import EmbeddedImport
from gateway.engine.embedded.layout import SWEPT, blob_key
from gateway.engine.embedded.sweep import EmbeddedSweep
from gateway.engine.embedded.truce import sweeps_held_off
from gateway.engine.embedded.volume import Volume
from gateway.engine.stores.clearing import Clearing
from gateway.engine.stores.filesystem import Filesystem
from gateway.engine.sweeping import Amount, Swept
from gateway.errors import Conflict, Unavailable
from gateway.oci.digest import Digest
from tests.house import opened
from tests.sweep.racing import IMAGES, POINTS, Told, dies_sweeping, pushes, sweeps
from tests.sweep.stage import DAY, HOUR, OTHER, UI, Stage, body

CONTENT = b"what is being pushed"
DIGEST = Digest.of(CONTENT)
SPAWN = multiprocessing.get_context("spawn")


@pytest.mark.parametrize("grace_seconds", [0, pytest.param(DAY, marks=pytest.mark.long)])
def test_whatever_was_acknowledged_while_sweeps_run_stays_pullable(
    database_url: str, tmp_path: Path, grace_seconds: int
) -> None:
    told: multiprocessing.Queue[Told] = SPAWN.Queue()
    stopping = SPAWN.Event()
    with opened(database_url, tmp_path) as house:
        seconds = 3.0
        workers = [
            SPAWN.Process(target=pushes, args=(database_url, tmp_path, f"gallery/{name}", seconds, told))
            for name in "ab"
        ]
        workers.append(SPAWN.Process(target=sweeps, args=(database_url, tmp_path, stopping, grace_seconds)))
        for worker in workers:
            worker.start()
        answers = [told.get(timeout=120) for _ in "ab"]
        stopping.set()
        for worker in workers:
            worker.join(60)

        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        assert [answer.wrong for answer in answers] == [[], []]
        assert min(answer.images for answer in answers) >= IMAGES
        if grace_seconds:
            assert [answer.retried for answer in answers] == [0, 0]
        receipt = asyncio.run(Stage(house).sweep(0))
        assert (receipt.after.balanced, receipt.after.strays) == (True, Amount())
        assert house.trail.verify().fault == ""


@pytest.mark.parametrize(
    "point", [next(iter(POINTS)), *(pytest.param(each, marks=pytest.mark.long) for each in list(POINTS)[1:])]
)
def test_a_sweep_that_is_killed_loses_nothing_and_the_next_one_ends_it(tmp_path: Path, point: str) -> None:
    url = f"sqlite:///{tmp_path / 'gateway.db'}"

    async def fill(stage: Stage) -> None:
        await stage.push_image(UI, "v1", layer=b"kept")
        for number in range(3):
            await stage.push(UI, b"loose %d" % number)
            upload = await stage.begin(OTHER)
            await stage.commit((await stage.engine.uploads.append(upload, body(b"part"), None)).change)
        for number in range(40):  # some of them on one shelf
            stage.put_file(b"stray %d" % number)

    with opened(url, tmp_path) as house:
        asyncio.run(fill(Stage(house)))
    child = SPAWN.Process(target=dies_sweeping, args=(url, tmp_path, point))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL

    async def look(stage: Stage) -> None:
        assert await stage.pull(UI, Digest.of(b"kept")) == b"kept"
        stage.clock.now += 2 * DAY
        digest = await stage.push(OTHER, b"loose 0")
        receipt = await stage.sweep()
        assert receipt.after.balanced
        assert await stage.pull(OTHER, digest) == b"loose 0"
        assert await stage.pull(UI, Digest.of(b"kept")) == b"kept"
        kept = {blob_key(Digest.of(content)) for content in (b"{}", b"kept", b"loose 0")}
        assert set(stage.files()) == kept
        assert stage.rows()["uploads"] == []

    with opened(url, tmp_path) as house:
        asyncio.run(look(Stage(house)))
        kinds = [event["kind"] for event in house.records() if str(event["kind"]).startswith("storage")]
        assert (kinds[0], kinds.count("storage.sweep")) == ("storage.sweep.begun", 1)
        assert house.trail.verify().fault == ""


# between the publishing of a file and its commit


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "new"])
def test_a_blob_that_is_being_finished_survives_a_sweep_without_grace(stage: Stage, recorded: bool) -> None:
    async def story() -> None:
        if recorded:
            await stage.push(OTHER, CONTENT)
            await stage.commit(stage.engine.blobs.delete(OTHER, DIGEST))
        upload = await stage.begin(UI)
        _, change = await stage.engine.uploads.finish(upload, body(CONTENT), None, DIGEST)
        stage.clock.now += DAY // 2
        receipt = await stage.sweep(0)
        assert (receipt.gone, receipt.busy) == (Swept(), 1)
        await stage.commit(change)
        assert await stage.pull(UI, DIGEST) == CONTENT

    stage.run(story())


def test_a_finish_that_is_given_up_is_swept_and_can_be_repeated(stage: Stage) -> None:
    async def story() -> None:
        upload = await stage.begin(UI)
        await stage.engine.uploads.finish(upload, body(CONTENT), None, DIGEST)
        stage.clock.now += DAY // 2
        assert (await stage.sweep(0)).gone.strays == Amount(1, len(CONTENT))
        _, change = await stage.engine.uploads.finish(upload, body(CONTENT), None, DIGEST)
        await stage.commit(change)
        assert await stage.pull(UI, DIGEST) == CONTENT

    stage.run(story())


def test_of_two_that_finish_the_same_blob_the_first_is_not_told_what_is_not_so(stage: Stage) -> None:
    """The second one's file takes the first one's place; when it is given up, that file is nobody's."""

    async def story() -> None:
        first, second = await stage.begin(UI), await stage.begin(UI)
        _, change = await stage.engine.uploads.finish(first, body(CONTENT), None, DIGEST)
        await stage.engine.uploads.finish(second, body(CONTENT), None, DIGEST)
        stage.clock.now += DAY // 2
        await stage.sweep(0)
        with pytest.raises(Unavailable):
            await stage.commit(change)
        assert await stage.push(UI, CONTENT) == DIGEST
        assert await stage.pull(UI, DIGEST) == CONTENT

    stage.run(story())


def test_a_chunk_whose_commit_is_under_way_keeps_its_upload_though_the_row_has_expired(stage: Stage) -> None:
    """Its spool is let go of within the transaction: what the row says before that has ended is not believed."""

    async def story() -> None:
        upload = await stage.begin(UI)
        await stage.commit((await stage.engine.uploads.append(upload, body(b"one"), None)).change)
        stage.clock.now += DAY - HOUR
        appended = await stage.engine.uploads.append(upload, body(b"two"), None)
        stage.clock.now += 2 * HOUR
        applied, go_on = threading.Event(), threading.Event()

        def apply_and_wait(connection: Any) -> Notes:
            notes = appended.change.apply(connection)
            applied.set()
            assert go_on.wait(10)
            return notes

        committing = asyncio.create_task(stage.commit(Change(apply_and_wait)))
        assert await asyncio.to_thread(applied.wait, 10)
        data = stage.house.data
        sweep = EmbeddedSweep(
            Filesystem(data), Clearing(data, SWEPT), stage.house.database, grace_seconds=0, clock=stage.clock
        )
        discarding = asyncio.create_task(asyncio.to_thread(sweep._discard, [upload.id]))
        await asyncio.sleep(0.2)
        go_on.set()
        await committing
        assert await discarding == Amount()
        sweep.close()
        blob, change = await stage.engine.uploads.finish(upload, body(b"!"), None, Digest.of(b"onetwo!"))
        await stage.commit(change)
        assert await stage.pull(UI, blob.digest) == b"onetwo!"

    stage.run(story())


def test_a_file_that_took_the_place_of_a_doomed_one_stays(tmp_path: Path) -> None:
    clearing = Clearing(tmp_path, SWEPT)
    place = tmp_path / "place"
    place.write_bytes(b"old")
    doomed = clearing.doom("place")
    assert doomed is not None
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "new").rename(place)

    assert not doomed.move()
    doomed.end()

    assert place.read_bytes() == b"new"
    assert clearing.files(SWEPT) == {}


def test_a_doomed_file_is_aside_until_the_end_and_cannot_be_doomed_twice(tmp_path: Path) -> None:
    clearing = Clearing(tmp_path, SWEPT)
    (tmp_path / "place").write_bytes(b"old")
    doomed = clearing.doom("place")
    assert doomed is not None
    with pytest.raises(BlockingIOError):
        clearing.doom("place")
    assert doomed.move()
    assert not (tmp_path / "place").exists()
    assert [lying.size_bytes for lying in clearing.files(SWEPT).values()] == [3]
    doomed.end()
    doomed.end()
    assert clearing.files(SWEPT) == {}
    assert clearing.doom("place") is None
    with pytest.raises(ValueError, match="given up"):
        doomed.move()


def test_a_file_goes_at_once_while_its_folder_is_still_but_not_another_in_its_place(tmp_path: Path) -> None:
    clearing = Clearing(tmp_path, SWEPT)
    (tmp_path / "shelf").mkdir()
    for name in ("gone", "replaced", "missing"):
        (tmp_path / "shelf" / name).write_bytes(b"old")
    gone, replaced, missing = (clearing.doom(f"shelf/{name}") for name in ("gone", "replaced", "missing"))
    assert gone is not None
    assert replaced is not None
    assert missing is not None
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "new").rename(tmp_path / "shelf" / "replaced")
    (tmp_path / "shelf" / "missing").unlink()

    with clearing.still("shelf") as still:
        assert still
        assert [file.move(still=still) for file in (gone, replaced, missing)] == [True, False, False]
        assert clearing.files(SWEPT) == {}
    for file in (gone, replaced, missing):
        file.end()

    assert {file.name: file.read_bytes() for file in (tmp_path / "shelf").iterdir()} == {"replaced": b"new"}


def test_who_publishes_waits_for_a_still_folder_and_none_is_kept_still_under_who_publishes(tmp_path: Path) -> None:
    clearing, store = Clearing(tmp_path, SWEPT), Filesystem(tmp_path)
    (tmp_path / "shelf").mkdir()
    spool = store.grow("spool")
    with ThreadPoolExecutor(1) as threads:
        with clearing.still("shelf") as still:
            assert still
            publishing = threads.submit(store.publish, spool, "shelf/blob")
            with pytest.raises(TimeoutError):
                publishing.result(0.1)
            assert not (tmp_path / "shelf" / "blob").exists()
        publishing.result(10)
    spool.release()

    assert (tmp_path / "shelf" / "blob").exists()
    descriptor = os.open(tmp_path / "shelf", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # as whoever publishes does
        with clearing.still("shelf") as still:
            assert not still
    finally:
        os.close(descriptor)
    with clearing.still("nowhere") as still:
        assert not still


def test_a_sweep_beside_who_publishes_on_the_same_shelf_takes_the_longer_way(stage: Stage) -> None:
    async def story() -> None:
        kept = await stage.push(UI, b"kept")
        await stage.push(OTHER, CONTENT)
        await stage.commit(stage.engine.blobs.delete(OTHER, DIGEST))
        descriptor = os.open(stage.file(DIGEST).parent, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            receipt = await stage.sweep()
        finally:
            os.close(descriptor)
        assert receipt.gone.files == Amount(1, len(CONTENT))
        assert set(stage.files()) == {blob_key(kept)}

    stage.run(story())


# others who count on what nothing links


def test_sweeps_and_imports_keep_out_of_each_others_way(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "volume" / "repositories").mkdir(parents=True)
    store = Filesystem(stage.house.data)
    source = Volume.at(tmp_path / "volume")
    with EmbeddedImport(store, stage.house.database, source).alone():
        with pytest.raises(Conflict, match="wait for its end"):
            stage.run(stage.sweep())
        assert stage.run(stage.plan()).empty
    with (
        store.held("sweep.lock"),
        pytest.raises(Conflict, match="A sweep of this data directory is under way"),
        EmbeddedImport(store, stage.house.database, source).alone(),
    ):
        pass
    with store.held("sweep.lock"), pytest.raises(Conflict, match="Another sweep"):
        stage.run(stage.sweep())
    stage.run(stage.sweep())


def test_those_who_hold_sweeps_off_do_so_together_and_until_the_last_of_them_has_ended(stage: Stage) -> None:
    async def story() -> None:
        with sweeps_held_off(stage.house.data):
            with sweeps_held_off(stage.house.data):
                pass
            with pytest.raises(Conflict):
                await stage.sweep(0)
        await stage.sweep(0)

    stage.run(story())
