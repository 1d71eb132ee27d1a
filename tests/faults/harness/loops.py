"""The loops: a write again and again, struck at its first step, its second, its third, until it comes through."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from tests.faults.harness.figures import Figures
from tests.faults.harness.journal import Noun
from tests.faults.harness.operations import Act, Operation
from tests.faults.harness.oracle import Oracle
from tests.faults.harness.site import Site, Unanswered
from tests.faults.harness.striking import FILES, STATEMENTS, Mode, Part, Strike, Target

#: More steps than any write has.
_MOST = 150
#: Where uploads grow, each a file of its own.
_SPOOLS = "uploads/"


@dataclass(frozen=True, slots=True)
class Pass:
    """One loop over the steps of some kinds."""

    fault: str
    strike: Callable[[int], Strike]
    power: bool = False

    @property
    def kills(self) -> bool:
        """Whether the process dies of it."""
        return self.strike(1).mode is Mode.KILL


def _kill(part: Part, kinds: Sequence[str]) -> Callable[[int], Strike]:
    return lambda at: Strike(Mode.KILL, at, part, kinds)


def _fail(number: int, part: Part, kinds: Sequence[str]) -> Callable[[int], Strike]:
    return lambda at: Strike(Mode.ERROR, at, part, kinds, errno=number)


ALL = (*FILES, *STATEMENTS)
KILLS = (
    Pass("kill -9", _kill(Part.BEFORE, ALL)),
    Pass("kill -9", _kill(Part.TORN, ("write",))),
    Pass("kill -9", _kill(Part.AFTER, ("commit",))),
)
POWER = (
    Pass("loss of power", _kill(Part.BEFORE, ALL), power=True),
    Pass("loss of power", _kill(Part.AFTER, ("commit",)), power=True),
)
ERRORS = (
    Pass("no space left", _fail(errno.ENOSPC, Part.BEFORE, (*FILES, *STATEMENTS))),
    Pass("no space left", _fail(errno.ENOSPC, Part.TORN, ("write",))),
    Pass("I/O error", _fail(errno.EIO, Part.BEFORE, (*FILES, *STATEMENTS))),
    Pass("I/O error", _fail(errno.EIO, Part.AFTER, ("sync", "rename", "commit"))),
    Pass("too many open files", _fail(errno.EMFILE, Part.BEFORE, ("open", "create"))),
    Pass("database locked", _fail(errno.EAGAIN, Part.BEFORE, STATEMENTS)),
)


def trace(site: Site, target: Target, act: Act) -> list[tuple[str, str, str]]:
    """The steps of a write that nothing strikes."""
    target.arm(Strike(Mode.TRACE, kinds=ALL))
    act(again=False)
    steps = target.struck()
    target.arm()
    return steps


def run(
    site: Site, operation: Operation, each: Pass, figures: Figures, *, numbers: Iterator[int], only: Sequence[int] = ()
) -> int:
    """
    Strikes *operation* at every step, or at *only* those; how often it was struck.

    After each the gateway is up again, the write is done once more, and the oracle judges.
    """
    oracle = Oracle(site, figures, each.fault)
    target = site.commands if operation.command else site.server
    struck = 0
    for at in only or count(1):
        assert at <= _MOST, f"{operation.name} has no end"
        act = operation.prepare(site, next(numbers))
        target.arm(each.strike(at))
        try:
            act(again=False)
            done = True
        except Unanswered:
            done = False
        # What a process does beside may be struck after it has answered.
        found = target.struck() or (target.settled() if each.kills else [])
        if not found and not done:
            figures.problem(each.fault, f"{operation.name}, step {at}: refused, and nothing was struck")
        if any(kind == "sync" and what.startswith(_SPOOLS) for kind, what, _ in found) and not each.kills:
            # Nobody knows what is on the disk then, and the upload is given up.
            site.journal.may_be_gone(Noun.UPLOAD)
        if found:
            struck += 1
            with figures.line(each.fault) as line:
                line.injected += 1
        _recover(site, each, figures, command=operation.command, struck=bool(found))
        if not done:
            _again(site, act, operation, each, figures, at)
        oracle.replay()
        # Where nothing died the same process goes on: what lies on its disk is looked at now and then.
        if found and (each.kills or at % 8 == 1):
            oracle.check()
        if not found and done:
            break
    return struck


def _recover(site: Site, each: Pass, figures: Figures, *, command: bool, struck: bool) -> None:
    if each.kills and struck and not command:
        assert site.fallen(), "it lives, though it was killed"
    site.server.arm()
    site.commands.arm()
    if each.power and struck:
        site.down()
        site.lose_power()
    if site.alive:
        try:
            figures.recovered(each.fault, site.answers())
            return
        except Unanswered:
            # What is struck may be what it does beside, after it has answered.
            if site.alive or not each.kills:
                raise
    figures.recovered(each.fault, site.up())


def _again(site: Site, act: Act, operation: Operation, each: Pass, figures: Figures, at: int) -> None:
    begun = time.monotonic()
    while True:
        try:
            act(again=True)
            return
        except Unanswered as error:
            # What broke may take a moment to be found whole.
            if time.monotonic() - begun > 5:
                figures.problem(each.fault, f"{operation.name}, step {at}: a retry does not converge: {error}")
                return
            time.sleep(0.05)
        except AssertionError as error:
            figures.problem(each.fault, f"{operation.name}, step {at}: a retry is refused: {error}")
            return
