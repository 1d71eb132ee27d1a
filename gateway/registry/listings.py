"""Listings over HTTP: tags, the catalog, referrers; in pages, each with the way to the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache, partial
from urllib.parse import quote

from gateway.access.policy import Allowed, Need, Project, Standing, judge
from gateway.access.principals import Caller
from gateway.access.scopes import Action
from gateway.engine.port import Feature, Page
from gateway.errors import ContentRefusal, PaginationNumberInvalid
from gateway.gate import Passage
from gateway.oci.descriptor import Descriptor
from gateway.oci.digest import Digest
from gateway.oci.manifest import load
from gateway.oci.media import OCI_INDEX
from gateway.oci.names import ProjectName, Repository
from gateway.oci.referrers import fallback_tag, index_entry, referrers_index
from gateway.registry.replies import Header, Reply, json_reply, next_link, warning
from gateway.registry.request import Request

#: Entries of a page, at most and when nothing is said; who asks for more gets these and a link.
ENTRIES = 1000
#: Clients read no index over 4 MiB; annotations are the pushers' own and can be long.
REFERRERS_BYTES = 3 * 1024 * 1024
#: A larger fallback index is not looked into: this one has room for some 3,000 referrers.
FALLBACK_BYTES = 1024 * 1024
_INLINE_BYTES = 64 * 1024
#: Others have their turn whenever so much of a page has been made.
_TURN_BYTES = 256 * 1024


async def tags(request: Request, passage: Passage) -> Reply:
    """`tags/list`: bytewise, `last` exclusive (distribution-spec, "Listing Tags")."""
    limit, after = _page(request)
    # Asked for none, the page is empty, but a repository that does not exist is told all the same.
    page = await request.engine.listings.tags(request.repository, after=after, limit=limit)
    told = {"name": request.repository.name, "tags": list(page.entries)}
    return json_reply(200, told, *_link(request, page.entries, page.more, limit))


async def catalog(request: Request, passage: Passage) -> Reply:
    """`_catalog`: the repositories that the caller may pull; the token must carry `registry:catalog:*`."""
    limit, after = _page(request)
    projects, admits = await _visible(request, passage.caller)
    page = await request.engine.listings.repositories(after=after, limit=limit, projects=projects, admits=admits)
    return json_reply(200, {"repositories": list(page.entries)}, *_link(request, page.entries, page.more, limit))


async def _visible(
    request: Request, caller: Caller
) -> tuple[Sequence[ProjectName] | None, Callable[[Repository], bool]]:
    """The projects to look into (None: all), and whether the caller may pull a repository, by live policy."""
    directory = request.gate.directory
    standing = await directory.standing(caller.principal, offline_token=caller.offline_token)
    if standing is None or standing.administrator:
        return (None if standing is not None else ()), lambda _: standing is not None
    named = {grant.reach.project for grant in standing.grants}
    projects = [*await directory.projects(named), *await directory.public_projects()]
    known = {project.name: project for project in projects}
    return tuple(sorted(known)), _Pulls(replace(caller, access=None), standing, known, request.parts.now()).admits


async def referrers(request: Request, passage: Passage) -> Reply:
    """
    `referrers`: an index of what is about a manifest; empty, never 404, when nothing is.

    Referrers that older clients keep under the subject's fallback tag are listed too, each once
    (distribution-spec, "Listing Referrers").
    """
    subject = Digest(request.reference)
    # One without a value asks for nothing: no manifest has that type.
    types = frozenset(request.parameters("artifactType")) - {""}
    after = _keepable(request.parameter("last"))
    entries, last = await _collect(_referrers(request, subject, after, types), types)
    emulated = request.engine.emulated.get(Feature.REFERRERS, "")
    headers: tuple[Header, ...] = (("Content-Type", OCI_INDEX), *warning(emulated))
    if types:
        headers = (*headers, ("OCI-Filters-Applied", "artifactType"))
    if last:
        asked = [("artifactType", quote(kind, safe="")) for kind in sorted(types)]
        headers = (*headers, next_link(request.path, [*asked, ("last", quote(last, safe=""))]))
    return Reply(200, headers, referrers_index(entries))


async def _referrers(request: Request, subject: Digest, after: str, types: frozenset[str]) -> AsyncIterator[Descriptor]:
    """Every referrer after *after* that is of *types*, by digest, and those of the fallback tag among them."""
    kept = [each for each in await _fallback(request, subject) if each.digest.text > after]
    page: Page[Descriptor] = Page((), more=True)
    while page.more:
        page = await request.engine.listings.referrers(
            request.repository, subject, after=after, limit=ENTRIES, types=types
        )
        for entry in page.entries:
            while kept and kept[0].digest < entry.digest:
                yield kept.pop(0)
            if kept and kept[0].digest == entry.digest:
                kept.pop(0)
            yield entry
            after = entry.digest.text
        if not page.entries:
            break
        # There may be many pages, none with an entry that is wanted; others wait.
        await asyncio.sleep(0)
    for each in kept:
        yield each


async def _fallback(request: Request, subject: Digest) -> list[Descriptor]:
    try:
        stored = await request.engine.manifests.find(request.repository, fallback_tag(subject))
        if len(stored.content) > FALLBACK_BYTES:
            return []
        # It is anybody's who may push, and made to hurt it takes long to read.
        read = partial(load, stored.content, stored.media_type, limit_bytes=FALLBACK_BYTES)
        index = read() if len(stored.content) <= _INLINE_BYTES else await asyncio.to_thread(read)
    except ContentRefusal:
        # There is no such tag or repository; or the tag, which is anybody's, holds no index.
        return []
    once = {each.digest: each for each in index.manifests}
    return [once[digest] for digest in sorted(once)]


async def _collect(descriptors: AsyncIterator[Descriptor], types: frozenset[str]) -> tuple[list[bytes], str]:
    """The entries of the first page of those whose artifact type is wanted, and its last digest if more follow."""
    entries: list[bytes] = []
    size, waited, last = 0, 0, ""
    async for each in descriptors:
        if types and each.artifact_type not in types:
            continue
        if each.size <= _INLINE_BYTES:
            entry = index_entry(each)
        else:
            entry = await asyncio.get_running_loop().run_in_executor(_writer(), index_entry, each)
        size += len(entry)
        if size - waited > _TURN_BYTES:
            # Many small annotations take long to write down.
            waited = size
            await asyncio.sleep(0)
        if len(entries) == ENTRIES or (entries and size > REFERRERS_BYTES):
            return entries, last
        entries.append(entry)
        last = each.digest.text
    return entries, ""


@lru_cache
def _writer() -> ThreadPoolExecutor:
    # One thread: what pushers wrote may be megabytes, and several would leave the event loop few turns.
    return ThreadPoolExecutor(1, "referrers")


@dataclass(frozen=True, slots=True)
class _Pulls:
    caller: Caller
    standing: Standing
    projects: dict[ProjectName, Project]
    now: datetime

    def admits(self, repository: Repository) -> bool:
        need = Need(Action.PULL, repository)
        project = self.projects.get(repository.project)
        return isinstance(judge(self.caller, need, self.standing, project, self.now), Allowed)


def _page(request: Request) -> tuple[int, str]:
    """How many entries are wanted, at most 1,000, and after which; raises `PaginationNumberInvalid`."""
    text = request.parameter("n")
    if text and not (text.isascii() and text.isdigit()):
        raise PaginationNumberInvalid("Ask for n entries, a whole number from 0 on.")
    limit = ENTRIES if not text or len(text) > 6 else min(int(text), ENTRIES)
    return limit, _keepable(request.parameter("last"))


def _keepable(last: str) -> str:
    # No entry holds a NUL, and no database takes one: what comes before it sorts the same.
    return last.partition("\0")[0]


def _link(request: Request, entries: Sequence[str], more: bool, limit: int) -> tuple[Header, ...]:
    if not more or not entries:
        return ()
    return (next_link(request.path, [("last", quote(entries[-1], safe="")), ("n", str(limit))]),)
