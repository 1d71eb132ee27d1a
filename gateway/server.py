"""Serve the application: bind, terminate TLS, keep the workers alive, and drain when asked to stop.

    serve ─▶ bind ─┬─ 1 worker: in this process
                   └─ N workers: this process watches; each worker builds its own application and accepts by itself

The first SIGTERM or SIGINT drains: no new connections, what is in hand finishes, exit 0. The second ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn._types import ASGI3Application

from gateway.certificates import LivePair, Pair, Reload, ReloadOutcome
from gateway.errors import Refusal
from gateway.protocol import Edge, EdgeLimits, Listener, StrictProtocol, bind, strict_protocol

log = logging.getLogger("gateway.server")

STARTUP_FAILED: Final = 3

_STEADY_SECONDS: Final = 10.0
_LONGEST_PAUSE_SECONDS: Final = 30.0
_OPEN_FILES: Final = 1 << 20
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """Where and how to serve; a value that can be handed to another process. Port 0 takes a free one."""

    bind: str
    port: int
    certificate: Path
    key: Path
    limits: EdgeLimits
    workers: int = 1
    drain_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Seat:
    """What a worker is told about its place: its number from 0, and the live pair, whose `warning` readiness shows."""

    number: int
    live: LivePair


def _nothing() -> None:
    return None


def _log_reload(reload: Reload) -> None:
    if reload.outcome is ReloadOutcome.ACCEPTED:
        log.info("certificate accepted: %s until %s", reload.pair.fingerprint, reload.pair.not_after)
    else:
        log.error("certificate rejected, the old one stays: %s", reload.reason)


def _log_refused(status: int, reason: str, peer: str) -> None:
    log.info("refused at the edge %d %s: %s", status, peer, reason)


@dataclass(frozen=True, slots=True)
class Worker:
    """
    An application (ASGI, with lifespan) and what it wants to hear: quick callables, called on the event loop.

    *on_certificate* hears each changed pair once per worker; *on_refused* each refusal at the edge (status, 0 for a
    cut without one; reason; address); *on_drain* that the worker stops: readiness must turn red.
    """

    app: ASGI3Application
    on_certificate: Callable[[Reload], None] = _log_reload
    on_refused: Callable[[int, str, str], None] = _log_refused
    on_drain: Callable[[], None] = _nothing


Factory = Callable[[Seat], Worker]


def serve(factory: Factory, plan: Plan, on_ready: Callable[[int], None] = lambda port: None) -> int:
    """
    Serve until told to stop; returns the exit status, 0 after a drain.

    With several workers *factory* must be picklable: a top-level function, or a `functools.partial` of one.
    *on_ready* is called once, with the port, when every worker accepts. Raises `Conflict` when the port is taken and
    `Invalid` when the address or the pair cannot be used, before any worker starts.
    """
    live = LivePair(plan.certificate, plan.key)
    sockets = bind(plan.bind, plan.port)
    port: int = sockets[0].getsockname()[1]
    if plan.workers == 1:
        harden()
        return _work(factory, plan, sockets, Seat(0, live), lambda: on_ready(port))
    return Fleet(factory, plan, sockets, live).run(lambda: on_ready(port))


def require_port(address: str, port: int) -> None:
    """Returns when *address* and *port* could be listened on just now; raises as `serve` does."""
    for listener in bind(address, port):
        listener.close()


# one worker


def _work(factory: Factory, plan: Plan, sockets: list[socket.socket], seat: Seat, ready: Callable[[], None]) -> int:
    worker = factory(seat)
    config = uvicorn.Config(
        worker.app,
        http=strict_protocol(plan.limits, worker.on_refused),
        ws="none",
        loop="uvloop",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    server = EdgeServer(config, worker, seat.live, plan.drain_seconds, ready)
    server.run(sockets=sockets)
    return 0 if server.started else STARTUP_FAILED


def harden() -> None:
    """Keep keys out of core dumps and other users' debuggers, and allow as many open files as the system grants."""
    _prctl(_PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


class EdgeServer(uvicorn.Server):
    """uvicorn's server with a bounded handshake, a pair that is watched, and a drain that ends."""

    def __init__(
        self, config: uvicorn.Config, worker: Worker, live: LivePair, drain_seconds: float, ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._worker = worker
        self._live = live
        self._drain_seconds = drain_seconds
        self._ready = ready
        self._listeners: list[Listener] = []

    @property
    def _edge(self) -> Edge:
        protocol: Any = self.config.http_protocol_class
        edge: Edge = protocol.edge
        return edge

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            self.should_exit = True
            return
        self._listeners = [
            Listener(listener, self._edge, self._live.context, self._connection) for listener in sockets or []
        ]
        self.started = True
        self._ready()

    def _connection(self) -> asyncio.Protocol:
        protocol: Any = self.config.http_protocol_class
        made: StrictProtocol = protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    async def on_tick(self, counter: int) -> bool:
        reload = self._live.refresh()
        if reload is not None:
            try:
                self._worker.on_certificate(reload)
            except Exception:
                log.exception("the application failed on a changed certificate")
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            os._exit(1)
        self.should_exit = True
        # Should the loop be stuck, the process still ends: SIGALRM's default is to end it.
        signal.alarm(int(self._drain_seconds) + 15)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("draining %d requests for at most %g s", len(self.server_state.tasks), self._drain_seconds)
        self._worker.on_drain()
        for listener in self._listeners:
            listener.close()
        await self._settle(self._drain_seconds, lambda: bool(self.server_state.tasks))
        for task in tuple(self.server_state.tasks):
            task.cancel("the drain took too long")
        await self._settle(2.0, lambda: bool(self.server_state.tasks or self.server_state.connections))
        for connection in self._connections():
            connection.transport.abort()
        await asyncio.sleep(0)
        await self.lifespan.shutdown()
        signal.alarm(0)

    async def _settle(self, seconds: float, busy: Callable[[], bool]) -> None:
        end = time.monotonic() + seconds
        while True:
            # Also those whose handshake ended after the listeners were closed.
            for connection in self._connections():
                connection.shutdown()
            if not busy() or time.monotonic() >= end:
                return
            await asyncio.sleep(0.05)

    def _connections(self) -> list[StrictProtocol]:
        return [each for each in self.server_state.connections if isinstance(each, StrictProtocol)]


# several workers


def _child(
    factory: Factory, plan: Plan, sockets: list[socket.socket], number: int, pair: Pair, parent: int, report: Connection
) -> None:
    # A terminal sends SIGINT to every process of its group; the parent decides for all of them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(STARTUP_FAILED)
    harden()
    try:
        seat = Seat(number, LivePair(plan.certificate, plan.key, fallback=pair))
        status = _work(factory, plan, sockets, seat, lambda: report.send(None))
    except Refusal as refusal:
        log.error("worker %d cannot start: %s", number, refusal.message)  # noqa: TRY400  (the sentence is enough)
        status = STARTUP_FAILED
    sys.exit(status)


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
    """The parent of several workers: starts them, replaces one that dies, stops them all."""

    def __init__(self, factory: Factory, plan: Plan, sockets: list[socket.socket], live: LivePair) -> None:
        self._factory = factory
        self._plan = plan
        self._sockets = sockets
        self._live = live
        self._spawn = multiprocessing.get_context("spawn")
        self._places = [_Place(number) for number in range(plan.workers)]
        self._signals = 0

    def run(self, on_ready: Callable[[], None]) -> int:
        """Watch until told to stop; `STARTUP_FAILED` when a worker ends before all of them once accepted."""
        before = {number: signal.signal(number, self._heard) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            harden()
            return self._watch(on_ready)
        finally:
            self._kill()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _watch(self, on_ready: Callable[[], None]) -> int:
        announced = False
        for place in self._places:
            self._start(place)
        while not self._signals:
            self._listen()
            # Of a changed pair the workers tell; here the last good one is kept, for those that come later.
            self._live.refresh()
            for place in self._places:
                if place.process is not None and not place.process.is_alive():
                    if not announced:
                        log.error("worker %d ended before it was ready", place.number)
                        self._stop()
                        return STARTUP_FAILED
                    self._bury(place)
                if place.process is None and time.monotonic() >= place.due:
                    self._start(place)
            if not announced and all(place.ready for place in self._places):
                announced = True
                on_ready()
        return self._stop()

    def _start(self, place: _Place) -> None:
        place.report, report = multiprocessing.Pipe(duplex=False)
        place.process = self._spawn.Process(
            target=_child,
            # Through a pipe: no list of processes shows the key.
            args=(self._factory, self._plan, self._sockets, place.number, self._live.pair, os.getpid(), report),
            name=f"gateway-worker-{place.number}",
        )
        place.started, place.ready = time.monotonic(), False
        place.process.start()
        report.close()

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
        pause = min(_LONGEST_PAUSE_SECONDS, 0.25 * 2**place.failures) if place.failures else 0.0
        log.error("worker %d ended with %s; replaced in %g s", place.number, place.process.exitcode, pause)
        place.due = time.monotonic() + pause
        place.process.close()
        place.process = None
        place.ready = False

    def _alive(self) -> list[SpawnProcess]:
        return [place.process for place in self._places if place.process is not None and place.process.is_alive()]

    def _stop(self) -> int:
        # While one process holds a listener the system goes on queueing clients nobody will serve.
        for listener in self._sockets:
            listener.close()
        for process in self._alive():
            process.terminate()
        end = time.monotonic() + self._plan.drain_seconds + 5
        while (alive := self._alive()) and time.monotonic() < end and self._signals < 2:
            wait([process.sentinel for process in alive], timeout=0.1)
        return 1 if self._alive() else 0

    def _kill(self) -> None:
        for process in self._alive():
            process.kill()
            process.join()
