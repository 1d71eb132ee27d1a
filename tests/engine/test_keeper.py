"""What a check finds of content, how damage is put aside once and healed by a push, and where a scrub goes on."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, select, update

from gateway.engine.embedded import scrub
from gateway.engine.embedded.keeper import Keeper
from gateway.engine.embedded.layout import IMPORTS_LOCK, blob_key, upload_key
from gateway.engine.embedded.suspects import Suspects
from gateway.engine.stores.files import Stored
from gateway.engine.stores.streams import Damaged
from gateway.errors import ContentDamaged, QuotaExceeded
from gateway.flaws import REMARKS, Flaw, FlawKind, Progress, Stopped
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import Manifest
from gateway.records import projects
from gateway.records.projects import Wishes
from gateway.records.schema import blobs, edges, links, manifest_annotations, manifest_bodies, manifests, tags, uploads
from tests.contract.house import OTHER, UI, WRITER, House, Houses, body, index, read, run

LAYER = os.urandom(700_001)
DIGEST = Digest.of(LAYER)
MIB = 1024 * 1024


@pytest.fixture
def keeper(house: House) -> Keeper:
    return Keeper(house.root, house.database)


def found(keeper: Keeper, *, deep: bool = False, tell: Callable[[Progress], None] = lambda _: None) -> list[Flaw]:
    return list(keeper.flaws(deep=deep, tell=tell))


def kinds(keeper: Keeper, *, deep: bool = False) -> list[str]:
    return sorted(flaw.kind for flaw in found(keeper, deep=deep))


def written(house: House, *statements: Any) -> None:
    with house.database.lock(), house.database.writer() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        for statement in statements:
            connection.execute(statement)


def file_of(house: House, digest: Digest = DIGEST) -> Path:
    return house.root / blob_key(digest)


def pushed(house: House, *tag_names: str) -> Manifest:
    return run(house.push_image(UI, *(tag_names or ("v1",)), layer=LAYER))


def mended(house: House, flaw: Flaw) -> bool:
    """Whether there was something to mend, after it was."""
    mend = flaw.mend()
    if mend is None:
        return False
    house.apply(mend.change)
    mend.after()
    return True


def quarantined(house: House) -> list[str]:
    folder = house.root / "quarantine"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# nothing is wrong


def test_nothing_is_found_where_nothing_is_kept(keeper: Keeper) -> None:
    assert found(keeper, deep=True) == []


def test_nothing_is_found_wrong_with_what_was_pushed(house: House, keeper: Keeper) -> None:
    async def story() -> None:
        child = await house.push_image(UI, "one", layer=LAYER)
        await house.push_image(OTHER, "two", layer=LAYER, subject=child, annotations={"a": "b", "ü": "é"})
        await house.put(UI, index([(child.content, child.media_type)]), "all")
        await house.push(UI, b"long", Algorithm.SHA512)
        await house.push(UI, b"")
        upload, change = await house.engine.uploads.begin(UI, WRITER)
        await house.commit(change)
        await house.commit((await house.engine.uploads.append(upload, body(b"half"), None)).change)

    run(story())
    told: list[Progress] = []
    assert found(keeper, deep=True, tell=told.append) == []
    sizes = [len(LAYER), 2, 4, 0]
    assert max(each.done for each in told if each.part == "bytes") == sum(sizes)
    assert max(each.done for each in told if each.part == "blobs") == len(sizes)
    assert max(each.done for each in told if each.part == "manifests") == 3


# blobs


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: path.unlink(), FlawKind.BLOB_MISSING),
    "truncated": (lambda path: os.truncate(path, 10), FlawKind.BLOB_SIZE),
    "zero-size": (lambda path: os.truncate(path, 0), FlawKind.BLOB_SIZE),
    "longer": (lambda path: path.write_bytes(LAYER + b"x"), FlawKind.BLOB_SIZE),
    "flipped": (lambda path: path.write_bytes(LAYER[:-1] + bytes([LAYER[-1] ^ 1])), FlawKind.BLOB_BYTES),
}


@pytest.mark.parametrize("can_pass", [True, False])
@pytest.mark.parametrize("size", [2 * MIB, 2 * MIB + 1, MIB + 4096, 3 * MIB - 1])
def test_every_byte_of_a_large_blob_is_read_whether_or_not_memory_can_be_passed(
    house: House, keeper: Keeper, monkeypatch: pytest.MonkeyPatch, size: int, can_pass: bool
) -> None:
    passing: dict[Stored, bool] = {}
    real_pass, real_fill = Stored.pass_memory, Stored.fill

    def pass_memory(stored: Stored, wanted: bool) -> bool:
        passing[stored] = wanted
        return real_pass(stored, wanted)

    def fill(stored: Stored, offset: int, buffer: memoryview) -> int:
        if passing.get(stored) and not can_pass:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real_fill(stored, offset, buffer)

    monkeypatch.setattr(Stored, "pass_memory", pass_memory)
    monkeypatch.setattr(Stored, "fill", fill)
    content = os.urandom(size)
    run(house.push_image(UI, "v1", layer=content))
    told: list[Progress] = []
    assert found(keeper, deep=True, tell=told.append) == []
    assert passing
    assert max(each.done for each in told if each.part == "bytes") == size + 2
    path = file_of(house, Digest.of(content))
    for at in (0, MIB, size - 1):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert kinds(keeper, deep=True) == [FlawKind.BLOB_BYTES]


def test_what_is_well_on_the_disk_leaves_memory_where_a_reader_may_have_met_damage(
    house: House, keeper: Keeper
) -> None:
    content = os.urandom(2 * MIB + 1)
    run(house.push_image(UI, "v1", layer=content))
    file, digest = house.root / blob_key(Digest.of(content)), Digest.of(content)
    if in_memory(file) and not (dropped(file) and not in_memory(file)):
        pytest.skip("this file system is in memory alone")
    assert file.read_bytes() == content
    assert in_memory(file)
    Suspects(house.root).note(digest)
    assert keeper.condemn(digest) is None
    assert not in_memory(file)
    assert keeper.suspects() == []


def in_memory(file: Path) -> bool:
    """Whether the system holds the file's first page: it is asked, since a read that would not wait may begin one."""
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), mmap.PAGESIZE, access=mmap.ACCESS_COPY) as mapped:
        held = ctypes.c_ubyte()
        page = ctypes.c_char.from_buffer(mapped)
        asked = ctypes.CDLL(None).mincore(ctypes.byref(page), ctypes.c_size_t(mmap.PAGESIZE), ctypes.byref(held))
        del page
        assert asked == 0
        return bool(held.value & 1)


