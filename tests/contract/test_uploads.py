"""What every engine promises of uploads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.engine.port import Interrupted, Upload
from gateway.errors import BlobUnknown, BlobUploadUnknown, DigestInvalid, RangeInvalid, TooManyRequests, UploadBusy
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.names import Repository
from tests.contract.house import OTHER, READER, UI, WRITER, House, Houses, body, cut, run

PARTS = (b"first," * 50_000, b"second," * 70_000, b"third")
WHOLE = b"".join(PARTS)


async def begin(house: House, repository: Repository = UI, owner: str = WRITER) -> Upload:
    upload, change = await house.engine.uploads.begin(repository, owner)
    await house.commit(change)
    return upload


async def again(house: House, upload: Upload) -> Upload:
    return await house.engine.uploads.find(upload.repository, upload.owner, upload.id)


async def append(house: House, upload: Upload, *pieces: bytes, first: int | None = None) -> int:
    appended = await house.engine.uploads.append(upload, body(*pieces), first)
    await house.commit(appended.change)
    return appended.offset


async def finish(house: House, upload: Upload, digest: Digest, *pieces: bytes, first: int | None = None) -> None:
    _, change = await house.engine.uploads.finish(upload, body(*pieces), first, digest)
    await house.commit(change)


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("last", [b"", b"and the rest"])
def test_chunks_become_a_blob(house: House, algorithm: Algorithm, last: bytes) -> None:
    async def story() -> None:
        upload = await begin(house)
        offset = 0
        for part in PARTS:
            assert (await again(house, upload)).offset == offset
            offset = await append(house, upload, part[:10], part[10:], first=offset)
        digest = Digest.of(WHOLE + last, algorithm)
        await finish(house, upload, digest, last, first=offset)
        assert await house.pull(UI, digest) == WHOLE + last
        with pytest.raises(BlobUploadUnknown):
            await again(house, upload)

    run(story())


def test_another_process_goes_on_where_the_first_stopped(houses: Houses) -> None:
    async def story() -> None:
        upload = await begin(houses.open())
        for part in PARTS:
            await append(houses.open(), upload, part)
        await finish(houses.open(), upload, Digest.of(WHOLE))
        assert await houses.open().pull(UI, Digest.of(WHOLE)) == WHOLE

    run(story())


def test_processes_that_take_turns_hash_what_the_other_wrote(houses: Houses) -> None:
    async def story() -> None:
        here, there = houses.open(), houses.open()
        upload = await begin(here)
        for house, part in ((here, b"one"), (there, b"two"), (here, b"three"), (there, b"four")):
            await append(house, upload, part)
        await finish(here, upload, Digest.of(b"onetwothreefourfive"), b"five")

    run(story())


def test_nothing_is_visible_before_the_upload_is_finished_and_committed(house: House) -> None:
    async def story() -> None:
        upload = await begin(house)
        await append(house, upload, WHOLE)
        digest = Digest.of(WHOLE)
        with pytest.raises(BlobUnknown):
            await house.engine.blobs.find(UI, digest)
        _, change = await house.engine.uploads.finish(upload, body(), None, digest)
        with pytest.raises(BlobUnknown):
            await house.engine.blobs.find(UI, digest)
        await house.commit(change)
        assert await house.pull(UI, digest) == WHOLE

    run(story())


def test_an_upload_exists_only_for_its_owner_in_its_repository(house: House) -> None:
    async def story() -> None:
        upload = await begin(house)
        strangers = [
            (OTHER, WRITER, upload.id),
            (UI, READER, upload.id),
            (UI, WRITER, "00000000-0000-4000-8000-000000000000"),
            (UI, WRITER, "../../etc/passwd"),
            (UI, WRITER, upload.id.upper()),
            (UI, WRITER, ""),
        ]
        for repository, owner, upload_id in strangers:
            with pytest.raises(BlobUploadUnknown):
                await house.engine.uploads.find(repository, owner, upload_id)
        assert (await again(house, upload)).id == upload.id

    run(story())


@pytest.mark.parametrize("first", [0, 4, 6, 10**18])
def test_a_chunk_that_does_not_start_at_the_offset_is_refused_and_changes_nothing(house: House, first: int) -> None:
    async def story() -> None:
        upload = await begin(house)
        await append(house, upload, b"12345")
        with pytest.raises(RangeInvalid) as refused:
            await append(house, upload, b"xxx", first=first)
        assert refused.value.offset == 5
        with pytest.raises(RangeInvalid):
            await finish(house, upload, Digest.of(b"xxx"), b"xxx", first=first)
        await append(house, upload, b"678", first=5)
        await finish(house, upload, Digest.of(b"12345678"))

    run(story())


@pytest.mark.parametrize("error", [Interrupted, ConnectionResetError, TimeoutError])
def test_what_came_of_a_body_that_stopped_is_kept(house: House, error: type[BaseException]) -> None:
    async def story() -> None:
        upload = await begin(house)
        appended = await house.engine.uploads.append(upload, cut(b"123", b"45", error=error), 0)
        assert (appended.interrupted, appended.offset) == (True, 5)
        await house.commit(appended.change)
        assert (await again(house, upload)).offset == 5
        await finish(house, upload, Digest.of(b"1234567"), b"67", first=5)

    run(story())


def test_a_last_chunk_that_stopped_leaves_the_upload_where_it_says_it_stands(house: House) -> None:
    async def story() -> None:
        upload = await begin(house)
        await append(house, upload, b"123")
        with pytest.raises(Interrupted):
            await house.engine.uploads.finish(upload, cut(b"4" * 600_000), 3, Digest.of(b"12345"))
        kept = b"123" if house.nature.cuts_back else b"123" + b"4" * 600_000
        assert (await again(house, upload)).offset == len(kept)
        await finish(house, upload, Digest.of(kept + b"45"), b"45", first=len(kept))

    run(story())


def test_bytes_that_were_taken_and_not_committed_count_only_if_the_upload_says_so(houses: Houses) -> None:
    async def story() -> None:
        here, there = houses.open(), houses.open()
        upload = await begin(here)
        await append(here, upload, b"123")
        appended = await here.engine.uploads.append(upload, body(b"lost"), None)
        del appended
        kept = b"123" if here.nature.cuts_back else b"123lost"
        for house in (here, there):
            assert (await again(house, upload)).offset == len(kept)
        if not here.nature.cuts_back:
            with pytest.raises(RangeInvalid) as refused:
                await append(there, upload, b"45", first=3)
            assert refused.value.offset == len(kept)
        await append(there, upload, b"45", first=len(kept))
        await finish(here, upload, Digest.of(kept + b"45"))

    run(story())


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_wrong_digest_is_refused_and_the_upload_is_gone(house: House, algorithm: Algorithm) -> None:
    async def story() -> None:
        digest = Digest.of(b"something else", algorithm)
        for chunks in ((), (WHOLE,)):
            upload = await begin(house)
            for chunk in chunks:
                await append(house, upload, chunk)
            with pytest.raises(DigestInvalid):
                await finish(house, upload, digest, b"tail")
            with pytest.raises(BlobUploadUnknown):
                await again(house, upload)
            with pytest.raises(BlobUploadUnknown):
                await finish(house, upload, Digest.of(b"tail"), b"tail")
            with pytest.raises(BlobUploadUnknown):
                await append(house, upload, b"tail")
            with pytest.raises(BlobUnknown):
                await house.engine.blobs.find(UI, digest)

    run(story())


def test_knowing_a_digest_gives_nothing(house: House) -> None:
    async def story() -> None:
        await house.push(OTHER, WHOLE)
        upload = await begin(house)
        with pytest.raises(DigestInvalid):
            await finish(house, upload, Digest.of(WHOLE))
        for _ in range(2):
            with pytest.raises(BlobUploadUnknown):
                await finish(house, upload, Digest.of(WHOLE))
        with pytest.raises(BlobUnknown):
            await house.engine.blobs.find(UI, Digest.of(WHOLE))

    run(story())


def test_only_one_request_writes_to_an_upload_at_a_time(houses: Houses) -> None:
    async def story() -> None:
        here, there = houses.open(), houses.open()
        upload = await begin(here)
        gate = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b"slow "
            await gate.wait()
            yield b"body"

        writing = asyncio.create_task(here.engine.uploads.append(upload, slow(), 0))
        await asyncio.sleep(0.05)
        for house in (here, there):
            with pytest.raises(UploadBusy):
                await house.engine.uploads.append(upload, body(b"XXXX"), 0)
            with pytest.raises(UploadBusy):
                await house.engine.uploads.finish(upload, body(b"XXXX"), 0, Digest.of(b"XXXX"))
            with pytest.raises(UploadBusy):
                await house.engine.uploads.cancel(upload)
        gate.set()
        appended = await writing
        with pytest.raises(UploadBusy):
            await there.engine.uploads.append(upload, body(b"XXXX"), 0)
        await here.commit(appended.change)
        await finish(there, upload, Digest.of(b"slow body"), first=9)

    run(story())


def test_a_cancelled_upload_is_gone_with_its_bytes(house: House) -> None:
    async def story() -> None:
        for chunks in ((), (WHOLE,)):
            upload = await begin(house)
            for chunk in chunks:
                await append(house, upload, chunk)
            await house.commit(await house.engine.uploads.cancel(upload))
            with pytest.raises(BlobUploadUnknown):
                await again(house, upload)
            with pytest.raises(BlobUploadUnknown):
                await append(house, upload, b"more")
            with pytest.raises(BlobUploadUnknown):
                await house.commit(await house.engine.uploads.cancel(upload))

    run(story())


def test_an_upload_expires_a_day_after_its_last_chunk(house: House) -> None:
    async def story() -> None:
        upload = await begin(house)
        assert upload.expires == upload.begun + 24 * 60 * 60
        house.clock.now += 20 * 60 * 60
        await append(house, upload, b"123")
        house.clock.now += 20 * 60 * 60
        assert (await again(house, upload)).offset == 3
        house.clock.now += 5 * 60 * 60
        with pytest.raises(BlobUploadUnknown):
            await again(house, upload)
        with pytest.raises(BlobUploadUnknown):
            await append(house, upload, b"4")

    run(story())


def test_a_principal_has_so_many_uploads_open_and_no_more(houses: Houses) -> None:
    async def story() -> None:
        house = houses.open(uploads_per_owner=3)
        opened = [await begin(house) for _ in range(3)]
        with pytest.raises(TooManyRequests):
            await begin(house)
        # From then on it is refused before anything is written.
        with pytest.raises(TooManyRequests):
            await house.engine.uploads.begin(UI, WRITER)
        await begin(house, owner=READER)
        await house.commit(await house.engine.uploads.cancel(opened[0]))
        await begin(house)
        await finish(house, opened[1], Digest.of(b"x"), b"x")
        await begin(house)
        with pytest.raises(DigestInvalid):
            await finish(house, opened[2], Digest.of(b"x"), b"y")
        await begin(house)
        house.clock.now += 25 * 60 * 60
        for _ in range(3):
            await begin(house)

    run(story())


def test_uploads_whose_clients_have_died_keep_nobody_from_pushing(houses: Houses) -> None:
    """An account is shared by many jobs; those that died cannot cancel, and nobody else knows how."""

    async def story() -> None:
        house = houses.open(uploads_per_owner=2)
        left = [await begin(house) for _ in range(2)]
        house.clock.now += 59 * 60
        with pytest.raises(TooManyRequests):
            await begin(house)
        house.clock.now += 61
        for _ in range(9):
            await begin(house)
            await begin(house)
            with pytest.raises(TooManyRequests):
                await begin(house)
            house.clock.now += 60 * 60
        with pytest.raises(TooManyRequests):
            await begin(house)
        await finish(house, left[0], Digest.of(b"x"), b"x")
        await begin(house)

    run(story())


def test_an_upload_makes_its_project_and_says_so(house: House) -> None:
    async def story() -> None:
        _, first = await house.engine.uploads.begin(UI, WRITER)
        assert first.policy
        notes = await house.commit(first)
        assert notes.also == (("project.add", {"project": "gallery", "after": {"public": False}}),)
        _, second = await house.engine.uploads.begin(UI, WRITER)
        assert not second.policy
        assert (await house.commit(second)).also == ()

    run(story())
