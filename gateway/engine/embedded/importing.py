"""An import into this engine, one repository after the other, in parts that are each one transaction.

    tags, manifests of the source ─▶ queue ─▶ read ─▶ an index waits for what it lists
                                                 └─▶ blobs brought ─▶ Part ─▶ … ─▶ the last Part

What is here already is not read again, so an import that was stopped goes on where it stood. A manifest comes in only
with everything it requires; its tags only with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from gateway.change import Change, Notes
from gateway.engine.embedded.importing_blobs import BlobIntake
from gateway.engine.embedded.importing_manifests import Reading, left
from gateway.engine.embedded.layout import IMPORTS, IMPORTS_LOCK
from gateway.engine.embedded.truce import sweeps_held_off
from gateway.engine.source import Left, Outcome, Part, Source, Tally
from gateway.engine.stores.filesystem import Filesystem
from gateway.errors import Conflict, Refusal
from gateway.oci.names import Repository
from gateway.records import importing as records
from gateway.records.acts import Acts
from gateway.records.content import Act
from gateway.records.database import Database
from gateway.records.importing import Bundle


class EmbeddedImport:
    """
    Brings what *source* holds into the store and the records of one data directory; see `BlobIntake` for *link*.

    A tag that somebody has pushed here is never moved; one that an earlier import brought is.
    """

    def __init__(
        self,
        store: Filesystem,
        database: Database,
        source: Source,
        *,
        link: bool = False,
        tell: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._database = database
        self._source = source
        self._acts = Acts()
        self._blobs = BlobIntake(store, source, link=link, tell=tell)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Holds off every other import into this data directory, and sweeps; raises `Conflict` while there is one."""
        try:
            lock = self._store.grow(IMPORTS_LOCK)
        except BlockingIOError:
            raise Conflict("Another import into this data directory is under way; wait for its end.") from None
        try:
            # Blobs are in place a while before anything links them, and those that are here are counted on until then.
            with sweeps_held_off(self._store.root):
                self._store.clear(IMPORTS)
                yield
        finally:
            self._blobs.close()
            lock.release()

    async def repositories(self) -> Sequence[str]:
        """The names of the source's repositories, as they are spelled there."""
        return await self._source.repositories()

    async def close(self) -> None:
        await self._source.close()

    async def parts(self, repository: Repository, owner: str, *, copy: bool = True) -> AsyncIterator[Part]:
        """
        What there is to import of *repository*, in the name of *owner*; at least one part, whose change is to be
        committed before the next is asked for. Without *copy* the parts only say what would be done.

        Raises `UpstreamUnavailable` when the source cannot be read any more, `Unavailable` when the storage is full.
        """
        try:
            tags = await self._source.tags(repository)
            listed = await self._source.manifests(repository)
        except Refusal as refusal:
            lost = left(repository, "", refusal)
            yield Part(_nothing(Tally(broken=1)), Tally(broken=1), (lost,), 0, 0, last=True)
            return
        known = await self._database.read(lambda connection: records.known(connection, repository))
        reading = Reading(self._source, self._blobs, self._database, repository, known, copy=copy)
        reading.want(tags, listed)
        tally, broken = Tally(), list[Left]()
        while True:
            bundle, count, found = await reading.batch()
            tally, broken, last = tally + count, [*broken, *found], not reading.queue
            if last or bundle != Bundle():
                change = self._change(repository, owner, bundle, tally)
                yield Part(change, tally, tuple(broken), reading.done, reading.total, last)
                tally, broken = Tally(), []
            if last:
                return

    def _change(self, repository: Repository, owner: str, bundle: Bundle, tally: Tally) -> Change:
        if bundle == Bundle():
            return _nothing(tally)

        def apply(connection: Any, act: Act) -> Notes:
            kept, also = records.keep(connection, repository, bundle, act)
            count = replace(tally, tags=tally.tags - len(kept), tags_kept=len(kept))
            return Notes(detail=asdict(count), result=Outcome(count, kept), also=also)

        return self._acts.change(repository, apply, owner)


def _nothing(tally: Tally) -> Change:
    return Change(lambda _: Notes(detail=asdict(tally), result=Outcome(tally)))
