"""A clock that is as wrong as the plan says, for everything that asks Python for the time of day."""

from __future__ import annotations

import datetime
import time
from typing import Any

from faulty_plan import PLAN

_time, _datetime = time.time, datetime.datetime


class _Kind(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _datetime)


class _Shifted(_datetime, metaclass=_Kind):
    """As `datetime`, and what it makes are those; only that it is now is another moment."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return _datetime(*args, **kwargs)

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return _datetime.now(tz) + datetime.timedelta(seconds=PLAN.offset_seconds)


for _name in ("fromtimestamp", "fromisoformat", "strptime", "combine", "fromordinal", "utcfromtimestamp"):
    setattr(_Shifted, _name, getattr(_datetime, _name))


def install() -> None:
    """Puts it in the place of the right one."""
    time.time = lambda: _time() + PLAN.offset_seconds
    datetime.datetime = _Shifted  # type: ignore[misc]
