"""Any registry as the source of an import, read through its API: every page of its lists, no tag read twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from gateway.engine.port import StoredManifest
from gateway.engine.source import Found, media_type_of
from gateway.engine.upstream.answers import is_absent, is_unsupported
from gateway.engine.upstream.client import LIMIT_BYTES, Answer, Client
from gateway.engine.upstream.testimony import LISTING_BYTES, SCHEMA1, Pages, names_in, next_query, told_digest
from gateway.errors import (
    BlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    Refusal,
    TagInvalid,
    UpstreamFailed,
    UpstreamSlow,
    UpstreamUnavailable,
)
from gateway.oci.digest import Digest
from gateway.oci.document import strict_json
from gateway.oci.manifest import MANIFEST_MEDIA_TYPES
from gateway.oci.media import OCI_INDEX, essence
from gateway.oci.names import Repository, Tag

_REQUESTS: Final = 8
_PAGE: Final = 1000
#: How long a registry that is left alone is waited for.
_WAIT_SECONDS: Final = 30
_ACCEPT: Final = {"Accept": ", ".join(sorted(MANIFEST_MEDIA_TYPES | SCHEMA1))}
_ACCEPT_INDEX: Final = {"Accept": OCI_INDEX}


class RegistrySource:
    """
    A source; nothing is ever changed there. Manifests without a tag are found where an index lists them, or where the
    registry has a list of referrers; others cannot be seen from outside.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._turns = asyncio.Semaphore(_REQUESTS)
        self._lists_referrers = True

    async def repositories(self) -> Sequence[str]:
        found = await self._listed("/v2/_catalog", "repositories", "registry:catalog:*", _has_no_catalog)
        if found is None:
            raise UpstreamFailed("The registry does not list its repositories; import from its volume instead.")
        return sorted(found)

    async def tags(self, repository: Repository) -> Mapping[str, Digest | Refusal]:
        names = await self._listed(f"/v2/{repository}/tags/list", "tags", _scope(repository), is_absent) or []
        found = await asyncio.gather(*(self._named(repository, name) for name in names))
        return dict(zip(names, found, strict=True))

    async def manifests(self, repository: Repository) -> Sequence[Digest]:
        return ()

    async def referrers(self, repository: Repository, subject: Digest) -> Sequence[Digest]:
        pages: Pages[Digest] = Pages("referrers")
        query = ""
        while self._lists_referrers:
            path = f"/v2/{repository}/referrers/{subject}{f'?{query}' if query else ''}"
            answer = await self._ask("GET", path, _scope(repository), _ACCEPT_INDEX, LISTING_BYTES)
            if _lists_none(answer):
                # It has no such list: then the tags that stand for it come in like all others.
                self._lists_referrers = False
                break
            if answer.status != 200:
                raise self._client.refuse(answer)
            query = next_query(answer)
            pages.add(_listed_in(answer), query)
            if not query:
                break
        return list(pages.found)

    async def manifest(self, repository: Repository, digest: Digest) -> StoredManifest:
        answer = await self._ask(
            "GET", f"/v2/{repository}/manifests/{digest}", _scope(repository), _ACCEPT, LIMIT_BYTES
        )
        if answer.status == 404:
            raise ManifestUnknown("the registry has no such manifest")
        if answer.status != 200:
            raise self._client.refuse(answer)
        named = essence(answer.headers.get("content-type"))
        found = media_type_of(answer.content)
        return StoredManifest(digest, named if named in MANIFEST_MEDIA_TYPES else found, answer.content)

    async def find(self, repository: Repository, digest: Digest) -> Found:
        answer = await self._ask("HEAD", f"/v2/{repository}/blobs/{digest}", _scope(repository))
        if answer.status == 404:
            raise BlobUnknown("the repository does not hold it")
        if answer.status != 200:
            raise self._client.refuse(answer)
        length = answer.headers.get("content-length", "")
        return Found(int(length) if length.isdecimal() and length.isascii() else -1)

    async def read(self, repository: Repository, digest: Digest) -> AsyncIterator[bytes]:
        path = f"/v2/{repository}/blobs/{digest}"
        async with self._client.open(path, scope=_scope(repository)) as streamed:
            if streamed.status == 404:
                raise BlobUnknown("the repository does not hold it")
            if streamed.status != 200:
                raise self._client.refuse(streamed)
            async for piece in streamed.pieces():
                yield piece

    async def close(self) -> None:
        await self._client.close()

    async def _named(self, repository: Repository, name: str) -> Digest | Refusal:
        """The digest that a tag names."""
        try:
            tag = Tag.parse(name)
            answer = await self._ask("HEAD", f"/v2/{repository}/manifests/{tag}", _scope(repository), _ACCEPT)
            if answer.status == 200 and (told := told_digest(answer)) is not None:
                return told
            answer = await self._ask(
                "GET", f"/v2/{repository}/manifests/{tag}", _scope(repository), _ACCEPT, LIMIT_BYTES
            )
        except (TagInvalid, UpstreamFailed, UpstreamSlow) as refusal:
            return refusal
        if answer.status == 404:
            return ManifestUnknown("the registry lists the tag, but has nothing by it")
        if answer.status != 200:
            return self._client.refuse(answer)
        return told_digest(answer) or Digest.of(answer.content)

    async def _listed(self, path: str, key: str, scope: str, says_none: Callable[[Answer], bool]) -> list[str] | None:
        """The names in every page of a list; None if an answer in place of the first *says_none* are listed."""
        pages: Pages[str] = Pages(key)
        query = f"n={_PAGE}"
        while query:
            answer = await self._ask("GET", f"{path}?{query}", scope, limit_bytes=LISTING_BYTES)
            if says_none(answer) and not pages.found:
                return None
            if answer.status != 200:
                raise self._client.refuse(answer)
            page = names_in(answer, key)
            query = next_query(answer)
            pages.add(page, query)
        return list(pages.found)

    async def _ask(
        self,
        method: str,
        path: str,
        scope: str,
        headers: Mapping[str, str] | None = None,
        limit_bytes: int = LIMIT_BYTES,
    ) -> Answer:
        left = _WAIT_SECONDS
        while True:
            try:
                async with self._turns:
                    return await self._client.ask(method, path, headers=headers, limit_bytes=limit_bytes, scope=scope)
            except UpstreamUnavailable as refusal:
                # A registry that is left alone for some seconds may be back after them: nobody waits for us.
                if isinstance(refusal, UpstreamFailed | UpstreamSlow) or left <= 0:
                    raise
                left -= refusal.retry_after_seconds
                await asyncio.sleep(refusal.retry_after_seconds)


def _has_no_catalog(answer: Answer) -> bool:
    return answer.status in (404, 405) or is_unsupported(answer)


def _lists_none(answer: Answer) -> bool:
    """Whether the registry knows no lists of referrers; one that fails, or is asked too often, may well know them."""
    if answer.status == 200:
        return essence(answer.headers.get("content-type")) != OCI_INDEX
    return answer.status in (404, 405)


def _listed_in(answer: Answer) -> list[Digest]:
    """The digests in a list of referrers; entries that name none are passed over."""
    try:
        document = strict_json(answer.content, limit_bytes=LISTING_BYTES)
    except ValueError as fault:
        raise ManifestInvalid("the list of referrers cannot be read") from fault
    entries = document.get("manifests") if isinstance(document, dict) else None
    found: list[Digest] = []
    for entry in entries if isinstance(entries, list) else []:
        try:
            found.append(Digest.parse(str(entry["digest"])))
        except (Refusal, TypeError, KeyError):
            continue
    return found


def _scope(repository: Repository) -> str:
    return f"repository:{repository}:pull"
