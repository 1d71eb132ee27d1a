"""Verifying the trail: segments, chain, head, projection and checkpoints, in one reading of everything.

    0 ──▶ stretch ──▶ stretch ──▶ stretch ──▶ tail ──▶ the head kept beside the chain
          runner      runner      runner      here

Runners say only that a stretch is whole, from the hash it was begun with to the one it ended at. Where these do not
meet, or a runner found anything, the stretch is walked here, from the last event that is known to be good: what is
wrong is always named by the same walk, one event after the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, func, select

from gateway.audit.chain import Head
from gateway.audit.trail import Verification
from gateway.records import checkpoints, driver, runners, segments
from gateway.records.database import Database
from gateway.records.mark import fault_at, fault_of_end, kept_hash, recorded
from gateway.records.proving import owned_keys
from gateway.records.runners import Answer, Stretch
from gateway.records.schema import event_index, events
from gateway.records.segments import Unsealed
from gateway.records.walking import Walk, Wrong


class Verifier:
    """
    Reads the whole trail once; *key* seals the head, *against* are statements from elsewhere, rightly signed.

    Checkpoints and stubs are believed under keys that open under the secret *opening*, and stubs under the one with the
    id *only*, if that is given.
    """

    def __init__(
        self,
        database: Database,
        key: bytes,
        against: Sequence[Mapping[str, Any]] = (),
        *,
        opening: bytes = b"",
        only: str = "",
    ) -> None:
        self._database = database
        self._key = key
        self._opening = opening
        self._only = only
        self._against: defaultdict[int, list[Mapping[str, Any]]] = defaultdict(list)
        for statement in against:
            self._against[int(statement["seq"])].append(statement)
        self._walk = Walk(database, {}, self._against, Head())

    def verify(self) -> Verification:
        """What is wrong with the first bad event, if anything; see `Verification`."""
        keys = self._read(partial(owned_keys, secret=self._opening)) if self._opening else {}
        walk = self._walk = Walk(self._database, keys, self._against, Head(), self._only)
        last, projected = self._read(_reached)
        if projected > last:
            walk.unlike = Wrong("the search entries name events that do not exist", last)
        with runners.running(self._database, keys, self._against, self._only) as answers:
            for stretch, answer in answers:
                wrong = self._join(stretch, answer)
                if wrong is not None:
                    return self._found(wrong)
        return self._found(walk.through() or self._end())

    def _join(self, stretch: Stretch, answer: Answer | None) -> Wrong | None:
        """Takes a runner at its word if its stretch is whole and begins where the walk is; else walks there."""
        walk = self._walk
        if answer is None or answer.wrong or stretch.head != walk.head:
            return walk.through(stretch.until)
        walk.head = answer.head
        walk.sealed += answer.sealed
        walk.purged += answer.purged
        walk.compared += answer.compared
        walk.unlike = walk.unlike.before(answer.unlike) if walk.unlike is not None else answer.unlike
        return None

    def _end(self) -> Wrong | None:
        """The end of the chain against the head kept beside it, and against what statements from elsewhere name."""
        head = self._walk.head
        mark = self._database.mark.read(self._key)
        kept = self._read(recorded)
        if wrong := kept.fault or fault_of_end(kept.head, kept.seal, self._key, mark, self._between):
            return Wrong(wrong, head.seq)
        if kept.head.seq > head.seq and self._read(_last) <= head.seq:
            return Wrong(f"events {head.seq + 1} to {kept.head.seq} were cut off the end", head.seq + 1)
        if kept.head.seq == head.seq and kept.head.hash != head.hash:
            return Wrong(f"event {head.seq} is not the one sealed last", head.seq)
        if kept.head.seq < head.seq and self._read(recorded) == kept:
            return Wrong(f"event {kept.head.seq + 1} was added after the chain's head", kept.head.seq + 1)
        newest = self._read(checkpoints.newest_row)
        if newest is not None and newest.seq > head.seq and self._read(_last) <= head.seq:
            told = f"events {head.seq + 1} to {newest.seq} are gone: a checkpoint names the last of them"
            return Wrong(told, head.seq + 1)
        beyond = [seq for seq in self._against if seq > head.seq]
        if beyond:
            last = max(beyond)
            moment = self._against[last][0]["time"]
            told = f"events {head.seq + 1} to {last} are gone: the checkpoint of {moment} names event {last}"
            return Wrong(told, head.seq + 1)
        return None

    def _between(self, mark: Head, head: Head) -> str:
        # That one event after the other leads to the head was walked.
        return fault_at(mark, self._kept_hash(mark.seq))

    def _kept_hash(self, seq: int) -> bytes | None:
        """As `kept_hash`, from the segment's file too: None for an event that was purged."""
        found: bytes | None = self._read(lambda connection: kept_hash(partial(driver.rows_of, connection), seq))
        segment = self._read(partial(segments.containing, seq=seq)) if found is None else None
        if segment is None or segment.stub:
            return found
        try:
            return next((each.hash for each in segments.events_of(self._database.data, segment, seq - 1)), b"")
        except Unsealed:
            # Purged since: this file was read a moment ago.
            return None

    def _found(self, broken: Wrong | None) -> Verification:
        walk = self._walk
        wrong = broken or walk.unlike
        return Verification(
            count=walk.head.seq,
            head=walk.head.hash.hex(),
            fault=wrong.text if wrong is not None else "",
            seq=wrong.seq if wrong is not None else 0,
            sealed=walk.sealed,
            purged=walk.purged,
            compared=walk.compared,
            uncompared=0 if wrong is not None else sum(map(len, self._against.values())) - walk.compared,
            beside=broken is None and wrong is not None,
        )

    def _read(self, query: Any) -> Any:
        return self._database.read_now(query)


def _last(connection: Connection) -> int:
    return int(connection.execute(select(func.max(events.c.seq))).scalar() or 0)


def _reached(connection: Connection) -> tuple[int, int]:
    """The numbers of the last event and of the last search entry, of one moment: others go on meanwhile."""
    last, projected = (select(func.max(each.c.seq)).scalar_subquery() for each in (events, event_index))
    row = connection.execute(select(last, projected)).one()
    return int(row[0] or 0), int(row[1] or 0)
