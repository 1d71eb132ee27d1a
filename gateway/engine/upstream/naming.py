"""Blobs by another digest than their SHA-256: the registry behind links them by that too, and reads none without.

HEAD by the other digest ─▶ 200, and says the SHA-256 ─▶ it is there
                         └▶ 500, and there is none by the SHA-256 ─▶ it is not: its bytes were deleted by that
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from gateway.engine.upstream.answers import is_absent, plain_in
from gateway.engine.upstream.client import Answer, Client
from gateway.errors import Unavailable
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.names import Repository
from gateway.records import mirror
from gateway.records.database import Database

#: What a registry that is well says it does not have.
_NOBODYS: Final = Digest.of(b"the digest of a blob that nobody has pushed")


class Naming:
    """Asks one registry for the other names of blobs. Every verb may raise `UpstreamUnavailable`."""

    def __init__(self, client: Client, database: Database) -> None:
        self._client = client
        self._database = database

    async def plain(self, repository: Repository, digest: Digest) -> Digest | None:
        """The blob's SHA-256, as the registry behind says it; None if it says none, or lacks the blob."""
        answer = await self._ask("HEAD", repository, digest)
        if answer.status == 200:
            return plain_in(answer)
        if await self.lacks(repository, digest, answer):
            return None
        raise self._client.refuse(answer)

    async def lacks(self, repository: Repository, digest: Digest, answer: Answer) -> bool:
        """
        Whether *answer*, to a HEAD or GET of the blob, means that there is none to be read by that digest.

        To a GET it has to say so in the words of a registry.
        """
        if answer.status == 500 and digest.algorithm is not Algorithm.SHA256:
            plain = await self._database.read(lambda found: mirror.twin_of(found, digest))
            # One that fails whatever it is asked for has lost nothing.
            answer = await self._ask(answer.method, repository, plain or _NOBODYS)
        return is_absent(answer, bodiless=answer.method == "HEAD")

    async def require_known(self, repository: Repository, going: Iterable[Digest]) -> None:
        """
        Raises `Unavailable` if a blob that is about to go by *going* has a SHA-256 that is not among them.

        It is on record then: what names the blob by it was to be asked before this began, and can be asked now.
        """
        names = tuple(going)
        for digest in names:
            plain = digest if digest.algorithm is Algorithm.SHA256 else await self.plain(repository, digest)
            if plain is not None and plain not in names:
                await asyncio.to_thread(mirror.learn_twin, self._database, digest, plain)
                message = f"{digest} has another name in the registry behind, which is known only now; delete it again."
                raise Unavailable(message, retry_after_seconds=1)

    async def _ask(self, method: str, repository: Repository, digest: Digest) -> Answer:
        return await self._client.ask(method, f"/v2/{repository}/blobs/{digest}", scope=f"repository:{repository}:pull")
