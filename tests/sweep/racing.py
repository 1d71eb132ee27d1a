"""Processes that push, sweep, and die while they sweep: what runs in them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from gateway.engine.embedded.sweep import EmbeddedSweep
from gateway.engine.stores.clearing import Doomed
from gateway.engine.stores.files import Spool
from gateway.errors import BlobUnknown, ContentReferenced, ManifestBlobUnknown, Unavailable
from gateway.oci.digest import Digest
from gateway.oci.manifest import Manifest
from gateway.oci.names import Repository
from tests.contract.house import Clock, image
from tests.house import opened
from tests.sweep.stage import DAY, Stage

#: Every pusher pushes these, each into a repository of its own.
CONTENTS = [b"layer %d" % number * 50 for number in range(6)]
#: At least so many images are pushed, however busy the machine is.
IMAGES = 4
#: What a sweep without any grace may cost somebody who pushes meanwhile; the next attempt is free of it.
RETRIED = (BlobUnknown, ManifestBlobUnknown, Unavailable)


@dataclass
class Told:
    """What a pusher was told: manifests that were acknowledged, how often it had to begin again, what was wrong."""

    images: int = 0
    retried: int = 0
    wrong: list[str] = field(default_factory=list)


def pushes(url: str, data: Path, name: str, seconds: float, told: Queue[Told]) -> None:
    """Pushes, deletes and pulls images of shared layers for a while, then pulls all it was told is there."""
    with opened(url, data) as house:
        told.put(asyncio.run(_Pusher(Stage(house), Repository(name)).push_for(seconds)))


def sweeps(url: str, data: Path, stopping: Event, grace_seconds: int) -> None:
    """Sweeps again and again until it is told to stop."""

    async def story(stage: Stage) -> None:
        while not stopping.is_set():
            stage.clock.now = time.time()
            await stage.sweep(grace_seconds)

    with opened(url, data) as house:
        asyncio.run(story(Stage(house)))


class _Pusher:
    def __init__(self, stage: Stage, repository: Repository) -> None:
        self.stage = stage
        self.repository = repository
        self.random = random.Random(repository.name)
        self.there: dict[Digest, tuple[bytes, ...]] = {}
        self.told = Told()

    async def push_for(self, seconds: float) -> Told:
        end = time.monotonic() + seconds
        while time.monotonic() < end or self.told.images < IMAGES:
            self.stage.clock.now = time.time()
            layers = tuple(self.random.sample(CONTENTS, 2))
            await self._push_image(image(*layers, annotations={"number": str(self.told.images)}), layers)
            await self._remove_some()
        for digest, layers in self.there.items():
            await self._pull(digest, layers)
        return self.told

    async def _push_image(self, manifest: Manifest, layers: tuple[bytes, ...]) -> None:
        for _ in range(100):
            try:
                for layer in layers:
                    await self._push_layer(layer)
                await self.stage.put(self.repository, manifest, "latest")
                break
            except RETRIED:
                self.told.retried += 1
        else:
            self.told.wrong.append(f"{manifest.digest} could not be pushed")
            return
        self.told.images += 1
        self.there[manifest.digest] = layers
        await self._pull(manifest.digest, layers)

    async def _push_layer(self, layer: bytes) -> None:
        # As clients do: what is there is not sent again.
        try:
            await self.stage.engine.blobs.find(self.repository, Digest.of(layer))
        except BlobUnknown:
            await self.stage.push(self.repository, layer)

    async def _pull(self, digest: Digest, layers: tuple[bytes, ...]) -> None:
        try:
            await self.stage.engine.manifests.find(self.repository, digest)
            for layer in layers:
                if await self.stage.pull(self.repository, Digest.of(layer)) != layer:
                    self.told.wrong.append(f"{digest} has other bytes")
        except Exception as error:
            self.told.wrong.append(f"{digest}: {error!r}")

    async def _remove_some(self) -> None:
        while len(self.there) > 3:
            digest = self.random.choice(list(self.there))
            del self.there[digest]
            await self.stage.delete(self.repository, digest)
        for layer in self.random.sample(CONTENTS, 3):
            # Unlinked, it goes at once; pushed again, it must be there.
            try:
                await self.stage.commit(self.stage.engine.blobs.delete(self.repository, Digest.of(layer)))
            except (BlobUnknown, ContentReferenced):
                continue


def _dying(place: Any, name: str, *, after: bool, call: int = 1) -> None:
    """Has the process die in the *call*-th call, before it does anything, or after it has done all."""
    real: Callable[..., Any] = getattr(place, name)
    calls = 0

    def dies(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        found = real(*args, **kwargs) if after or calls != call else None
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(place, name, dies)


#: Where a sweep may be killed.
POINTS: dict[str, Callable[[], None]] = {
    "before anything went": lambda: _dying(EmbeddedSweep, "sweep", after=False),
    "between two pages of links": lambda: _dying(EmbeddedSweep, "_page", after=False, call=2),
    "with files locked": lambda: _dying(Doomed, "move", after=False),
    "with a file moved, before the commit": lambda: _dying(Doomed, "move", after=True),
    "with some files moved, before the commit": lambda: _dying(Doomed, "move", after=True, call=3),
    "after the commit, before a file was removed": lambda: _dying(Doomed, "end", after=False),
    "after a file was removed": lambda: _dying(Doomed, "end", after=True),
    "before a spool was discarded": lambda: _dying(Spool, "discard", after=False),
    "after a spool was discarded": lambda: _dying(Spool, "discard", after=True),
}


def dies_sweeping(url: str, data: Path, point: str) -> None:
    """Begins a sweep two days from now, and is killed at *point*."""
    POINTS[point]()
    with opened(url, data) as house:
        stage = Stage(house, Clock(time.time() + 2 * DAY))
        asyncio.run(stage.sweep())
