"""Serve an initialised data directory: the start is recorded, workers answer, and so is the stop.

serve ─▶ gateway.start ─▶ workers, each with rooms of its own ─▶ drained ─▶ gateway.stop
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import cast

from uvicorn._types import ASGI3Application

from gateway import tracing
from gateway.access.keys import KeyRing
from gateway.app import Rooms, application, checking, opened, sweeping
from gateway.audit.event import Kind
from gateway.canary import LeakAlarm, LeakProbe
from gateway.certificates import LivePair, Reload, ReloadOutcome, ensure_development_pair
from gateway.engine_section import EngineKind
from gateway.errors import Refusal, Unavailable
from gateway.framing import EdgeLimits
from gateway.front import Application, Front, Receive, Scope, Send
from gateway.initialisation import gateway_itself
from gateway.logs import configure_logging
from gateway.metering import Metering
from gateway.metrics.board import Board
from gateway.records import facts
from gateway.scrubbing import Scrubbing
from gateway.server import Plan, Seat, Worker, require_port
from gateway.server import serve as serve_plan
from gateway.settings import Settings
from gateway.settlement import PATIENCE_SECONDS, Settlement
from gateway.supervision import Beginning, supervised
from gateway.witnessing import witnessing

_log = logging.getLogger("gateway.serving")
_KEYS_SECONDS = 600.0
_SETTLE_SECONDS = 60.0
_SWEEP_LOOK_SECONDS = 600.0
_SWEEP_AGAIN_SECONDS = 3600.0
#: How often memory is given back, unless so many requests were answered meanwhile.
_TRIM_SECONDS = 10.0
_BUSY_REQUESTS = 2000
_TURN_SECONDS = 0.0005


def serve(settings: Settings, on_ready: Callable[[], None] = lambda: None) -> int:
    """
    Serves until told to stop; returns the exit status, 0 after a drain. *on_ready* is called once workers accept.

    Raises, before anything listens, `Invalid` or `Conflict` for a directory, certificate, address or port that cannot
    be used.
    """
    configure_logging(settings)
    if settings.metrics.trace_endpoint:
        tracing.require()
    with opened(settings) as rooms:
        plan = _plan(settings)
        if settings.metrics.token:
            Board(settings.data).clear()
        asyncio.run(_note_start(rooms))
    status, reason = 1, ""
    try:
        status = serve_plan(partial(work, settings), plan, lambda port: on_ready())
    except Refusal as refusal:
        reason = refusal.message
        raise
    finally:
        with opened(settings) as rooms:
            asyncio.run(_note(rooms, Kind.GATEWAY_STOP, {"status": status, "reason": reason}))
    return status


def require_servable(settings: Settings) -> None:
    """Raises what `serve` would for a certificate, address or port that cannot be used, before anything is made."""
    server = settings.server
    if not server.development:
        LivePair(server.certificate, server.key)
    require_port(server.bind, server.port)


def work(settings: Settings, seat: Seat) -> Worker:
    """One worker's application, in its own process, with rooms of its own."""
    configure_logging(settings)
    # The event loop and the committer take turns: neither may keep the other waiting for the usual five milliseconds.
    sys.setswitchinterval(_TURN_SECONDS)
    closing = ExitStack()
    rooms = closing.enter_context(opened(settings))
    live = seat.live
    alarm = LeakAlarm(LeakProbe.of(rooms), rooms.gate)
    front = application(rooms, lambda: [*([live.warning] if live.warning else []), *alarm.warnings()])
    served = _Served(rooms, front, alarm, closing, first=seat.number == 0)
    if settings.metrics.token:
        served.meter(Metering(rooms, front, seat.number, live))
    if settings.metrics.trace_endpoint:
        served.trace(settings.metrics.trace_endpoint)
    return Worker(cast(ASGI3Application, served), on_certificate=served.certificate_changed, on_drain=served.drain)


def _plan(settings: Settings) -> Plan:
    server, limits = settings.server, settings.limits
    certificate, key = server.certificate, server.key
    if server.development:
        pair = ensure_development_pair(settings.tls, server.names)
        certificate, key = pair.certificate, pair.key
    edge = EdgeLimits(
        hosts=frozenset(server.names),
        trusted_proxies=server.networks,
        header_bytes=limits.header_bytes,
        url_bytes=limits.url_bytes,
        connections_per_address=limits.connections_per_address,
        header_seconds=limits.header_seconds,
        idle_seconds=limits.idle_seconds,
        body_min_bytes_per_second=limits.body_min_bytes_per_second,
    )
    return Plan(server.bind, server.port, certificate, key, edge, server.processes, limits.drain_seconds)


async def _note_start(rooms: Rooms) -> None:
    shown = rooms.settings.shown()
    if rooms.database.read_now(facts.read).get(facts.CONFIGURATION, "") != facts.text(shown):
        async with rooms.gate.passage(gateway_itself(), Kind.CONFIGURATION_CHANGE) as passage:
            await passage.commit(facts.configure(shown))
    await _note(rooms, Kind.GATEWAY_START, {"names": rooms.settings.server.names, "audit": rooms.settings.audit.mode})


async def _note(rooms: Rooms, kind: Kind, detail: Mapping[str, object]) -> None:
    async with rooms.gate.passage(gateway_itself(), kind, detail=detail) as passage:
        await passage.seal()


def _settle_memory() -> None:
    """What has been loaded stays: it is not looked through for garbage again, and what loading left is given back."""
    gc.collect()
    gc.freeze()
    _trim()


