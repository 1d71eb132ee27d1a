"""Uploads when things go wrong between two steps: crashes, full and failing disks, requests that vanish."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import threading
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.change import Notes
from gateway.engine.embedded.layout import blob_key
from gateway.engine.port import Upload
from gateway.engine.stores.files import Spool
from gateway.engine.stores.filesystem import Filesystem
from gateway.errors import BlobUnknown, BlobUploadUnknown, DigestInvalid, RangeInvalid, Unavailable, UploadBusy
from gateway.oci.digest import Algorithm, Digest
from tests.contract.house import OTHER, UI, WRITER, House, Houses, body, run

CONTENT = os.urandom(700_000)
DIGEST = Digest.of(CONTENT)


async def begin(house: House) -> Upload:
    upload, change = await house.engine.uploads.begin(UI, WRITER)
    house.apply(change)
    return upload


async def append(house: House, upload: Upload, content: bytes) -> None:
    house.apply((await house.engine.uploads.append(upload, body(content), None)).change)


async def finish(house: House, upload: Upload, digest: Digest, *pieces: bytes) -> None:
    _, change = await house.engine.uploads.finish(upload, body(*pieces), None, digest)
    house.apply(change)


async def finishing(house: House, upload: Upload, rest: bytes) -> None:
    await finish(house, upload, DIGEST, rest)


# a crash, or a commit that fails, between any two steps


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("appended", [0, 300_000, len(CONTENT)])
def test_finishing_again_after_the_commit_failed_works_even_on_another_process(
    houses: Houses, appended: int, algorithm: Algorithm
) -> None:
    async def story() -> None:
        here, there = houses.open(), houses.open()
        digest = Digest.of(CONTENT, algorithm)
        upload = await begin(here)
        await append(here, upload, CONTENT[:appended])
        for _ in range(2):
            await here.engine.uploads.finish(upload, body(CONTENT[appended:]), None, digest)
            with pytest.raises(BlobUnknown):
                await here.engine.blobs.find(UI, digest)
        await finish(there, upload, digest, CONTENT[appended:])
        assert await here.pull(UI, digest) == CONTENT
        assert here.spools() == []

    run(story())


def test_a_lost_spool_is_not_made_up_from_a_strangers_blob(house: House) -> None:
    async def story() -> None:
        await house.push(OTHER, CONTENT)
        upload = await begin(house)
        await append(house, upload, os.urandom(300_000))
        house.spools()[0].unlink()
        with pytest.raises(BlobUploadUnknown):
            await finish(house, upload, DIGEST)
        with pytest.raises(BlobUnknown):
            await house.engine.blobs.find(UI, DIGEST)
        assert house.spools() == []

    run(story())


def test_a_lost_spool_refuses_a_chunk(house: House) -> None:
    async def story() -> None:
        upload = await begin(house)
        await append(house, upload, b"123")
        house.spools()[0].unlink()
        with pytest.raises(BlobUploadUnknown):
            await append(house, upload, b"4")
        assert house.spools() == []

    run(story())


def test_a_spool_with_other_bytes_than_were_acknowledged_is_given_up(houses: Houses) -> None:
    async def story() -> None:
        here, there = houses.open(), houses.open()
        upload = await begin(here)
        await append(here, upload, b"12345")
        here.spools()[0].write_bytes(b"12X45")
        with pytest.raises(BlobUploadUnknown):
            await append(there, upload, b"6")
        with pytest.raises(BlobUploadUnknown):
            await here.engine.uploads.find(UI, WRITER, upload.id)

    run(story())


def test_bytes_of_an_append_nobody_committed_are_cut_off_on_any_process(houses: Houses) -> None:
    async def story() -> None:
        here, there = houses.open(), houses.open()
        upload = await begin(here)
        await append(here, upload, b"123")
        await here.engine.uploads.append(upload, body(b"never acknowledged"), None)
        assert here.spools()[0].stat().st_size == 21
        await append(there, upload, b"45")
        await finish(here, upload, Digest.of(b"12345"))

    run(story())


def test_whoever_comes_between_a_change_and_its_commit_cuts_nothing_off(houses: Houses) -> None:
    """The lock is let go inside the transaction: the next one must wait for it before it believes the row."""

    async def story() -> None:
        here, there = houses.open(), houses.open()
        upload = await begin(here)
        appended = await here.engine.uploads.append(upload, body(b"123"), None)
        applied, go_on = threading.Event(), threading.Event()

        def apply_and_wait(connection: Any) -> Notes:
            notes = appended.change.apply(connection)
            applied.set()
            assert go_on.wait(10)
            return notes

        committing = threading.Thread(target=here.apply, args=(type(appended.change)(apply_and_wait),))
        committing.start()
        assert await asyncio.to_thread(applied.wait, 10)
        next_one = asyncio.create_task(there.engine.uploads.append(upload, body(b"45"), 3))
        await asyncio.sleep(0.2)
        assert not next_one.done()
        go_on.set()
        there.apply((await next_one).change)
        committing.join()
        await finish(there, upload, Digest.of(b"12345"))

    run(story())


def test_two_processes_that_append_at_once_never_mix_nor_lose_what_was_acknowledged(houses: Houses) -> None:
    def work(house: House, upload: Upload, mark: bytes, acknowledged: list[tuple[int, bytes]]) -> None:
        async def story() -> None:
            while len(acknowledged) < 40:
                piece = mark * (1 + len(acknowledged) % 7) * 1000
                try:
                    appended = await house.engine.uploads.append(upload, body(piece), None)
                    house.apply(appended.change)
                except (UploadBusy, RangeInvalid):
                    await asyncio.sleep(0)
                    continue
                acknowledged.append((appended.offset, piece))

        run(story())

    async def settle(acknowledged: list[tuple[int, bytes]]) -> None:
        whole = b""
        for offset, piece in sorted(acknowledged):
            whole += piece
            assert len(whole) == offset
        house = houses.open()
        await finish(house, upload, Digest.of(whole))
        assert await house.pull(UI, Digest.of(whole)) == whole

    upload = run(begin(houses.open()))
    lists: list[list[tuple[int, bytes]]] = [[], []]
    threads = [
        threading.Thread(target=work, args=(houses.open(), upload, mark, found))
        for mark, found in zip((b"a", b"b"), lists, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run(settle(lists[0] + lists[1]))


def test_two_that_finish_the_same_upload_at_once_both_succeed_or_are_told(houses: Houses) -> None:
    async def story() -> None:
        here, there = houses.open(), houses.open()
        upload = await begin(here)
        _, first = await here.engine.uploads.finish(upload, body(CONTENT), None, DIGEST)
        _, second = await there.engine.uploads.finish(upload, body(CONTENT), None, DIGEST)
        here.apply(first)
        there.apply(second)
        assert await here.pull(UI, DIGEST) == CONTENT
        assert here.spools() == []

    run(story())


def test_an_append_that_meets_a_finish_leaves_no_file_behind(house: House) -> None:
    async def story() -> None:
        upload = await begin(house)
        _, finished = await house.engine.uploads.finish(upload, body(CONTENT), None, DIGEST)
        late = await house.engine.uploads.append(upload, body(b"late"), None)
        house.apply(finished)
        with pytest.raises(BlobUploadUnknown):
            house.apply(late.change)
        assert house.spools() == []
        assert await house.pull(UI, DIGEST) == CONTENT

    run(story())


def test_a_chunk_is_durable_with_its_name_before_it_is_acknowledged(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def told(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    async def story() -> None:
        upload = await begin(house)
        monkeypatch.setattr("os.fsync", told)
        await house.engine.uploads.append(upload, body(b"123"), None)
        assert synced[-2:] == [f"{house.root}/uploads/{upload.id}", f"{house.root}/uploads"]

    run(story())


def test_the_bytes_of_a_blob_are_durable_before_they_get_its_name(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(descriptor: int) -> None:
        steps.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        steps.append(f"{source} -> {target}")
        rename(source, target)

    async def story() -> None:
        upload = await begin(house)
        monkeypatch.setattr("os.fsync", synced)
        monkeypatch.setattr("os.rename", renamed)
        await house.engine.uploads.finish(upload, body(CONTENT), None, DIGEST)
        spool, blob = house.root / "uploads" / upload.id, house.root / blob_key(DIGEST)
        assert steps[-1] == str(blob.parent)
        assert steps[-2] == f"{spool} -> {blob}"
        assert str(spool) in steps[:-2]

    run(story())


# requests that vanish


def test_a_cancelled_request_lets_go_of_the_upload(house: House) -> None:
    async def story() -> None:
        upload = await begin(house)

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 100_000
                await asyncio.sleep(0.001)

        writing = asyncio.create_task(house.engine.uploads.append(upload, endless(), None))
        await asyncio.sleep(0.1)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await finish(house, upload, Digest.of(b"123"), b"123")

    gc.disable()
    try:
        run(story())
    finally:
        gc.enable()


def test_a_change_dropped_unapplied_lets_go_of_the_upload_at_once(house: House) -> None:
    async def story() -> None:
        upload = await begin(house)
        appended = await house.engine.uploads.append(upload, body(b"123"), None)
        with pytest.raises(UploadBusy):
            await append(house, upload, b"45")
        del appended
        await append(house, upload, b"45")

    gc.disable()
    try:
        run(story())
    finally:
        gc.enable()


def test_no_file_stays_open(house: House) -> None:
    async def story() -> None:
        await house.push(UI, b"warm")
        before = len(os.listdir("/proc/self/fd"))
        for number in range(20):
            upload = await begin(house)
            await append(house, upload, b"%d" % number)
            with pytest.raises(RangeInvalid):
                await house.engine.uploads.append(upload, body(b"x"), 99)
            with pytest.raises(DigestInvalid):
                await finish(house, upload, DIGEST)
            blob = await house.push(UI, b"%d" % number)
            async for _ in house.engine.blobs.read(blob, 0, blob.size_bytes - 1):
                break
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= before + 16  # a thread's own connection to the database each

    run(story())


def test_expired_uploads_are_removed_with_their_bytes_when_others_begin(house: House) -> None:
    async def story() -> None:
        for _ in range(3):
            await append(house, await begin(house), b"forgotten")
        assert len(house.spools()) == 3
        house.clock.now += 25 * 60 * 60
        fresh = await begin(house)
        await append(house, fresh, b"new")
        assert [spool.name for spool in house.spools()] == [fresh.id]

    run(story())


def test_a_chunk_that_came_while_its_upload_expired_stays_when_others_begin(houses: Houses) -> None:
    async def story() -> None:
        here, there = houses.open(), houses.open()
        upload = await begin(here)
        await append(here, upload, b"begun")
        houses.clock.now += 24 * 60 * 60 - 1
        change = (await here.engine.uploads.append(upload, body(b" and gone on"), None)).change
        houses.clock.now += 2
        with here.database.lock(), here.database.writer() as connection:
            here.database.begin(connection)
            change.apply(connection)
            # The spool's lock has gone, and its row is not to be seen yet.
            beginning = asyncio.create_task(there.engine.uploads.begin(UI, WRITER))
            await asyncio.sleep(0.3)
            connection.exec_driver_sql("COMMIT")
        there.apply((await beginning)[1])
        again = await here.engine.uploads.find(UI, WRITER, upload.id)
        assert again.offset == len(b"begun and gone on")
        await append(here, again, b", and on")

    run(story())


# disks


class BadDisk(Filesystem):
    """A store whose disk fails at one operation, as often as it is told."""

    def __init__(self, root: Path, operation: str, error: int) -> None:
        super().__init__(root)
        self.operation = operation
        self.error = error
        self.failing = True
        self.cuts = True

    def fail(self, operation: str) -> None:
        if self.failing and operation == self.operation:
            raise OSError(self.error, os.strerror(self.error))

    def grow(self, key: str) -> Spool:
        spool = super().grow(key)
        disk = self

        class BadSpool(Spool):
            __slots__ = ()

            def write(self, pieces: Sequence[bytes]) -> None:
                super().write([b"".join(pieces)[:5]])
                disk.fail("write")
                super().truncate(self.size - 5)
                super().write(pieces)

            def truncate(self, size: int) -> None:
                if not disk.cuts:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                super().truncate(size)

            def sync(self) -> None:
                disk.fail("sync")
                super().sync()

        bad = BadSpool(os.dup(spool._descriptor), spool.path)
        spool.release()
        return bad

    def publish(self, spool: Spool, key: str) -> None:
        self.fail("publish")
        super().publish(spool, key)
        # As when the file has its new name, and the folder cannot be synced.
        self.fail("published")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_does_not_sync_ends_the_upload_and_a_new_one_works(
    houses: Houses, tmp_path: Path, error: int
) -> None:
    async def story() -> None:
        disk = BadDisk(tmp_path / "data", "sync", error)
        house = houses.open(store=disk)
        expected: type[Exception] = OSError if error == errno.EIO else Unavailable
        for write in (finishing, append):
            upload = await begin(house)
            with pytest.raises(expected):
                await write(house, upload, CONTENT)
            with pytest.raises(BlobUploadUnknown):
                await house.engine.uploads.find(UI, WRITER, upload.id)
        assert house.spools() == []
        disk.failing = False
        await house.push(UI, CONTENT)
        assert await house.pull(UI, DIGEST) == CONTENT

    run(story())


def test_what_was_acknowledged_is_worth_nothing_when_a_later_chunk_cannot_be_synced(
    houses: Houses, tmp_path: Path
) -> None:
    """The system may have dropped what it could not write: what is read back says nothing of the disk."""

    async def story() -> None:
        disk = BadDisk(tmp_path / "data", "sync", errno.EIO)
        house = houses.open(store=disk)
        for write in (append, finishing):
            disk.failing = False
            upload = await begin(house)
            await append(house, upload, CONTENT[:1000])
            disk.failing = True
            with pytest.raises(OSError, match="Input/output"):
                await write(house, upload, CONTENT[1000:])
            with pytest.raises(BlobUploadUnknown):
                await house.engine.uploads.find(UI, WRITER, upload.id)
        assert house.spools() == []

    run(story())


def test_a_blob_that_others_hold_is_not_cut_when_its_folder_cannot_be_synced(houses: Houses, tmp_path: Path) -> None:
    async def story() -> None:
        disk = BadDisk(tmp_path / "data", "published", errno.EIO)
        house = houses.open(store=disk)
        disk.failing = False
        await house.push(OTHER, CONTENT)
        upload = await begin(house)
        await append(house, upload, CONTENT[:1000])
        disk.failing = True
        with pytest.raises(OSError, match="Input/output"):
            await finishing(house, upload, CONTENT[1000:])
        assert await house.pull(OTHER, DIGEST) == CONTENT

    run(story())


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("operation", ["write", "publish", "published"])
def test_a_disk_that_takes_no_more_leaves_the_upload_with_what_it_had(
    houses: Houses, tmp_path: Path, operation: str, error: int
) -> None:
    async def story() -> None:
        disk = BadDisk(tmp_path / "data", operation, error)
        house = houses.open(store=disk)
        disk.failing = False
        upload = await begin(house)
        await append(house, upload, CONTENT[:1000])
        disk.failing = True
        expected: type[Exception] = OSError if error == errno.EIO else Unavailable
        for write in (append, finishing) if operation == "write" else (finishing, finishing):
            with pytest.raises(expected):
                await write(house, upload, CONTENT[1000:])
            assert (await house.engine.uploads.find(UI, WRITER, upload.id)).offset == 1000
        with pytest.raises(BlobUnknown):
            await house.engine.blobs.find(UI, DIGEST)
        disk.failing = False
        if operation == "write":
            await append(house, upload, CONTENT[1000:2000])
        await finish(house, upload, DIGEST, CONTENT[2000 if operation == "write" else 1000 :])
        assert await house.pull(UI, DIGEST) == CONTENT
        assert house.spools() == []

    run(story())


def test_uploads_of_which_nothing_was_written_do_not_use_up_those_that_may_be_open(
    houses: Houses, tmp_path: Path
) -> None:
    async def story() -> None:
        disk = BadDisk(tmp_path / "data", "write", errno.EDQUOT)
        house = houses.open(store=disk, uploads_per_owner=3)
        for _ in range(5):
            with pytest.raises(Unavailable):
                await append(house, await begin(house), CONTENT)
        disk.failing = False
        await house.push(UI, CONTENT)
        assert house.spools() == []

    run(story())


def test_a_disk_that_does_not_even_cut_back_ends_the_upload(houses: Houses, tmp_path: Path) -> None:
    async def story() -> None:
        disk = BadDisk(tmp_path / "data", "write", errno.EIO)
        disk.failing = False
        house = houses.open(store=disk)
        upload = await begin(house)
        await append(house, upload, CONTENT[:1000])
        disk.failing, disk.cuts = True, False
        with pytest.raises(OSError, match="error"):
            await append(house, upload, CONTENT)
        with pytest.raises(BlobUploadUnknown):
            await house.engine.uploads.find(UI, WRITER, upload.id)

    run(story())


def test_a_full_disk_is_told_as_such(houses: Houses, tmp_path: Path) -> None:
    async def story() -> None:
        house = houses.open(store=BadDisk(tmp_path / "data", "write", errno.ENOSPC))
        with pytest.raises(Unavailable, match="storage is full"):
            await append(house, await begin(house), CONTENT)

    run(story())


# memory


@pytest.mark.parametrize("piece", [997, 64 * 1024])
def test_an_upload_of_any_size_takes_less_than_a_mebibyte(house: House, piece: int) -> None:
    total = 64 * 1024 * 1024
    count = total // piece

    async def long_body() -> AsyncIterator[bytes]:
        for number in range(count):
            yield number.to_bytes(8, "big") * (piece // 8) + b"." * (piece % 8)

    async def story() -> int:
        upload = await begin(house)
        await append(house, upload, b"warm")
        tracemalloc.start()
        try:
            appended = await house.engine.uploads.append(upload, long_body(), None)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            assert appended.offset == 4 + count * piece
            house.apply(appended.change)

    assert run(story()) < 1024 * 1024
