"""Blobs read from the files of the registry behind: the same bytes, and the same refusals, as through itself."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.engine.port import Blob, Engine
from gateway.engine.upstream.assembly import upstream
from gateway.errors import BlobUnknown, UpstreamFailed
from gateway.oci.digest import Algorithm, Digest
from gateway.records.database import Database
from tests.contract.house import OTHER, UI, Clock, House, Houses, read, run
from tests.engine.behind import Behind, Remembering
from tests.services.distribution import Registry

CONTENT = os.urandom(1_000_000)
DIGEST = Digest.of(CONTENT)
PATH = f"/v2/{UI}/blobs/{DIGEST}"


@dataclass
class Beside(Behind):
    """Opens engines that can read the registry's files, in *volume*."""

    volume: Path = Path()

    def open(self, data: Path, database: Database, clock: Clock, **options: Any) -> Engine:
        self.clients.append(Remembering(self.url))
        return upstream(data, database, self.clients[-1], volume=self.volume, clock=clock, **options)


@pytest.fixture
def behind(registry: Registry) -> Behind:
    return Beside(registry.url, volume=registry.content)


@pytest.fixture
def opened(front: House, behind: Behind) -> list[str]:
    """Which bodies were asked of the registry."""
    return behind.client.opened


def file_of(registry: Registry, digest: Digest = DIGEST) -> Path:
    blobs = registry.content / "docker/registry/v2/blobs"
    return blobs / digest.algorithm.value / digest.hex[:2] / digest.hex / "data"


async def kept(front: House, behind: Behind, content: bytes = CONTENT) -> Blob:
    await behind.keep(UI, content)
    return await front.engine.blobs.find(UI, Digest.of(content))


async def given(house: House, blob: Blob, first: int = 0, last: int | None = None) -> tuple[bytes, Exception | None]:
    """What came before the end, and why there was no more."""
    came = b""
    try:
        async for piece in house.engine.blobs.read(blob, first, blob.size_bytes - 1 if last is None else last):
            came += piece
    except Exception as error:
        return came, error
    return came, None


def test_no_byte_of_a_blob_passes_through_the_registry(front: House, behind: Behind, opened: list[str]) -> None:
    async def story() -> None:
        blob = await kept(front, behind)
        for _ in range(2):
            for first, last in ((0, len(CONTENT) - 1), (0, 0), (70_000, 700_000), (1, len(CONTENT) - 1)):
                assert await read(front.engine, blob, first, last) == CONTENT[first : last + 1]
        assert opened == []

    run(story())


def test_what_was_pushed_through_the_gateway_is_read_from_the_files_too(front: House, opened: list[str]) -> None:
    async def story() -> None:
        for algorithm in Algorithm:
            blob = await front.push(UI, CONTENT, algorithm)
            assert await read(front.engine, blob) == CONTENT
        assert [path for path in opened if "sha512" not in path] == []

    run(story())


def test_whether_a_repository_holds_a_blob_is_for_the_registry_to_say(
    front: House, behind: Behind, registry: Registry
) -> None:
    async def story() -> None:
        await kept(front, behind)
        with pytest.raises(BlobUnknown):
            await front.engine.blobs.find(OTHER, DIGEST)

    run(story())


def test_a_blob_deleted_around_the_gateway_is_not_read_from_its_file_which_is_still_there(
    front: House, behind: Behind, registry: Registry
) -> None:
    async def story() -> None:
        blob = await kept(front, behind)
        assert (await behind.client.ask("DELETE", PATH)).status == 202
        assert file_of(registry).exists()
        assert await front.engine.blobs.find(UI, DIGEST) == blob
        came, error = await given(front, blob)
        assert (came, type(error)) == (b"", BlobUnknown)

    run(story())


@pytest.mark.parametrize("at", [0, 500_000, len(CONTENT) - 1])
def test_wrong_bytes_in_a_file_never_come_to_an_end(front: House, behind: Behind, registry: Registry, at: int) -> None:
    async def story() -> None:
        blob = await kept(front, behind)
        file_of(registry).write_bytes(CONTENT[:at] + bytes([CONTENT[at] ^ 1]) + CONTENT[at + 1 :])
        for _ in range(2):
            came, error = await given(front, blob)
            assert isinstance(error, UpstreamFailed)
            assert len(came) < len(CONTENT)
        file_of(registry).write_bytes(CONTENT)
        assert await read(front.engine, blob) == CONTENT

    run(story())


