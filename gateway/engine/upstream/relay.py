"""A body on its way to the registry behind us: a thread hashes one piece while it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hashlib import _Hash

#: The piece in hand, its framed copy and what the connection holds of it: under 1 MiB an upload. Half of this costs
#: half as much processor time again.
_PIECE_BYTES: Final = 256 * 1024
#: Below this, hashing a piece costs less than the way to a thread and back.
_SMALL_BYTES: Final = 16 * 1024


class Relay:
    """
    Passes one body on, piece by piece as they come: the next is asked for when the last was taken.

    However the body ends, the pieces end cleanly, so that the registry behind keeps and counts what came:
    *interrupted* says that the client stopped before the end, *error* what else the body raised.
    *hasher* has hashed everything before the body, and follows it; without one nothing is hashed.
    """

    def __init__(self, body: AsyncIterator[bytes], hasher: _Hash | None, threads: Executor) -> None:
        self._body = aiter(body)
        self._threads = threads
        self._piece = b""
        self._hashing: Future[None] | None = None
        self.hasher = hasher
        self.count = 0
        self.interrupted = False
        self.error: Exception | None = None

    async def begins(self) -> bool:
        """Waits for the first byte; False if the body ends without one."""
        self._piece = await self._next()
        return bool(self._piece)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, from its first byte, in pieces of at most 256 KiB; all of it is hashed when they end."""
        while piece := self._piece:
            self._piece = b""
            for first in range(0, len(piece), _PIECE_BYTES):
                part = piece[first : first + _PIECE_BYTES]
                await self._hashed()
                self._hash(part)
                yield part
                self.count += len(part)
                # The next may be long in coming: until then nothing is held.
                del part
            del piece
            self._piece = await self._next()
        await self._hashed()

    def _hash(self, part: bytes) -> None:
        if self.hasher is None:
            return
        if len(part) < _SMALL_BYTES:
            self.hasher.update(part)
        else:
            self._hashing = self._threads.submit(_update, self.hasher, [part])

    async def _hashed(self) -> None:
        hashing, self._hashing = self._hashing, None
        if hashing is None:
            return
        # It mostly is: to be told so by the thread would wake the loop for every piece.
        if not hashing.done():
            await asyncio.wrap_future(hashing)
        hashing.result()

    async def _next(self) -> bytes:
        try:
            while True:
                piece = await anext(self._body)
                if piece:
                    return piece
        except StopAsyncIteration:
            return b""
        except (EOFError, OSError):
            self.interrupted = True
        except Exception as error:
            self.error = error
        return b""


def _update(hasher: _Hash, held: list[bytes]) -> None:
    # The pool's thread may hold its job a while after it has answered, and the next piece is here by then.
    hasher.update(held.pop())
