"""Emptying the trash: a little in each commit, so that nobody waits for long, and one event that tells of all of it.

    [begun, with what is to go · slice] ─▶ rest ─▶ [slice] ─▶ rest ─▶ … [slice · the event, with what went]

What is between brackets is one commit. What fits into a single one goes with its event, and has no beginning. After a
kill there is a beginning without an end: what went is gone, the rest is there, and goes when the trash is emptied next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from gateway.audit.event import Kind
from gateway.change import Change, Notes
from gateway.gate import Passage
from gateway.oci.names import Repository
from gateway.records import trash
from gateway.records.database import Database
from gateway.records.trash import Going, Heap, Thing

R = TypeVar("R")

#: Things, and bytes of manifests, in one commit: what they name goes with them, and is the more the longer they are.
_THINGS: Final = 200
_BYTES: Final = 1024 * 1024


class Emptying:
    """Empties the trash of what is *going*, within *passage*; used once. *facts* are told in its events."""

    def __init__(self, passage: Passage, database: Database, going: Going, **facts: object) -> None:
        self._passage = passage
        self._database = database
        self._going = going
        self._facts = facts
        self._count = 0
        self._bytes = 0

    async def run(self) -> int:
        """
        How many things went; what comes into the trash meanwhile stays.

        Raises `ReadOnly`, `Unavailable`, and `Denied` once the right is gone: what went until then is gone, and the
        event tells how much that is.
        """
        heap = await self._look(partial(trash.heap, going=self._going))
        begins: Heap | None = heap
        some = await self._following(heap, None)
        while following := await self._following(heap, some[-1] if some else None):
            begun = time.monotonic()
            await _ended(self._step(some, begins))
            # Others who write have their turn for as long.
            await asyncio.sleep(time.monotonic() - begun)
            some, begins = following, None
        notes = await self._passage.commit(_change(partial(self._drop_last, some, begins), some))
        count: int = notes.result
        return count

    async def _following(self, heap: Heap, after: Thing | None) -> list[Thing]:
        found = await self._look(
            lambda connection: trash.page(connection, self._going, heap.last, after, _THINGS),
        )
        return list(_light(found))

    async def _look(self, query: Callable[[Any], R]) -> R:
        # In a thread, on either database: there may be much to look at, and others are answered meanwhile.
        return await asyncio.to_thread(self._database.read_now, query)

    async def _step(self, things: Sequence[Thing], begins: Heap | None) -> None:
        self._note()
        notes = await self._passage.step(_change(partial(self._drop, things, begins), things))
        count, size = notes.result
        self._count += count
        self._bytes += size
        self._note()

    def _drop(self, things: Sequence[Thing], begins: Heap | None, connection: Any) -> Notes:
        also: tuple[tuple[str, dict[str, object]], ...] = ()
        if begins is not None:
            self._require(connection)
            event = self._passage.event()
            where = {"project": event.project, "repository": event.repository, "action": event.action}
            detail = {**self._facts, "count": begins.count, "bytes": begins.bytes}
            also = ((Kind.TRASH_EMPTY_BEGUN.value, {**where, "detail": detail}),)
        return Notes(result=trash.drop(connection, self._going, things), also=also)

    def _drop_last(self, things: Sequence[Thing], begins: Heap | None, connection: Any) -> Notes:
        if begins is not None:
            self._require(connection)
        count, size = trash.drop(connection, self._going, things)
        count, size = self._count + count, self._bytes + size
        return Notes(detail={**self._facts, "count": count, "bytes": size}, result=count)

    def _require(self, connection: Any) -> None:
        if not self._going.spares:
            trash.require_droppable(connection, self._going)

    def _note(self) -> None:
        self._passage.note(detail={**self._facts, "count": self._count, "bytes": self._bytes})


def _change(apply: Callable[[Any], Notes], things: Sequence[Thing]) -> Change:
    names = dict.fromkeys(thing.repository for thing in things)
    return Change(apply, repositories=tuple(map(Repository, names)))


def _light(things: Sequence[Thing]) -> Iterator[Thing]:
    """The first of *things*, until they are too heavy together; one at least."""
    weight = 0
    for number, thing in enumerate(things):
        weight += thing.size_bytes
        if number and weight > _BYTES:
            return
        yield thing


async def _ended(work: Awaitable[R]) -> R:
    """What *work* gives; whoever is cancelled waits for its end, so that it counts."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
