"""The SHA-256 of blobs that came by another digest: the registry behind links them by it too, and reads none without.

What was hashed here as it passed has its SHA-256 on record. Of what came in parts over several processes, past the
gateway, or before it, the registry is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from gateway.engine.upstream.answers import is_absent, promised
from gateway.engine.upstream.client import Client
from gateway.errors import Unavailable, UpstreamFailed
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.names import Repository
from gateway.records import mirror
from gateway.records.database import Database


class Naming:
    """Asks one registry for the other names of blobs, and keeps them. Every verb may raise `UpstreamUnavailable`."""

    def __init__(self, client: Client, database: Database) -> None:
        self._client = client
        self._database = database

    async def stays(self, repository: Repository, digest: Digest) -> bool:
        """
        Whether the blob is there, can be read, and is not about to go by its SHA-256, which is on record from then on.

        Raises `Unavailable` if that could not be kept.
        """
        plain = await self._ask(repository, digest)
        if plain is None or await self._database.read(lambda found: mirror.is_going(found, repository, plain)):
            return False
        # Whoever removed it until now may not have known of this name; whoever begins now does.
        return await self._ask(repository, digest) is not None

    async def require_all_known(self, repository: Repository, going: Collection[Digest]) -> None:
        """
        Raises `Unavailable` if some of *going* have further names in the repository, or are not what others are.

        Those are on record then: what names them was to be asked before this began, and can be asked now.
        """
        wanted = await self._database.read(lambda found: mirror.unnamed(found, repository))
        for digest in dict.fromkeys((*wanted, *(each for each in going if each.algorithm is not Algorithm.SHA256))):
            plain = await self._ask(repository, digest)
            if plain not in (None, digest) and (digest in going) != (plain in going):
                message = f"{digest} has another name in the registry behind, which is known only now; delete it again."
                raise Unavailable(message, retry_after_seconds=1)

    async def _ask(self, repository: Repository, digest: Digest) -> Digest | None:
        """The blob's SHA-256, *digest* if that is all the registry behind says; None if it holds no such blob."""
        path = f"/v2/{repository}/blobs/{digest}"
        answer = await self._client.ask("HEAD", path, scope=f"repository:{repository}:pull")
        if is_absent(answer, bodiless=True):
            return None
        told = promised(answer)
        if answer.status == 500:
            # So it says of one that lost its SHA-256: by sending the bytes again it is linked anew.
            raise UpstreamFailed(f"The registry behind fails to read {digest}: push that blob again, then repeat this.")
        if answer.status != 200:
            raise self._client.refuse(answer)
        if told is None or told.algorithm is not Algorithm.SHA256:
            return digest
        if await self._known(digest) != told:
            await asyncio.to_thread(mirror.learn_twin, self._database, digest, told)
            if await self._known(digest) != told:
                raise Unavailable(f"The other name of {digest} could not be kept; nothing was done, try again shortly.")
        return told

    async def _known(self, digest: Digest) -> Digest | None:
        return await self._database.read(lambda found: mirror.twin_of(found, digest))
