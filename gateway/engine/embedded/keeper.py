"""What keeps the content of one data directory whole: checked when asked, scrubbed always, damage put aside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from gateway.engine.embedded.examining import Examination, Tell
from gateway.engine.embedded.integrity import Heard, Integrity, unheard
from gateway.engine.embedded.layout import blob_key
from gateway.engine.embedded.scrub import Scrub, Step
from gateway.engine.embedded.spools import Spools
from gateway.engine.embedded.suspects import Suspects
from gateway.engine.stores.filesystem import Filesystem
from gateway.engine.stores.folders import Folders
from gateway.flaws import Flaw, Mend
from gateway.oci.digest import Digest
from gateway.records import examination
from gateway.records.database import Database

_TURN: Final = "suspects.lock"
_TURN_SECONDS: Final = 0.05


class Keeper:
    """Every verb blocks: call it in a thread."""

    def __init__(self, root: Path, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._store = Filesystem(root)
        self._database = database
        folders = self._folders = Folders(root)
        self._suspects = Suspects(root)
        self._integrity = Integrity(self._store, folders, database, self._suspects)
        spools = Spools(self._store, folders, database)
        self._examination = Examination(folders, database, self._integrity, spools)
        self._scrub = Scrub(folders, database, self._integrity, clock)

    def flaws(self, *, deep: bool, tell: Tell) -> Iterator[Flaw]:
        """Everything that is wrong, content and records; with *deep* the bytes of every blob are read."""
        return self._examination.flaws(deep=deep, tell=tell)

    def suspects(self) -> Sequence[Digest]:
        """The blobs that a reader met damaged and nobody has judged yet; what was healed is forgotten."""
        waiting = []
        for digest, recorded in self._suspects.all().items():
            if recorded is None:
                waiting.append(digest)
                continue
            wanted = self._database.read_now(partial(examination.blob_size, digest=digest))
            there = self._folders.entry(blob_key(digest))
            if wanted is not None and (there is None or there.changed < recorded):
                continue
            if wanted is None or (there is not None and there.size == wanted):
                self._suspects.forget(digest)
            else:
                # It was healed, and damaged since.
                waiting.append(digest)
        return waiting

    def condemn(self, digest: Digest, heard: Heard = unheard) -> Mend | None:
        """Judges *digest* by its bytes and puts a damaged file aside; None if all is well, or it is recorded."""
        return self._integrity.condemn(digest, heard=heard)

    def scrub(self, heard: Heard) -> Step:
        """Judges some more blobs; *heard* makes it as slow as it should be."""
        return self._scrub.step(heard)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Holds off whoever else would put aside and record: what is recorded once is recorded once."""
        while True:
            try:
                lock = self._store.grow(_TURN)
            except BlockingIOError:
                time.sleep(_TURN_SECONDS)
                continue
            break
        try:
            yield
        finally:
            lock.release()
