"""Copies that are whole and durable or not there at all: hashed on the way, synced, and only then named."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.engine.embedded.layout import blob_key
from gateway.engine.port import Blob

if TYPE_CHECKING:
    from hashlib import _Hash

_PIECE_BYTES: Final = 4 * 1024 * 1024
_THREADS: Final = 4
#: Blobs handed to the threads at a time.
_AHEAD: Final = 512


class Damaged(Exception):
    """What was to be copied cannot be read, or is not what it should be; the text says why."""


class Stopped(Exception):
    """Nobody waits for the copy any more."""


@dataclass(slots=True)
class Brought:
    """What a copying of blobs came to: *copied* of them, with so many bytes; *there* were there already."""

    copied: int = 0
    bytes: int = 0
    there: int = 0
    there_bytes: int = 0
    damaged: dict[str, str] = field(default_factory=dict)


def copy(source: Path, target: Path, hasher: _Hash, stop: threading.Event) -> int:
    """
    Copies *source* to *target*, which must not exist, feeding *hasher*; how many bytes. Mode 0600; synced, unnamed yet.

    The system copies, and shares blocks where the file system can. Raises `Damaged` if *source* cannot be read,
    `Stopped`, and `OSError` if *target* cannot be written; then there is no *target*.
    """
    try:
        reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise Damaged(_why(error)) from error
    try:
        writing = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            size = _copy_all(reading, writing, hasher, stop)
            os.fsync(writing)
        except BaseException:
            target.unlink()
            raise
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    return size


def bring_blobs(
    wanted: Sequence[Blob],
    source: Path,
    target: Path,
    spare: Path,
    stop: threading.Event,
) -> Brought:
    """
    Copies the blobs *wanted* from below *source* to below *target*, by way of the folder *spare*; durable at the end.

    One that is there with its size stays as it is. One that is missing, short or has another digest is told of, and
    not copied. Raises `OSError`, and `Stopped` when *stop* is set.
    """
    brought, folders = Brought(), _Folders(target)
    one = partial(_bring, source, target, spare, folders, stop)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="copier") as threads:
        try:
            for start in range(0, len(wanted), _AHEAD):
                batch = wanted[start : start + _AHEAD]
                for blob, outcome in zip(batch, threads.map(one, batch), strict=True):
                    _count(brought, blob, outcome)
        except BaseException:
            stop.set()
            raise
    folders.sync()
    return brought


def keep_text(target: Path, content: bytes) -> str:
    """Writes *content* to *target*, which must not exist, mode 0600, synced; its SHA-256."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


def sync_folder(path: Path) -> None:
    """Makes the names in *path* durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Folders:
    """The folders below *root* that blobs came into."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._touched: set[Path] = set()
        self._guard = threading.Lock()

    def make(self, folder: Path) -> None:
        with self._guard:
            if folder in self._touched:
                return
            for each in reversed((folder, *folder.parents)):
                if each.is_relative_to(self._root) and each != self._root:
                    with contextlib.suppress(FileExistsError):
                        each.mkdir(mode=0o700)
                    self._touched.add(each)

    def sync(self) -> None:
        for folder in (*self._touched, self._root):
            sync_folder(folder)


def _bring(
    source: Path,
    target: Path,
    spare: Path,
    folders: _Folders,
    stop: threading.Event,
    blob: Blob,
) -> str | None:
    """What is wrong with the blob; "" if it was copied, None if it was there."""
    key = blob_key(blob.digest)
    place = target / key
    if stop.is_set():
        raise Stopped
    # Of one that is there as well: whoever named it may have been killed before the name was durable.
    folders.make(place.parent)
    with contextlib.suppress(FileNotFoundError):
        if place.stat().st_size == blob.size_bytes:
            return None
    coming = spare / blob.digest.hex
    hasher = blob.digest.algorithm.hasher()
    try:
        size = copy(source / key, coming, hasher, stop)
        if size != blob.size_bytes:
            raise Damaged(f"it has {size} bytes instead of {blob.size_bytes}")
        if hasher.hexdigest() != blob.digest.hex:
            raise Damaged("its bytes have another digest")
    except Damaged as damage:
        coming.unlink(missing_ok=True)
        return str(damage)
    coming.rename(place)
    return ""


def _count(brought: Brought, blob: Blob, outcome: str | None) -> None:
    if outcome is None:
        brought.there += 1
        brought.there_bytes += blob.size_bytes
    elif outcome:
        brought.damaged[blob.digest.text] = outcome
    else:
        brought.copied += 1
        brought.bytes += blob.size_bytes


def _copy_all(reading: int, writing: int, hasher: _Hash, stop: threading.Event) -> int:
    offset, by_system = 0, True
    while True:
        if stop.is_set():
            raise Stopped
        if by_system:
            try:
                count = os.copy_file_range(reading, writing, _PIECE_BYTES, offset, offset)
            except OSError:
                # Another file system, or one that cannot: and who failed, the source or the target, reading tells.
                count = 0
            by_system = count > 0
        if by_system:
            _hash(writing, offset, count, hasher)
            offset += count
            continue
        piece = _read(reading, offset)
        if not piece:
            return offset
        hasher.update(piece)
        left = memoryview(piece)
        while left:
            count = os.pwrite(writing, left, offset)
            left, offset = left[count:], offset + count


def _hash(descriptor: int, offset: int, size: int, hasher: _Hash) -> None:
    end = offset + size
    while offset < end:
        piece = os.pread(descriptor, end - offset, offset)
        if not piece:
            raise OSError(errno.EIO, "what was written cannot be read back")
        hasher.update(piece)
        offset += len(piece)


def _read(descriptor: int, offset: int) -> bytes:
    try:
        return os.pread(descriptor, _PIECE_BYTES, offset)
    except OSError as error:
        raise Damaged(_why(error)) from error


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "its file is missing"
    return f"its file cannot be read: {(error.strerror or 'unknown reason').lower()}"