def dropped(file: Path) -> bool:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_blob_is_found_put_aside_and_healed_by_a_push(house: House, keeper: Keeper, damage: str) -> None:
    do, kind = DAMAGES[damage]
    pushed(house)
    do(file_of(house))
    assert kinds(keeper) == ([] if kind is FlawKind.BLOB_BYTES else [kind])
    [flaw] = found(keeper, deep=True)
    assert (flaw.kind, flaw.what) == (kind, DIGEST.text)

    mend = flaw.mend()
    assert mend is not None
    assert not mend.whole
    assert mend.detail["repositories"] == [UI.name]
    assert mend.change.repositories == (UI,)
    mend.after()
    assert [name.partition(".")[0] for name in quarantined(house)] == ([] if damage == "missing" else [DIGEST.text])
    assert kinds(keeper, deep=True) == [FlawKind.BLOB_MISSING]

    # Again is no harm: it was recorded, and nothing more is put aside.
    [flaw] = found(keeper)
    assert flaw.mend() is None
    assert len(quarantined(house)) == (damage != "missing")

    run(house.push(UI, LAYER))
    assert found(keeper, deep=True) == []
    assert run(house.pull(UI, DIGEST)) == LAYER
    assert list(keeper.suspects()) == []
    assert Suspects(house.root).all() == {}


def test_damage_after_a_healing_is_recorded_again(house: House, keeper: Keeper) -> None:
    pushed(house)
    for number in (1, 2):
        os.truncate(file_of(house), number)
        mend = keeper.condemn(DIGEST)
        assert mend is not None
        mend.after()
        run(house.push(UI, LAYER))
        assert list(keeper.suspects()) == []
    assert len(quarantined(house)) == 2


