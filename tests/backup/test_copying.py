"""Copies are whole, and it is told whose fault it is when there is none: the source's, or the target's."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.backup import copying
from gateway.backup.copying import Damaged, Stopped, bring_blobs, copy
from gateway.engine.embedded.layout import blob_key
from gateway.engine.port import Blob
from gateway.oci.digest import Algorithm, Digest

SIZES = (0, 1, 4 * 1024 * 1024 - 1, 4 * 1024 * 1024, 9 * 1024 * 1024 + 17)


def failing(code: int) -> Any:
    def fail(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.fixture(params=["by the system", "by hand"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the system's own copying, and where it cannot."""
    if request.param == "by hand":
        monkeypatch.setattr(os, "copy_file_range", failing(errno.EXDEV))


@pytest.mark.parametrize("size", SIZES)
def test_a_copy_has_every_byte_and_its_hash(tmp_path: Path, either_way: None, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "source").write_bytes(content)
    hasher = hashlib.sha256()
    assert copy(tmp_path / "source", tmp_path / "target", hasher, threading.Event()) == size
    assert (tmp_path / "target").read_bytes() == content
    assert hasher.hexdigest() == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "target").stat().st_ino != (tmp_path / "source").stat().st_ino


def test_a_source_that_cannot_be_read_is_damaged(
    tmp_path: Path, either_way: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    (tmp_path / "source").write_bytes(b"content")
    for name, says in (("none", "its file is missing"), ("folder", "directory"), ("link", "cannot be read")):
        with pytest.raises(Damaged, match=says):
            copy(tmp_path / name, tmp_path / "target", hashlib.sha256(), threading.Event())
    monkeypatch.setattr(os, "copy_file_range", failing(errno.EIO))
    monkeypatch.setattr(os, "pread", failing(errno.EIO))
    with pytest.raises(Damaged, match="input/output error"):
        copy(tmp_path / "source", tmp_path / "target", hashlib.sha256(), threading.Event())
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("step", ["pwrite", "fsync"])
def test_a_target_that_is_full_is_not_the_source_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    (tmp_path / "source").write_bytes(b"content")
    monkeypatch.setattr(os, "copy_file_range", failing(errno.ENOSPC))
    monkeypatch.setattr(os, step, failing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        copy(tmp_path / "source", tmp_path / "target", hashlib.sha256(), threading.Event())
    assert not (tmp_path / "target").exists()


def test_nobody_goes_on_copying_for_nobody(tmp_path: Path) -> None:
    blobs = stored(tmp_path / "source", [b"one", b"two"])
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        bring_blobs(blobs, tmp_path / "source", target_in(tmp_path), spare_in(tmp_path), stop)
    assert [path for path in (tmp_path / "target").rglob("*") if path.is_file()] == []


def test_blobs_come_under_their_digests_and_the_damaged_do_not(tmp_path: Path, either_way: None) -> None:
    whole = stored(tmp_path / "source", [b"one", b"two"])
    longer = stored(tmp_path / "source", [b"three"], Algorithm.SHA512)
    (bad, short, gone) = stored(tmp_path / "source", [b"flipped", b"short", b"gone"])
    place(tmp_path / "source", bad).write_bytes(b"flopped")
    place(tmp_path / "source", short).write_bytes(b"sho")
    place(tmp_path / "source", gone).unlink()
    wanted = [*whole, *longer, bad, short, gone]
    source, target, spare = tmp_path / "source", target_in(tmp_path), spare_in(tmp_path)
    brought = bring_blobs(wanted, source, target, spare, threading.Event())
    assert (brought.copied, brought.bytes, brought.there) == (3, 11, 0)
    assert brought.damaged == {
        bad.digest.text: "its bytes have another digest",
        short.digest.text: "it has 3 bytes instead of 5",
        gone.digest.text: "its file is missing",
    }
    for blob in (*whole, *longer):
        assert Digest.of(place(target, blob).read_bytes(), blob.digest.algorithm) == blob.digest
    assert not any(place(target, blob).exists() for blob in (bad, short, gone))
    assert list(spare.iterdir()) == []
    again = bring_blobs(wanted, source, target, spare, threading.Event())
    assert (again.copied, again.there, again.there_bytes, len(again.damaged)) == (0, 3, 11, 3)


def test_what_is_said_to_be_there_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that an earlier run left may not be: its folder is synced all the same."""
    blobs = stored(tmp_path / "source", [b"one"])
    stored(tmp_path / "target", [b"one"])
    synced: list[Path] = []
    monkeypatch.setattr(copying, "sync_folder", synced.append)
    bring_blobs(blobs, tmp_path / "source", tmp_path / "target", spare_in(tmp_path), threading.Event())
    assert place(tmp_path / "target", blobs[0]).parent in synced
    assert tmp_path / "target" in synced


def stored(root: Path, contents: list[bytes], algorithm: Algorithm = Algorithm.SHA256) -> list[Blob]:
    blobs = [Blob(Digest.of(content, algorithm), len(content)) for content in contents]
    for blob, content in zip(blobs, contents, strict=True):
        place(root, blob).parent.mkdir(parents=True, exist_ok=True)
        place(root, blob).write_bytes(content)
    return blobs


def place(root: Path, blob: Blob) -> Path:
    return root / blob_key(blob.digest)


def target_in(folder: Path) -> Path:
    (folder / "target").mkdir()
    return folder / "target"


def spare_in(folder: Path) -> Path:
    (folder / "spare").mkdir()
    return folder / "spare"
