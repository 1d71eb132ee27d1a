"""A worker from its first request to its drain: what it does in the background outlasts a fault."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from gateway import serving, supervision
from gateway.access.keys import KeyRing
from gateway.administration.checking import Checks
from gateway.certificates import LivePair, ensure_development_pair
from gateway.delivery import Courier
from gateway.initialisation import initialise
from gateway.metrics.board import Board
from gateway.server import Seat
from gateway.settings import Settings
from gateway.settlement import Settlement

SECTIONS = """
[metrics]
token = "not-a-secret-but-long"

[audit.sinks.disk]
kind = "file"
path = "audit.jsonl"
"""


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a worker changes in its process is left as it was."""
    interval = sys.getswitchinterval()
    monkeypatch.setattr(serving, "configure_logging", lambda _: None)
    monkeypatch.setattr(serving, "_settle_memory", lambda: None)
    monkeypatch.setattr(supervision, "REST_SECONDS", 0.01)
    yield
    sys.setswitchinterval(interval)


def served(settings: Settings, enough: threading.Event) -> None:
    """Lets the first worker live until there was *enough*, and drain."""
    pair = ensure_development_pair(settings.tls, settings.server.names)

    async def story() -> None:
        worker = serving.work(settings, Seat(0, LivePair(pair.certificate, pair.key)))
        heard: asyncio.Queue[Any] = asyncio.Queue()
        told: asyncio.Queue[Any] = asyncio.Queue()
        scope: Any = {"type": "lifespan", "asgi": {"version": "3.0"}}
        living = asyncio.ensure_future(worker.app(scope, heard.get, told.put))
        heard.put_nowait({"type": "lifespan.startup"})
        assert (await told.get())["type"] == "lifespan.startup.complete"
        try:
            assert await asyncio.to_thread(enough.wait, 10)
        finally:
            heard.put_nowait({"type": "lifespan.shutdown"})
            async with asyncio.timeout(10):
                await living

    asyncio.run(story())


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize(
    ("where", "name"),
    [(KeyRing, "refresh"), (Settlement, "settle"), (Checks, "settle"), (Board, "post"), (Courier, "run")],
)
def test_what_a_worker_does_in_the_background_outlasts_a_database_that_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: type, name: str
) -> None:
    (tmp_path / "gateway.toml").write_text(SECTIONS)
    settings = Settings.load(tmp_path / "gateway.toml", {})
    initialise(settings)
    if where is Settlement:
        settings = settings.behind("http://127.0.0.1:9")
    real, calls, enough = getattr(where, name), list[str](), threading.Event()

    def hiccup(*args: Any, **given: Any) -> Any:
        calls.append(name)
        if len(calls) == 1:
            raise OperationalError("SELECT 1", {}, sqlite3.OperationalError("the server closed the connection"))
        enough.set()
        return real(*args, **given)

    monkeypatch.setattr(where, name, hiccup)
    served(settings, enough)
