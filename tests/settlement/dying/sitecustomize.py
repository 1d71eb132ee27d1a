"""Loaded by the gateway of one test alone: it dies once, by kill -9, after an act elsewhere and before its record.

DIES_IN is a folder; in it the file `wanted` holds how the requests begin (`PUT /v2/gallery/ui/manifests/`) whose answer
is the last thing the process hears. The file is gone before it dies, so that the next process lives.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

_ROOM = "gateway.engine.upstream.client"
_WANTED = Path(os.environ["DIES_IN"]) / "wanted"


def _die_after_answers(module: Any) -> None:
    really = module.Client.ask

    async def ask(self: Any, method: str, path: str, **more: Any) -> Any:
        answer = await really(self, method, path, **more)
        if _WANTED.exists() and f"{method} {path}".startswith(_WANTED.read_text()):
            _WANTED.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    module.Client.ask = ask


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _die_after_answers(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        found = importlib.machinery.PathFinder.find_spec(name, path) if name == _ROOM else None
        if found is not None and found.origin is not None:
            found.loader = _Loader(name, found.origin)
        return found


sys.meta_path.insert(0, _Finder())
