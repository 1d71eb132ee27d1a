"""An event loop without files, timers and waiting: whatever is ready runs, in its order, until nothing is."""

from __future__ import annotations

import asyncio
from typing import Any, Final

_ENDLESS: Final = 100_000


class Turns(asyncio.BaseEventLoop):
    """
    Runs what one thread gives it. Timers never come, and nobody else can wake it: then a thousand conversations take
    the time that a loop of the system's takes for twenty.
    """

    def __init__(self) -> None:
        super().__init__()
        self._faults: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self._faults.append(context))

    def turn(self) -> None:
        """One turn: what is ready now, not what becomes ready by it. Raises `AssertionError` for what failed in it."""
        self._run(len(self._ready))  # type: ignore[attr-defined]

    def settle(self) -> None:
        """Turns until nothing is ready; raises `AssertionError` if there is no end, or for what failed."""
        self._run(_ENDLESS)
        assert not self._ready, "there was no end"  # type: ignore[attr-defined]

    def _run(self, count: int) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        asyncio._set_running_loop(self)
        try:
            while ready and count:
                count -= 1
                handle = ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            asyncio._set_running_loop(None)
        faults, self._faults = self._faults, []
        assert not faults, f"failed unseen: {faults}"
