"""Blobs when the disk lies: nothing damaged is given out as whole, and a push heals it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from gateway.engine.embedded.layout import blob_key, upload_key
from gateway.engine.port import Blob
from gateway.engine.stores.files import Stored
from gateway.engine.stores.filesystem import Filesystem
from gateway.engine.stores.streams import Damaged
from gateway.errors import BlobUnknown, Unavailable
from gateway.oci.digest import Algorithm, Digest
from tests.contract.house import UI, House, Houses, read, run

CONTENT = os.urandom(1_000_003)
DIGEST = Digest.of(CONTENT)


def file_of(house: House, digest: Digest = DIGEST) -> Path:
    return house.root / blob_key(digest)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_the_layout_is_what_it_says_it_is() -> None:
    digest = Digest.of(b"", Algorithm.SHA512)
    assert blob_key(digest) == f"blobs/sha512/{digest.hex[:2]}/{digest.hex}"
    assert upload_key("1") == "uploads/1"


@pytest.mark.parametrize("damage", ["missing", "short", "long"])
def test_a_blob_without_its_bytes_is_damaged_not_unknown_and_a_push_heals_it(house: House, damage: str) -> None:
    async def story() -> None:
        blob = await house.push(UI, CONTENT)
        path = file_of(house)
        match damage:
            case "missing":
                path.unlink()
            case "short":
                os.truncate(path, 5)
            case _:
                path.write_bytes(CONTENT + b"x")
        with pytest.raises(Unavailable, match="push the blob again"):
            await house.engine.blobs.find(UI, DIGEST)
        with pytest.raises(Unavailable):
            await read(house.engine, blob)
        await house.push(UI, CONTENT)
        assert await house.pull(UI, DIGEST) == CONTENT

    run(story())


@pytest.mark.parametrize("at", [0, 500_000, len(CONTENT) - 1])
def test_flipped_bits_end_the_transfer_before_its_end_and_a_push_heals_them(houses: Houses, at: int) -> None:
    async def story() -> None:
        await houses.open().push(UI, CONTENT)
        house = houses.open()
        flip(file_of(house), at)
        blob = await house.engine.blobs.find(UI, DIGEST)
        for _ in range(2):
            received = 0
            with pytest.raises(Damaged):  # noqa: PT012 - what came before it matters
                async for piece in house.engine.blobs.read(blob, 0, blob.size_bytes - 1):
                    received += len(piece)
            assert received < len(CONTENT)
        await house.push(UI, CONTENT)
        assert await house.pull(UI, DIGEST) == CONTENT

    run(story())


def test_a_file_changed_after_it_was_verified_is_verified_again(house: House) -> None:
    async def story() -> None:
        blob = await house.push(UI, CONTENT)
        assert await read(house.engine, blob) == CONTENT
        flip(file_of(house), 77)
        with pytest.raises(Damaged):
            await read(house.engine, blob)

    run(story())


def test_a_file_cut_while_it_is_read_ends_the_transfer_with_an_error(house: House) -> None:
    async def story() -> None:
        blob = await house.push(UI, CONTENT)
        with pytest.raises(Damaged):  # noqa: PT012 - the file is cut in the middle
            async for _ in house.engine.blobs.read(blob, 0, blob.size_bytes - 1):
                os.truncate(file_of(house), 100_000)

    run(story())


class ColdStore(Filesystem):
    """A store none of whose bytes are ever in memory."""

    def open(self, key: str) -> Stored:
        stored = super().open(key)

        class Cold(Stored):
            __slots__ = ()

            def cached(self, offset: int, buffer: memoryview) -> int:
                return 0

        cold = Cold(os.dup(stored._descriptor))
        stored.release()
        return cold


@pytest.mark.parametrize(("first", "last"), [(0, len(CONTENT) - 1), (5, 5), (300_000, 900_000)])
def test_bytes_that_are_not_in_memory_are_read_all_the_same(
    houses: Houses, tmp_path: Path, first: int, last: int
) -> None:
    async def story() -> None:
        house = houses.open(store=ColdStore(tmp_path / "data"))
        blob = await house.push(UI, CONTENT)
        assert await read(house.engine, blob, first, last) == CONTENT[first : last + 1]

    run(story())


def test_a_reader_that_leaves_early_closes_the_file(house: House) -> None:
    async def story() -> None:
        blob = await house.push(UI, CONTENT)
        before = set(os.listdir("/proc/self/fd"))
        pieces = house.engine.blobs.read(blob, 0, blob.size_bytes - 1)
        await anext(pieces)
        await pieces.aclose()  # type: ignore[attr-defined]
        assert set(os.listdir("/proc/self/fd")) <= before

    run(story())


def test_many_readers_of_one_blob_each_get_all_of_it(house: House) -> None:
    async def story() -> None:
        blob = await house.push(UI, CONTENT)
        results = await asyncio.gather(*(read(house.engine, blob) for _ in range(20)))
        assert all(result == CONTENT for result in results)

    run(story())


def test_what_is_remembered_of_a_blob_is_forgotten_when_its_repository_moves(house: House) -> None:
    async def story() -> None:
        blob = await house.push(UI, CONTENT)
        assert await house.engine.blobs.find(UI, DIGEST) == Blob(DIGEST, len(CONTENT))
        house.apply(house.engine.blobs.delete(UI, blob.digest))
        with pytest.raises(BlobUnknown):
            await house.engine.blobs.find(UI, DIGEST)

    run(story())


def test_a_blob_that_was_met_damaged_is_not_told_to_be_here_to_whoever_would_push_it(houses: Houses) -> None:
    async def story() -> None:
        await houses.open().push(UI, CONTENT)
        house, other = houses.open(), houses.open()
        for each in (house, other):
            assert (await each.engine.blobs.find(UI, DIGEST, spares_push=True)).size_bytes == len(CONTENT)
        flip(file_of(house), 500_000)
        with pytest.raises(Damaged):
            await read(house.engine, Blob(DIGEST, len(CONTENT)))
        for each in (house, other):
            with pytest.raises(Unavailable, match="push the blob again"):
                await each.engine.blobs.find(UI, DIGEST, spares_push=True)
            # Whoever wants it may try: a disk that failed for a moment gives it again.
            assert (await each.engine.blobs.find(UI, DIGEST)).size_bytes == len(CONTENT)
        # A push heals it at once, though the damage is still to be recorded.
        await house.push(UI, CONTENT)
        for each in (house, other):
            assert (await each.engine.blobs.find(UI, DIGEST, spares_push=True)).size_bytes == len(CONTENT)
            assert await each.pull(UI, DIGEST) == CONTENT

    run(story())
