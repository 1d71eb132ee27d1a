"""Listings: the tags of the registry behind, less those removed here; repositories and referrers as known here."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode

from gateway.engine.port import Page
from gateway.engine.upstream.answers import is_absent
from gateway.engine.upstream.client import Answer, Client
from gateway.engine.upstream.sharing import Sharing
from gateway.engine.upstream.testimony import LISTING_BYTES, names_in, next_query
from gateway.errors import NameUnknown, TagInvalid, UpstreamFailed
from gateway.oci.descriptor import Descriptor
from gateway.oci.digest import Digest
from gateway.oci.names import ProjectName, Repository, Tag
from gateway.records import listings, mirror
from gateway.records.database import Database
from gateway.records.recent import Recent

_TAGS: Final = 200_000
_PAGE: Final = 1000
_PAGES: Final = 2000
_REMEMBERED_SECONDS: Final = 10.0
_REMEMBERED_BYTES: Final = 64 * 1024 * 1024
_ENTRY_BYTES: Final = 80
#: Longer answers are read by another thread.
_INLINE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Listed:
    names: tuple[str, ...]
    until: float


class UpstreamListings:
    """
    Listings in front of a registry.

    The tags of a repository are remembered for ten seconds, so that going through their pages asks for them once; a
    tag moved or removed here is seen at once. More than 200,000 of them are refused. A tag that was removed here and
    moved since, past the gateway, is found by its name, but not listed before it moves through the gateway again.
    """

    def __init__(self, client: Client, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._database = database
        self._clock = clock
        self._recent: Recent[_Listed] = Recent(database.versions, _REMEMBERED_BYTES, _weight)
        self._sharing: Sharing[tuple[str, ...]] = Sharing()

    async def tags(self, repository: Repository, *, after: str, limit: int) -> Page[str]:
        names = await self._names(repository)
        start = bisect_right(names, after)
        return Page(names[start : start + limit], len(names) > start + limit)

    async def repositories(
        self,
        *,
        after: str,
        limit: int,
        projects: Sequence[ProjectName] | None,
        admits: Callable[[Repository], bool],
    ) -> Page[str]:
        names = await listings.admitted_names(self._database, after, limit + 1, projects, admits)
        return Page(tuple(names[:limit]), len(names) > limit)

    async def referrers(
        self, repository: Repository, subject: Digest, *, after: str, limit: int, types: Collection[str] = ()
    ) -> Page[Descriptor]:
        found, more = await listings.referrers(self._database, repository, subject, after, limit, types)
        return Page(tuple(found), more)

    async def _names(self, repository: Repository) -> tuple[str, ...]:
        version = self._recent.version(repository)
        listed = self._recent.find(repository, "tags", version)
        if listed is not None and listed.until > self._clock():
            return listed.names
        names = await self._sharing.ask((repository, version), lambda: self._visible(repository))
        self._recent.keep(repository, "tags", version, _Listed(names, self._clock() + _REMEMBERED_SECONDS))
        return names

    async def _visible(self, repository: Repository) -> tuple[str, ...]:
        found = await self._ask(repository)
        if not found and not await self._database.read(lambda seen: listings.repository_exists(seen, repository)):
            raise NameUnknown(f"There is no repository {repository}.")
        hidden = await self._database.read(lambda connection: mirror.hidden_tags(connection, repository))
        return tuple(sorted(set(found) - hidden.keys()))

    async def _ask(self, repository: Repository) -> list[str]:
        """Every tag that the registry behind lists; none if it does not know the repository."""
        names: list[str] = []
        query = f"n={_PAGE}"
        for _ in range(_PAGES):
            answer = await self._client.ask(
                "GET",
                f"/v2/{repository}/tags/list?{query}",
                limit_bytes=LISTING_BYTES,
                scope=f"repository:{repository}:pull",
            )
            if is_absent(answer):
                return names
            if answer.status != 200:
                raise self._client.refuse(answer)
            names += await _read(answer)
            if len(names) > _TAGS:
                raise UpstreamFailed(f"The registry behind lists more than {_TAGS} tags; remove some.")
            following = urlencode(parse_qsl(next_query(answer)))
            if not following or following == query:
                return names
            query = following
        raise UpstreamFailed("The registry behind lists tags without end.")


async def _read(answer: Answer) -> list[str]:
    if len(answer.content) > _INLINE_BYTES:
        return await asyncio.to_thread(_tags, answer)
    return _tags(answer)


def _tags(answer: Answer) -> list[str]:
    return [name for name in names_in(answer, "tags") if _is_tag(name)]


def _is_tag(name: str) -> bool:
    try:
        Tag.parse(name)
    except TagInvalid:
        return False
    return True


def _weight(listed: _Listed) -> int:
    return _ENTRY_BYTES * (1 + len(listed.names))
