"""Work in the background: what ends by a fault is told of in the log and begun again, until it is cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from gateway.errors import Refusal

_log = logging.getLogger("gateway.supervision")

REST_SECONDS: Final = 30.0

#: Begins the work, anew each time.
Beginning = Callable[[], Coroutine[Any, Any, None]]


async def supervised(name: str, begin: Beginning) -> None:
    """Lets the work called *name* run until it comes to its own end; each fault costs it half a minute."""
    while True:
        try:
            await begin()
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            # Something that the work waited for was cancelled, not the work.
            _log.warning("%s ended, it begins again in %d s: something it waited for was cancelled", name, REST_SECONDS)
        except Exception as error:
            if _is_cancelled():
                raise
            known = isinstance(error, Refusal)
            _log.log(
                logging.WARNING if known else logging.ERROR,
                "%s ended, it begins again in %d s: %s",
                name,
                REST_SECONDS,
                _why(error),
                exc_info=None if known else error,
            )
        else:
            return
        await asyncio.sleep(REST_SECONDS)


def _is_cancelled() -> bool:
    """Whether the work is to end: a fault on the way out of it is no reason to begin again."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _why(error: Exception) -> str:
    """The fault in one line; what databases say of theirs has many."""
    told = error.message if isinstance(error, Refusal) else str(error)
    first, _, _ = told.partition("\n")
    return f"{type(error).__name__}: {first}"