def test_damage_that_follows_a_healing_at_once_is_recorded_again(house: House, keeper: Keeper) -> None:
    pushed(house)
    for number in (1, 2):
        os.truncate(file_of(house), number)
        with pytest.raises(ContentDamaged):
            run(house.engine.blobs.find(UI, DIGEST))
        assert list(keeper.suspects()) == [DIGEST]
        mend = keeper.condemn(DIGEST)
        assert mend is not None
        mend.after()
        assert list(keeper.suspects()) == []
        run(house.push(UI, LAYER))
    assert len(quarantined(house)) == 2


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_push_between_the_judgement_and_its_record_has_healed_the_blob(
    house: House, keeper: Keeper, damage: str
) -> None:
    pushed(house)
    DAMAGES[damage][0](file_of(house))
    mend = keeper.condemn(DIGEST)
    assert mend is not None
    time.sleep(0.02)
    run(house.push(UI, LAYER))
    # More than a tick of the clock that files have their times from.
    time.sleep(0.02)
    mend.after()
    assert run(house.engine.blobs.find(UI, DIGEST)).size_bytes == len(LAYER)
    assert list(keeper.suspects()) == []
    assert Suspects(house.root).all() == {}


def test_a_file_that_the_disk_does_not_give_is_recorded_once_and_stays(
    house: House, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed(house)

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Stored, "fill", broken)
        flaws = found(keeper, deep=True)
        assert {flaw.kind for flaw in flaws} == {FlawKind.BLOB_UNREADABLE}
        mend = keeper.condemn(DIGEST)
        assert mend is not None
        mend.after()
        for _ in range(2):
            Suspects(house.root).note(DIGEST)
            assert list(keeper.suspects()) == []
            assert keeper.condemn(DIGEST) is None
    assert quarantined(house) == []
    run(house.push(UI, LAYER))
    assert list(keeper.suspects()) == []
    assert Suspects(house.root).all() == {}


def test_what_was_put_aside_by_one_that_died_is_recorded_by_the_next(house: House, keeper: Keeper) -> None:
    pushed(house)
    os.truncate(file_of(house), 5)
    assert keeper.condemn(DIGEST) is not None  # and its event never comes
    again = Keeper(house.root, house.database)
    assert list(again.suspects()) == [DIGEST]
    mend = again.condemn(DIGEST)
    assert mend is not None
    assert mend.detail["file"] == f"quarantine/{quarantined(house)[0]}"


def test_a_file_that_is_published_while_another_is_judged_is_not_put_aside(house: House, keeper: Keeper) -> None:
    pushed(house)
    os.truncate(file_of(house), 5)
    real = keeper._integrity.judge

    def slow(*args: Any, **more: Any) -> Any:
        fault = real(*args, **more)
        run(house.push(UI, LAYER))
        return fault

    keeper._integrity.judge = slow  # type: ignore[method-assign]
    assert keeper.condemn(DIGEST) is None
    assert file_of(house).read_bytes() == LAYER
    assert quarantined(house) == []


def test_a_blob_that_is_deleted_while_it_is_looked_at_is_no_flaw(house: House, keeper: Keeper) -> None:
    run(house.push(UI, LAYER))
    flaws = keeper.flaws(deep=False, tell=lambda _: None)
    real = keeper._integrity.judge

    def gone(*args: Any, **more: Any) -> Any:
        file_of(house).unlink(missing_ok=True)
        fault = real(*args, **more)
        written(house, delete(links), delete(blobs))
        return fault

    keeper._integrity.judge = gone  # type: ignore[method-assign]
    assert list(flaws) == []


def test_a_row_without_file_that_nobody_holds_is_a_remark_and_no_damage(house: House, keeper: Keeper) -> None:
    run(house.push(UI, LAYER))
    house.apply(house.engine.blobs.delete(UI, DIGEST))
    file_of(house).unlink()
    [flaw] = found(keeper, deep=True)
    assert (flaw.kind, flaw.what) == (FlawKind.BLOB_LEFT, DIGEST.text)
    assert flaw.kind in REMARKS
    assert keeper.condemn(DIGEST) is None
    run(house.push(UI, LAYER))
    assert found(keeper, deep=True) == []


def test_a_foreign_file_is_told_of_and_left_alone(house: House, keeper: Keeper) -> None:
    pushed(house)
    strangers = ["blobs/notes", "blobs/sha256/zz", f"blobs/sha256/{DIGEST.hex[:2]}/readme", "uploads/readme"]
    wrong = DIGEST.hex.replace(DIGEST.hex[:2], "00" if DIGEST.hex[:2] != "00" else "11", 1)
    strangers.append(f"blobs/sha256/{DIGEST.hex[:2]}/{wrong}")
    (house.root / "uploads").mkdir(exist_ok=True)
    for name in strangers:
        (house.root / name).write_bytes(b"?")
    flaws = found(keeper)
    assert sorted(flaw.what for flaw in flaws) == sorted(strangers)
    assert {flaw.kind for flaw in flaws} == {FlawKind.FOREIGN_FILE}
    assert not any(mended(house, flaw) for flaw in flaws)
    assert all((house.root / name).exists() for name in strangers)


