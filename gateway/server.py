"""Serve the application: bind, terminate TLS, keep the workers alive, and drain when asked to stop.

    serve ─▶ bind ─┬─ 1 worker: in this process
                   └─ N workers: this process watches; each worker builds its own application and accepts by itself

The first SIGTERM or SIGINT drains: no new connections, what is in hand finishes, exit 0. The second ends at once. Who
signals the whole group of processes may do so: workers take the first signal only, and leave the rest to their parent.
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
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn._types import ASGI3Application

from gateway.certificates import LivePair, Pair, Reload, ReloadOutcome
from gateway.errors import Refusal
from gateway.fleet import STARTUP_FAILED, Fleet, Wishes
from gateway.protocol import Edge, EdgeLimits, Listener, StrictProtocol, bind, strict_protocol

log = logging.getLogger("gateway.server")

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

    def live_pair(self, fallback: Pair | None = None) -> LivePair:
        """What new connections are served with, for the names the gateway answers to; raises as `LivePair` does."""
        return LivePair(self.certificate, self.key, hosts=sorted(self.limits.hosts), fallback=fallback)


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
        if reload.reason:
            log.warning("%s", reload.reason)
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
    live = plan.live_pair()
    sockets = bind(plan.bind, plan.port)
    port: int = sockets[0].getsockname()[1]
    harden()
    if plan.workers == 1:
        return _work(factory, plan, sockets, Seat(0, live), lambda: on_ready(port))
    # Of a changed pair the workers tell; here the last good one is kept, for those that come later.
    fleet = Fleet(
        plan.workers, partial(_worker, factory, plan, sockets, live), sockets, live.refresh, plan.drain_seconds
    )
    return fleet.run(lambda: on_ready(port))


def require_port(address: str, port: int) -> None:
    """Returns when *address* and *port* could be listened on just now; raises as `serve` does."""
    for listener in bind(address, port):
        listener.close()


# one worker


def _work(
    factory: Factory,
    plan: Plan,
    sockets: list[socket.socket],
    seat: Seat,
    ready: Callable[[], None],
    *,
    watched: bool = False,
) -> int:
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
    server = EdgeServer(config, worker, seat.live, plan.drain_seconds, ready, watched=watched)
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
    """
    uvicorn's server with a bounded handshake, a pair that is watched, and a drain that ends.

    A second signal ends it at once, unless it is *watched* by a parent, which kills it then.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        worker: Worker,
        live: LivePair,
        drain_seconds: float,
        ready: Callable[[], None],
        *,
        watched: bool = False,
    ) -> None:
        super().__init__(config)
        self._worker = worker
        self._live = live
        self._drain_seconds = drain_seconds
        self._ready = ready
        self._watched = watched
        self._wishes = Wishes()
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
        try:
            reload = self._live.refresh()
            if reload is not None:
                self._worker.on_certificate(reload)
        except Exception:
            # An exception here would end the worker, which has a pair to serve with.
            log.exception("a look at the certificate failed")
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
        self._wishes.hear()
        if self._wishes.count > 1 and not self._watched:
            os._exit(1)
        if self.should_exit:
            return
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


# one of several workers


def _worker(
    factory: Factory, plan: Plan, sockets: list[socket.socket], live: LivePair, number: int, report: Connection
) -> SpawnProcess:
    return multiprocessing.get_context("spawn").Process(
        target=_child,
        # Through a pipe: no list of processes shows the key.
        args=(factory, plan, sockets, number, live.pair, os.getpid(), report),
        name=f"gateway-worker-{number}",
    )


def _child(
    factory: Factory, plan: Plan, sockets: list[socket.socket], number: int, pair: Pair, parent: int, report: Connection
) -> None:
    # A terminal sends SIGINT to every process of its group; the parent decides for all of them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(STARTUP_FAILED)
    harden()
    try:
        seat = Seat(number, plan.live_pair(fallback=pair))
        status = _work(factory, plan, sockets, seat, lambda: report.send(None), watched=True)
    except Refusal as refusal:
        log.error("worker %d cannot start: %s", number, refusal.message)  # noqa: TRY400  (the sentence is enough)
        status = STARTUP_FAILED
    sys.exit(status)
