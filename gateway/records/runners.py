"""Runners: processes that each walk stretches of the chain, so that all cores read a long trail at once.

    verifier ── the database, the keys ──▶ runner ×cores         JSON, a line each, over pipes
             ── stretch: head, until ────▶
             ◀─ answer: head, counts ─────

A runner ends with its input, and so with whoever started it. One that fails answers nothing, which proves nothing.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, func, select

from gateway.audit.chain import Head
from gateway.records import segments
from gateway.records.database import Database
from gateway.records.schema import events
from gateway.records.walking import Walk, Wrong

#: Events of a stretch. What a runner finds wrong is looked for again by the verifier, in one stretch.
STRETCH = 25_000
#: Fewer events are read sooner than runners are started.
WORTH = 250_000
#: Each holds some 75 MiB, wherever the gateway was given little memory too.
MOST = 4
#: A runner has so many stretches before it, so that it never waits for the others.
_AHEAD = 2
#: Requests come before runners where both want the processor.
_NICENESS = 5
_ASKED = 500
_ALLOCATIONS = 100_000

Statements = Mapping[int, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Stretch:
    """The events after *head*, as it is stored and not looked at, up to the one numbered *until*."""

    head: Head
    until: int


@dataclass(frozen=True, slots=True)
class Answer:
    """How far a stretch is whole, from the head it was begun with: see `Walk`. *wrong* if not all of it is."""

    head: Head
    wrong: bool
    sealed: int
    purged: int
    compared: int
    unlike: Wrong | None


Answers = Iterator[tuple[Stretch, Answer | None]]


@contextmanager
def running(database: Database, keys: Mapping[str, bytes], against: Statements, only: str = "") -> Iterator[Answers]:
    """
    The stretches that the trail is worth cutting into, in their order, each with what a runner found of it.

    None for a stretch whose runner failed. What follows the last stretch is nobody's yet; a short trail has none.
    """
    count = min(MOST, cores())
    stretches = database.read_now(cut) if count > 1 else []
    found: list[Runner] = []
    try:
        if stretches:
            greeting = {
                "url": database.engine.url.render_as_string(hide_password=False),
                "data": str(database.data.absolute()),
                "keys": {kid: key.hex() for kid, key in keys.items()},
                "only": only,
            }
            found = [start(greeting) for _ in range(min(count, len(stretches)))]
        yield _answers(found, stretches, against)
    finally:
        for runner in found:
            runner.close()


def _answers(found: Sequence[Runner], stretches: Sequence[Stretch], against: Statements) -> Answers:
    """Deals the stretches out in turn, so that answers come in their order."""
    dealt = len(found) * _AHEAD

    def ask(number: int) -> None:
        if number < len(stretches):
            found[number % len(found)].ask(stretches[number], against)

    for number in range(dealt):
        ask(number)
    for number, stretch in enumerate(stretches):
        answer = found[number % len(found)].answer()
        ask(number + dealt)
        yield stretch, answer


def cut(connection: Connection) -> list[Stretch]:
    """The trail in stretches that begin where segments do, and then at every so many events; none if it is short."""
    last = int(connection.execute(select(func.max(events.c.seq))).scalar() or 0)
    sealed = segments.every(connection)
    begun = sealed[-1].last_seq if sealed else 0
    if max(last, begun) < WORTH:
        return []
    borders = [Head(), *(segment.head for segment in sealed)]
    wanted = range(begun + STRETCH, last + 1, STRETCH)
    for start in range(0, len(wanted), _ASKED):
        mine = events.c.seq.in_(wanted[start : start + _ASKED])
        rows = connection.execute(select(events.c.seq, events.c.hash).where(mine).order_by(events.c.seq))
        found = [Head(row.seq, row.hash) for row in rows]
        if not found:
            # So many are missing, or the last has a number of somebody's own making: that is for one to find.
            break
        borders += found
    return [Stretch(head, following.seq) for head, following in pairwise(borders)]


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


class Runner:
    """A runner's process, as the verifier sees it."""

    def __init__(self, greeting: Mapping[str, object]) -> None:
        # The program that was started is the program that runs, wherever it was started.
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(each for each in (root, os.environ.get("PYTHONPATH", "")) if each)
        self._process: subprocess.Popen[str] | None = None
        with suppress(OSError):
            self._process = subprocess.Popen(  # noqa: S603 - this program itself
                [sys.executable, "-P", "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
            )
        self._say(greeting)

    def ask(self, stretch: Stretch, against: Statements) -> None:
        within = [each for seq in against if stretch.head.seq < seq <= stretch.until for each in against[seq]]
        self._say({"head": _spelled(stretch.head), "until": stretch.until, "against": within})

    def answer(self) -> Answer | None:
        """The answer to what was asked first of what is not answered; None if the runner failed."""
        if self._process is None or self._process.stdout is None:
            return None
        try:
            said = json.loads(self._process.stdout.readline())
            head, unlike = said.pop("head"), said.pop("unlike")
            return Answer(_head(head), unlike=Wrong(**unlike) if unlike else None, **said)
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """Ends the process, whatever it is at."""
        if self._process is not None:
            self._process.kill()
            with suppress(OSError):
                self._process.communicate()

    def _say(self, what: Mapping[str, object]) -> None:
        if self._process is not None and self._process.stdin is not None:
            # That it is gone is seen by its answer.
            with suppress(OSError):
                self._process.stdin.write(json.dumps(what) + "\n")
                self._process.stdin.flush()


start: Callable[[Mapping[str, object]], Runner] = Runner


def main(orders: IO[str], answers: IO[str]) -> None:
    """The runner's life: what it is told first, then a stretch and its answer, as long as there are any."""
    told = json.loads(orders.readline())
    keys = {kid: bytes.fromhex(key) for kid, key in told["keys"].items()}
    database = Database.open(told["url"], Path(told["data"]))
    # Rows come and go by the thousand, and none of them is in a ring: the collector would look at each for nothing.
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS)
    try:
        for line in orders:
            order = json.loads(line)
            against: dict[int, list[Mapping[str, Any]]] = {}
            for statement in order["against"]:
                against.setdefault(int(statement["seq"]), []).append(statement)
            stretch = Stretch(_head(order["head"]), order["until"])
            answers.write(json.dumps(_told(walked(database, keys, stretch, against, told["only"]))) + "\n")
            answers.flush()
    finally:
        database.close()


def walked(
    database: Database, keys: Mapping[str, bytes], stretch: Stretch, against: Statements, only: str = ""
) -> Answer:
    """What a runner finds of the *stretch*."""
    walk = Walk(database, keys, against, stretch.head, only)
    wrong = walk.through(stretch.until)
    return Answer(walk.head, wrong is not None, walk.sealed, walk.purged, walk.compared, walk.unlike)


def _told(answer: Answer) -> dict[str, object]:
    return {**asdict(answer), "head": _spelled(answer.head)}


def _spelled(head: Head) -> tuple[int, str]:
    return head.seq, head.hash.hex()


def _head(spelled: tuple[int, str]) -> Head:
    return Head(spelled[0], bytes.fromhex(spelled[1]))


if __name__ == "__main__":
    os.nice(_NICENESS)
    main(sys.stdin, sys.stdout)
