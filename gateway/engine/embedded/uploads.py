"""Uploads: a spool that grows and a row that says how far it durably stands.

    append   lock spool ─ align it with the row ─ write, hash, fsync ─▶ change: row moves, lock goes
    finish   lock spool ─ align ─ write, hash ─ compare ─ fsync ─ rename ─ fsync directories
                                                                         ─▶ change: linked, row goes, lock goes

**The lock** on the spool is held until the change has been applied, or is dropped unapplied; it goes with the file to
its published name, where it keeps a sweep from removing what is not linked yet. The transaction is still open when it
goes, so whoever takes the lock next may find the spool longer than the row. It then waits for the writers' lock before
it believes the row, and only after that cuts off what was never acknowledged.

**A spool that is missing** though its row counts bytes was published by a `finish` whose commit did not come about, or
is lost. A retry of `finish` copies the acknowledged bytes back from the blob it names, if their digest is the row's,
and goes on as if nothing had been; nothing is linked that this upload did not send. Everything else is refused.
"""

from __future__ import annotations

import asyncio
import errno
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from gateway.change import Change, Notes
from gateway.engine.embedded.intake import Intake, SpoolDamaged
from gateway.engine.embedded.layout import blob_key, upload_key
from gateway.engine.embedded.pruning import discard_expired
from gateway.engine.port import Appended, Blob, Interrupted, Upload
from gateway.engine.stores.files import Spool
from gateway.engine.stores.filesystem import Filesystem
from gateway.engine.stores.streams import Verified
from gateway.errors import BlobUploadUnknown, DigestInvalid, RangeInvalid, Refusal, Unavailable, UploadBusy
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.names import Repository
from gateway.records import content, uploads
from gateway.records.acts import Acts
from gateway.records.content import Act
from gateway.records.database import Database
from gateway.records.uploads import UploadRow

if TYPE_CHECKING:
    from hashlib import _Hash

P = ParamSpec("P")
T = TypeVar("T")

