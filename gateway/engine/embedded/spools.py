"""Temporary files against the uploads and imports they belong to: none is left over, none is another's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from gateway.engine.embedded.layout import IMPORTS, IMPORTS_LOCK, import_key, upload_key
from gateway.engine.stores.filesystem import Filesystem
from gateway.engine.stores.folders import Entry, Folders
from gateway.flaws import Flaw, FlawKind, Mend
from gateway.oci.digest import Algorithm
from gateway.records import examination, uploads
from gateway.records.database import Database
from gateway.records.examination import Spooled

UPLOADS: Final = "uploads"
#: A clock that was set back makes files a little older than their rows.
_SLACK_SECONDS: Final = 60


class Spools:
    """The temporary files of one data directory."""

    def __init__(self, store: Filesystem, folders: Folders, database: Database) -> None:
        self._store = store
        self._folders = folders
        self._database = database

    def flaws(self) -> Iterator[Flaw]:
        """What is left over, or not what its upload acknowledged."""
        files = {entry.name: entry for entry in self._folders.entries(UPLOADS)}
        known = self._rows(sorted(files))
        for name, entry in sorted(files.items()):
            key = f"{UPLOADS}/{name}"
            if not entry.regular or not uploads.is_id(name):
                text = f"{key} is nothing of the gateway's; see what it is, and move it elsewhere."
                yield Flaw(FlawKind.FOREIGN_FILE, key, text)
            elif name not in known:
                if self._is_orphan(name):
                    text = f"{key} belongs to no upload."
                    yield Flaw(FlawKind.UPLOAD_ORPHAN, key, text, mend=partial(self._removal, key))
            elif self._is_older(name, entry, known[name]):
                text = f"{key} is older than its upload, and not what that acknowledged."
                yield Flaw(FlawKind.UPLOAD_DAMAGED, key, text, mend=partial(self._removal, key))
        yield from self._imports()

    def in_flight(self) -> bool:
        """Whether some upload or import may have published a blob that it is about to record."""
        if self._importing():
            return True
        now = int(time.time())
        spools = {entry.name for entry in self._folders.entries(UPLOADS)}
        return bool(self._database.read_now(lambda connection: examination.open_uploads(connection, now)) - spools)

    def _rows(self, names: list[str]) -> dict[str, Spooled]:
        return self._database.read_now(lambda connection: examination.spooled(connection, names))

    def _is_orphan(self, name: str) -> bool:
        with self._database.lock():
            return not self._rows([name]) and self._store.size(upload_key(name)) is not None

    def _is_older(self, name: str, entry: Entry, row: Spooled) -> bool:
        if entry.modified >= row.begun_at - _SLACK_SECONDS:
            return False
        return not self._acknowledged(name, row)

    def _acknowledged(self, name: str, row: Spooled) -> bool:
        """Whether the file begins with what its upload acknowledged, and that is not nothing."""
        hasher = Algorithm.SHA256.hasher()
        try:
            stored = self._store.open(upload_key(name))
        except OSError:
            return True  # gone by now
        try:
            for piece in stored.pieces(row.offset):
                hasher.update(piece)
        finally:
            stored.release()
        return row.offset > 0 and f"sha256:{hasher.hexdigest()}" == row.prefix_digest

    def _imports(self) -> Iterator[Flaw]:
        files = self._folders.entries(IMPORTS)
        if not files or self._importing():
            return
        for entry in files:
            key = import_key(entry.name)
            text = f"{key} was left by an import that died."
            yield Flaw(FlawKind.IMPORT_LEFT, key, text, mend=partial(self._import_removal, key))

    def _importing(self) -> bool:
        if self._store.size(IMPORTS_LOCK) is None:
            return False
        try:
            with self._alone():
                return False
        except BlockingIOError:
            return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Raises `BlockingIOError` while an import is under way."""
        lock = self._store.grow(IMPORTS_LOCK)
        try:
            yield
        finally:
            lock.release()

    def _import_removal(self, key: str) -> Mend | None:
        def remove() -> None:
            with suppress(BlockingIOError), self._alone():
                self._store.discard(key)

        return Mend("removed", after=remove)

    def _removal(self, key: str) -> Mend | None:
        # Nobody can take up what has no row; whoever holds the file all the same keeps it.
        return Mend("removed", after=partial(self._store.discard, key))
