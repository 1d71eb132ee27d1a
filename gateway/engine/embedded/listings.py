"""Listings: pages of tags, repositories and referrers, read from the records each time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from gateway.engine.port import Page
from gateway.errors import NameUnknown
from gateway.oci.descriptor import Descriptor
from gateway.oci.digest import Digest
from gateway.oci.names import ProjectName, Repository
from gateway.records import listings
from gateway.records.database import Database

T = TypeVar("T")


class EmbeddedListings:
    """Listings of one data directory, as committed when they are asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tags(self, repository: Repository, *, after: str, limit: int) -> Page[str]:
        found = await self._database.read(
            lambda connection: listings.tag_names(connection, repository, after, limit + 1)
        )
        if found is None:
            raise NameUnknown(f"There is no repository {repository}.")
        return _page(found, limit)

    async def repositories(
        self,
        *,
        after: str,
        limit: int,
        projects: Sequence[ProjectName] | None,
        admits: Callable[[Repository], bool],
    ) -> Page[str]:
        return _page(await listings.admitted_names(self._database, after, limit + 1, projects, admits), limit)

    async def referrers(
        self, repository: Repository, subject: Digest, *, after: str, limit: int, types: Collection[str] = ()
    ) -> Page[Descriptor]:
        found, more = await listings.referrers(self._database, repository, subject, after, limit, types)
        return Page(tuple(found), more)


def _page(found: Sequence[T], limit: int) -> Page[T]:
    return Page(tuple(found[:limit]), len(found) > limit)
