"""The ledger: one committing thread a process, which makes everything that waits durable in one transaction.

    lock · begin · for each that waits: savepoint, judge again if policy moved, apply, seal · insert · commit · wake all

A refusal undoes its own savepoint only, and its event stays. If the transaction itself fails, nobody is acknowledged.

The end of the chain is looked at before anything is added: whoever edited it without the key would have it sealed anew.
That it was edited is an event, which cannot be taken away again unseen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, select
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import SQLAlchemyError

from gateway.access.policy import Refused
from gateway.audit.chain import Head, Sealed, head_seal, seal
from gateway.audit.event import Event, Outcome, Repeated
from gateway.change import Notes
from gateway.errors import AccessRefusal, Refusal, Unavailable
from gateway.gate import Act
from gateway.meters import Meters
from gateway.records.appending import append, trial
from gateway.records.database import Database
from gateway.records.descent import Descent
from gateway.records.directory import ConnectionView
from gateway.records.mark import end_of_chain
from gateway.records.schema import events
from gateway.records.sealed_end import drop_entries, sealed_end
from gateway.records.trail import SLICE, project_tail
from gateway.records.waiting import UNKNOWN, Waiting

_log = logging.getLogger("gateway.ledger")

#: Acts committed together, at most: bounds the time the lock is held.
_BATCH = 256
_ACKNOWLEDGE_SECONDS = 30.0
#: How often the searchable projection follows, by a little while others commit: a trickle that never stops included.
_FOLLOW_SECONDS = 0.5
_CATCH_UP_SECONDS = 0.02
#: So long an act that is patient waits for one that is not.
_PATIENT_SECONDS = 0.05
#: Places of each batch that acts have who were patient for so long, however many others wait: a quarter.
_PATIENT_PLACES = _BATCH // 4
#: Searches read what the projection has not reached: under steady load it must not fall behind for ever.
_AHEAD = 32_768
_BROKEN = "the audit trail cannot be written"
_UNAVAILABLE = "The audit trail cannot be written now, so nothing was done; try again shortly."


class _Unknown(Exception):
    """A commit was begun, and nobody knows how it ended."""


class SqlLedger:
    """
    The gate's ledger, on SQLite or PostgreSQL; `start` it in the process that uses it, `close` it before it ends.

    *trail_key* seals the chain's head; the keys that sign what was purged open under the secret *opening*.
    """

    def __init__(
        self, database: Database, trail_key: bytes, meters: Meters | None = None, *, opening: bytes = b""
    ) -> None:
        self._meters = meters or Meters()
        self._database = database
        self._trail_key = trail_key
        self._descent = Descent(database, trail_key, opening)
        self._waiting: deque[Waiting] = deque()
        self._patient: deque[Waiting] = deque()
        self._hurried = False
        self._wanted = threading.Condition()
        self._closing = False
        self._idle = False
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._ahead = 0
        self._behind = False
        self._doubt = False
        self._stuck = False
        self._followed = time.monotonic()
        self.broken = ""
        """Why nothing can be committed now; empty when all is well. Looked at by readiness."""

    def start(self) -> None:
        with self._database.lock():
            self._database.versions.settle()
        # Nobody waits for a commit yet: where others have long gone on, this reads all that they added.
        self._descent.keep_up()
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Commits what waits, then ends the thread."""
        with self._wanted:
            self._closing = True
            self._wanted.notify()
        if self._thread is not None:
            self._thread.join()

    async def commit(self, act: Act) -> Notes:
        loop = asyncio.get_running_loop()
        waiting = Waiting(act, loop, loop.create_future())
        if self._closing:
            waiting.release()
            raise Unavailable("The gateway is stopping; try again shortly.")
        if act.patient:
            self._patient.append(waiting)
            loop.call_later(_PATIENT_SECONDS, self._hurry)
        else:
            self._waiting.append(waiting)
            self._notify()
        patience = loop.call_later(_ACKNOWLEDGE_SECONDS, waiting.give_up)
        try:
            return await waiting.future
        finally:
            patience.cancel()
            # What is raised holds this frame: without a way back to it, a dropped change ends here and now, and with
            # it the lock it may hold.
            del waiting

    def _hurry(self) -> None:
        if self._patient:
            self._hurried = True
            self._notify()

    def _notify(self) -> None:
        if self._idle:
            with self._wanted:
                self._wanted.notify()

    # the committing thread

    def _run(self) -> None:
        try:
            while True:
                batch = self._next_batch()
                if batch:
                    self._settle(batch)
                    self._ahead += len(batch)
                elif self._closing:
                    return
                if not batch or self._ahead > _AHEAD or time.monotonic() - self._followed > _FOLLOW_SECONDS:
                    self._follow()
                    self._descent.keep_up()
                # Changes that were not applied are not kept while nothing happens.
                del batch
        finally:
            if self._connection is not None:
                with self._database.lock():
                    self._connection.close()

    def _next_batch(self) -> list[Waiting]:
        with self._wanted:
            # Said before looking: whoever appends after this look sees it and notifies.
            self._idle = True
            if not self._waiting and not self._hurried and not self._closing:
                self._wanted.wait(timeout=_CATCH_UP_SECONDS if self._behind else _FOLLOW_SECONDS)
            self._idle = False
            kept = min(len(self._patient), _PATIENT_PLACES) if self._hurried else 0
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH - kept))]
            if batch or self._hurried or self._closing:
                batch += [self._patient.popleft() for _ in range(min(len(self._patient), _BATCH - len(batch)))]
                self._hurried = self._hurried and bool(self._patient)
            return batch

    def _settle(self, batch: Sequence[Waiting]) -> None:
        begun = time.perf_counter()
        try:
            with self._database.lock():
                self._end_doubt()
                self._transact(batch)
                self.broken = "" if self._copied_back() else _BROKEN
        except Exception as error:
            # Whatever it is — full disk, lost server, a defect — no one may be told that an act was done.
            if not self._database.is_away(self._connection, error):
                _log.exception("a batch of %d could not be committed", len(batch))
            self._drop_connection()
            self.broken = _BROKEN
            unknown = isinstance(error, _Unknown)
            for waiting in batch:
                waiting.error = Unavailable(UNKNOWN if unknown else _UNAVAILABLE, uncertain=unknown)
                waiting.error.__cause__ = error.with_traceback(None)
        for waiting in batch:
            # Before anybody is woken: whoever is told to try again finds nothing in the way.
            waiting.release()
        self._meters.committed(time.perf_counter() - begun, len(batch), len(self._waiting))
        loops: dict[asyncio.AbstractEventLoop, list[Waiting]] = {}
        for waiting in batch:
            loops.setdefault(waiting.loop, []).append(waiting)
        for loop, woken in loops.items():
            with contextlib.suppress(RuntimeError):  # the loop has ended: no one waits any more
                loop.call_soon_threadsafe(_wake, woken)

    def _transact(self, batch: Sequence[Waiting]) -> None:
        connection = self._connect()
        changes = [waiting.act.change for waiting in batch if waiting.act.change is not None]
        policy = any(change.policy for change in changes)
        names = {repository.name for change in changes for repository in change.repositories}
        version = self._database.versions.policy()
        mark = self._database.mark.read(self._trail_key)
        cursor = connection.connection.cursor()
        moving = self._database.versions.moving(policy=policy, repositories=names)
        with self._doubting(policy, names), moving, _closing(cursor):
            for statement in self._database.beginning:
                cursor.execute(statement)
            try:
                head, broken = end_of_chain(cursor, mark, self._trail_key, self._descent.between(connection))
                sealed: list[Sealed] = []
                told: list[tuple[object, object]] = []
                if broken is not None:
                    # Kept before anything that looks at the end is applied; and searches are to find it.
                    drop_entries(cursor, head)
                    sealed.append(seal(head, broken.record()))
                    told.append((broken.kind.value, broken.outcome.value))
                    append(cursor, connection.dialect.paramstyle, sealed, self._trail_key)
                    head = Head(sealed[-1].seq, sealed[-1].hash)
                kept = len(sealed)
                for waiting in batch:
                    for event in self._apply(connection, waiting, moved=policy or waiting.act.version != version):
                        record = event.record()
                        sealed.append(seal(head, record))
                        told.append((record["kind"], record["outcome"]))
                        head = Head(sealed[-1].seq, sealed[-1].hash)
                if sealed[kept:]:
                    append(cursor, connection.dialect.paramstyle, sealed[kept:], self._trail_key)
            except BaseException:
                with contextlib.suppress(Exception):
                    cursor.execute("ROLLBACK")
                raise
            self._commit(cursor, sealed)
            if sealed:
                self._database.mark.write(head, head_seal(head, self._trail_key))
        self._meters.events.update(told)

    def _copied_back(self) -> bool:
        """Has a grown write-ahead log copied back after a commit; whether that went well."""
        try:
            if self._connection is not None:
                self._database.checkpoint(self._connection)
        except Exception:
            # What was committed is durable: whoever waits for it is told so, and only what comes next may fail.
            _log.exception("the write-ahead log could not be copied back; what was committed is kept")
            self._drop_connection()
            return False
        return True

    def _apply(self, connection: Connection, waiting: Waiting, *, moved: bool) -> Sequence[Event | Repeated]:
        act = waiting.act
        if isinstance(act.event, Repeated):
            return [act.event]
        if moved and act.rejudge is not None and act.refusal is not None:
            verdict = act.rejudge(ConnectionView(connection))
            if isinstance(verdict, Refused):
                waiting.error = act.refusal(verdict)
                _apply_otherwise(connection, act)
                return [act.event.but(outcome=Outcome.DENIED, reason=verdict.reason.value)]
        if act.change is None:
            return [*act.also, act.event]
        connection.exec_driver_sql("SAVEPOINT act")
        try:
            waiting.notes = act.change.apply(connection)
        except Exception as error:
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT act")
            waiting.error = error
            _apply_otherwise(connection, act)
            outcome = Outcome.DENIED if isinstance(error, AccessRefusal) else Outcome.FAILED
            return [act.event.but(outcome=outcome, reason=error.reason if isinstance(error, Refusal) else "fault")]
        connection.exec_driver_sql("RELEASE SAVEPOINT act")
        return waiting.told(act.event)

    def _commit(self, cursor: DBAPICursor, sealed: Sequence[Sealed]) -> None:
        try:
            cursor.execute("COMMIT")
        except Exception as error:
            # The answer may be lost though the commit was not: the chain says whether it happened.
            self._drop_connection()
            if not sealed and not self._database.sqlite:
                raise _Unknown from error
            try:
                kept = bool(sealed) and self._kept(sealed[-1])
            except Exception as unheard:
                raise _Unknown from unheard
            if not kept:
                raise

    def _kept(self, event: Sealed) -> bool:
        with self._database.ended() as connection:
            row = connection.execute(select(events.c.hash).where(events.c.seq == event.seq)).first()
            return row is not None and row.hash == event.hash

    @contextlib.contextmanager
    def _doubting(self, policy: bool, names: set[str]) -> Iterator[None]:
        try:
            yield
        except _Unknown:
            # Nothing may be remembered of what a commit that comes after all would change.
            self._database.versions.doubt(policy=policy, repositories=names)
            self._doubt = True
            raise

    def _end_doubt(self) -> None:
        """Once a transaction whose end nobody knew has ended, what it moved comes to rest; under the lock."""
        if self._doubt:
            with self._database.ended():
                self._database.versions.settle()
            self._doubt = False

    def _follow(self) -> None:
        """Lets the projection catch up a little: with nothing to commit, far ahead of it, or once in a while."""
        self._followed = time.monotonic()
        try:
            with self._database.lock():
                connection = self._connect()
                self._end_doubt()
                if self.broken:
                    # Nobody sends requests to what is not ready, so it is tried here.
                    trial(self._database, connection)
                count = self._projected(connection)
                self._database.checkpoint(connection)
            self._behind = count == SLICE
            self._ahead = self._ahead if self._behind else 0
            self.broken = ""
        except Exception as error:
            if not self._database.is_away(self._connection, error):
                _log.exception("the trail takes no event")
            self._behind = False
            self._drop_connection()
            self.broken = _BROKEN

    def _projected(self, connection: Connection) -> int:
        """As `project_tail`; 0 if the projection alone cannot follow. Raises if the trail takes no event either."""
        try:
            until = sealed_end(self._database, connection, self._trail_key)
            count = project_tail(self._database, connection, until)
        except Exception:
            # Listings read the unprojected tail themselves: acts go on meanwhile, and it is tried again.
            trial(self._database, connection)
            if not self._stuck:
                _log.exception("the searchable projection of the trail did not follow; it is tried again")
            self._stuck = True
            return 0
        self._stuck = False
        return count

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = self._database.writer()
        return self._connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._connection.invalidate()
                self._connection.close()
            self._connection = None


@contextlib.contextmanager
def _closing(cursor: DBAPICursor) -> Iterator[None]:
    try:
        yield
    finally:
        # With a connection that was dropped meanwhile it is gone already; what was committed is committed all the same.
        with contextlib.suppress(Exception):
            cursor.close()


def _apply_otherwise(connection: Connection, act: Act) -> None:
    if act.otherwise is None:
        return
    connection.exec_driver_sql("SAVEPOINT otherwise")
    try:
        act.otherwise(connection)
    except Exception:
        # Others are committed in the same transaction, and how this act ended has to be told all the same.
        _log.exception("what was to go with an act that was refused is left")
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT otherwise")
    connection.exec_driver_sql("RELEASE SAVEPOINT otherwise")


def _wake(woken: Sequence[Waiting]) -> None:
    for waiting in woken:
        waiting.wake()