def test_a_link_in_place_of_a_file_is_damage_and_foreign(house: House, keeper: Keeper, tmp_path: Path) -> None:
    pushed(house)
    (tmp_path / "elsewhere").write_bytes(LAYER)
    file_of(house).unlink()
    file_of(house).symlink_to(tmp_path / "elsewhere")
    assert kinds(keeper) == [FlawKind.BLOB_UNREADABLE, FlawKind.FOREIGN_FILE]


def test_a_file_without_a_row_is_found_and_gets_one(house: House, keeper: Keeper) -> None:
    pushed(house)
    written(
        house, delete(links).where(links.c.digest == DIGEST.text), delete(blobs).where(blobs.c.digest == DIGEST.text)
    )
    assert kinds(keeper) == [FlawKind.BLOB_UNRECORDED, FlawKind.MANIFEST_INCOMPLETE]
    flaw, incomplete = found(keeper)
    assert incomplete.mend() is None
    assert mended(house, flaw)
    [incomplete] = found(keeper)
    assert mended(house, incomplete)
    assert found(keeper, deep=True) == []


def test_a_file_without_a_row_that_is_damaged_gets_none(house: House, keeper: Keeper) -> None:
    path = house.root / blob_key(DIGEST)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    [flaw] = found(keeper)
    assert not mended(house, flaw)
    assert house.database.read_now(lambda connection: connection.execute(select(blobs)).all()) == []


def test_what_a_push_left_that_the_quota_refused_is_a_remark(house: House, keeper: Keeper) -> None:
    async def story() -> None:
        await house.push(UI, b"small")
        await house.commit(projects.set_project(UI.project, Wishes(quota_bytes=MIB)))
        pushes = [(await house.engine.uploads.begin(UI, WRITER)) for _ in range(2)]
        linking = []
        for (upload, change), content in zip(pushes, (LAYER, LAYER[1:]), strict=True):
            await house.commit(change)
            linking.append(await house.engine.uploads.finish(upload, body(content), None, Digest.of(content)))
        await house.commit(linking[0][1])
        with pytest.raises(QuotaExceeded):
            await house.commit(linking[1][1])
        await house.commit(await house.engine.uploads.cancel(pushes[1][0]))

    run(story())
    [flaw] = found(keeper)
    assert (flaw.kind, flaw.kind in REMARKS) == (FlawKind.BLOB_STRAY, True)


def test_what_an_upload_has_just_published_is_its_own_affair(house: House, keeper: Keeper) -> None:
    async def story() -> None:
        upload, change = await house.engine.uploads.begin(UI, WRITER)
        await house.commit(change)
        _, linking = await house.engine.uploads.finish(upload, body(LAYER), None, DIGEST)
        assert found(keeper, deep=True) == []
        await house.commit(linking)
        assert found(keeper, deep=True) == []

    run(story())


def test_a_link_without_its_blobs_row_gets_it_back(house: House, keeper: Keeper) -> None:
    pushed(house)
    written(house, delete(blobs).where(blobs.c.digest == DIGEST.text))
    flaws = found(keeper)
    assert {flaw.kind for flaw in flaws} == {FlawKind.BLOB_UNRECORDED, FlawKind.LINK_DANGLING}
    assert mended(house, next(flaw for flaw in flaws if flaw.kind is FlawKind.LINK_DANGLING))
    assert found(keeper, deep=True) == []


# temporary files


def test_a_spool_without_its_upload_is_found_and_removed(house: House, keeper: Keeper) -> None:
    path = house.root / upload_key("6f0c3a1e-8a8e-4b7b-9a47-2d53b0a3b7b1")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"left")
    [flaw] = found(keeper)
    assert flaw.kind is FlawKind.UPLOAD_ORPHAN
    assert mended(house, flaw)
    assert not path.exists()
    assert found(keeper) == []


def test_a_spool_older_than_its_upload_is_found_unless_it_is_what_was_acknowledged(
    house: House, keeper: Keeper
) -> None:
    async def story() -> Path:
        upload, change = await house.engine.uploads.begin(UI, WRITER)
        await house.commit(change)
        await house.commit((await house.engine.uploads.append(upload, body(b"half"), None)).change)
        return house.root / upload_key(upload.id)

    path = run(story())
    os.utime(path, (1, 1))
    assert found(keeper) == []
    path.write_bytes(b"else")
    os.utime(path, (1, 1))
    [flaw] = found(keeper)
    assert flaw.kind is FlawKind.UPLOAD_DAMAGED
    assert mended(house, flaw)
    assert house.spools() == []