def test_a_file_that_was_changed_since_it_was_proved_is_proved_again(
    front: House, behind: Behind, registry: Registry
) -> None:
    async def story() -> None:
        blob = await kept(front, behind)
        assert await read(front.engine, blob) == CONTENT
        file_of(registry).write_bytes(bytes(len(CONTENT)))
        came, error = await given(front, blob)
        assert isinstance(error, UpstreamFailed)
        assert len(came) < len(CONTENT)

    run(story())


@pytest.mark.parametrize("proved", [False, True])
def test_a_file_that_gets_shorter_while_it_is_read_never_comes_to_an_end(
    front: House, behind: Behind, registry: Registry, proved: bool
) -> None:
    async def story() -> None:
        blob = await kept(front, behind)
        if proved:
            await read(front.engine, blob)
        pieces = front.engine.blobs.read(blob, 0, len(CONTENT) - 1)
        came = len(await anext(pieces))
        os.truncate(file_of(registry), 600_000)
        with pytest.raises(UpstreamFailed):  # noqa: PT012 - what came before it matters
            async for piece in pieces:
                came += len(piece)
        assert came <= 600_000

    run(story())


def removed(file: Path) -> None:
    file.unlink()


def longer(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"x")


def a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def a_link(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("harm", [removed, longer, a_pipe, a_link, a_folder])
def test_what_is_no_file_of_that_blob_is_left_to_the_registry(
    harm: Callable[[Path], None], front: House, behind: Behind, registry: Registry, opened: list[str]
) -> None:
    async def story() -> None:
        blob = await kept(front, behind)
        harm(file_of(registry))
        asked = len(opened)
        # It cannot be read there either, but for what follows a link; what matters is who is asked, and that it ends.
        await given(front, blob)
        assert len(opened) == asked + 1

    run(story())


def test_files_that_are_not_here_change_nothing(fronts: Callable[[Behind], Houses], registry: Registry) -> None:
    """The volume of another registry, say: everything comes through the one that was named."""
    behind = Beside(registry.url, volume=registry.content / "none")
    front = fronts(behind).open()

    async def story() -> None:
        blob = await kept(front, behind)
        assert await read(front.engine, blob) == CONTENT
        assert behind.client.opened == [PATH]

    run(story())


def test_files_that_may_not_be_read_are_told_of_once(
    front: House,
    behind: Behind,
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    genuine = os.open

    def forbidden(path: str, flags: int, *more: Any, **named: Any) -> int:
        if str(path).endswith("/data"):
            raise PermissionError(13, "Permission denied", path)
        return genuine(path, flags, *more, **named)

    async def story() -> None:
        blob = await kept(front, behind)
        monkeypatch.setattr("gateway.engine.upstream.files.os.open", forbidden)
        for _ in range(2):
            assert await read(front.engine, blob) == CONTENT
        monkeypatch.undo()
        assert opened == [PATH, PATH]

    with caplog.at_level(logging.WARNING, "gateway.upstream"):
        run(story())
    (told,) = [record.getMessage() for record in caplog.records if "[engine] volume" in record.getMessage()]
    assert "Permission denied" in told


def test_a_reader_who_leaves_early_takes_the_file_along(front: House, behind: Behind, registry: Registry) -> None:
    def held() -> int:
        there = [
            os.readlink(f"/proc/self/fd/{each}")
            for each in os.listdir("/proc/self/fd")
            if Path(f"/proc/self/fd/{each}").is_symlink()
        ]
        return sum(each == str(file_of(registry)) for each in there)

    async def story() -> None:
        blob = await kept(front, behind)
        for _ in range(2):
            pieces = front.engine.blobs.read(blob, 0, len(CONTENT) - 1)
            await anext(pieces)
            assert held() == 1
            await pieces.aclose()  # type: ignore[attr-defined]
            await front.engine.blobs.find(UI, DIGEST)
        assert await read(front.engine, blob) == CONTENT
        assert held() == 0

    run(story())
