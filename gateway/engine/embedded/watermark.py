"""The watermark: below so much free space no uploads are taken, so that all else still has room to write."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.errors import InsufficientStorage


class Watermark:
    """At least *free_bytes* of the file system that *folder* is in stay free of uploads; 0 lets them fill it."""

    def __init__(self, folder: Path, free_bytes: int) -> None:
        self._folder = folder
        self._free_bytes = free_bytes

    def require(self, coming_bytes: int = 0) -> None:
        """Raises `InsufficientStorage` if less would be free once *coming_bytes* have come."""
        if not self._free_bytes:
            return
        found = os.statvfs(self._folder)
        if found.f_bavail * found.f_frsize - coming_bytes < self._free_bytes:
            raise InsufficientStorage(
                "The registry's disk is nearly full and takes no uploads; delete what is not needed, or ask its "
                "operator to make room."
            )
