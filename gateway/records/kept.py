"""Columns of the chain: SQLite keeps anything in any of them, and whoever reads has a text or a hash all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Dialect, LargeBinary, Text
from sqlalchemy.types import TypeDecorator

from gateway.audit.chain import HASH_BYTES, as_hash, as_text


class _Hash(TypeDecorator[bytes]):
    impl = LargeBinary
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: Any) -> Callable[[Any], Any]:
        return as_hash


class _Canonical(TypeDecorator[str]):
    impl = Text
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: Any) -> Callable[[Any], Any]:
        return as_text


#: Read as `as_hash` and `as_text` have it.
HASH: Final = _Hash(HASH_BYTES)
CANONICAL: Final = _Canonical()
