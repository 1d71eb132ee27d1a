"""Turns between the processes that run the tests: one that measures has the machine to itself.

ordinary test      shares the floor with others
marked `alone`     waits for the floor to be empty, and nobody enters before it has ended
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(run: str, *, alone: bool) -> Iterator[None]:
    """Has the floor among the processes of one *run*, whose name they share; blocks until then."""
    folder = Path(tempfile.gettempdir())
    with _lock(folder / f"gateway-tests-{run}.floor") as floor:
        # Whoever wants to be alone keeps the others at the door while it waits for those who are in.
        with _lock(folder / f"gateway-tests-{run}.door") as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(floor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@contextmanager
def _lock(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
