"""Clients that push and pull without a pause while something happens, each with a connection of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from tests.faults.harness.figures import Figures
from tests.faults.harness.operations import HERE, content_of, push_image, sha256
from tests.faults.harness.site import Site, Unanswered

_NUMBERS = count(1_000_000)


def companion(site: Site) -> Site:
    """The same gateway and journal, for a client of its own."""
    return Site(site.gateway, site.server, site.commands, site.shadow, site.who, site.journal)


@dataclass(slots=True)
class Load:
    """What became of the load so far."""

    site: Site
    figures: Figures
    fault: str
    pushed: int = 0
    unanswered: int = 0
    gap_seconds: float = 0.0
    threads: list[threading.Thread] = field(default_factory=list)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)

    def work(self, name: str) -> None:
        """Pushes an image, pulls it, and so on until it is stopped."""
        mine = companion(self.site)
        since = time.monotonic()
        while not self._stop.is_set():
            number = next(_NUMBERS)
            try:
                manifest = push_image(mine, number, f"load-{name}")
                pulls(mine, self.figures, self.fault, number, manifest)
            except Unanswered:
                with self._guard:
                    self.unanswered += 1
                self._stop.wait(0.05)
                continue
            except AssertionError as error:
                self.figures.problem(self.fault, f"under load: {error}")
                self._stop.wait(0.2)
                continue
            with self._guard:
                self.pushed += 1
                self.gap_seconds = max(self.gap_seconds, time.monotonic() - since)
            since = time.monotonic()
        mine.client.hang_up()

    def until(self, more: int, within_seconds: float = 60.0) -> None:
        """Waits until so many more images were pushed."""
        wanted, deadline = self.pushed + more, time.monotonic() + within_seconds
        while self.pushed < wanted:
            if time.monotonic() > deadline:
                self.figures.problem(self.fault, f"no {more} images were pushed in {within_seconds:g} s")
                return
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends it; what is being pushed is pushed."""
        self._stop.set()
        for thread in self.threads:
            thread.join()


def pulls(site: Site, figures: Figures, fault: str, number: int, manifest: bytes) -> None:
    """Pulls an image that was just acknowledged."""
    for kind, content in (("manifests", manifest), ("blobs", content_of(number))):
        digest = sha256(content)
        answer = site.client.ask("GET", f"/v2/{HERE}/{kind}/{digest}", 200)
        if answer.body != content:
            figures.problem(fault, f"{digest} was served with other bytes")
            with figures.line(fault) as line:
                line.wrong += 1


@contextmanager
def loaded(site: Site, figures: Figures, fault: str, *, clients: int = 4) -> Iterator[Load]:
    """A load for as long as the block lasts; what it saw as its longest pause is the recovery."""
    load = Load(site, figures, fault)
    load.threads = [threading.Thread(target=load.work, args=(str(number),)) for number in range(clients)]
    for thread in load.threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop()
        figures.recovered(fault, load.gap_seconds)


def injected(figures: Figures, fault: str, times: int = 1) -> None:
    """Counts faults of a kind."""
    with figures.line(fault) as line:
        line.injected += times
