"""A body on its way into a spool: a thread hashes and writes one batch while the next one arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Final

from gateway.engine.stores.files import Spool
from gateway.oci.digest import Algorithm

if TYPE_CHECKING:
    from hashlib import _Hash

#: One batch is being written while one gathers: with the piece in hand, well under 1 MiB an upload.
BATCH_BYTES: Final = 256 * 1024
#: Tiny pieces cost their objects as well, and the system takes at most 1,024 at once.
_BATCH_PIECES: Final = 512


class SpoolDamaged(Exception):
    """The spool's bytes are not those that were acknowledged."""


class Intake:
    """
    Takes one body into *spool*, whose bytes so far have *prefix* for a SHA-256.

    *hasher* has hashed those bytes; without one they are read again, once, when more arrive.
    """

    def __init__(self, spool: Spool, prefix: str, hasher: _Hash | None, threads: Executor) -> None:
        self._spool = spool
        self._prefix = prefix
        self._threads = threads
        self._start = spool.size
        self._batch: list[bytes] = []
        self._writing: asyncio.Future[None] | None = None
        self.hasher = hasher

    async def receive(self, body: AsyncIterator[bytes]) -> bool:
        """
        Takes the body up to its end, and says whether it ended early; the last batch is left for `flush`.

        Whatever else the body raises is raised. `OSError` is the store's, never the client's.
        """
        try:
            interrupted = await self._gather(aiter(body))
        except BaseException:
            if self._writing is not None:
                self._writing.cancel()
            raise
        await self._written()
        return interrupted

    async def _gather(self, pieces: AsyncIterator[bytes]) -> bool:
        size = 0
        while True:
            try:
                piece = await anext(pieces)
            except StopAsyncIteration:
                return False
            except (EOFError, OSError):
                return True
            if piece:
                self._batch.append(piece)
                size += len(piece)
            if size >= BATCH_BYTES or len(self._batch) >= _BATCH_PIECES:
                await self._written()
                self._writing = self._run(self._write, self._batch)
                self._batch, size = [], 0

    def flush(self) -> None:
        """Hashes and writes what `receive` left over; blocks."""
        if self._batch:
            self._write(self._batch)

    async def _written(self) -> None:
        if self._writing is not None:
            await self._writing

    def digest(self) -> str:
        """The SHA-256 of everything in the spool, once flushed."""
        return self._prefix if self.hasher is None else f"sha256:{self.hasher.hexdigest()}"

    def _write(self, pieces: list[bytes]) -> None:
        if self.hasher is None:
            self.hasher = self._rehashed()
        for piece in pieces:
            self.hasher.update(piece)
        self._spool.write(pieces)
        # The pool's thread may hold its job a while after it has answered, and the next batch is under way by then.
        pieces.clear()

    def _rehashed(self) -> _Hash:
        hasher = Algorithm.SHA256.hasher()
        for piece in self._spool.pieces(self._start):
            hasher.update(piece)
        if f"sha256:{hasher.hexdigest()}" != self._prefix:
            raise SpoolDamaged
        return hasher

    def _run(self, job: Callable[[list[bytes]], None], pieces: list[bytes]) -> asyncio.Future[None]:
        return asyncio.get_running_loop().run_in_executor(self._threads, job, pieces)
