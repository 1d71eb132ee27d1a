"""Reading an existing registry through its API, to adopt what it holds: every page, tag and manifest, nothing twice.

catalog ─▶ tags ─▶ manifests by tag ─▶ by digest: what they list, and what they are about
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar, assert_never

from gateway.engine.upstream.answers import plain_in
from gateway.engine.upstream.client import Answer, Client
from gateway.engine.upstream.testimony import (
    LISTING_BYTES,
    SCHEMA1,
    Pages,
    code_in,
    manifest_in,
    names_in,
    next_query,
    told_digest,
)
from gateway.errors import TagInvalid, UpstreamFailed, UpstreamUnavailable
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import LIMIT_BYTES, MANIFEST_MEDIA_TYPES, Manifest
from gateway.oci.names import Reference, Repository, Tag
from gateway.records.adoption import Found, Known, Remark

#: Requests under way at once: more do not make one registry faster.
REQUESTS: Final = 16
#: Tags read together; with all that their manifests list they enter the records in one transaction.
_TAGS_TOGETHER: Final = 128
PAGE: Final = 1000
_LEVELS: Final = 32
_ACCEPT: Final = {"Accept": ", ".join(sorted(MANIFEST_MEDIA_TYPES | SCHEMA1))}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Gone:
    """The registry has nothing by that reference."""


@dataclass(frozen=True, slots=True)
class _Same:
    """A tag names a manifest that is known by this digest."""

    digest: Digest


#: What became of one reference: a manifest, one that cannot be taken over (a remark), or none.
_Seen: TypeAlias = Manifest | _Same | _Gone | Remark | UpstreamUnavailable


@dataclass(slots=True)
class _Gathering:
    """Some tags and all that hangs on them, while they are read."""

    manifests: dict[str, Manifest] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    left: list[Remark] = field(default_factory=list)
    lost: dict[str, Remark] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    twins: dict[Digest, Digest] = field(default_factory=dict)

    def wanted(self, done: set[str]) -> list[Digest]:
        """What the manifests list or are about, and was not asked for yet."""
        asked = done | self.manifests.keys() | self.lost.keys() | self.absent
        needed = {digest.text: digest for manifest in self.manifests.values() for digest in _needs(manifest)}
        return [digest for text, digest in needed.items() if text not in asked]

    def whole(self) -> dict[str, Manifest]:
        """The manifests of which nothing was lost: what the others list must not be taken for known."""
        kept, broken = dict(self.manifests), set(self.lost)
        while True:
            torn = [text for text, each in kept.items() if any(digest.text in broken for digest in _needs(each))]
            if not torn:
                return kept
            for text in torn:
                del kept[text]
            broken.update(torn)


class Survey:
    """
    An existing registry, read. What it says is checked: what is no answer of a registry raises `UpstreamFailed`.

    At most *requests* are under way at once, and *page* names are asked for. Nothing is ever changed there.
    """

    def __init__(self, client: Client, *, requests: int = REQUESTS, page: int = PAGE) -> None:
        self._client = client
        self._page = page
        self._turns = asyncio.Semaphore(requests)

    async def greet(self) -> None:
        """Returns when it answers as a registry does, and takes our credential; else `UpstreamUnavailable`."""
        answer = await self._ask("GET", "/v2/", "")
        if answer.status != 200:
            raise self._client.refuse(answer)

    async def repositories(self) -> list[str]:
        """The names in its catalog, each once, as it spells them."""
        return await self._listed("/v2/_catalog", "repositories", "registry:catalog:*")

    async def read(self, repository: Repository, known: Known) -> AsyncIterator[Found]:
        """
        What *repository* holds beyond what is *known*, in parts that can each enter the records by itself.

        A manifest on record is not fetched again: a tag of a repository that is known is asked for its digest first.
        Raises `UpstreamUnavailable` if the tags cannot be listed.
        """
        names = await self._tags(repository)
        done = set(known.manifests)
        for start in range(0, len(names), _TAGS_TOGETHER):
            found = await self._gather(repository, names[start : start + _TAGS_TOGETHER], known, done)
            done.update(manifest.digest.text for manifest in found.manifests)
            yield found
            if len(found.lost) >= _TAGS_TOGETHER:
                return

    async def again(self, repository: Repository, names: Sequence[str], known: Known) -> Found:
        """The part whose tags were *names*, read anew beyond what is *known* now; a tag that is gone is no fault."""
        return await self._gather(repository, names, known, set(known.manifests), listed=False)

    async def close(self) -> None:
        """Lets go of its connections."""
        await self._client.close()

    # listings

    async def _tags(self, repository: Repository) -> list[str]:
        try:
            return await self._listed(f"/v2/{repository}/tags/list", "tags", _scope(repository))
        except _NoSuchName:
            return []

    async def _listed(self, path: str, key: str, scope: str) -> list[str]:
        pages: Pages[str] = Pages(key)
        query = f"n={self._page}"
        while query:
            answer = await self._listing(path, query, scope)
            page = names_in(answer, key)
            query = next_query(answer)
            pages.add(page, query)
        return list(pages.found)

    async def _listing(self, path: str, query: str, scope: str) -> Answer:
        answer = await self._ask("GET", f"{path}?{query}", scope)
        if answer.status == 400 and query == f"n={self._page}":
            # Some allow only smaller pages, and choose one of their own when nothing is said.
            answer = await self._ask("GET", path, scope)
        if answer.status == 404 and code_in(answer) == "NAME_UNKNOWN":
            raise _NoSuchName("The registry does not know the name.")
        if answer.status != 200:
            raise self._client.refuse(answer)
        return answer

    # manifests

    async def _gather(
        self, repository: Repository, names: Sequence[str], known: Known, done: set[str], *, listed: bool = True
    ) -> Found:
        gathering = _Gathering()
        tags = _legal_tags(names, gathering)
        seen = await _all(self._tagged(repository, tag, known, done) for tag in tags)
        for tag, each in zip(tags, seen, strict=True):
            if listed or not isinstance(each, _Gone):
                _keep_tag(gathering, tag, each)
        for _ in range(_LEVELS):
            wanted = gathering.wanted(done)
            if not wanted:
                break
            for digest, each in zip(wanted, await self._by_digest(repository, wanted), strict=True):
                _keep(gathering, digest, each)
        for digest in gathering.wanted(done):
            gathering.lost[digest.text] = Remark(digest.text, "it lies too deep in manifests that list manifests")
        gathering.twins = await self._twins(repository, gathering.manifests.values())
        return _found(gathering, known, done, names)

    async def _by_digest(self, repository: Repository, wanted: Sequence[Digest]) -> list[_Seen]:
        return await _all(self._fetched(repository, digest) for digest in wanted)

    async def _tagged(self, repository: Repository, tag: Tag, known: Known, done: set[str]) -> _Seen:
        """What *tag* names; in a repository of which nothing is known, without asking for the digest first."""
        if not known.manifests:
            return await self._fetched(repository, tag)
        try:
            answer = await self._ask("HEAD", f"/v2/{repository}/manifests/{tag}", _scope(repository), _ACCEPT)
        except UpstreamUnavailable as error:
            return error
        digest = told_digest(answer) if answer.status == 200 else None
        if digest is None:
            return await self._fetched(repository, tag)
        return _Same(digest) if digest.text in done else await self._fetched(repository, digest)

    async def _fetched(self, repository: Repository, reference: Reference) -> _Seen:
        path = f"/v2/{repository}/manifests/{reference}"
        try:
            answer = await self._ask("GET", path, _scope(repository), _ACCEPT, LIMIT_BYTES)
            if answer.status == 404:
                return _Gone()
            if answer.status != 200:
                return self._client.refuse(answer)
            return manifest_in(answer, reference)
        except UpstreamUnavailable as error:
            return error

    async def _twins(self, repository: Repository, named_by: Iterable[Manifest]) -> dict[Digest, Digest]:
        """The SHA-256 of what is named by another digest, of which the registry says it."""
        names = sorted(
            {name for each in named_by for name in each.references if name.algorithm is not Algorithm.SHA256}
        )
        scope = _scope(repository)
        answers = await _all(self._ask("HEAD", f"/v2/{repository}/blobs/{name}", scope) for name in names)
        told = {name: plain_in(each) for name, each in zip(names, answers, strict=True) if each.status == 200}
        return {name: plain for name, plain in told.items() if plain is not None}

    async def _ask(
        self,
        method: str,
        path: str,
        scope: str,
        headers: Mapping[str, str] | None = None,
        limit_bytes: int = LISTING_BYTES,
    ) -> Answer:
        async with self._turns:
            return await self._client.ask(method, path, headers=headers, limit_bytes=limit_bytes, scope=scope)


class _NoSuchName(UpstreamFailed):
    """The registry knows no repository of that name, or none that has tags."""


async def _all(asked: Iterable[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*asked))


def _needs(manifest: Manifest) -> list[Digest]:
    """The manifests that *manifest* lists, and the one it is about."""
    listed = [entry.digest for entry in manifest.manifests if entry.media_type in MANIFEST_MEDIA_TYPES]
    return listed if manifest.subject is None else [*listed, manifest.subject.digest]


def _scope(repository: Repository) -> str:
    return f"repository:{repository}:pull"


def _legal_tags(names: Sequence[str], gathering: _Gathering) -> list[Tag]:
    tags: list[Tag] = []
    for name in names:
        try:
            tags.append(Tag.parse(name))
        except TagInvalid:
            gathering.left.append(Remark(name[:128], "no client can ask for a tag of that spelling"))
    return tags


def _keep_tag(gathering: _Gathering, tag: Tag, seen: _Seen) -> None:
    match seen:
        case Manifest():
            gathering.manifests[seen.digest.text] = seen
            gathering.tags[tag.name] = seen.digest.text
        case _Same():
            gathering.tags[tag.name] = seen.digest.text
        case Remark():
            gathering.left.append(Remark(tag.name, seen.why))
        case _Gone():
            gathering.lost[tag.name] = Remark(tag.name, "the registry lists the tag, but has nothing by it")
        case UpstreamUnavailable():
            gathering.lost[tag.name] = Remark(tag.name, seen.message)
        case _:
            assert_never(seen)


def _keep(gathering: _Gathering, digest: Digest, seen: _Seen) -> None:
    """Something listed that is not there is no fault: an index need not be whole, nor a subject present."""
    match seen:
        case Manifest():
            gathering.manifests[digest.text] = seen
        case _Gone() | _Same():
            gathering.absent.add(digest.text)
        case Remark():
            gathering.left.append(seen)
            gathering.absent.add(digest.text)
        case UpstreamUnavailable():
            gathering.lost[digest.text] = Remark(digest.text, seen.message)
        case _:
            assert_never(seen)


def _found(gathering: _Gathering, known: Known, done: set[str], names: Sequence[str]) -> Found:
    whole = {text: manifest for text, manifest in gathering.manifests.items() if text not in done}
    kept = {text: each for text, each in gathering.whole().items() if text in whole}
    torn = whole.keys() - kept.keys()
    changed = {
        name: digest
        for name, digest in gathering.tags.items()
        if digest not in torn and known.tags.get(name) != digest and known.untagged.get(name) != digest
    }
    left = {remark.reference for remark in gathering.left}
    return Found(
        tuple(kept.values()),
        changed,
        len(names),
        tuple(gathering.left),
        tuple(gathering.lost.values()),
        len(gathering.absent - left),
        tuple(names),
        gathering.twins,
    )