def _trim() -> None:
    """Gives back to the system what the allocator keeps for later."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class _Served:
    """A worker's ASGI application with its beginning and end: its rooms are closed when it has drained."""

    def __init__(self, rooms: Rooms, front: Front, alarm: LeakAlarm, closing: ExitStack, *, first: bool) -> None:
        self._rooms = rooms
        self._front = front
        self._alarm = alarm
        self._closing = closing
        self._first = first
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests = 0
        self._metering: Metering | None = None
        self._app: Application = front

    def meter(self, metering: Metering) -> None:
        """Counts the requests from here on; before the first."""
        self._app = self._metering = metering

    def trace(self, endpoint: str) -> None:
        """Sends a span of each request from here on; before the first."""
        self._app = tracing.traced(self._app, endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            self._requests += 1
            await self._app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        if self._first:
            self._begin("the rotation of keys", self._rotate_keys)
            scrubbing = Scrubbing(checking(self._rooms), gateway_itself)
            self._begin("the watch for damage", scrubbing.watch)
            if rate := self._rooms.settings.upkeep.scrub_bytes_per_second:
                self._begin("the scrub", partial(scrubbing.scrub, rate))
            for name, work in witnessing(self._rooms, gateway_itself):
                self._begin(name, work)
            if self._rooms.settlement is not None:
                self._begin("the settlement", partial(self._settle, self._rooms.settlement))
            upkeep = self._rooms.settings.upkeep
            if upkeep.sweep_hours and self._rooms.settings.engine.kind is EngineKind.EMBEDDED:
                self._begin("the sweep", partial(self._sweep, upkeep.sweep_hours, upkeep.grace_hours * 3600))
        if self._metering is not None:
            self._begin("the posting of figures", self._metering.post)
        # Each process remembers things of its own, and answers for itself when it is asked whether it is ready.
        if probe_seconds := self._rooms.settings.upkeep.leak_probe_seconds:
            self._begin("the leak probe", partial(self._alarm.watch, probe_seconds))
        _settle_memory()
        self._begin("the giving back of memory", self._give_back)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._rooms.engine.close()
        self._closing.close()
        await send({"type": "lifespan.shutdown.complete"})

    def drain(self) -> None:
        self._front.draining = True

    def certificate_changed(self, reload: Reload) -> None:
        """Every worker takes up a changed pair; the first one records it."""
        if not self._first:
            return
        if reload.outcome is ReloadOutcome.REJECTED:
            _log.error("certificate rejected, the old one stays: %s", reload.reason)
            stays = {"reason": reload.reason, "served": reload.pair.fingerprint}
            self._note(Kind.CERTIFICATE_REJECTED, stays)
        else:
            _log.info("certificate accepted: %s", reload.pair.fingerprint)
            if reload.reason:
                _log.warning("%s", reload.reason)
            self._note(Kind.CERTIFICATE_ACCEPTED, {"fingerprint": reload.pair.fingerprint})

    def _note(self, kind: Kind, detail: Mapping[str, object]) -> None:
        self._begin(f"the recording of {kind}", partial(_note, self._rooms, kind, detail))

    async def _give_back(self) -> None:
        """After a burst, the memory it took goes back; while requests are many, they are not held up for it."""
        before = 0
        while True:
            await asyncio.sleep(_TRIM_SECONDS)
            if self._requests - before < _BUSY_REQUESTS:
                await asyncio.to_thread(_trim)
            before = self._requests

    async def _rotate_keys(self) -> None:
        ring = KeyRing(self._rooms.stored_keys, self._rooms.directory.version)
        while True:
            await ring.refresh()
            if ring.due(datetime.now(UTC)):
                async with self._rooms.gate.passage(gateway_itself(), Kind.KEY_ROTATE) as passage:
                    await passage.commit(self._rooms.stored_keys.rotate(datetime.now(UTC), if_due=True))
            await asyncio.sleep(_KEYS_SECONDS)

    async def _settle(self, settlement: Settlement) -> None:
        # What is open now and held by nobody was left by a process that is gone: nobody else will record it.
        after_seconds = 0.0
        while True:
            try:
                count = await settlement.settle(after_seconds=after_seconds)
            except Unavailable as refusal:
                _log.warning("nothing could be settled: %s", refusal.message)
            else:
                if count:
                    _log.info("settled %d acts that were begun in the registry behind", count)
            after_seconds = PATIENCE_SECONDS
            await asyncio.sleep(_SETTLE_SECONDS)

    async def _sweep(self, hours: int, grace_seconds: int) -> None:
        sweeps, retention = sweeping(self._rooms), self._rooms.administration.retention
        while True:
            # What was started a moment ago has better things to do.
            await asyncio.sleep(_SWEEP_LOOK_SECONDS)
            try:
                if await sweeps.due(hours):
                    for project in await retention.due():
                        try:
                            for done in await retention.apply(gateway_itself(), project):
                                _log.info("%s: %d tags went by retention", done.repository, len(done.tags))
                        except Refusal as refusal:
                            # One project keeps neither the others nor the sweep from their turn.
                            _log.warning("retention of %s is tried again with the next sweep: %s", project, refusal)
                        except Exception:
                            _log.exception("retention of %s is tried again with the next sweep", project)
                    receipt = await sweeps.sweep(gateway_itself(), grace_seconds)
                    _log.info(
                        "swept: %d blobs went, %d bytes freed", receipt.gone.blobs.count, receipt.gone.freed_bytes
                    )
            except Refusal as refusal:
                _log.warning("the sweep is tried again in an hour: %s", refusal.message)
                await asyncio.sleep(_SWEEP_AGAIN_SECONDS)
            except Exception:
                # Whatever it is, what is acknowledged is not in danger, and it may be mended by then.
                _log.exception("the sweep did not come to its end; it is tried again in an hour")
                await asyncio.sleep(_SWEEP_AGAIN_SECONDS)

    def _begin(self, name: str, work: Beginning) -> None:
        task = asyncio.get_running_loop().create_task(supervised(name, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
