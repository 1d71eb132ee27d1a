"""Loaded by the benchmark's gateway alone: a ledger that acknowledges events and keeps none, to see what they cost."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_ROOM = "gateway.records.ledger"


def _forget_events(module: Any) -> None:
    kept = module.SqlLedger.commit

    async def commit(self: Any, act: Any) -> Any:
        return module.Notes() if act.change is None else await kept(self, act)

    module.SqlLedger.commit = commit


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _forget_events(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        found = importlib.machinery.PathFinder.find_spec(name, path) if name == _ROOM else None
        if found is not None and found.origin is not None:
            found.loader = _Loader(name, found.origin)
        return found


sys.meta_path.insert(0, _Finder())