def test_what_an_import_left_is_removed_unless_one_is_under_way(house: House, keeper: Keeper) -> None:
    (house.root / "imports").mkdir()
    path = house.root / "imports/1"
    path.write_bytes(b"left")
    lock = keeper._store.grow(IMPORTS_LOCK)
    assert found(keeper) == []
    lock.release()
    [flaw] = found(keeper)
    assert flaw.kind is FlawKind.IMPORT_LEFT
    assert mended(house, flaw)
    assert not path.exists()


# manifests, edges, tags


def test_wrong_edges_and_fields_are_recorded_anew_from_the_bytes(house: House, keeper: Keeper) -> None:
    subject = pushed(house)
    manifest = run(house.push_image(UI, "sig", layer=b"signature", subject=subject, annotations={"a": "b"}))

    def rows(connection: Connection) -> list[Any]:
        return [row for table in (edges, manifests, manifest_annotations) for row in connection.execute(select(table))]

    before = house.database.read_now(rows)
    mine = manifests.c.digest == manifest.digest.text
    other = Digest.of(b"nobody's").text
    written(
        house,
        delete(edges).where(edges.c.source == manifest.digest.text, edges.c.target == Digest.of(b"signature").text),
        insert(edges).values(repository_id=1, source=subject.digest.text, target=other),
        insert(edges).values(repository_id=1, source=other, target=DIGEST.text),
        update(manifests).where(mine).values(subject=None, artifact_type="x"),
        update(manifest_annotations).values(content="{"),
    )
    flaws = found(keeper)
    assert sorted(flaw.kind for flaw in flaws) == [
        FlawKind.EDGE_DANGLING,
        FlawKind.MANIFEST_EDGES,
        FlawKind.MANIFEST_EDGES,
        FlawKind.MANIFEST_FIELDS,
    ]
    assert all(mended(house, flaw) for flaw in flaws)
    assert house.database.read_now(rows) == before
    assert found(keeper) == []


def test_a_missing_link_is_found_and_mended(house: House, keeper: Keeper) -> None:
    manifest = pushed(house)
    written(house, delete(links).where(links.c.digest == DIGEST.text))
    [flaw] = found(keeper)
    assert (flaw.kind, flaw.what, flaw.repository) == (
        FlawKind.MANIFEST_INCOMPLETE,
        manifest.digest.text,
        UI.name,
    )
    assert mended(house, flaw)
    assert found(keeper) == []
    assert run(house.pull(UI, DIGEST)) == LAYER


def test_a_tag_without_its_manifest_is_told_of(house: House, keeper: Keeper) -> None:
    pushed(house)
    written(house, update(tags).values(digest=Digest.of(b"nobody's").text))
    [flaw] = found(keeper)
    assert (flaw.kind, flaw.what, flaw.repository) == (FlawKind.TAG_DANGLING, "v1", UI.name)
    assert not mended(house, flaw)


def test_a_manifest_whose_bytes_are_damaged_is_healed_by_a_push(house: House, keeper: Keeper) -> None:
    manifest = pushed(house)
    written(house, update(manifest_bodies).values(content=manifest.content + b" "))
    [flaw] = found(keeper)
    assert flaw.kind is FlawKind.MANIFEST_BYTES
    mend = flaw.mend()
    assert mend is not None
    assert not mend.whole
    house.apply(mend.change)
    assert kinds(keeper) == [FlawKind.MANIFEST_MISSING]
    run(house.put(UI, manifest, "v1"))
    assert found(keeper) == []
    assert run(house.engine.manifests.find(UI, manifest.digest)).content == manifest.content


def test_a_manifest_recorded_as_something_else_is_told_of(house: House, keeper: Keeper) -> None:
    pushed(house)
    written(house, update(manifests).values(media_type="text/plain"))
    assert kinds(keeper) == [FlawKind.MANIFEST_UNREADABLE]


def test_an_index_whose_child_was_deleted_is_a_remark(house: House, keeper: Keeper) -> None:
    child = pushed(house)
    run(house.put(UI, index([(child.content, child.media_type)]), "all"))
    house.apply(house.engine.manifests.delete(UI, child.digest))
    assert kinds(keeper) == [FlawKind.INDEX_INCOMPLETE]


# what readers meet


