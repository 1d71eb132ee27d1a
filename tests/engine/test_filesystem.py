"""Bytes under keys: locked while they grow, durable in the one right order, private to their owner."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.stores.filesystem import Filesystem

MIB = 1024 * 1024
CONTENT = b"0123456789" * 30_000


@pytest.fixture
def store(tmp_path: Path) -> Filesystem:
    return Filesystem(tmp_path / "data")


def publish(store: Filesystem, key: str, content: bytes, name: str = "uploads/one") -> None:
    spool = store.grow(name)
    spool.write([content])
    spool.sync()
    store.publish(spool, key)
    spool.release()


def test_what_was_published_is_read_back_and_the_spool_is_gone(store: Filesystem) -> None:
    publish(store, "blobs/a/b", CONTENT)
    stored = store.open("blobs/a/b")
    assert stored.size == store.size("blobs/a/b") == len(CONTENT)
    assert b"".join(stored.pieces(stored.size)) == CONTENT
    assert stored.read(5, 10) == CONTENT[5:15]
    assert stored.read(len(CONTENT), 10) == b""
    stored.release()
    assert store.size("uploads/one") is None


def test_bytes_just_written_are_in_memory(store: Filesystem) -> None:
    publish(store, "blobs/a", CONTENT)
    stored = store.open("blobs/a")
    buffer = bytearray(1000)
    count = stored.cached(7, memoryview(buffer))
    assert bytes(buffer[:count]) == CONTENT[7 : 7 + count]
    assert count == 1000
    stored.release()


@given(pieces=st.lists(st.binary(max_size=40), max_size=60), copies=st.integers(1, 40))
def test_pieces_of_any_number_and_size_are_appended_in_order(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], copies: int
) -> None:
    spool = Filesystem(tmp_path_factory.mktemp("store")).grow("one")
    spool.write(pieces * copies)
    spool.write([b"tail"])
    assert b"".join(spool.pieces(spool.size)) == b"".join(pieces * copies) + b"tail"
    spool.release()


def test_a_write_the_system_takes_only_a_part_of_is_carried_on(
    store: Filesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.pwritev

    def few(descriptor: int, buffers: list[Any], offset: int) -> int:
        return whole(descriptor, [bytes(b"".join(buffers))[:7]], offset)

    monkeypatch.setattr("os.pwritev", few)
    spool = store.grow("one")
    spool.write([b"abc", b"", b"defghij", b"k" * 30])
    assert b"".join(spool.pieces(100)) == b"abcdefghij" + b"k" * 30
    spool.release()


@pytest.mark.parametrize("copied", [False, True])
def test_the_disk_begins_with_a_large_spool_long_before_its_sync(
    store: Filesystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    begun: list[tuple[int, int]] = []
    whole = os.posix_fadvise

    def told(descriptor: int, offset: int, size: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        begun.append((offset, size))
        whole(descriptor, offset, size, advice)

    monkeypatch.setattr("os.posix_fadvise", told)
    content = os.urandom(MIB) * 30
    (tmp_path / "source").write_bytes(content)
    spool = store.grow("one")
    with (tmp_path / "source").open("rb") as source:
        while spool.size < len(content):
            if copied:
                assert spool.take(source.fileno(), MIB)
            else:
                spool.write([content[spool.size : spool.size + MIB]])
    assert begun == [(0, 8 * MIB), (8 * MIB, 8 * MIB), (16 * MIB, 8 * MIB)]
    spool.truncate(20 * MIB)
    spool.write([content[20 * MIB :]])
    assert begun[3:] == [(20 * MIB, 10 * MIB)]
    assert b"".join(spool.pieces(spool.size)) == content
    spool.release()


def test_a_spool_has_one_holder_until_it_is_released(store: Filesystem, tmp_path: Path) -> None:
    spool = store.grow("uploads/one")
    for other in (store, Filesystem(tmp_path / "data")):
        with pytest.raises(BlockingIOError):
            other.grow("uploads/one")
        assert not other.discard("uploads/one")
    spool.release()
    spool.release()
    store.grow("uploads/one").release()


def test_a_dropped_spool_lets_go_of_its_lock(store: Filesystem) -> None:
    spool = store.grow("uploads/one")
    del spool
    store.grow("uploads/one").release()


def test_a_released_spool_is_closed_only_when_nobody_writes_any_more(
    store: Filesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = threading.Event(), threading.Event()
    whole = os.pwritev

    def slow(descriptor: int, buffers: list[bytes], offset: int) -> int:
        writing.set()
        assert go_on.wait(10)
        return whole(descriptor, buffers, offset)

    monkeypatch.setattr("os.pwritev", slow)
    spool = store.grow("uploads/one")
    thread = threading.Thread(target=spool.write, args=([b"late"],))
    thread.start()
    assert writing.wait(10)
    spool.release()
    with pytest.raises(BlockingIOError):
        store.grow("uploads/one")
    go_on.set()
    thread.join()
    again = store.grow("uploads/one")
    assert again.size == 4
    again.release()
    with pytest.raises(ValueError, match="released"):
        spool.write([b"later still"])


def test_a_file_published_between_opening_and_locking_is_not_taken_for_the_spool(
    store: Filesystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = store.grow("uploads/one")
    spool.write([CONTENT])
    spool.sync()
    lock = __import__("fcntl").flock

    def publishing_first(descriptor: int, operation: int) -> None:
        monkeypatch.setattr("fcntl.flock", lock)
        store.publish(spool, "blobs/a")
        spool.release()
        lock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", publishing_first)
    fresh = store.grow("uploads/one")
    assert fresh.size == 0
    fresh.truncate(0)
    fresh.release()
    assert (tmp_path / "data/blobs/a").read_bytes() == CONTENT


def test_publishing_replaces_and_whoever_reads_goes_on_with_what_it_opened(store: Filesystem) -> None:
    publish(store, "blobs/a", b"damaged")
    reading = store.open("blobs/a")
    publish(store, "blobs/a", b"healed!")
    assert reading.read(0, 100) == b"damaged"
    healed = store.open("blobs/a")
    assert healed.read(0, 100) == b"healed!"
    assert healed.identity != reading.identity
    healed.release()
    reading.release()


def test_a_published_spool_cannot_be_discarded_any_more(store: Filesystem) -> None:
    spool = store.grow("uploads/one")
    spool.write([b"kept"])
    spool.sync()
    store.publish(spool, "blobs/a")
    spool.discard()
    assert store.size("blobs/a") == 4


def test_files_and_directories_are_their_owners_alone(store: Filesystem, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        publish(store, "blobs/sha256/ab/abc", b"x")
        store.grow("uploads/two").release()
    finally:
        os.umask(old)
    for path in (tmp_path / "data").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_a_symbolic_link_is_not_followed(store: Filesystem, tmp_path: Path) -> None:
    store.grow("uploads/one").release()
    target = tmp_path / "elsewhere"
    target.write_bytes(b"precious")
    (tmp_path / "data/uploads/link").symlink_to(target)
    for use in (store.grow, store.open):
        with pytest.raises(OSError, match="symbolic"):
            use("uploads/link")


class Recorder:
    """Writes down, in order, what was synced and renamed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self._watch(monkeypatch, "fsync", lambda args: os.readlink(f"/proc/self/fd/{args[0]}"))
        self._watch(monkeypatch, "rename", lambda args: f"{args[0]}->{args[1]}")
        self._watch(monkeypatch, "pwritev", lambda args: "")

    def _watch(self, monkeypatch: pytest.MonkeyPatch, name: str, told: Callable[[tuple[Any, ...]], str]) -> None:
        real = getattr(os, name)

        def watched(*args: Any) -> Any:
            self.steps.append(f"{name} {told(args)}".strip())
            return real(*args)

        monkeypatch.setattr(f"os.{name}", watched)


