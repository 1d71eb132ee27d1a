"""Version counters in shared memory: how a process notices, for eight bytes read, that another changed something.

    DATA/versions   [policy][content 0][content 1] … [content 4095]     one native 64-bit counter each

A counter is odd while a transaction that moves it is open: what is read then may not be cached. Counters are moved
only under the writer's lock, so one left odd by a process that died is put right by the next that takes the lock.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

_BUCKETS = 4096
_BYTES = 8 * (1 + _BUCKETS)


class Versions:
    """The counters of one data directory, mapped into this process."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < _BYTES:
                os.ftruncate(descriptor, _BYTES)
            self._map = mmap.mmap(descriptor, _BYTES)
        finally:
            os.close(descriptor)
        self._counters = memoryview(self._map).cast("Q")

    def policy(self) -> int:
        """Moves when an account, project, grant or key changes."""
        return self._counters[0]

    def content(self, repository: str) -> int:
        """Moves when a tag, link or manifest of *repository* changes (and of the few that share its counter)."""
        return self._counters[_bucket(repository)]

    @contextmanager
    def moving(self, *, policy: bool, repositories: Iterable[str]) -> Iterator[None]:
        """Marks counters as in motion, then moved, whether or not the transaction inside succeeds. Under the lock."""
        counters = self._counters
        slots = {_bucket(repository) for repository in repositories}
        if policy:
            slots.add(0)
        for slot in slots:
            counters[slot] |= 1
        try:
            yield
        finally:
            for slot in slots:
                counters[slot] += 1

    def doubt(self, *, policy: bool, repositories: Iterable[str]) -> None:
        """Sets counters in motion until `settle`: what moved them may yet be committed. Under the lock."""
        for slot in ({0} if policy else set()) | {_bucket(repository) for repository in repositories}:
            self._counters[slot] |= 1

    def settle(self) -> None:
        """Under the lock: whatever is still odd was left so by a process that died, or in doubt."""
        counters = self._counters
        for slot in range(1 + _BUCKETS):
            counters[slot] += counters[slot] & 1

    def close(self) -> None:
        self._counters.release()
        self._map.close()


def settled(version: int) -> bool:
    """Whether what is read at *version* may be cached."""
    return version % 2 == 0


def _bucket(repository: str) -> int:
    return 1 + crc32(repository.encode()) % _BUCKETS
