"""Blobs on their way in from a source: copied or linked, hashed, and only then put in their place.

    a file      copied by the system (shared extents where the file system can), each piece hashed as it lies here
    --link      a second name for the file itself, hashed through that name; a copy where that would not be safe
    no file     streamed, hashed on the way

What is hashed is always what is published: nothing of the source is read twice, or believed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from gateway.engine.embedded.intake import Intake
from gateway.engine.embedded.layout import blob_key, import_key
from gateway.engine.embedded.volume import open_file
from gateway.engine.port import Interrupted
from gateway.engine.source import Found, Source
from gateway.engine.stores.files import Spool
from gateway.engine.stores.filesystem import Filesystem
from gateway.errors import BlobUnknown, Refusal, Unavailable
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.names import Repository
from gateway.records.uploads import EMPTY

if TYPE_CHECKING:
    from hashlib import _Hash

P = ParamSpec("P")
T = TypeVar("T")

#: Threads copy, hash and sync; two of them copy and hash at a time, the others wait for the disk.
_THREADS: Final = 8
_HASHING: Final = 2
_CHUNK_BYTES: Final = 8 * 1024 * 1024
_PIECE_BYTES: Final = 512 * 1024
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Brought:
    """A blob that is in its place; *there* says that it was already."""

    size_bytes: int
    there: bool = False
    linked: bool = False


class BlobIntake:
    """
    Brings blobs of one *source* into one store, each once; *tell* hears of bytes as they come, from any thread.

    With *link*, a file that only the owner of this process may write to gets a second name instead of a copy. Whoever
    may write to it would otherwise change what was verified; so would the old registry's own account, if it were
    another.
    """

    def __init__(self, store: Filesystem, source: Source, *, link: bool, tell: Callable[[int], None]) -> None:
        self._store = store
        self._source = source
        self._link = link
        self._tell = tell
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="import")
        self._turn = threading.BoundedSemaphore(_HASHING)
        self._waiting = asyncio.Semaphore(_THREADS)
        self._stopped = threading.Event()
        self._damaged: dict[Digest, str] = {}
        self._planned: set[Digest] = set()

    def close(self) -> None:
        """Ends what is under way, without waiting for its end."""
        self._stopped.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def look(self, repository: Repository, digest: Digest, size: int | None) -> Found | Brought:
        """
        Where the blob is to be had, or that it is here; *size* is what the records say of it, if they do.

        Raises a `Refusal` that says what is wrong with it, as far as can be seen without reading it.
        """
        async with self._waiting:
            found = await self._source.find(repository, digest)
        here = self._store.size(blob_key(digest))
        expected = found.size_bytes if size is None else size
        if here is not None and (here == expected or expected < 0):
            return Brought(here, there=True)
        if digest in self._damaged:
            raise BlobUnknown(self._damaged[digest])
        return found

    def plan(self, digest: Digest, found: Found) -> Brought:
        """The blob as if it had been fetched."""
        known = digest in self._planned
        self._planned.add(digest)
        return Brought(max(0, found.size_bytes), there=known)

    async def fetch(self, repository: Repository, digest: Digest, found: Found) -> Brought:
        """Puts the blob in its place; raises `BlobUnknown` if it is damaged, `Unavailable` if this storage is full."""
        try:
            async with self._waiting:
                if found.file is None:
                    return await self._stream(repository, digest)
                return await self._in_thread(self._take, found.file, digest)
        except BlobUnknown as refusal:
            self._damaged[digest] = refusal.message
            raise
        except OSError as error:
            raise _storage_fault(error) from error

    async def _stream(self, repository: Repository, digest: Digest) -> Brought:
        spool = await self._in_thread(self._store.grow, _key())
        try:
            intake = Intake(spool, EMPTY, Algorithm.SHA256.hasher(), self._threads)
            if await intake.receive(self._source.read(repository, digest)):
                raise BlobUnknown("its bytes ended early")
            return await self._in_thread(self._conclude, spool, intake, digest)
        finally:
            await self._in_thread(spool.discard)

    def _conclude(self, spool: Spool, intake: Intake, digest: Digest) -> Brought:
        intake.flush()
        hasher = intake.hasher
        if hasher is None or digest.algorithm is not Algorithm.SHA256:
            hasher = digest.algorithm.hasher()
            self._hash(spool, 0, hasher)
        self._tell(spool.size)
        return self._publish(spool, hasher, digest)

    # in threads

    def _take(self, file: Path, digest: Digest) -> Brought:
        return (self._linked(file, digest) if self._link else None) or self._copied(file, digest)

    def _linked(self, file: Path, digest: Digest) -> Brought | None:
        try:
            spool = self._store.borrow(file, _key())
        except OSError:
            return None
        try:
            if not spool.exclusive():
                return None
            hasher = digest.algorithm.hasher()
            with self._turn:
                self._hash(spool, 0, hasher)
            self._tell(spool.size)
            return self._publish(spool, hasher, digest, linked=True)
        finally:
            spool.discard()

    def _copied(self, file: Path, digest: Digest) -> Brought:
        spool = self._store.grow(_key())
        hasher = digest.algorithm.hasher()
        try:
            source = _open(file)
            try:
                with self._turn:
                    self._fill(spool, source, hasher)
            finally:
                os.close(source)
            return self._publish(spool, hasher, digest)
        finally:
            spool.discard()

    def _fill(self, spool: Spool, source: int, hasher: _Hash) -> None:
        while not self._stopped.is_set():
            start = spool.size
            try:
                if not spool.take(source, _CHUNK_BYTES):
                    break
            except OSError as error:
                if error.errno in _FULL:
                    raise
                break
            self._hash(spool, start, hasher)
            self._tell(spool.size - start)
        # Some file systems cannot copy by themselves, or say that they are done when they are not.
        while not self._stopped.is_set():
            piece = _read(source, spool.size)
            if not piece:
                return
            hasher.update(piece)
            spool.write([piece])
            self._tell(len(piece))
        raise Interrupted("the import was stopped")

    def _hash(self, spool: Spool, start: int, hasher: _Hash) -> None:
        while start < spool.size:
            if self._stopped.is_set():
                raise Interrupted("the import was stopped")
            piece = spool.read(start, min(_PIECE_BYTES, spool.size - start))
            if not piece:
                raise BlobUnknown("its file became shorter while it was read")
            hasher.update(piece)
            start += len(piece)

    def _publish(self, spool: Spool, hasher: _Hash, digest: Digest, *, linked: bool = False) -> Brought:
        if hasher.hexdigest() != digest.hex:
            raise BlobUnknown(f"its bytes have the digest {digest.algorithm.value}:{hasher.hexdigest()}")
        spool.sync()
        self._store.publish(spool, blob_key(digest))
        return Brought(spool.size, linked=linked)

    async def _in_thread(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: job(*args, **kwargs))


def _key() -> str:
    return import_key(str(uuid.uuid4()))


def _open(file: Path) -> int:
    try:
        return open_file(file)
    except OSError as error:
        raise BlobUnknown(f"its bytes cannot be read: {(error.strerror or 'unknown reason').lower()}") from error


def _read(source: int, offset: int) -> bytes:
    try:
        return os.pread(source, _PIECE_BYTES, offset)
    except OSError as error:
        raise BlobUnknown(f"its bytes cannot be read: {(error.strerror or 'unknown reason').lower()}") from error


def _storage_fault(error: OSError) -> OSError | Refusal:
    if error.errno in _FULL:
        return Unavailable("The storage is full; make room, then run the same import again to go on.")
    return error
