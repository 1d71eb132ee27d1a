"""Several workers and their parent: it starts them, replaces those that end, and tells all to stop.

                    ┌─ ended, or refused by the system ─▶ a pause, longer each time ─┐
start ─▶ accepting ─┴─ told to stop ─▶ drained, or killed        start ◀─────────────┘
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.resource_tracker import ensure_running
from types import FrameType
from typing import Final

log = logging.getLogger("gateway.server")

STARTUP_FAILED: Final = 3

_STEADY_SECONDS: Final = 10.0
_LONGEST_PAUSE_SECONDS: Final = 30.0
#: `timeout` and its like signal a process twice at once, alone and with its group: that is one wish, and no second one.
_ONE_WISH_SECONDS: Final = 0.25


class Wishes:
    """How often a stop was asked for."""

    def __init__(self) -> None:
        self.count = 0
        self._last = 0.0

    def hear(self) -> None:
        now = time.monotonic()
        if not self.count or now - self._last >= _ONE_WISH_SECONDS:
            self.count += 1
            self._last = now


@dataclass(slots=True)
class _Place:
    number: int
    process: SpawnProcess | None = None
    report: Connection | None = None
    ready: bool = False
    started: float = 0.0
    failures: int = 0
    due: float = field(default=0.0)


class Fleet:
    """
    The parent of several workers: starts them, replaces one that dies, stops them all.

    *make* prepares the process of a number, which begins with SIGINT blocked, ends when told by SIGTERM, and sends one
    message over the pipe when it accepts on *sockets*; *on_look* is called several times a second, and what it raises
    is logged.
    """

    def __init__(
        self,
        workers: int,
        make: Callable[[int, Connection], SpawnProcess],
        sockets: list[socket.socket],
        on_look: Callable[[], object],
        drain_seconds: float,
    ) -> None:
        self._places = [_Place(number) for number in range(workers)]
        self._make = make
        self._sockets = sockets
        self._on_look = on_look
        self._drain_seconds = drain_seconds
        self._wishes = Wishes()

    def run(self, on_ready: Callable[[], None]) -> int:
        """Watch until told to stop; `STARTUP_FAILED` when a worker ends before all of them once accepted."""
        before = {number: signal.signal(number, self._heard) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            return self._watch(on_ready)
        finally:
            self._kill()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self._wishes.hear()

    def _watch(self, on_ready: Callable[[], None]) -> int:
        announced = False
        try:
            for place in self._places:
                self._start(place)
        except OSError as problem:
            log.error("no worker can be started: %s", problem.strerror)  # noqa: TRY400  (the system's word is enough)
            self._stop()
            return STARTUP_FAILED
        while not self._wishes.count:
            self._listen()
            self._look()
            if self._wishes.count:
                # Who signals the whole group ends workers, too: they are not missed.
                break
            for place in self._places:
                if place.process is not None and not place.process.is_alive():
                    if not announced:
                        log.error("worker %d ended before it was ready", place.number)
                        self._stop()
                        return STARTUP_FAILED
                    self._bury(place)
                if place.process is None and time.monotonic() >= place.due:
                    self._replace(place)
            if not announced and all(place.ready for place in self._places):
                announced = True
                on_ready()
        return self._stop()

    def _look(self) -> None:
        try:
            self._on_look()
        except Exception:
            # What is looked at is not worth the workers, which serve.
            log.exception("what is looked at several times a second failed")

    def _start(self, place: _Place) -> None:
        place.report, report = multiprocessing.Pipe(duplex=False)
        with report:
            process = self._make(place.number, report)
            with _undisturbed():
                process.start()
        place.process, place.started, place.ready = process, time.monotonic(), False

    def _replace(self, place: _Place) -> None:
        try:
            self._start(place)
        except OSError as problem:
            # The others serve on: that the system has no process or file to give just now is no fault of theirs.
            place.failures += 1
            self._postpone(place, f"cannot be started ({problem.strerror})")

    def _listen(self) -> None:
        reports = {place.report: place for place in self._places if place.report is not None}
        sentinels = [place.process.sentinel for place in self._places if place.process is not None]
        for found in wait([*reports, *sentinels], timeout=0.2):
            if not isinstance(found, Connection):
                continue
            place = reports[found]
            try:
                found.recv()
                place.ready = True
            except (EOFError, OSError):
                found.close()
                place.report = None

    def _bury(self, place: _Place) -> None:
        assert place.process is not None
        lived = time.monotonic() - place.started
        place.failures = 0 if lived > _STEADY_SECONDS else place.failures + 1
        self._postpone(place, f"ended with {place.process.exitcode}")
        place.process.close()
        place.process = None
        place.ready = False

    def _postpone(self, place: _Place, why: str) -> None:
        pause = min(_LONGEST_PAUSE_SECONDS, 0.25 * 2**place.failures) if place.failures else 0.0
        log.error("worker %d %s; replaced in %g s", place.number, why, pause)
        place.due = time.monotonic() + pause

    def _alive(self) -> list[SpawnProcess]:
        return [place.process for place in self._places if place.process is not None and place.process.is_alive()]

    def _stop(self) -> int:
        # While one process holds a listener the system goes on queueing clients nobody will serve.
        for listener in self._sockets:
            listener.close()
        for process in self._alive():
            process.terminate()
        end = time.monotonic() + self._drain_seconds + 5
        while (alive := self._alive()) and time.monotonic() < end and self._wishes.count < 2:
            wait([process.sentinel for process in alive], timeout=0.1)
        return 1 if self._alive() else 0

    def _kill(self) -> None:
        for process in self._alive():
            process.kill()
            process.join()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """
    Keeps SIGINT, which a terminal sends to every process of its group, from whatever is started in it until it says
    itself what becomes of the signal: it would end with a traceback while it loads. Here it comes a moment later.
    """
    # Python's own helper, which comes with the first process, lets the signal through again when it starts.
    ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
