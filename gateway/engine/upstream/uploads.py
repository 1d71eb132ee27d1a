"""Uploads: passed on to a session in the registry behind us, with a row here that says whose they are.

    append   turn ─ where does it stand? ─ PATCH, hashed as it passes ─ note ─▶ change: row moves, turn ends
    finish   turn ─ where does it stand? ─ PATCH ─▶ change: intent ─ PUT ─ linked, row goes, turn ends

**What has arrived cannot be cut off again**: bytes of a request that came to no good end, or whose change was never
committed, count all the same, and the upload says so when it is asked where it stands. A body that stops early ends the
request to the registry behind cleanly, so that it keeps what came.

**The digest** is compared here, where this process or the row knows the SHA-256 of everything sent, and by the registry
behind in any case: it makes no blob whose bytes are others.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from gateway.change import Change, Notes
from gateway.engine.port import Appended, Blob, Interrupted, Upload
from gateway.engine.upstream.client import Client
from gateway.engine.upstream.finishing import Finishing
from gateway.engine.upstream.holds import Holds
from gateway.engine.upstream.relay import Relay
from gateway.engine.upstream.sessions import NOWHERE, Sessions, mismatch, unknown
from gateway.engine.upstream.turns import Stand, Turn, Turns
from gateway.errors import BlobUploadUnknown, DigestInvalid, RangeInvalid, Refusal, UploadBusy
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.names import Repository
from gateway.records import content, uploads
from gateway.records.acts import Acts
from gateway.records.database import Database
from gateway.records.uploads import UploadRow

if TYPE_CHECKING:
    from hashlib import _Hash

P = ParamSpec("P")
T = TypeVar("T")

#: Threads that hash, one piece at a time each, and now and then wait for the writers' lock.
_THREADS: Final = 8
_HASHERS: Final = 1024
_PRUNED: Final = 16


class UpstreamUploads:
    """Uploads to one registry; every process of a data directory may continue what another began."""

    def __init__(
        self,
        client: Client,
        database: Database,
        acts: Acts,
        data: Path,
        holds: Holds,
        *,
        per_owner: int,
        lifetime_seconds: int,
    ) -> None:
        self._sessions = Sessions(client)
        self._database = database
        self._acts = acts
        self._turns = Turns(data)
        self._holds = holds
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="upload")
        self._limit = uploads.Limit(per_owner, lifetime_seconds)
        self._lifetime_seconds = lifetime_seconds
        self._hashers: OrderedDict[str, tuple[int, _Hash]] = OrderedDict()

    async def begin(self, repository: Repository, owner: str) -> tuple[Upload, Change]:
        await self._limit.look(self._database, owner, self._acts.now())
        if await self._database.read(lambda connection: content.project_exists(connection, repository.project)):
            self._acts.saw(repository.project)
        row, change = uploads.beginning(
            self._acts,
            repository,
            owner,
            pruned=await self._prune(self._acts.now()),
            limit=self._limit,
        )
        return _upload(row, NOWHERE, repository, owner), change

    async def find(self, repository: Repository, owner: str, upload_id: str) -> Upload:
        row = await self._row(repository, owner, upload_id) if uploads.is_id(upload_id) else None
        if row is None:
            raise unknown()
        return _upload(row, _newest(row, self._turns.look(upload_id)), repository, owner)

    async def append(self, upload: Upload, body: AsyncIterator[bytes], first: int | None) -> Appended:
        turn, row, stand = await self._take(upload, first)
        try:
            stand, relay = await self._send(upload, turn, stand, body)
            if relay.error is not None:
                raise relay.error
        except BaseException:
            turn.release()
            raise
        expires_at = max(row.expires_at, self._acts.now() + self._lifetime_seconds)
        new = UploadRow(row.id, stand.offset, stand.prefix_digest, row.begun_at, expires_at, stand.location)

        def apply(connection: Any) -> Notes:
            try:
                uploads.advance(connection, row, new)
            except BlobUploadUnknown:
                turn.discard()
                raise
            finally:
                turn.release()
            return Notes()

        # Whoever drops the change unapplied drops the turn, and not only when the garbage collector comes by.
        weakref.finalize(apply, turn.release).atexit = False
        return Appended(Change(apply, release=turn.release), new.offset, relay.interrupted)

    async def finish(
        self, upload: Upload, body: AsyncIterator[bytes], first: int | None, digest: Digest
    ) -> tuple[Blob, Change]:
        turn, _, stand = await self._take(upload, first)
        try:
            stand, relay = await self._send(upload, turn, stand, body)
            if relay.error is not None:
                raise relay.error
            if relay.interrupted:
                raise Interrupted("the body stopped before its end")
            if mismatch(digest, stand.prefix_digest):
                await self._sessions.abandon(upload.repository, stand)
                await self._discard(upload, turn)
                raise DigestInvalid(
                    f"The bytes sent have the digest {stand.prefix_digest}, not {digest}; push the blob again.",
                    detail={"sent": stand.prefix_digest, "claimed": digest.text},
                )
        except BaseException:
            turn.release()
            raise
        blob = Blob(digest, stand.offset, upload.repository)
        finishing = Finishing(self._sessions, self._holds, turn, upload, stand, blob)
        weakref.finalize(finishing, turn.release).atexit = False
        return blob, finishing.change(self._acts)

    async def cancel(self, upload: Upload) -> Change:
        turn = self._turns.take(upload.id)
        try:
            row = await self._row(upload.repository, upload.owner, upload.id)
            if row is not None:
                await self._sessions.abandon(upload.repository, _newest(row, turn.read()))
            turn.discard()
        finally:
            turn.release()

        def apply(connection: Any) -> Notes:
            if not uploads.remove(connection, upload.id):
                raise unknown()
            return Notes()

        return Change(apply)

    # the steps

    async def _send(self, upload: Upload, turn: Turn, stand: Stand, body: AsyncIterator[bytes]) -> tuple[Stand, Relay]:
        relay = Relay(body, self._hasher(upload.id, stand), self._threads)
        if await relay.begins():
            try:
                stand = await self._sessions.send(upload.repository, turn, stand, relay)
            except Refusal as refusal:
                # An upload that holds nothing is no loss: whoever tries again begins a new one, and this one would
                # count as open for a day.
                if stand.offset == 0 or isinstance(refusal, BlobUploadUnknown):
                    await self._discard(upload, turn)
                raise
        if relay.hasher is not None:
            self._remember(upload.id, stand.offset, relay.hasher)
        return stand, relay

    async def _take(self, upload: Upload, first: int | None) -> tuple[Turn, UploadRow, Stand]:
        """The upload's turn, its row, and where it certainly stands."""
        turn = self._turns.take(upload.id)
        try:
            note = turn.read()
            row = await self._row(upload.repository, upload.owner, upload.id)
            if row is not None and note is not None and note.offset != row.offset:
                # Whoever had the turn before may be committing still: the row is what the writers' lock lets through.
                row = await self._in_thread(self._settled, upload)
            if row is None:
                turn.discard()
                raise unknown()
            stand = _newest(row, note)
            if not stand.certain:
                stand = await self._ask(upload, turn, stand)
            if first is not None and first != stand.offset:
                raise RangeInvalid(f"Continue the upload at byte {stand.offset}.", offset=stand.offset)
        except BaseException:
            turn.release()
            raise
        return turn, row, stand

    async def _ask(self, upload: Upload, turn: Turn, stand: Stand) -> Stand:
        try:
            found = await self._sessions.ask(upload.repository, stand)
        except BlobUploadUnknown:
            await self._discard(upload, turn)
            raise
        turn.note(found)
        return found

    async def _discard(self, upload: Upload, turn: Turn) -> None:
        """The upload is worth nothing any more: its row goes at once, without an event of its own."""
        turn.discard()
        self._hashers.pop(upload.id, None)
        await self._in_thread(uploads.forget, self._database, upload.id)

    async def _prune(self, now: int) -> list[str]:
        """Gives up some expired uploads; the rows go with the change that is being prepared."""
        expired = await self._database.read(
            lambda connection: uploads.states(connection, uploads.expired(connection, now, _PRUNED))
        )
        given_up = await asyncio.gather(*(self._give_up(each, *found) for each, found in expired.items()))
        return [upload_id for upload_id, gone in zip(expired, given_up, strict=True) if gone]

    async def _give_up(self, upload_id: str, repository: Repository, state: str) -> bool:
        try:
            turn = self._turns.take(upload_id)
        except UploadBusy:
            return False
        await self._sessions.abandon(repository, turn.read() or Stand(0, state, ""))
        turn.discard()
        return True

    # what is known of an upload

    async def _row(self, repository: Repository, owner: str, upload_id: str) -> UploadRow | None:
        now = self._acts.now()
        return await self._database.read(lambda connection: uploads.find(connection, repository, owner, upload_id, now))

    def _settled(self, upload: Upload) -> UploadRow | None:
        now = self._acts.now()
        with self._database.lock():
            return self._database.read_now(
                lambda connection: uploads.find(connection, upload.repository, upload.owner, upload.id, now)
            )

    def _hasher(self, upload_id: str, stand: Stand) -> _Hash | None:
        if stand.offset == 0:
            return Algorithm.SHA256.hasher()
        # Taken out: it moves on with the bytes, and is put back when they have arrived.
        offset, hasher = self._hashers.pop(upload_id, (0, None))
        return hasher if offset == stand.offset else None

    def _remember(self, upload_id: str, offset: int, hasher: _Hash) -> None:
        self._hashers[upload_id] = offset, hasher
        if len(self._hashers) > _HASHERS:
            self._hashers.popitem(last=False)

    async def _in_thread(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: job(*args, **kwargs))


def _newest(row: UploadRow, note: Stand | None) -> Stand:
    committed = Stand(row.offset, row.state, row.prefix_digest)
    if note is None or note.offset < row.offset or (note.certain and note.offset == row.offset):
        return committed
    return note


def _upload(row: UploadRow, stand: Stand, repository: Repository, owner: str) -> Upload:
    return Upload(row.id, repository, owner, stand.offset, row.begun_at, row.expires_at, stand.location)
