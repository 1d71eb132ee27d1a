"""A clock that is as wrong as the plan says, for whatever the gateway and its tokens ask for the time of day."""

from __future__ import annotations

import datetime
import importlib.abc
import importlib.machinery
import sys
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from faulty_plan import PLAN

_ROOMS = ("gateway", "jwt")
_time, _datetime = time.time, datetime.datetime


class _Kind(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _datetime)

    def __getattr__(cls, name: str) -> Any:
        return getattr(_datetime, name)


class _Shifted(metaclass=_Kind):
    """Stands for `datetime` in a module, and makes nothing else; only that it is now is another moment."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return _datetime(*args, **kwargs)

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return _datetime.now(tz) + datetime.timedelta(seconds=PLAN.offset_seconds)


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if getattr(module, "datetime", None) is _datetime:
            module.datetime = _Shifted  # type: ignore[attr-defined]


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in _ROOMS:
            return None
        found = importlib.machinery.PathFinder.find_spec(name, path)
        if found is None or not isinstance(found.loader, importlib.machinery.SourceFileLoader):
            return None
        found.loader = _Loader(name, found.loader.path)
        return found


def install() -> None:
    """Puts it in the place of the right one."""
    time.time = lambda: _time() + PLAN.offset_seconds
    sys.meta_path.insert(0, _Finder())
