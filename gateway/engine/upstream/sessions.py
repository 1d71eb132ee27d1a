"""Upload sessions in the registry behind us: opened with the first bytes, sent to, asked about, completed, given up.

What it answers about a session is believed only where it is consistent with what was sent; a session it does not know
any more, or cannot go on with, is a `BlobUploadUnknown`.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import replace
from typing import Final

from gateway.engine.upstream.answers import complaints, plain_in
from gateway.engine.upstream.client import Answer, Client
from gateway.engine.upstream.relay import Relay
from gateway.engine.upstream.turns import Stand, Turn
from gateway.errors import BlobUploadUnknown, DigestInvalid, Unsupported, UpstreamFailed, UpstreamUnavailable
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.names import Repository
from gateway.records.uploads import EMPTY

NOWHERE: Final = Stand(0, "", EMPTY)
_OCTETS: Final = {"content-type": "application/octet-stream"}
#: The session is not there, or what we say of it is not what the registry behind says: no request can mend that.
_GONE: Final = frozenset({400, 404, 416})
_RANGE: Final = re.compile(r"(?:bytes=)?0-(\d{1,19})", re.ASCII)
_PARTING_SECONDS: Final = 2
#: A registry may read everything again to compare a digest, and on object storage copies it to its place.
COPIED_BYTES_PER_SECOND: Final = 25_000_000


class Sessions:
    """The upload sessions of one peer. Every verb may raise `UpstreamUnavailable`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def send(self, repository: Repository, turn: Turn, stand: Stand, relay: Relay) -> Stand:
        """
        Passes the relay's body on, and says where the upload stands then; *turn* notes both.

        If that fails, the note says that nobody knows how much has arrived. Raises `BlobUploadUnknown`.
        """
        location = stand.location or await self._open(repository)
        turn.note(replace(stand, location=location, certain=False))
        answer = await self._client.send(
            "PATCH", location, relay.pieces(), headers=_OCTETS, scope=_scope(repository, "pull,push")
        )
        if _is_gone(answer):
            raise unknown()
        if answer.status not in (202, 204):
            raise self._client.refuse(answer)
        hasher = relay.hasher
        new = Stand(
            stand.offset + relay.count,
            self._location(answer, repository),
            "" if hasher is None else f"sha256:{hasher.hexdigest()}",
        )
        if _held(answer) not in (None, new.offset):
            raise UpstreamFailed("The registry behind counts other bytes than it was sent; push the blob again.")
        turn.note(new)
        return new

    async def ask(self, repository: Repository, stand: Stand) -> Stand:
        """Where an upload that is not certain stands. Raises `BlobUploadUnknown`."""
        if stand.offset == 0:
            # Nothing was acknowledged: a new session is as good, and its beginning is known.
            await self.abandon(repository, stand)
            return NOWHERE
        answer = await self._client.ask("GET", stand.location, scope=_scope(repository, "pull"))
        if _is_gone(answer):
            raise unknown()
        offset = _held(answer)
        if answer.status not in (200, 204) or offset is None or offset < stand.offset:
            raise self._client.refuse(answer)
        prefix = stand.prefix_digest if offset == stand.offset else ""
        location = self._location(answer, repository) if "location" in answer.headers else stand.location
        return Stand(offset, location, prefix)

    async def complete(self, repository: Repository, stand: Stand, digest: Digest) -> Digest | None:
        """
        Makes a blob of what was sent, if it has *digest*; gives its SHA-256 if that is another, and said.

        Raises `DigestInvalid` or `BlobUploadUnknown`, and the session is gone then. One that was completed before, and
        whose answer was lost, is found by the blob, if it is known that these very bytes were sent.
        """
        location = stand.location or await self._open(repository)
        path = f"{location}{'&' if '?' in location else '?'}digest={digest}"
        answer = await self._client.ask(
            "PUT",
            path,
            content=b"",
            headers=_OCTETS,
            scope=_scope(repository, "pull,push"),
            extra_seconds=stand.offset / COPIED_BYTES_PER_SECOND,
        )
        if answer.status in (201, 204):
            return None if digest.algorithm is Algorithm.SHA256 else plain_in(answer)
        if not _is_gone(answer):
            raise self._client.refuse(answer)
        if any(code == DigestInvalid.code for code, _ in complaints(answer)):
            await self.abandon(repository, replace(stand, location=location))
            raise DigestInvalid(f"The bytes sent do not have the digest {digest}; push the blob again.")
        if stand.prefix_digest != digest.text or not await self._holds(repository, digest, stand.offset):
            raise unknown()
        return None

    async def abandon(self, repository: Repository, stand: Stand) -> None:
        """Has the session forgotten, if that is possible now; the registry behind drops old ones by itself."""
        if not stand.location:
            return
        with suppress(UpstreamUnavailable, TimeoutError):
            async with asyncio.timeout(_PARTING_SECONDS):
                await self._client.ask("DELETE", stand.location, scope=_scope(repository, "delete"))

    async def _open(self, repository: Repository) -> str:
        answer = await self._client.ask(
            "POST", f"/v2/{repository}/blobs/uploads/", content=b"", scope=_scope(repository, "pull,push")
        )
        if answer.status == 405:
            raise Unsupported("The registry behind the gateway takes nothing: it is read-only, or a mirror.")
        if answer.status != 202:
            raise self._client.refuse(answer)
        return self._location(answer, repository)

    async def _holds(self, repository: Repository, digest: Digest, size_bytes: int) -> bool:
        answer = await self._client.ask("HEAD", f"/v2/{repository}/blobs/{digest}", scope=_scope(repository, "pull"))
        return answer.status == 200 and answer.headers.get("content-length") == str(size_bytes)

    def _location(self, answer: Answer, repository: Repository) -> str:
        return self._client.local(answer.headers.get("location", ""), repository.name)


def _is_gone(answer: Answer) -> bool:
    """Whether a registry says so, in its own words; a page of something in its place says nothing of an upload."""
    return answer.status in _GONE and bool(complaints(answer))


def unknown() -> BlobUploadUnknown:
    return BlobUploadUnknown("There is no such upload; begin a new one.")


def mismatch(digest: Digest, found: str) -> bool:
    """Whether bytes whose SHA-256 is *found* ("" if nobody knows) cannot have *digest*."""
    return digest.algorithm is Algorithm.SHA256 and found not in ("", digest.text)


def _held(answer: Answer) -> int | None:
    """How many bytes the answer says are there; None if it does not, or could mean none as well as one."""
    found = _RANGE.fullmatch(answer.headers.get("range", "").strip())
    return None if found is None or found[1] == "0" else int(found[1]) + 1


def _scope(repository: Repository, actions: str) -> str:
    return f"repository:{repository}:{actions}"
