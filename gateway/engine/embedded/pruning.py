"""Uploads that have expired are discarded with their bytes when others begin."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from gateway.engine.embedded.layout import upload_key
from gateway.engine.stores.files import Spool
from gateway.engine.stores.filesystem import Filesystem
from gateway.records import sweeping
from gateway.records.database import Database


def discard_expired(store: Filesystem, database: Database, upload_ids: Sequence[str], now: int) -> list[str]:
    """Discards the bytes of those uploads that nobody can continue, and nobody holds: which ones. Blocks."""
    gone: list[str] = []
    spools: dict[str, Spool] = {}
    with ExitStack() as held:
        for upload_id in upload_ids:
            if store.size(upload_key(upload_id)) is None:
                gone.append(upload_id)
                continue
            try:
                spools[upload_id] = store.grow(upload_key(upload_id))
            except BlockingIOError:
                continue
            held.callback(spools[upload_id].release)
        # A transaction that lets go of a spool may still be open: the rows are believed once it has ended.
        with database.lock():
            living = database.read_now(lambda connection: sweeping.living(connection, list(spools), now))
        for upload_id, spool in spools.items():
            if upload_id not in living:
                spool.discard()
                gone.append(upload_id)
    return gone
