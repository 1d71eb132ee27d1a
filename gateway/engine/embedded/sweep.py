"""The sweep: what nothing references goes, in batches that are each one short transaction.

    links ─▶ unlinked ─▶ shelf by shelf, records and files side by side
                              └─▶ no link, or no record ─▶ file locked ─▶ [record forgotten, file taken out] ─▶ gone
    spools ─▶ locked ─▶ their uploads looked up ─▶ discarded

What is between brackets happens under the writers' lock: whoever links a blob has done so before, and is seen, or has
yet to look whether its file is there. A record without its file harms nobody while nothing links it, and neither does a
file without a record: what a kill leaves half done, the next sweep ends. Nobody publishes on the shelf while its files
go; where somebody is at it, they are moved aside, to be put back if they are not those that were locked. The blocks of
files are given back while the next batch is made ready.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final, TypeAlias

from gateway.change import Change, Notes
from gateway.engine.embedded import shelves
from gateway.engine.embedded.layout import IMPORTS, SWEEP_LOCK, SWEPT, UPLOADS, upload_key
from gateway.engine.embedded.shelves import Shelf, amount_of, shared_bytes
from gateway.engine.embedded.steps import Steps
from gateway.engine.stores.clearing import Clearing, Doomed, Lying, Removal
from gateway.engine.stores.files import Spool
from gateway.engine.stores.filesystem import Filesystem
from gateway.engine.sweeping import Amount, Plan, Receipt, Stock, Swept
from gateway.errors import Conflict
from gateway.oci.digest import Algorithm
from gateway.oci.names import Repository
from gateway.records import sweeping, uploads
from gateway.records.database import Database
from gateway.records.sweeping import Link, Reader

Commit: TypeAlias = Callable[[Change], Awaitable[Notes]]

#: Links, and files, in one transaction: bounds how long it keeps others waiting.
_LINKS: Final = 200
_FILES: Final = 200
_SPOOLS: Final = 100
#: About how long a step looks at shelves.
_LOOK_SECONDS: Final = 0.01


class EmbeddedSweep:
    """
    Sweeps one data directory, whether or not processes serve it; used once, and closed. `sweep` needs `alone`.

    *grace_seconds* is how long what nothing names is kept. `swept` is what has gone so far.
    """

    def __init__(
        self,
        store: Filesystem,
        clearing: Clearing,
        database: Database,
        *,
        grace_seconds: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._clearing = clearing
        self._database = database
        self._clock = clock
        self._cutoff = int(clock()) - grace_seconds
        self._reader = Reader(database)
        # Its own commits are no events: the trail tells of others, whatever process they are served by.
        self._steps = Steps("sweep", lambda: self._reader.read(sweeping.acts))
        self._busy: set[str] = set()
        self._removal = Removal()
        self.swept = Swept()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Holds off other sweeps, and imports; raises `Conflict` while there is one."""
        with ExitStack() as holding:
            try:
                holding.enter_context(self._store.held(SWEEP_LOCK))
            except BlockingIOError:
                raise Conflict("Another sweep or an import is under way here; wait for its end.") from None
            # Whoever comes next finds none of the files that this one has taken out of their places.
            holding.callback(self._removal.close)
            yield

    def close(self) -> None:
        """Lets go of the database; nothing may be asked of it any more."""
        self._removal.close()
        self._steps.close()
        self._reader.close()

    async def plan(self) -> Plan:
        """What a sweep would do now; changes nothing."""
        loose, waiting = await self._steps.run(self._links)
        going, stock = Swept(links=loose), Stock()
        async for shelf in self._shelves(self._cutoff):
            going += shelf.going(self._cutoff)
            stock += shelf.stock()
        return Plan(going + await self._steps.run(self._idle), waiting, stock)

    async def sweep(self, plan: Plan, commit: Commit) -> Receipt:
        """
        Does it, committing each batch; *plan* was just made, and says what there was before.

        Raises what *commit* does, and `OSError`: what has gone until then has gone, and `swept` says what.
        """
        begun = time.monotonic()
        await self._unlink(commit)
        after = Stock()
        async for shelf in self._shelves():
            cleared = await self._clear(shelf, commit)
            again = await self._steps.run(self._look, [(shelf.algorithm, shelf.digits)], None) if cleared else [shelf]
            after += again[0].stock()
        await self._steps.run(self._removal.let_end)
        await self._clear_uploads(commit)
        self.swept += await self._steps.run(self._clear_leftovers)
        _, waiting = await self._steps.run(self._links)
        return Receipt(self.swept, waiting, len(self._busy), plan.stock, after, time.monotonic() - begun)

    # links

    def _links(self) -> tuple[Amount, Amount]:
        return (
            Amount(*self._reader.read(lambda connection: sweeping.loose(connection, self._cutoff))),
            Amount(*self._reader.read(lambda connection: sweeping.waiting(connection, self._cutoff))),
        )

    def _page(self, last: Link | None) -> list[Link]:
        after = (last.place, last.digest) if last is not None else (-1, "")
        return self._reader.read(lambda connection: sweeping.loose_links(connection, self._cutoff, after, _LINKS))

    async def _unlink(self, commit: Commit) -> None:
        last: Link | None = None
        while found := await self._steps.run(self._page, last):
            last = found[-1]
            names = dict.fromkeys(link.repository for link in found)
            change = Change(self._unlinking(found), repositories=tuple(map(Repository, names)))
            gone: Sequence[Link] = (await self._steps.rest_after(commit(change))).result
            self.swept += Swept(links=Amount(len(gone), sum(link.size_bytes for link in gone)))

    def _unlinking(self, found: Sequence[Link]) -> Callable[[Any], Notes]:
        return lambda connection: Notes(result=sweeping.unlink(connection, found, self._cutoff))

    # blobs

    async def _shelves(self, cutoff: int | None = None) -> AsyncIterator[Shelf]:
        places = await self._steps.run(self._places)
        while places:
            found = await self._steps.run(self._look, places, cutoff)
            del places[: len(found)]
            for shelf in found:
                yield shelf

    def _places(self) -> list[tuple[Algorithm, str]]:
        return self._reader.read(lambda connection: shelves.places(connection, self._clearing))

    def _look(self, places: Sequence[tuple[Algorithm, str]], cutoff: int | None) -> list[Shelf]:
        """The first few shelves of *places*, as many as a short while allows."""
        begun = time.monotonic()
        found: list[Shelf] = []
        for algorithm, digits in places:
            read = partial(shelves.read, clearing=self._clearing, algorithm=algorithm, digits=digits, cutoff=cutoff)
            found.append(self._reader.read(read))
            if time.monotonic() - begun > _LOOK_SECONDS:
                break
        return found

    async def _clear(self, shelf: Shelf, commit: Commit) -> bool:
        """Clears a shelf of what no repository links; whether there was anything to try."""
        wanted = [*shelf.loose(), *shelf.strays(self._cutoff)]
        for batch in _batches(wanted, _FILES):
            doomed = await self._steps.run(self._doom, batch, shelf)
            try:
                notes = await self._steps.rest_after(commit(Change(self._forgetting(doomed, shelf.folder))))
            finally:
                await self._steps.run(self._removal.begin, [file for file in doomed.values() if file is not None])
            sizes, moved = notes.result
            files = [doomed[digest] for digest in moved if digest in sizes]
            strays = [doomed[digest] for digest in moved if digest not in sizes]
            self.swept += Swept(
                blobs=Amount(len(sizes), sum(sizes.values())),
                files=amount_of(each.lying for each in files if each is not None),
                strays=amount_of(each.lying for each in strays if each is not None),
                shared_bytes=shared_bytes(each.lying for each in (*files, *strays) if each is not None),
            )
        return bool(wanted)

    def _doom(self, digests: Sequence[str], shelf: Shelf) -> dict[str, Doomed | None]:
        """The files of *digests*, locked; None for one that has none. What is being finished just now is left out."""
        files, before, start = shelf.files, f"{shelf.folder}/", len(shelf.algorithm.value) + 1
        doomed: dict[str, Doomed | None] = {}
        for digest in digests:
            try:
                doomed[digest] = self._clearing.doom(before + digest[start:]) if digest in files else None
            except BlockingIOError:
                self._busy.add(digest)
        return doomed

    def _forgetting(self, doomed: Mapping[str, Doomed | None], folder: str) -> Callable[[Any], Notes]:
        """Forgets the blobs that nothing links even now, with their files; which had a record, which a file."""

        def apply(connection: Any) -> Notes:
            loose = sweeping.unlinked(connection, list(doomed))
            moved: list[str] = []
            gone: list[str] = []
            with self._clearing.still(folder) as still:
                for digest in sorted(loose):
                    file = doomed[digest]
                    if file is None or file.move(still=still):
                        gone.append(digest)
                        moved += [digest] if file is not None else []
            return Notes(result=(sweeping.drop(connection, gone), moved))

        return apply

    # uploads, and what was left behind

    def _idle(self) -> Swept:
        now = int(self._clock())
        count = self._reader.read(lambda connection: sweeping.expired_count(connection, now))
        left = [*self._clearing.files(IMPORTS).values(), *self._clearing.files(SWEPT).values()]
        spools = self._idle_spools()
        return Swept(uploads=Amount(count), spools=amount_of(spools.values()), leftovers=amount_of(left))

    def _idle_spools(self) -> Mapping[str, Lying]:
        """The spools that no upload can be continued with."""
        spools = {name: lying for name, lying in self._clearing.files(UPLOADS).items() if uploads.is_id(name)}
        living: set[str] = set()
        for batch in _batches(spools, _SPOOLS):
            living |= self._living(batch)
        return {name: lying for name, lying in spools.items() if name not in living}

    def _living(self, upload_ids: Sequence[str]) -> set[str]:
        now = int(self._clock())
        return self._reader.read(lambda connection: sweeping.living(connection, upload_ids, now))

    async def _clear_uploads(self, commit: Commit) -> None:
        for batch in _batches(await self._steps.run(self._idle_spools), _SPOOLS):
            self.swept += Swept(spools=await self._steps.run(self._discard, batch))
        after = ""
        while found := await self._steps.run(self._expired, after):
            after = found[-1]
            gone = [upload_id for upload_id in found if upload_id not in self._busy]
            count = (await self._steps.rest_after(commit(Change(self._removing(gone))))).result
            self.swept += Swept(uploads=Amount(count))

    def _discard(self, upload_ids: Sequence[str]) -> Amount:
        spools: dict[str, Spool] = {}
        gone = Amount()
        try:
            for upload_id in upload_ids:
                try:
                    spools[upload_id] = self._store.grow(upload_key(upload_id))
                except BlockingIOError:
                    self._busy.add(upload_id)
            # A transaction that lets go of a spool may still be open: the rows are believed once it has ended.
            with self._database.lock():
                living = self._living(list(spools))
            for upload_id, spool in spools.items():
                if upload_id not in living:
                    gone += Amount(1, spool.size)
                    spool.discard()
        finally:
            for spool in spools.values():
                spool.release()
        return gone

    def _expired(self, after: str) -> list[str]:
        now = int(self._clock())
        return self._reader.read(lambda connection: sweeping.expired(connection, now, after, _SPOOLS))

    def _removing(self, upload_ids: Sequence[str]) -> Callable[[Any], Notes]:
        now = int(self._clock())
        return lambda connection: Notes(result=uploads.remove_expired(connection, upload_ids, now))

    def _clear_leftovers(self) -> Swept:
        left = [*self._clearing.files(IMPORTS).values(), *self._clearing.files(SWEPT).values()]
        self._store.clear(IMPORTS)
        self._store.clear(SWEPT)
        return Swept(leftovers=amount_of(left), shared_bytes=shared_bytes(left))


def _batches(values: Iterable[str], size: int) -> Iterator[list[str]]:
    every = list(values)
    for start in range(0, len(every), size):
        yield every[start : start + size]
