"""What the first worker does unasked so that there is evidence: checkpoints, deliveries, and old months sealed away."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, assert_never

from gateway.access.principals import Caller
from gateway.administration.evidence import believed, months_before
from gateway.app import Rooms
from gateway.audit.event import Event, Kind
from gateway.audit.sinks.port import Sink
from gateway.audit_section import Sink as SinkSettings
from gateway.audit_section import SinkKind, secret_of
from gateway.change import Change
from gateway.delivery import Courier
from gateway.errors import Occupied, Refusal
from gateway.gate import Act
from gateway.records import checkpoints, cursors
from gateway.sources import NOWHERE
from gateway.supervision import Beginning, supervised

_log = logging.getLogger("gateway.evidence")

_LOOK_SECONDS: Final = 1.0
_TROUBLE_SECONDS: Final = 30.0
_RETAIN_SECONDS: Final = 3600.0


def witnessing(rooms: Rooms, caller: Callable[[], Caller]) -> Iterator[tuple[str, Beginning]]:
    """The works of the first worker and their names, going on until cancelled; *caller* is whom their events name."""
    yield "the making of checkpoints", partial(_keep_checkpoints, rooms, caller)
    yield "the delivery to sinks", partial(_deliver, rooms, caller)
    if rooms.settings.audit.retain_months:
        yield "the sealing away of old months", partial(_retain, rooms, caller)


def sink_of(name: str, sink: SinkSettings) -> Sink:
    """The sink that the settings describe; nothing is opened yet."""
    # A worker without such a sink does without what it takes to feed one.
    match sink.kind:
        case SinkKind.FILE:
            from gateway.audit.sinks.file import FileSink

            return FileSink(sink.path, sink.rotate_bytes, sink.keep)
        case SinkKind.SYSLOG:
            from gateway.audit.sinks.syslog import SyslogSink

            files = [_given(path) for path in (sink.ca_file, sink.certificate, sink.key)]
            authority, certificate, key = files
            here = socket.gethostname()
            return SyslogSink(sink.host, sink.port, name=here, authority=authority, certificate=certificate, key=key)
        case SinkKind.WEBHOOK:
            from gateway.audit.sinks.webhook import WebhookSink

            return WebhookSink(name, sink.url, partial(secret_of, sink), authority=_given(sink.ca_file))
        case _:
            assert_never(sink.kind)


async def _keep_checkpoints(rooms: Rooms, caller: Callable[[], Caller]) -> None:
    """Looks every second whether a checkpoint is due."""
    while True:
        rest = _LOOK_SECONDS
        try:
            if await rooms.database.read(partial(checkpoints.due, now=time.time())):
                key = await rooms.administration.evidence.signing_key(caller())
                await _quietly(rooms, caller, checkpoints.make(key))
        except Refusal as refusal:
            _log.warning("no checkpoint could be made: %s", refusal.message)
            rest = _TROUBLE_SECONDS
        except Exception:
            _log.exception("no checkpoint could be made")
            rest = _TROUBLE_SECONDS
        await asyncio.sleep(rest)


async def _deliver(rooms: Rooms, caller: Callable[[], Caller]) -> None:
    """A courier for each sink."""
    wanted = rooms.settings.audit.sinks
    while True:
        try:
            places = {name: (sink.kind.value, sink.place) for name, sink in wanted.items()}
            await _quietly(rooms, caller, cursors.want(places))
            break
        except Refusal as refusal:
            _log.warning("the sinks wait: %s", refusal.message)
            await asyncio.sleep(_TROUBLE_SECONDS)
    # Each by itself: a courier that ends must not end the others, nor be there twice.
    works = ((f"the delivery to {name}", partial(_carry, rooms, caller, name, sink)) for name, sink in wanted.items())
    await asyncio.gather(*(supervised(name, work) for name, work in works))


async def _carry(rooms: Rooms, caller: Callable[[], Caller], name: str, sink: SinkSettings) -> None:
    """One courier, with a sink and a thread of its own."""
    made = sink_of(name, sink)
    await Courier(name, made, rooms.database, rooms.trail, rooms.ledger, caller, batch=sink.batch).run()


async def _retain(rooms: Rooms, caller: Callable[[], Caller]) -> None:
    """Seals months away once they are old enough, and purges what is older still."""
    audit, evidence = rooms.settings.audit, rooms.administration.evidence
    newest: datetime | None = None
    while True:
        await asyncio.sleep(_RETAIN_SECONDS)
        try:
            # By now, events may be as far ahead as the clock is; those of the look before are not.
            before, newest = newest, await evidence.newest_time()
            now = believed(datetime.now(UTC), before or newest)
            purge = months_before(now, audit.purge_months) if audit.purge_months else None
            receipt = await evidence.retain(caller(), months_before(now, audit.retain_months), purge)
            if receipt.events or receipt.purged:
                _log.info("sealed %d events away, purged %d", receipt.events, receipt.purged)
        except Occupied:
            _log.info("others are sealing old months away; it is looked again in an hour")
        except Refusal as refusal:
            _log.warning("nothing was sealed away, it is tried again in an hour: %s", refusal.message)
        except Exception:
            _log.exception("nothing was sealed away; it is tried again in an hour")


async def _quietly(rooms: Rooms, caller: Callable[[], Caller], change: Change) -> None:
    await rooms.ledger.commit(Act(Event(Kind.AUDIT_CHECKPOINT, caller()), change, silent=True))


def _given(path: Path) -> Path | None:
    return path if path != NOWHERE else None