def test_bytes_are_synced_before_they_get_their_name_and_every_new_directory_after(
    store: Filesystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch)
    data = tmp_path / "data"
    publish(store, "blobs/sha256/ab/abc", b"x")
    move = f"rename {data}/uploads/one->{data}/blobs/sha256/ab/abc"
    assert recorder.steps == [
        f"fsync {tmp_path}",
        f"fsync {data}",
        "pwritev",
        f"fsync {data}/uploads/one",
        f"fsync {data}",
        f"fsync {data}/blobs",
        f"fsync {data}/blobs/sha256",
        move,
        f"fsync {data}/blobs/sha256/ab",
    ]


def test_a_directory_that_somebody_else_has_made_is_made_durable_before_anything_is_published_there(
    store: Filesystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    # By a process that was killed before it synced any of them, or has not yet.
    for folder in ("uploads", "blobs/sha256/ab"):
        (data / folder).mkdir(parents=True)
    recorder = Recorder(monkeypatch)
    publish(store, "blobs/sha256/ab/abc", b"x")
    move = recorder.steps.index(f"rename {data}/uploads/one->{data}/blobs/sha256/ab/abc")
    for parent in (data, data / "blobs", data / "blobs/sha256"):
        assert f"fsync {parent}" in recorder.steps[:move]
    recorder.steps.clear()
    publish(store, "blobs/sha256/ab/abd", b"x")
    assert [step for step in recorder.steps if step.startswith("fsync")] == [
        f"fsync {data}/uploads/one",
        f"fsync {data}/blobs/sha256/ab",
    ]


def test_a_directory_that_was_removed_is_made_again(store: Filesystem, tmp_path: Path) -> None:
    publish(store, "blobs/sha256/ab/abc", b"x")
    shutil.rmtree(tmp_path / "data/blobs")
    publish(store, "blobs/sha256/ab/abc", b"y")
    shutil.rmtree(tmp_path / "data/uploads")
    publish(store, "blobs/sha256/ab/abd", b"z")
    assert store.open("blobs/sha256/ab/abc").read(0, 9) == b"y"


def test_the_name_of_a_spool_that_was_left_with_bytes_nobody_acknowledged_is_synced(
    store: Filesystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = store.grow("uploads/one")
    left.write([b"never acknowledged"])
    left.release()
    spool = store.grow("uploads/one")
    recorder = Recorder(monkeypatch)
    spool.truncate(0)
    spool.write([b"x"])
    spool.sync()
    spool.sync_name()
    assert f"fsync {tmp_path}/data/uploads" in recorder.steps
    spool.release()


def test_a_spool_that_was_released_is_not_published_any_more(store: Filesystem) -> None:
    spool = store.grow("uploads/one")
    spool.write([b"whole"])
    spool.sync()
    spool.release()
    # By now it is somebody else's, who goes on writing.
    other = store.grow("uploads/one")
    with pytest.raises(ValueError, match="released"):
        store.publish(spool, "blobs/abc")
    assert other.is_named()
    assert store.size("blobs/abc") is None
    other.release()


def test_the_name_of_a_new_spool_is_synced_once(
    store: Filesystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content, expected in ((b"x", 1), (b"y", 0)):
        spool = store.grow("uploads/one")
        recorder = Recorder(monkeypatch)
        for _ in range(2):
            spool.write([content])
            spool.sync()
            spool.sync_name()
        assert recorder.steps.count(f"fsync {tmp_path}/data/uploads") == expected
        assert recorder.steps.count(f"fsync {tmp_path}/data/uploads/one") == 2
        spool.release()
        monkeypatch.undo()
