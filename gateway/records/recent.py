"""Answers of the records kept in memory, each for as long as its repository stands still."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from gateway.oci.names import Repository
from gateway.records.versions import Versions, settled

V = TypeVar("V")


class Recent(Generic[V]):
    """
    Values by repository and key, the least recently used dropped when their weight exceeds *limit*.

    A value counts for the version of its repository it was read at, and only if nothing was in motion then: whoever
    reads takes `version` first, then asks the records. Used from the event loop alone.
    """

    def __init__(self, versions: Versions, limit: int, weight: Callable[[V], int] = lambda _: 1) -> None:
        self._versions = versions
        self._limit = limit
        self._weight = weight
        self._held = 0
        self._values: OrderedDict[tuple[str, Hashable], tuple[int, V]] = OrderedDict()

    def version(self, repository: Repository) -> int:
        return self._versions.content(repository.name)

    def find(self, repository: Repository, key: Hashable, version: int) -> V | None:
        entry = self._values.get((repository.name, key))
        if entry is None:
            return None
        if entry[0] != version:
            self._drop((repository.name, key))
            return None
        self._values.move_to_end((repository.name, key))
        return entry[1]

    def keep(self, repository: Repository, key: Hashable, version: int, value: V) -> None:
        if not settled(version):
            return
        self._drop((repository.name, key))
        self._values[repository.name, key] = version, value
        self._held += self._weight(value)
        while self._held > self._limit:
            self._drop(next(iter(self._values)))

    def drop(self, repository: Repository, key: Hashable) -> None:
        self._drop((repository.name, key))

    def _drop(self, key: tuple[str, Hashable]) -> None:
        entry = self._values.pop(key, None)
        if entry is not None:
            self._held -= self._weight(entry[1])
