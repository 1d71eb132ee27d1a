"""Sweeps held off: for whoever counts on files that no record links yet, or that records of a moment ago name."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from gateway.engine.embedded.layout import SWEEP_LOCK
from gateway.engine.stores.filesystem import Filesystem
from gateway.errors import Conflict

_LOOK_SECONDS: Final = 0.2


@contextmanager
def sweeps_held_off(
    root: Path, patience_seconds: float = 0.0, given_up: threading.Event | None = None
) -> Iterator[None]:
    """
    No sweep of the data directory *root* begins while this lasts; it is shared with others who hold sweeps off.

    Waits so long for the end of one that is under way, blocking, or until it is *given_up*; then raises `Conflict`.
    """
    store = Filesystem(root)
    given_up = given_up or threading.Event()
    until = time.monotonic() + patience_seconds
    with ExitStack() as holding:
        while True:
            try:
                holding.enter_context(store.held(SWEEP_LOCK, shared=True))
                break
            except BlockingIOError:
                if time.monotonic() >= until or given_up.wait(_LOOK_SECONDS):
                    raise Conflict("A sweep of this data directory is under way; wait for its end.") from None
        yield
