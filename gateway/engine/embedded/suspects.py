"""Suspects: blobs whose bytes were seen to be damaged, noted where every process of the data directory looks.

    a read meets damage ─▶ DATA/suspects/<digest>, empty ─▶ judged, put aside, recorded ─▶ not empty ─▶ healed: gone

So that what a thousand readers meet is recorded once, whichever process they are served by.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from gateway.engine.stores.folders import Folders
from gateway.errors import DigestInvalid
from gateway.oci.digest import Digest

_log = logging.getLogger("gateway.integrity")

_FOLDER: Final = "suspects"


class Suspects:
    """The notes in the data directory *root*."""

    def __init__(self, root: Path) -> None:
        self._folders = Folders(root)
        self._prefix = f"{root}/"

    def note(self, digest: Digest) -> None:
        """Notes that *digest* looks damaged, unless that is known; never raises: whoever reads has trouble enough."""
        try:
            self._folders.mark(_key(digest))
        except OSError:
            _log.exception("that %s is damaged could not be noted", digest)

    def recorded(self, digest: Digest) -> None:
        """The damage was recorded: it is not again until `forget`."""
        # As old as the note: what was pushed since then, while it was judged and recorded, has healed the blob.
        noted = self._folders.entry(_key(digest))
        self._folders.keep(_key(digest), b"recorded\n", noted.modified if noted is not None else None)

    def is_recorded(self, digest: Digest) -> bool:
        return bool(self._folders.kept(_key(digest)))

    def waiting(self, digest: Digest) -> float | None:
        """When *digest* was noted, in UNIX seconds; None if it is no suspect or was judged. As cheap as can be."""
        key = _key(digest)
        if not os.access(self._prefix + key, os.F_OK):
            return None
        entry = self._folders.entry(key)
        return entry.modified if entry is not None and not entry.size else None

    def forget(self, digest: Digest) -> None:
        """Nothing is wrong with *digest* any more."""
        self._folders.forget(_key(digest))

    def all(self) -> dict[Digest, float | None]:
        """Every suspect, and, if its damage was recorded, when it had been noted, in UNIX seconds."""
        found: dict[Digest, float | None] = {}
        for entry in self._folders.entries(_FOLDER):
            try:
                digest = Digest.parse(entry.name)
            except DigestInvalid:
                continue
            found[digest] = entry.modified if entry.size else None
        return found


def _key(digest: Digest) -> str:
    return f"{_FOLDER}/{digest}"
