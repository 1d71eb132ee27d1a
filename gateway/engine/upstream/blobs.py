"""Blobs: found and read in the registry behind, their bytes checked while they pass; links are known here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from gateway.change import Change, Notes
from gateway.engine.port import Appetite, Blob, greedy
from gateway.engine.upstream import passing
from gateway.engine.upstream.answers import is_absent, is_unsupported, plain_in, promised
from gateway.engine.upstream.client import Answer, Client, Streamed
from gateway.engine.upstream.files import Files
from gateway.engine.upstream.holds import Holds
from gateway.engine.upstream.intention import Intention
from gateway.engine.upstream.naming import Naming
from gateway.errors import BlobUnknown, Refusal, Unsupported, UpstreamFailed, UpstreamUnavailable
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.media import essence
from gateway.oci.names import Repository
from gateway.oci.ranges import render_content_range
from gateway.records import content, foresight, mirror
from gateway.records.acts import Acts
from gateway.records.content import Act
from gateway.records.database import Database
from gateway.records.recent import Recent

_REMEMBERED: Final = 16_384
_REMEMBERED_SECONDS: Final = 60.0
_UNKNOWN_SIZE: Final = "*"


@dataclass(frozen=True, slots=True)
class _Found:
    blob: Blob
    until: float


class UpstreamBlobs:
    """
    Blobs of the registry behind.

    That a blob is there, and how long it is, is remembered for a minute at most; counters that a manifest's claim about
    its size went into are put right as the blob is found. What is read whole is hashed as it
    passes: the last piece is given out only if the digest is right, and `UpstreamFailed` is raised instead if not.
    Parts of a blob cannot be proved; that they are the part asked for is checked. Where the registry's *files* can be
    read, they are, and what it says itself is only whether the blob is there.
    """

    def __init__(
        self,
        client: Client,
        database: Database,
        threads: Executor,
        acts: Acts,
        holds: Holds,
        clock: Callable[[], float] = time.monotonic,
        *,
        files: Files | None = None,
    ) -> None:
        self._client = client
        self._database = database
        self._threads = threads
        self._acts = acts
        self._holds = holds
        self._naming = Naming(client, database)
        self._files = files
        self._clock = clock
        self._recent: Recent[_Found] = Recent(database.versions, _REMEMBERED)

    async def find(self, repository: Repository, digest: Digest, *, spares_push: bool = False) -> Blob:
        version = self._recent.version(repository)
        found = self._recent.find(repository, digest, version)
        if found is not None and found.until > self._clock():
            return found.blob
        answer = await self._client.ask("HEAD", _path(repository, digest), scope=_pull(repository))
        if await self._naming.lacks(repository, digest, answer):
            raise _unknown(repository, digest)
        blob = Blob(digest, self._size(answer, digest), repository)
        await self._learn(blob, plain_in(answer))
        self._recent.keep(repository, digest, version, _Found(blob, self._clock() + _REMEMBERED_SECONDS))
        return blob

    async def read(self, blob: Blob, first: int, last: int, appetite: Appetite = greedy) -> AsyncIterator[bytes]:
        if blob.repository is None:
            raise ValueError(f"{blob.digest} is not of this engine: it says no repository")
        if last < first:
            return
        pieces = self._passed(blob, blob.repository, first, last, appetite)
        if self._files is not None and (stored := await self._files.open(blob)) is not None:
            pieces = self._files.read(stored, blob.digest, first, last, appetite)
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
                del piece

    def mount(self, source: Repository, target: Repository, digest: Digest) -> Change:
        told: dict[str, object] = {"digest": digest.text, "source": source.name}

        def check(connection: Any, but: Collection[str]) -> None:
            if digest.algorithm is not Algorithm.SHA256:
                # Registries link such a mount to nothing, say that it is done, and cannot read it.
                raise BlobUnknown(f"Push the blob; by {digest} nothing is mounted in the registry behind.")
            size = mirror.size_known(connection, digest) or 0
            foresight.blob_comes(connection, target, digest, size, but)
            told["size_bytes"] = size

        intention = Intention(self._holds, "blob.mount", target, told, check)
        sizes: list[int] = []

        async def run() -> None:
            sizes.append((await self.find(source, digest)).size_bytes)
            await self._mount(source, target, digest)

        def apply(connection: Any, act: Act) -> Notes:
            notes = content.link_blob(connection, target, digest, sizes[-1], act)
            return replace(notes, detail={"from": source.name}, result=sizes[-1])

        return intention.around(self._acts.change(target, apply), run)

    def delete(self, repository: Repository, digest: Digest) -> Change:
        told: dict[str, object] = {"digest": digest.text}
        # What was pushed by another digest is linked by its SHA-256 as well, and cannot be read without: all names go.
        going: tuple[Digest, ...] = ()

        def check(connection: Any, but: Collection[str]) -> None:
            nonlocal going
            foresight.blob_goes(connection, repository)
            going = mirror.names_of(connection, digest)
            mirror.require_unreferenced(connection, repository, going, but)
            told.pop("twins", None)  # asked once more after a wait, there may be none any more
            if len(going) > 1:
                told["twins"] = [each.text for each in going if each != digest]

        intention = Intention(self._holds, "blob.delete", repository, told, check)

        async def run() -> None:
            await self._naming.require_known(repository, going)
            removed: list[Digest] = []
            for name in going:
                try:
                    if await self._remove(repository, name, may_lack=name != digest or bool(removed)):
                        removed.append(name)
                except UpstreamUnavailable as refusal:
                    refusal.uncertain = refusal.uncertain or bool(removed)
                    raise
                except Refusal as refusal:
                    if removed:
                        message = f"Only {removed[0]} could be deleted; delete {digest} again."
                        raise UpstreamFailed(message, uncertain=True) from refusal
                    raise

        def apply(connection: Any) -> Notes:
            for name in going:
                mirror.drop_link(connection, repository, name)
            return Notes(digest=digest.text)

        return intention.around(Change(apply, repositories=(repository,)), run)

    # reading

    async def _passed(
        self, blob: Blob, repository: Repository, first: int, last: int, appetite: Appetite
    ) -> AsyncGenerator[bytes]:
        complete = first == 0 and last == blob.size_bytes - 1
        headers = None if complete else {"Range": f"bytes={first}-{last}"}
        async with self._client.open(
            _path(repository, blob.digest), headers=headers, scope=_pull(repository)
        ) as answer:
            skipped = self._skipped(answer, blob, repository, first, last)
            pieces = answer.pieces()
            if complete:
                passed = passing.whole(pieces, blob.digest, blob.size_bytes, self._threads)
            else:
                passed = passing.part(pieces, blob.digest, skipped, last - first + 1)
            async with aclosing(passed):
                async for piece in passed:
                    # Hashed in large pieces, given out in such as are wanted.
                    given = 0
                    while given < len(piece):
                        part = piece[given : given + await appetite()]
                        given += len(part)
                        yield part
                        del part
                    del piece

    async def _learn(self, blob: Blob, plain: Digest | None) -> None:
        """
        What is known of the blob's size here may be no more than what somebody's manifest claimed; and its SHA-256, if
        the registry told that, may not be known at all, or not rightly.
        """
        known, twin = await self._database.read(
            lambda connection: (
                mirror.size_known(connection, blob.digest),
                mirror.twin_of(connection, blob.digest),
            )
        )
        if known is not None and known != blob.size_bytes:
            await self._in_thread(partial(mirror.learn_size, self._database, blob.digest, blob.size_bytes))
        if plain not in (None, twin):
            await self._in_thread(partial(mirror.learn_twin, self._database, blob.digest, plain))

    async def _in_thread(self, job: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, job)

    def _size(self, answer: Answer, digest: Digest) -> int:
        text = answer.headers.get("content-length", "")
        told = promised(answer)
        if answer.status != 200 or not (text.isascii() and text.isdigit()) or _is_text(answer):
            raise self._client.refuse(answer)
        if told is not None and told.algorithm is digest.algorithm and told != digest:
            raise UpstreamFailed("The registry behind answers for another blob than was asked for.")
        if int(text) == 0 and digest != Digest.of(b"", digest.algorithm):
            # Nothing would be read of it, and so nothing checked.
            raise UpstreamFailed("The registry behind says that a blob is empty, which it is not.")
        return int(text)

    def _skipped(self, answer: Streamed, blob: Blob, repository: Repository, first: int, last: int) -> int:
        """How many bytes come before *first*; raises for an answer that does not hold the bytes asked for."""
        if answer.status == 404 and not _is_text(answer):
            self._recent.drop(repository, blob.digest)
            raise _unknown(repository, blob.digest)
        if answer.status not in {200, 206} or _is_text(answer):
            raise self._client.refuse(answer)
        length = answer.headers.get("content-length", "")
        partial = answer.status == 206
        if partial:
            told = answer.headers.get("content-range", "").lower()
            known = {render_content_range(first, last, blob.size_bytes), f"bytes {first}-{last}/{_UNKNOWN_SIZE}"}
            if told not in known:
                raise UpstreamFailed("The registry behind sends another part of the blob than was asked for.")
        if length not in {"", str(last - first + 1 if partial else blob.size_bytes)}:
            self._recent.drop(repository, blob.digest)
            raise UpstreamFailed("The registry behind says another length of the blob than before.")
        return 0 if partial else first

    # changing

    async def _mount(self, source: Repository, target: Repository, digest: Digest) -> None:
        path = f"/v2/{target}/blobs/uploads/?mount={digest}&from={source}"
        scope = f"repository:{source}:pull repository:{target}:pull,push"
        answer = await self._client.ask("POST", path, content=b"", scope=scope)
        if answer.status == 201:
            return
        if answer.status == 202:
            await self._abandon(target, answer)
        elif not is_absent(answer):
            raise self._client.refuse(answer)
        raise BlobUnknown(f"Push the blob; {source} holds no {digest}.")

    async def _abandon(self, target: Repository, answer: Answer) -> None:
        """Cancels the upload that was begun in place of a mount; what is left of it, the registry behind removes."""
        try:
            place = self._client.local(answer.headers.get("location", ""), target.name)
            await self._client.ask("DELETE", place, scope=f"repository:{target}:pull,push,delete")
        except UpstreamUnavailable:
            return

    async def _remove(self, repository: Repository, digest: Digest, *, may_lack: bool) -> bool:
        """
        Whether it was there. Raises `BlobUnknown` if not, unless it was known here, or the repository *may_lack* it.
        """
        answer = await self._client.ask("DELETE", _path(repository, digest), scope=f"repository:{repository}:delete")
        if answer.status in {202, 204}:
            return True
        if is_absent(answer):
            if may_lack or await self._database.read(lambda found: mirror.knows_link(found, repository, digest)):
                return False
            raise _unknown(repository, digest)
        if is_unsupported(answer):
            raise Unsupported("The registry behind deletes nothing; its operator can enable storage.delete there.")
        raise self._client.refuse(answer)


def _is_text(answer: Answer | Streamed) -> bool:
    """Whether this is a page for people, or compressed on the way: no blob as it was pushed."""
    encoded = answer.headers.get("content-encoding", "identity").lower() != "identity"
    return encoded or essence(answer.headers.get("content-type")) == "text/html"


def _path(repository: Repository, digest: Digest) -> str:
    return f"/v2/{repository}/blobs/{digest}"


def _pull(repository: Repository) -> str:
    return f"repository:{repository}:pull"


def _unknown(repository: Repository, digest: Digest) -> BlobUnknown:
    return BlobUnknown(f"{repository} holds no blob {digest}.")
