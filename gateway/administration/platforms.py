"""Platforms and configs of images, read through the engine: what a digest once said stays true, and is remembered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from gateway.engine.port import Engine
from gateway.errors import Refusal
from gateway.oci.config import LIMIT_BYTES, Config, platform_text, read_config
from gateway.oci.digest import Digest
from gateway.oci.manifest import Descriptor, Manifest, load
from gateway.oci.names import Reference, Repository

_REMEMBERED: Final = 8192
#: Platforms named for one manifest; more are counted.
_NAMED: Final = 64
#: Larger manifests are not opened for a list, and are read by another thread when they are asked for alone.
_INLINE_BYTES: Final = 64 * 1024
_LISTED_BYTES: Final = 256 * 1024
#: A list waits so long for the platforms of all its entries together, and reads so many at a time.
_SECONDS: Final = 0.5
_AT_ONCE: Final = 8
_IMAGE_CONFIGS: Final = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)


class Platforms:
    """The platforms of manifests by digest, in bounded memory; for the event loop's thread alone."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    async def of(
        self, engine: Engine, repository: Repository, sizes: Mapping[str, int]
    ) -> dict[str, tuple[str, ...] | None]:
        """
        The platforms of the manifests of *repository* in *sizes* (their own, by digest).

        None for those that are too large to open for a list, cannot be read, or did not come within half a second.
        """
        wanted = [digest for digest, size in sizes.items() if digest not in self._known and size <= _LISTED_BYTES]
        if wanted:
            turns = asyncio.Semaphore(_AT_ONCE)
            reading = [asyncio.ensure_future(self._learn(engine, repository, digest, turns)) for digest in wanted]
            _, late = await asyncio.wait(reading, timeout=_SECONDS)
            for task in late:
                task.cancel()
            # What was cancelled comes to its end before its connections are needed again.
            await asyncio.gather(*late, return_exceptions=True)
        return {digest: self._known.get(digest) for digest in sizes}

    async def _learn(self, engine: Engine, repository: Repository, digest: str, turns: asyncio.Semaphore) -> None:
        async with turns:
            try:
                manifest = await loaded(engine, repository, Digest.parse(digest))
                found = await _platforms(engine, repository, manifest)
            except (Refusal, ValueError, OSError):
                return  # a list says less, and what is wrong is told where the manifest itself is asked for
        self._known[digest] = found
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


async def loaded(engine: Engine, repository: Repository, reference: Reference) -> Manifest:
    """The manifest, opened; raises what the engine's `find` does, and `ManifestInvalid`."""
    stored = await engine.manifests.find(repository, reference)
    size = max(len(stored.content), 1)

    def read() -> Manifest:
        return load(stored.content, stored.media_type, algorithm=stored.digest.algorithm, limit_bytes=size)

    return read() if size <= _INLINE_BYTES else await asyncio.to_thread(read)


async def image_config(engine: Engine, repository: Repository, descriptor: Descriptor) -> Config | None:
    """
    What the config of an image says; None if *descriptor* is no image's config.

    Raises `ValueError`, with a sentence, for one that is no JSON or over 1 MiB, and content refusals.
    """
    if descriptor.media_type not in _IMAGE_CONFIGS:
        return None
    blob = await engine.blobs.find(repository, descriptor.digest)
    if blob.size_bytes > LIMIT_BYTES:
        raise ValueError(f"It is larger than {LIMIT_BYTES} bytes, and is not read.")
    content = b"".join([piece async for piece in engine.blobs.read(blob, 0, blob.size_bytes - 1)])
    return read_config(content) if len(content) <= _INLINE_BYTES else await asyncio.to_thread(read_config, content)


async def _platforms(engine: Engine, repository: Repository, manifest: Manifest) -> tuple[str, ...]:
    if manifest.is_index:
        texts = (platform_text(child.platform) for child in manifest.manifests if child.platform is not None)
        named = list(dict.fromkeys(text for text in texts if text and not text.startswith("unknown/")))
        more = len(named) - _NAMED
        return (*named[:_NAMED], *((f"and {more} more",) if more > 0 else ()))
    if manifest.config is None:
        return ()
    config = await image_config(engine, repository, manifest.config)
    return (config.platform,) if config is not None and config.platform else ()
