"""A check of one data directory: files against rows, rows against files, bytes against digests, then the records.

    for each of 256 prefixes and two algorithms: rows ⟷ files ─▶ what looks wrong is looked at again under the lock
                                                           └──▶ deep: four threads read and hash

Memory is bounded by one prefix's files, whatever the number of blobs. Everything here blocks.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Final

from gateway.engine.embedded.integrity import Fault, Heard, Integrity, unheard
from gateway.engine.embedded.layout import blob_key
from gateway.engine.embedded.spools import Spools
from gateway.engine.stores.folders import Entry, Folders
from gateway.errors import DigestInvalid
from gateway.flaws import Flaw, FlawKind, Mend, Progress
from gateway.oci.digest import Algorithm, Digest
from gateway.records import examination
from gateway.records.agreement import record_flaws
from gateway.records.database import Database

#: More than are needed to hash as fast as most disks are: while some wait for the disk, others have their piece.
_HASHING: Final = 4
#: Blobs waiting for a thread that hashes.
_AHEAD: Final = 32
#: A push publishes first and records then; what is younger, while some upload may be at that, is its own affair.
_IN_FLIGHT_SECONDS: Final = 900
#: Blobs looked at without reading between one word of how far it is and the next.
_TOLD: Final = 100
_HEX: Final = frozenset("0123456789abcdef")

Tell = Callable[[Progress], None]


class Examination:
    """What is wrong with the content of one data directory, found one by one."""

    def __init__(self, folders: Folders, database: Database, integrity: Integrity, spools: Spools) -> None:
        self._folders = folders
        self._database = database
        self._integrity = integrity
        self._spools = spools
        self._bytes = 0

    def flaws(self, *, deep: bool, tell: Tell) -> Iterator[Flaw]:
        """Everything that is wrong; with *deep* the bytes of every blob are read."""
        yield from self._blobs(deep, tell)
        yield from self._dangling_links()
        yield from self._spools.flaws()
        yield from record_flaws(self._database, whole=True, tell=tell)

    # blobs

    def _blobs(self, deep: bool, tell: Tell) -> Iterator[Flaw]:
        count, size = self._database.read_now(examination.total)
        done, self._bytes = 0, 0

        guard = threading.Lock()

        def heard(read: int) -> None:
            with guard:
                self._bytes += read
            tell(Progress("bytes", self._bytes, max(size, self._bytes)))

        with ExitStack() as closing:
            hashing = None
            if deep:
                hashing = ThreadPoolExecutor(_HASHING, thread_name_prefix="check")
                closing.callback(hashing.shutdown, cancel_futures=True)
            pending: deque[Future[Flaw | None]] = deque()
            for found in self._walk():
                if isinstance(found, Flaw):
                    yield found
                    continue
                done += 1
                if hashing is None:
                    if flaw := self._judged(*found, deep=False, heard=unheard):
                        yield flaw
                    if done % _TOLD == 0:
                        tell(Progress("blobs", done, max(count, done)))
                    continue
                pending.append(hashing.submit(self._judged, *found, deep=True, heard=heard))
                if len(pending) > _AHEAD and (flaw := pending.popleft().result()):
                    yield flaw
            for each in pending:
                if flaw := each.result():
                    yield flaw
        tell(Progress("blobs", done, done))

    def _walk(self) -> Iterator[Flaw | tuple[Digest, int]]:
        """Every blob that has a row, and what is wrong with the files beside theirs."""
        kinds = {algorithm.value for algorithm in Algorithm}
        yield from (self._foreign("blobs", each) for each in self._folders.entries("blobs") if each.name not in kinds)
        for kind in sorted(kinds):
            folder = f"blobs/{kind}"
            for each in self._folders.entries(folder):
                if not (each.folder and len(each.name) == 2 and set(each.name) <= _HEX):
                    yield self._foreign(folder, each)
            for number in range(256):
                yield from self._under(kind, f"{number:02x}")

    def _under(self, kind: str, prefix: str) -> Iterator[Flaw | tuple[Digest, int]]:
        rows = self._database.read_now(partial(examination.blobs_under, prefix=f"{kind}:{prefix}"))
        folder = f"blobs/{kind}/{prefix}"
        for each in self._folders.entries(folder):
            try:
                digest = Digest.parse(f"{kind}:{each.name}")
            except DigestInvalid:
                yield self._foreign(folder, each)
                continue
            if not each.regular or not digest.hex.startswith(prefix):
                yield self._foreign(folder, each)
            elif digest.text not in rows and (flaw := self._unrecorded(digest, each)):
                yield flaw
        yield from ((Digest(text), size) for text, size in rows.items())

    def _judged(self, digest: Digest, size_bytes: int, *, deep: bool, heard: Heard) -> Flaw | None:
        fault = self._integrity.judge(digest, size_bytes, deep=deep, heard=heard)
        if fault is None or not self._stands(digest, fault):
            return None
        if fault.kind is FlawKind.BLOB_MISSING and not self._integrity.is_held(digest):
            text = f"{digest} has a row and no file, and no repository holds it; a sweep removes the row."
            return Flaw(FlawKind.BLOB_LEFT, digest.text, text)
        return Flaw(fault.kind, digest.text, fault.text, mend=partial(self._integrity.condemn, digest))

    def _stands(self, digest: Digest, fault: Fault) -> bool:
        """Whether the fault is there while nobody writes."""
        with self._database.lock():
            size_bytes = self._database.read_now(lambda connection: examination.blob_size(connection, digest))
            if size_bytes is None:
                return False
            again = self._integrity.judge(digest, size_bytes, deep=False)
        if fault.kind in (FlawKind.BLOB_BYTES, FlawKind.BLOB_UNREADABLE) and again is None:
            # Looked at without reading: the same file is still there, or another that was pushed since.
            return self._integrity.judge(digest, size_bytes, deep=True) is not None
        return again is not None

    def _unrecorded(self, digest: Digest, entry: Entry) -> Flaw | None:
        with self._database.lock():
            recorded = self._database.read_now(lambda connection: examination.blob_size(connection, digest))
        if recorded is not None or (time.time() - entry.changed < _IN_FLIGHT_SECONDS and self._spools.in_flight()):
            return None
        key, mend = blob_key(digest), partial(self._record, digest, entry.size)
        if self._database.read_now(lambda connection: examination.is_named(connection, digest)):
            return Flaw(FlawKind.BLOB_UNRECORDED, key, f"{key} has no row, and something names it.", mend=mend)
        text = f"{key} is what is left of a push that was refused or broken off; a sweep removes it."
        return Flaw(FlawKind.BLOB_STRAY, key, text, mend=mend)

    def _record(self, digest: Digest, size_bytes: int) -> Mend | None:
        if self._integrity.judge(digest, size_bytes, deep=True) is not None:
            return None
        change = examination.record_blob(digest, size_bytes, int(time.time()))
        return Mend("recorded; a sweep may remove it", change)

    def _dangling_links(self) -> Iterator[Flaw]:
        for repository, digest in self._database.read_now(examination.dangling_links):
            text = f"{digest} is linked and has no row."
            yield Flaw(FlawKind.LINK_DANGLING, digest.text, text, repository, partial(self._found_again, digest))

    def _found_again(self, digest: Digest) -> Mend | None:
        files = {entry.name: entry.size for entry in self._folders.entries(_folder(digest))}
        size_bytes = files.get(digest.hex)
        return None if size_bytes is None else self._record(digest, size_bytes)

    def _foreign(self, folder: str, entry: Entry) -> Flaw:
        text = f"{folder}/{entry.name} is nothing of the gateway's; see what it is, and move it elsewhere."
        return Flaw(FlawKind.FOREIGN_FILE, f"{folder}/{entry.name}", text)


def _folder(digest: Digest) -> str:
    return blob_key(digest).rpartition("/")[0]
