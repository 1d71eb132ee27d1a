"""Integrity of blobs: whether a file has the bytes of its digest, and what becomes of one that has not.

    judge ─▶ Fault ─▶ condemn: the file is put aside ─▶ Mend: its event is committed ─▶ the suspect is recorded

The note of the suspect comes first and is filled in last: whoever dies in between leaves it to whoever looks next.
"""

from __future__ import annotations

import errno
import mmap
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gateway.change import Change, Notes
from gateway.engine.embedded.layout import QUARANTINE, blob_key, quarantine_key
from gateway.engine.embedded.suspects import Suspects
from gateway.engine.stores.files import Stored
from gateway.engine.stores.filesystem import Filesystem
from gateway.engine.stores.folders import Folders
from gateway.flaws import FlawKind, Mend
from gateway.oci.digest import Digest
from gateway.records import examination
from gateway.records.database import Database

#: Fits the second cache of a core, and is worth a disk's while.
_PIECE_BYTES: Final = 1024 * 1024
_NAMED: Final = 20

#: Hears of bytes as they were read; what it raises ends the reading.
Heard = Callable[[int], None]


def unheard(_: int) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a blob's file; *identity* is the file's, None when there is none that could be put aside."""

    kind: FlawKind
    text: str
    size_bytes: int | None = None
    identity: tuple[int, int, int] | None = None


class Integrity:
    """Judges and condemns the blobs of one data directory; every verb blocks."""

    def __init__(self, store: Filesystem, folders: Folders, database: Database, suspects: Suspects) -> None:
        self._store = store
        self._folders = folders
        self._database = database
        self._suspects = suspects

    def judge(self, digest: Digest, size_bytes: int, *, deep: bool, heard: Heard = unheard) -> Fault | None:
        """What is wrong with the file of a blob of this size, None for nothing; only *deep* reads it."""
        try:
            stored = self._store.open(blob_key(digest))
        except FileNotFoundError:
            return Fault(FlawKind.BLOB_MISSING, f"The file of {digest} is missing.")
        except OSError as error:
            return Fault(FlawKind.BLOB_UNREADABLE, f"The file of {digest} cannot be opened: {why(error)}.")
        try:
            if stored.size != size_bytes:
                text = f"The file of {digest} has {stored.size} bytes, not {size_bytes}."
                return Fault(FlawKind.BLOB_SIZE, text, stored.size, stored.identity)
            if deep and _hashed(stored, digest, heard) != digest.hex:
                text = f"The bytes of {digest} do not have that digest."
                return Fault(FlawKind.BLOB_BYTES, text, stored.size, stored.identity)
        except OSError as error:
            return Fault(FlawKind.BLOB_UNREADABLE, f"The file of {digest} cannot be read: {why(error)}.")
        finally:
            stored.release()
        return None

    def condemn(self, digest: Digest, *, heard: Heard = unheard) -> Mend | None:
        """
        Judges *digest* by its bytes and puts a damaged file aside; None if all is well or it was recorded before.

        What the answer changes is nothing but what others remember of the repositories that hold the blob.
        """
        # Before it is judged: what is published from now on is not what was judged.
        self._suspects.note(digest)
        size_bytes = self._database.read_now(lambda connection: examination.blob_size(connection, digest))
        fault = None if size_bytes is None else self.judge(digest, size_bytes, deep=True, heard=heard)
        gone = fault is not None and fault.kind is FlawKind.BLOB_MISSING and not self.is_held(digest)
        if size_bytes is None or fault is None or gone:
            if fault is None:
                # What a reader met may be in memory alone, where the judge has not looked: others would meet it again.
                self._leave_memory(digest)
            self._suspects.forget(digest)
            return None
        recorded = self._suspects.is_recorded(digest)
        if fault.identity is None:
            if recorded:
                return None
            aside = self._newest(digest) if fault.kind is FlawKind.BLOB_MISSING else ""
        else:
            aside = quarantine_key(digest, datetime.now(UTC))
            if not self._folders.set_aside(blob_key(digest), aside, fault.identity):
                return None  # somebody has pushed it again meanwhile, or cut it further: the note stays
        return self._mend(digest, size_bytes, fault, aside)

    def is_held(self, digest: Digest) -> bool:
        """Whether some repository holds the blob: otherwise nobody misses it."""
        return bool(self._database.read_now(lambda connection: examination.holders(connection, digest)))

    def _mend(self, digest: Digest, size_bytes: int, fault: Fault, aside: str) -> Mend:
        holders = self._database.read_now(lambda connection: examination.holders(connection, digest))
        named = [repository.name for repository in holders[:_NAMED]]
        detail = {"fault": fault.kind.value, "size": size_bytes, "repositories": named, "in": len(holders)}
        if fault.size_bytes is not None:
            detail["found_size"] = fault.size_bytes
        if aside:
            detail["file"] = aside
        return Mend(
            f"put aside as {aside}; push the blob again" if aside else "push the blob again",
            Change(lambda _: Notes(digest=digest.text), repositories=holders),
            lambda: self._suspects.recorded(digest),
            whole=False,
            detail=detail,
        )

    def _leave_memory(self, digest: Digest) -> None:
        with suppress(OSError):
            stored = self._store.open(blob_key(digest))
            try:
                stored.leave_memory()
            finally:
                stored.release()

    def _newest(self, digest: Digest) -> str:
        names = [each.name for each in self._folders.entries(QUARANTINE) if each.name.startswith(f"{digest}.")]
        return f"{QUARANTINE}/{max(names)}" if names else ""


def _hashed(stored: Stored, digest: Digest, heard: Heard) -> str:
    hasher = digest.algorithm.hasher()
    with closing(mmap.mmap(-1, min(_PIECE_BYTES, max(1, stored.size)))) as pages, memoryview(pages) as buffer:
        # What the disk has is what counts, and what is in memory for clients stays there.
        passing = stored.size > len(buffer) and stored.pass_memory(True)
        offset = 0
        while True:
            try:
                count = stored.fill(offset, buffer)
            except OSError as error:
                if not passing or error.errno != errno.EINVAL:
                    raise
                count = 0
            if passing and count < len(buffer):
                # What is left is not whole pages, or cannot be had like this.
                stored.pass_memory(False)
                passing = False
            elif not count:
                return hasher.hexdigest()
            with buffer[:count] as piece:
                hasher.update(piece)
            offset += count
            heard(count)


def why(error: OSError) -> str:
    return (error.strerror or "unknown reason").lower()