_HASHERS: Final = 1024
_PRUNED: Final = 16
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class EmbeddedUploads:
    """Uploads of one data directory; every process may continue what another began."""

    def __init__(
        self,
        store: Filesystem,
        database: Database,
        threads: Executor,
        acts: Acts,
        verified: Verified,
        *,
        per_owner: int,
        lifetime_seconds: int,
    ) -> None:
        self._store = store
        self._database = database
        self._threads = threads
        self._acts = acts
        self._verified = verified
        self._limit = uploads.Limit(per_owner, lifetime_seconds)
        self._lifetime_seconds = lifetime_seconds
        self._pruned_at = 0
        self._hashers: OrderedDict[str, tuple[str, _Hash]] = OrderedDict()

    async def begin(self, repository: Repository, owner: str) -> tuple[Upload, Change]:
        await self._limit.look(self._database, owner, self._acts.now())
        if not self._acts.knows(repository.project):
            there = await self._database.read(lambda connection: content.project_exists(connection, repository.project))
            if there:
                self._acts.saw(repository.project)
        row, change = uploads.beginning(
            self._acts,
            repository,
            owner,
            pruned=await self._prune(self._acts.now()),
            limit=self._limit,
        )
        return _upload(row, repository, owner), change

    async def find(self, repository: Repository, owner: str, upload_id: str) -> Upload:
        return _upload(await self._row(repository, owner, upload_id), repository, owner)

    async def append(self, upload: Upload, body: AsyncIterator[bytes], first: int | None) -> Appended:
        spool, row = await self._take(upload, first, None)
        try:
            intake = Intake(spool, row.prefix_digest, self._hasher(row), self._threads)
            interrupted = await self._guarded(spool, row, self._append, spool, intake, body)
        except BaseException:
            spool.release()
            raise
        prefix = intake.digest()
        if intake.hasher is not None:
            self._remember(row.id, prefix, intake.hasher)
        new = replace(
            row,
            offset=spool.size,
            prefix_digest=prefix,
            expires_at=max(row.expires_at, self._acts.now() + self._lifetime_seconds),
        )

        def apply(connection: Any) -> Notes:
            try:
                uploads.advance(connection, row, new)
            except BlobUploadUnknown:
                spool.discard()
                raise
            finally:
                spool.release()
            return Notes()

        # Whoever never commits the change drops the lock, and not only when the garbage collector comes by.
        weakref.finalize(apply, spool.release).atexit = False
        return Appended(Change(apply, release=spool.release), new.offset, interrupted)

    async def finish(
        self, upload: Upload, body: AsyncIterator[bytes], first: int | None, digest: Digest
    ) -> tuple[Blob, Change]:
        spool, row = await self._take(upload, first, digest)
        try:
            intake = Intake(spool, row.prefix_digest, self._hasher(row), self._threads)
            await self._guarded(spool, row, self._finish, spool, intake, body, digest)
        except BaseException:
            spool.release()
            raise
        blob = Blob(digest, spool.size)

        def apply(connection: Any, act: Act) -> Notes:
            try:
                # Sweeps leave a locked file alone, but another upload of these bytes may have taken its place and
                # failed. They remove files under the writers' lock, which is held here: what is there now stays.
                if self._store.size(blob_key(digest)) != blob.size_bytes:
                    raise Unavailable("The blob was removed while it was finished; push it again.")
                uploads.remove(connection, row.id)
                return content.link_blob(connection, upload.repository, digest, blob.size_bytes, act)
            finally:
                spool.release()

        weakref.finalize(apply, spool.release).atexit = False
        change = self._acts.change(upload.repository, apply, upload.owner)
        return blob, replace(change, release=spool.release)

    async def cancel(self, upload: Upload) -> Change:
        spool = await self._lock(upload)
        await self._in_thread(spool.discard)

        def apply(connection: Any) -> Notes:
            if not uploads.remove(connection, upload.id):
                raise _unknown()
            return Notes()

        return Change(apply)

    # the steps

    async def _append(self, spool: Spool, intake: Intake, body: AsyncIterator[bytes]) -> bool:
        interrupted = await intake.receive(body)

        def conclude() -> None:
            intake.flush()
            _synced(spool)
            spool.sync_name()

        await self._in_thread(conclude)
        return interrupted

    async def _finish(self, spool: Spool, intake: Intake, body: AsyncIterator[bytes], digest: Digest) -> None:
        if await intake.receive(body):
            raise Interrupted("the body stopped before its end")

        def conclude() -> None:
            intake.flush()
            found = _digest(spool, intake, digest.algorithm)
            if found != digest.text:
                raise DigestInvalid(
                    f"The bytes sent have the digest {found}, not {digest}; push the blob again.",
                    detail={"sent": found, "claimed": digest.text},
                )
            _synced(spool)
            self._store.publish(spool, blob_key(digest))
            # Of the file that was hashed, whatever lies in its place by now.
            self._verified.keep(digest, spool.identity())

        await self._in_thread(conclude)

    async def _guarded(
        self, spool: Spool, row: UploadRow, step: Callable[P, Any], *args: P.args, **kwargs: P.kwargs
    ) -> Any:
        """Runs a step; what leaves the spool worthless discards it, with its row."""
        try:
            return await step(*args, **kwargs)
        except DigestInvalid:
            await self._in_thread(self._discard, spool, row)
            raise
        except SpoolDamaged:
            await self._in_thread(self._discard, spool, row)
            raise _unknown() from None
        except (Interrupted, Refusal):
            await self._in_thread(spool.truncate, row.offset)
            raise
        except _Unsynced as unsynced:
            # Nobody knows what is on the disk now, of what was acknowledged neither: it is not tried again.
            await self._in_thread(self._discard, spool, row)
            raise _storage_fault(unsynced.error) from unsynced.error
        except OSError as error:
            await self._in_thread(self._cut_back, spool, row)
            raise _storage_fault(error) from error

    def _cut_back(self, spool: Spool, row: UploadRow) -> None:
        """
        Leaves what is acknowledged and nothing else; a spool that was published is a blob, and stays as it is.

        Of what has no byte yet nothing is left: clients begin anew, and would use up the uploads they may have open.
        """
        try:
            if row.offset == 0:
                self._discard(spool, row)
            elif spool.is_named():
                spool.truncate(row.offset)
        except OSError:
            self._discard(spool, row)

    def _discard(self, spool: Spool, row: UploadRow) -> None:
        spool.discard()
        uploads.forget(self._database, row.id)

    # the lock, and what stands when it is held

    async def _take(self, upload: Upload, first: int | None, digest: Digest | None) -> tuple[Spool, UploadRow]:
        """The upload's spool, locked and cut or restored to what is acknowledged, and its row."""
        spool = await self._lock(upload)
        try:
            row = await self._current(upload)
            if row is not None and spool.size != row.offset:
                row = await self._in_thread(self._align, spool, upload, digest)
            if row is None:
                await self._in_thread(spool.discard)
                raise _unknown()
            if first is not None and first != row.offset:
                raise RangeInvalid(f"Continue the upload at byte {row.offset}.", offset=row.offset)
        except BaseException:
            spool.release()
            raise
        return spool, row

    async def _lock(self, upload: Upload) -> Spool:
        opening = self._threads.submit(self._store.grow, upload_key(upload.id))
        try:
            return await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_release)
            raise
        except BlockingIOError:
            raise UploadBusy("Another request is writing to this upload; wait for it to end.") from None
        except OSError as error:
            raise _storage_fault(error) from error

    async def _current(self, upload: Upload) -> UploadRow | None:
        now = self._acts.now()
        return await self._database.read(
            lambda connection: uploads.find(connection, upload.repository, upload.owner, upload.id, now)
        )

    def _align(self, spool: Spool, upload: Upload, digest: Digest | None) -> UploadRow | None:
        now = self._acts.now()
        with self._database.lock():
            row = self._database.read_now(
                lambda connection: uploads.find(connection, upload.repository, upload.owner, upload.id, now)
            )
        if row is None:
            return None
        if spool.size > row.offset:
            spool.truncate(row.offset)
        elif spool.size < row.offset and not (digest is not None and self._restore(spool, row, digest)):
            return None
        return row

    def _restore(self, spool: Spool, row: UploadRow, digest: Digest) -> bool:
        """Whether the acknowledged bytes could be copied back from the blob that an earlier `finish` published."""
        try:
            stored = self._store.open(blob_key(digest))
        except FileNotFoundError:
            return False
        hasher = Algorithm.SHA256.hasher()
        spool.truncate(0)
        try:
            for piece in stored.pieces(row.offset):
                hasher.update(piece)
                spool.write([piece])
        finally:
            stored.release()
        return spool.size == row.offset and f"sha256:{hasher.hexdigest()}" == row.prefix_digest

    async def _row(self, repository: Repository, owner: str, upload_id: str) -> UploadRow:
        now = self._acts.now()
        if not uploads.is_id(upload_id):
            raise _unknown()
        row = await self._database.read(lambda connection: uploads.find(connection, repository, owner, upload_id, now))
        if row is None:
            raise _unknown()
        return row

    async def _prune(self, now: int) -> list[str]:
        """
        Discards the bytes of some expired uploads; the rows go with the change that is being prepared.

        Looked for once a second: when there are more, the next look follows at once.
        """
        if now == self._pruned_at:
            return []
        found = await self._database.read(lambda connection: uploads.expired(connection, now, _PRUNED))
        if len(found) < _PRUNED:
            self._pruned_at = now
        if not found:
            return []
        return await self._in_thread(discard_expired, self._store, self._database, found, now)

    def _hasher(self, row: UploadRow) -> _Hash | None:
        if row.offset == 0:
            return Algorithm.SHA256.hasher()
        # Taken out: it moves on with the bytes, and is put back when they are on disk.
        prefix, hasher = self._hashers.pop(row.id, ("", None))
        return hasher if prefix == row.prefix_digest else None

    def _remember(self, upload_id: str, prefix: str, hasher: _Hash) -> None:
        self._hashers[upload_id] = prefix, hasher
        if len(self._hashers) > _HASHERS:
            self._hashers.popitem(last=False)

    async def _in_thread(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: job(*args, **kwargs))


def _release(opening: Future[Spool]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().release()


class _Unsynced(Exception):
    """A spool's bytes could not be made durable: *error* says why."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def _synced(spool: Spool) -> None:
    try:
        spool.sync()
    except OSError as error:
        raise _Unsynced(error) from error


def _digest(spool: Spool, intake: Intake, algorithm: Algorithm) -> str:
    if algorithm is Algorithm.SHA256:
        return intake.digest()
    hasher = algorithm.hasher()
    for piece in spool.pieces(spool.size):
        hasher.update(piece)
    return f"{algorithm.value}:{hasher.hexdigest()}"


def _upload(row: UploadRow, repository: Repository, owner: str) -> Upload:
    return Upload(row.id, repository, owner, row.offset, row.begun_at, row.expires_at)


def _unknown() -> BlobUploadUnknown:
    return BlobUploadUnknown("There is no such upload; begin a new one.")


def _storage_fault(error: OSError) -> Exception:
    if error.errno in _FULL:
        return Unavailable("The registry's storage is full; try again when its operator has made room.")
    return error
