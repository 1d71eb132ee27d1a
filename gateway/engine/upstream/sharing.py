"""One asking for all who wait: concurrent identical questions share the next one that has not been sent yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

#: Nobody waits longer than this for somebody else's answer before asking.
_PATIENCE_SECONDS: Final = 0.05


class Sharing(Generic[T]):
    """
    Whoever asks gets the answer to a question that was sent after they came, so it is as fresh as their own.

    Nothing is kept: an answer, or what was raised, goes to those who waited for it. Used from the event loop alone.
    """

    def __init__(self) -> None:
        self._sent: dict[Hashable, asyncio.Future[None]] = {}
        self._next: dict[Hashable, asyncio.Task[T]] = {}

    async def ask(self, key: Hashable, question: Callable[[], Awaitable[T]]) -> T:
        sent = self._sent.get(key)
        if sent is None:
            return await self._send(key, question)
        task = self._next.get(key)
        if task is None:
            task = self._next[key] = asyncio.create_task(self._later(key, sent, question))
            task.add_done_callback(_heard)
        return await asyncio.shield(task)

    async def _later(self, key: Hashable, sent: asyncio.Future[None], question: Callable[[], Awaitable[T]]) -> T:
        try:
            await asyncio.wait({sent}, timeout=_PATIENCE_SECONDS)
        finally:
            del self._next[key]
        return await self._send(key, question)

    async def _send(self, key: Hashable, question: Callable[[], Awaitable[T]]) -> T:
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sent[key] = answered
        try:
            return await question()
        finally:
            answered.set_result(None)
            if self._sent.get(key) is answered:
                del self._sent[key]


def _heard(task: asyncio.Task[T]) -> None:
    # All who waited may be gone by now.
    if not task.cancelled():
        task.exception()
