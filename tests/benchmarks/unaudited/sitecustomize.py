"""Loaded by the benchmark's gateway alone: a ledger that acknowledges events and keeps none, to see what they cost."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys

_ROOM = "gateway.records.ledger"


def _forget_events(module):
    kept = module.SqlLedger.commit

    async def commit(self, act):
        return module.Notes() if act.change is None else await kept(self, act)

    module.SqlLedger.commit = commit


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != _ROOM:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            _forget_events(module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Finder())
