"""The registry's own files, where they can be read from here: bytes that need not pass through it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Final

from gateway.engine.port import Appetite, Blob
from gateway.engine.stores.files import Stored
from gateway.engine.stores.streams import Damaged, Streams, Verified
from gateway.errors import UpstreamFailed
from gateway.oci.digest import Digest

#: As many as the embedded engine has: each may wait for a disk.
_THREADS: Final = 16
_BELOW: Final = "docker/registry/v2"

_log = logging.getLogger("gateway.upstream")


class Files:
    """
    The files below *volume*, the folder that the registry's configuration calls `rootdirectory`; none are changed.

    Whether a repository holds a blob the registry has to be asked all the same: only bytes come from here.
    """

    def __init__(self, volume: Path) -> None:
        self._root = f"{volume}/{_BELOW}"
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="volume")
        self._streams = Streams(self._threads, Verified())
        self._told = False

    async def open(self, blob: Blob) -> Stored | None:
        """The file of a *blob* that the registry holds, for `read`; None if there is none here of its size."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._open, blob)

    async def read(
        self, stored: Stored, digest: Digest, first: int, last: int, appetite: Appetite
    ) -> AsyncGenerator[bytes]:
        """
        The bytes *first* to *last* of a file from `open`.

        The first whole read of a file in this process compares the digest before the last piece is given out; raises
        `UpstreamFailed` if it is another, or if the file cannot be read to its end. The file is released at the end.
        """
        try:
            async with aclosing(self._streams.read(stored, digest, first, last, appetite)) as pieces:
                async for piece in pieces:
                    yield piece
                    # Whoever waits for a client must not hold what it has already been given.
                    del piece
        except Damaged:
            raise UpstreamFailed(f"The files of the registry behind have other bytes than those of {digest}.") from None
        except OSError as error:
            _log.warning("the registry's file of %s cannot be read: %s", digest, error.strerror)
            raise UpstreamFailed(f"The registry's file of {digest} cannot be read.") from None
        finally:
            stored.release()

    def _open(self, blob: Blob) -> Stored | None:
        digest, algorithm = blob.digest, blob.digest.algorithm.value
        link = f"{self._root}/repositories/{blob.repository}/_layers/{algorithm}/{digest.hex}/link"
        path = f"{self._root}/blobs/{algorithm}/{digest.hex[:2]}/{digest.hex}/data"
        try:
            # What it has deleted since it was asked leaves no link, and its bytes until it clears up.
            os.stat(link)
            # A pipe of that name would make whoever opens it wait for its other end.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            self._warn(error)
            return None
        stored = Stored(descriptor)
        if stored.regular and stored.size == blob.size_bytes:
            return stored
        stored.release()
        return None

    def _warn(self, error: OSError) -> None:
        """Says once what keeps these files from being read; there may be nothing wrong with one that is not there."""
        if not self._told and not isinstance(error, FileNotFoundError):
            self._told = True
            _log.warning("[engine] volume: blobs come through the registry, for %s: %s", error.filename, error.strerror)
