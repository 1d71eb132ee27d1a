"""Repositories and tags, as administrators and owners look after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.access.principals import Caller
from gateway.engine.port import Engine
from gateway.gate import Gate
from gateway.records.database import Database

if TYPE_CHECKING:
    from gateway.records.content import RepositorySummary, TagRow


@dataclass(frozen=True, slots=True)
class Repositories:
    """
    Looking needs pull on the repository, removing needs delete.

    `NameInvalid`, `NameUnknown`, `TagInvalid` and `ManifestUnknown` are raised as the registry raises them.
    """

    gate: Gate
    database: Database
    engine: Engine

    async def list_repositories(self, caller: Caller, project: str | None = None) -> Sequence[RepositorySummary]:
        """The repositories (of *project*) that the caller may pull from, by name, with their counts and bytes."""
        raise NotImplementedError

    async def show_repository(self, caller: Caller, repository: str) -> RepositorySummary:
        """One repository with its counts and bytes."""
        raise NotImplementedError

    async def remove_repository(self, caller: Caller, repository: str) -> None:
        """Removes the repository with its tags and manifests; the bytes are freed by the next sweep."""
        raise NotImplementedError

    async def list_tags(self, caller: Caller, repository: str) -> Sequence[TagRow]:
        """Every tag of the repository by name, with its digest, and when and by whom it was moved."""
        raise NotImplementedError

    async def remove_tag(self, caller: Caller, repository: str, tag: str) -> None:
        """Removes the tag alone; the manifest stays reachable by its digest."""
        raise NotImplementedError