def test_what_many_readers_meet_is_one_suspect(houses: Houses) -> None:
    house = houses.open()
    pushed(house)
    os.truncate(file_of(house), 3)

    async def story() -> None:
        for process in (house, houses.open()):
            for _ in range(3):
                with pytest.raises(ContentDamaged):
                    await process.engine.blobs.find(UI, DIGEST)

    run(story())
    keeper = Keeper(house.root, house.database)
    assert list(keeper.suspects()) == [DIGEST]
    mend = keeper.condemn(DIGEST)
    assert mend is not None
    mend.after()
    run(story())
    assert list(keeper.suspects()) == []


def test_flipped_bits_that_a_whole_read_meets_are_a_suspect(houses: Houses) -> None:
    pushed(houses.open())
    house = houses.open()
    DAMAGES["flipped"][0](file_of(house))

    async def story() -> None:
        blob = await house.engine.blobs.find(UI, DIGEST)
        with pytest.raises(Damaged):
            await read(house.engine, blob)

    run(story())
    assert list(Keeper(house.root, house.database).suspects()) == [DIGEST]


def test_a_suspect_that_is_well_is_forgotten(house: House, keeper: Keeper) -> None:
    pushed(house)
    Suspects(house.root).note(DIGEST)
    Suspects(house.root).note(Digest.of(b"unheard of"))
    for digest in keeper.suspects():
        assert keeper.condemn(digest) is None
    assert Suspects(house.root).all() == {}


# the scrub


def scrubbed(keeper: Keeper) -> list[Digest]:
    """What it finds until the end of its round."""
    damaged: list[Digest] = []
    for _ in range(100):
        step = keeper.scrub(lambda _: None)
        damaged += step.damaged
        if step.rest_seconds:
            return damaged
    raise AssertionError("the scrub does not rest")


def test_the_scrub_finds_rot_in_each_round_and_rests_in_between(house: House) -> None:
    pushed(house)
    now = time.time()
    clock = [now]
    keeper = Keeper(house.root, house.database, lambda: clock[0])
    assert scrubbed(keeper) == []
    DAMAGES["flipped"][0](file_of(house))
    assert scrubbed(keeper) == []
    clock[0] += scrub.ROUND_SECONDS
    keeper.scrub(lambda _: None)
    assert scrubbed(keeper) == [DIGEST]


def test_the_scrub_goes_on_where_it_was_stopped(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        for number in range(10):
            await house.push(UI, b"%d" % number)

    run(story())
    monkeypatch.setattr(scrub, "_STEP_BLOBS", 3)
    seen: list[int] = []
    counts = [Keeper(house.root, house.database).scrub(seen.append).looked_at for _ in range(4)]
    assert counts == [3, 3, 3, 1]
    assert Keeper(house.root, house.database).scrub(seen.append).rest_seconds > 80_000


def test_a_scrub_that_is_stopped_reads_the_blob_in_hand_again(house: House, keeper: Keeper) -> None:
    pushed(house)

    def stop(_: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        keeper.scrub(stop)
    assert Keeper(house.root, house.database).scrub(lambda _: None).looked_at == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"after": 1}', b'{"after": "", "begun": "x"}'])
def test_a_place_that_cannot_be_read_is_the_beginning(house: House, keeper: Keeper, content: bytes) -> None:
    pushed(house)
    (house.root / "scrub").write_bytes(content)
    assert keeper.scrub(lambda _: None).looked_at == 2


def test_one_at_a_time_puts_aside(house: House, keeper: Keeper) -> None:
    entered = threading.Event()

    def other() -> None:
        with Keeper(house.root, house.database).turn():
            entered.set()

    with keeper.turn():
        thread = threading.Thread(target=other)
        thread.start()
        assert not entered.wait(0.2)
    thread.join(5)
    assert entered.is_set()


def test_an_upload_with_nothing_yet_hides_no_old_file(house: House, keeper: Keeper, monkeypatch: Any) -> None:
    async def begun() -> None:
        _, change = await house.engine.uploads.begin(UI, WRITER)
        await house.commit(change)

    run(begun())
    written(house, update(uploads).values(expires_at=2**31))
    path = house.root / blob_key(DIGEST)
    path.parent.mkdir(parents=True)
    path.write_bytes(LAYER)
    assert found(keeper) == []
    real = time.time
    monkeypatch.setattr("gateway.engine.embedded.examining.time.time", lambda: real() + 1000)
    assert kinds(keeper) == [FlawKind.BLOB_STRAY]
