"""Manifests of one repository on their way in: read, put in order, and judged by whether all they require is had."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from gateway.engine.embedded.importing_blobs import BlobIntake, Brought
from gateway.engine.source import Found, Left, Source, Tally
from gateway.errors import Refusal, Unavailable, UpstreamFailed, UpstreamSlow
from gateway.oci.digest import Digest
from gateway.oci.manifest import NESTING, Manifest, load
from gateway.oci.media import MANIFEST_MEDIA_TYPES
from gateway.oci.names import Repository, Tag
from gateway.records.database import Database
from gateway.records.importing import Bundle, Known, blob_sizes

#: Manifests in one transaction, and their bytes: bounds how long others wait for the writers' lock, and the memory.
_BATCH: Final = 200
_BATCH_BYTES: Final = 16 * 1024 * 1024
_READING: Final = 8
_READ_AHEAD: Final = 64

#: What is known of a blob: where it is to be had, that it is here, or why it cannot be.
_Blob: TypeAlias = Found | Brought | Refusal


class Reading:
    """What is still to be read of one repository, and what became of the rest."""

    def __init__(
        self,
        source: Source,
        blobs: BlobIntake,
        database: Database,
        repository: Repository,
        known: Known,
        *,
        copy: bool,
    ) -> None:
        self._source = source
        self._blobs = blobs
        self._database = database
        self._repository = repository
        self._known = known
        self._copy = copy
        self._turn = asyncio.Semaphore(_READING)
        self._tags: dict[Digest, list[Tag]] = {}
        self._held: dict[Digest, Manifest] = {}
        self._good: dict[Digest, bool] = {}
        self._depth: dict[Digest, int] = {}
        self._seen: set[Digest] = set()
        self._broken: list[Left] = []
        self._passed: list[Digest] = []
        self._tally = Tally()
        self.queue: deque[Digest] = deque()

    @property
    def done(self) -> int:
        return len(self._good)

    @property
    def total(self) -> int:
        return len(self._seen)

    def want(self, tags: Mapping[str, Digest | Refusal], listed: Sequence[Digest]) -> None:
        """Queues all that the source lists."""
        for name, digest in tags.items():
            try:
                tag = Tag.parse(name)
                if isinstance(digest, Refusal):
                    raise digest
            except Refusal as refusal:
                self._broken.append(left(self._repository, name, refusal))
                continue
            self._tags.setdefault(digest, []).append(tag)
        self._enqueue([*self._tags, *listed])

    async def batch(self) -> tuple[Bundle, Tally, tuple[Left, ...]]:
        """What one transaction adds, its bytes in place; nothing if all that was looked at is here, or broken."""
        self._tally, self._passed = Tally(), []
        moves: list[tuple[Tag, Digest]] = []
        ready, waiting = await self._ready(moves)
        blobs = await self._bring(ready)
        kept: list[Manifest] = []
        judged = list(ready.values())
        while judged:
            for manifest in judged:
                reason = self._fault(manifest, blobs)
                self._good[manifest.digest] = not reason
                if reason:
                    self._lose(manifest.digest, reason)
                else:
                    kept.append(manifest)
                    moves += self._moves(manifest.digest)
            # An index whose manifests were all judged just now comes with them.
            judged = [self._held.pop(digest) for digest in waiting if self._judged(digest)]
            waiting = {digest: None for digest in waiting if digest in self._held}
        named = [digest for manifest in kept for digest in manifest.references]
        linked = {digest: found.size_bytes for digest in named if isinstance(found := blobs.get(digest), Brought)}
        self.queue.extendleft(reversed(waiting))
        await self._refer([*self._passed, *(manifest.digest for manifest in kept)])
        self._tally += Tally(len(kept), len(self._passed), bytes=sum(len(manifest.content) for manifest in kept))
        broken, self._broken = tuple(self._broken), []
        return Bundle(linked, tuple(kept), tuple(moves)), replace(self._tally, broken=len(broken)), broken

    # manifests

    async def _ready(self, moves: list[tuple[Tag, Digest]]) -> tuple[dict[Digest, Manifest], dict[Digest, None]]:
        """Manifests that wait for nothing but their blobs, and indexes that wait for some of those."""
        ready: dict[Digest, Manifest] = {}
        waiting: dict[Digest, None] = {}
        size = 0
        while self.queue and max(len(ready), len(self._passed)) < _BATCH and size < _BATCH_BYTES:
            taken = [self.queue.popleft() for _ in range(min(_READ_AHEAD, len(self.queue), _BATCH - len(ready)))]
            fresh = [digest for digest in dict.fromkeys(taken) if digest not in self._good and digest not in ready]
            for digest, found in zip(fresh, await asyncio.gather(*map(self._load, fresh)), strict=True):
                if found is None:
                    self._good[digest] = True
                    self._passed.append(digest)
                    moves += self._moves(digest)
                elif isinstance(found, Refusal):
                    self._good[digest] = False
                    self._lose(digest, found.message)
                elif self._postponed(digest, found, ready, waiting):
                    self._held[digest] = found
                else:
                    self._held.pop(digest, None)
                    ready[digest] = found
                    size += len(found.content)
        return ready, waiting

    async def _load(self, digest: Digest) -> Manifest | Refusal | None:
        """The manifest, why it cannot be had, or None if it is here already."""
        if digest.text in self._known.manifests:
            return None
        if digest in self._held:
            return self._held[digest]
        try:
            async with self._turn:
                stored = await self._source.manifest(self._repository, digest)
            if Digest.of(stored.content, digest.algorithm) != digest:
                found = Digest.of(stored.content, digest.algorithm)
                return Refusal(f"the manifest's bytes have the digest {found}")
            return load(stored.content, stored.media_type, algorithm=digest.algorithm)
        except Refusal as refusal:
            return _one(refusal)

    def _postponed(
        self, digest: Digest, manifest: Manifest, ready: dict[Digest, Manifest], waiting: dict[Digest, None]
    ) -> bool:
        """Whether an index lists manifests that come first; then it is queued behind them."""
        listed = [each.digest for each in manifest.manifests if each.media_type in MANIFEST_MEDIA_TYPES]
        unread = [each for each in listed if each not in self._good and each not in ready and each not in self._held]
        if unread:
            self._seen.update(unread)
            self.queue.extendleft([digest, *reversed(unread)])
            return True
        if any(each not in self._good for each in listed):
            waiting[digest] = None
            return True
        return False

    def _judged(self, index: Digest) -> bool:
        """Whether everything that a held index lists is a manifest that was judged."""
        return all(digest in self._good for digest in self._held[index].references)

    async def _refer(self, subjects: Sequence[Digest]) -> None:
        async def ask(subject: Digest) -> Sequence[Digest]:
            try:
                async with self._turn:
                    return await self._source.referrers(self._repository, subject)
            except Refusal as refusal:
                self._broken.append(left(self._repository, f"referrers of {subject}", refusal))
                return ()

        for found in await asyncio.gather(*map(ask, subjects)):
            self._enqueue(found)

    def _enqueue(self, digests: Sequence[Digest]) -> None:
        for digest in digests:
            if digest not in self._seen:
                self._seen.add(digest)
                self.queue.append(digest)

    # blobs

    async def _bring(self, ready: dict[Digest, Manifest]) -> dict[Digest, _Blob]:
        """The blobs that *ready* names; those of a manifest that cannot come anyhow are looked for, not fetched."""
        wanted = {
            digest: None
            for manifest in ready.values()
            for digest in manifest.references
            if digest.text not in self._known.blobs and digest not in self._good
        }
        sizes = await self._database.read(lambda connection: blob_sizes(connection, wanted))

        async def look(digest: Digest) -> _Blob:
            return await self._blobs.look(self._repository, digest, sizes.get(digest))

        blobs = await _each(look, wanted)
        coming = {
            digest: found
            for manifest in ready.values()
            if not self._fault(manifest, blobs)
            for digest in manifest.references
            if isinstance(found := blobs.get(digest), Found)
        }

        async def fetch(digest: Digest) -> _Blob:
            if not self._copy:
                return self._blobs.plan(digest, coming[digest])
            return await self._blobs.fetch(self._repository, digest, coming[digest])

        blobs |= await _each(fetch, coming)
        for found in blobs.values():
            if isinstance(found, Brought):
                new = not found.there
                size = found.size_bytes if new else 0
                self._tally += Tally(blobs=new, blobs_there=not new, linked=found.linked, bytes=size)
        return blobs

    def _fault(self, manifest: Manifest, blobs: Mapping[Digest, _Blob]) -> str:
        """Why *manifest* cannot come: the first thing it requires that is not to be had, or its depth; "" if it can."""
        for digest in manifest.required:
            found = blobs.get(digest)
            if isinstance(found, Refusal):
                return f"{digest}: {found.message}"
            if found is None and not self._good.get(digest) and digest.text not in self._known.blobs:
                return f"{digest}: it stays behind itself"
        depth = 1 + max((self._depth.get(each.digest, 0) for each in manifest.manifests), default=0)
        self._depth[manifest.digest] = depth if manifest.is_index else 0
        return "" if self._depth[manifest.digest] <= NESTING else f"it nests more than {NESTING} indexes"

    # what it came to

    def _moves(self, digest: Digest) -> list[tuple[Tag, Digest]]:
        moves = [(tag, digest) for tag in self._tags.get(digest, ())]
        moved = [(tag, there) for tag, there in moves if self._known.tags.get(tag.name) != there.text]
        self._tally += Tally(tags_there=len(moves) - len(moved), tags=len(moved))
        return moved

    def _lose(self, digest: Digest, reason: str) -> None:
        names = [tag.name for tag in self._tags.get(digest, ())] or [""]
        for name in names:
            self._broken.append(Left(self._repository.name, f"{name}@{digest}" if name else digest.text, reason))


async def _each(act: Callable[[Digest], Awaitable[_Blob]], digests: Iterable[Digest]) -> dict[Digest, _Blob]:
    """What *act* answers for each, at the same time, or how it refuses; the first fault ends all of them."""

    async def acting(digest: Digest) -> _Blob:
        try:
            return await act(digest)
        except Refusal as refusal:
            return _one(refusal)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = {digest: group.create_task(acting(digest)) for digest in digests}
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return {digest: task.result() for digest, task in tasks.items()}


def left(repository: Repository, what: str, refusal: Refusal) -> Left:
    """What *refusal* leaves behind; raises it if it says that nothing can be had any more."""
    return Left(repository.name, what, _one(refusal).message)


def _one(refusal: Refusal) -> Refusal:
    """*refusal*, if it is about one thing; raised if it says that nothing can be had, or kept, any more."""
    if isinstance(refusal, Unavailable) and not isinstance(refusal, UpstreamFailed | UpstreamSlow):
        raise refusal
    return refusal
