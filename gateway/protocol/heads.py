"""Heads that came before, byte for byte: they were judged and parsed then, and need not be again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

#: A head longer than this is not remembered.
HEAD_BYTES: Final = 4096
_LIMIT_BYTES: Final = 24 * 1024 * 1024
#: What an entry costs beside its bytes and those of its memory.
_ENTRY_BYTES: Final = 2048


class Head:
    """
    The head of a request without a body, as it was read: the ASGI *scope* it gives, apart from the connection's part.

    *memory* is the application's own: what it needs to answer the same bytes again. Only heads with one are kept.
    """

    __slots__ = ("_heads", "content", "host", "memory", "scope")

    def __init__(self, heads: Heads, content: bytes, host: str, scope: dict[str, Any]) -> None:
        self._heads = heads
        self.content = content
        self.host = host
        self.scope = scope
        self.memory: Any = None

    def keep(self, memory: Any, size_bytes: int) -> None:
        """Have the same bytes recognised from now on, for as long as they are among those used last."""
        self.memory = memory
        self._heads.keep(self, size_bytes)

    def forget(self) -> None:
        self.memory = None
        self._heads.drop(self.content)


class Heads:
    """The heads one process remembers, the least recently used dropped above 24 MiB."""

    def __init__(self, limit_bytes: int = _LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._kept: OrderedDict[bytes, tuple[Head, int]] = OrderedDict()

    def find(self, content: bytes) -> Head | None:
        entry = self._kept.get(content)
        if entry is None:
            return None
        self._kept.move_to_end(content)
        return entry[0]

    def keep(self, head: Head, size_bytes: int) -> None:
        self.drop(head.content)
        weight = size_bytes + len(head.content) + _ENTRY_BYTES
        self._kept[head.content] = head, weight
        self._held_bytes += weight
        while self._held_bytes > self._limit_bytes:
            self.drop(next(iter(self._kept)))

    def drop(self, content: bytes) -> None:
        entry = self._kept.pop(content, None)
        if entry is not None:
            self._held_bytes -= entry[1]
