"""Manifests over HTTP: read by tag or digest, pushed, untagged, deleted."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from gateway.engine.port import Feature, StoredManifest
from gateway.errors import DigestInvalid, Invalid, ManifestTooLarge
from gateway.gate import Passage
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import Manifest, load
from gateway.oci.names import Reference, Tag, parse_reference
from gateway.registry.replies import Header, Reply, etag, matches, warning
from gateway.registry.request import Request

#: Larger ones are read by another thread: they would hold up everybody else's requests.
_INLINE_BYTES = 128 * 1024


async def get(request: Request, passage: Passage) -> Reply:
    """`GET`: the bytes that were pushed, under the type they were pushed with, whatever `Accept` says."""
    reference = parse_reference(request.reference)
    stored = await request.engine.manifests.find(request.repository, reference)
    passage.note(digest=stored.digest.text, bytes=len(stored.content))
    return _reply(request, stored, reference)


async def head(request: Request, passage: Passage) -> Reply:
    """`HEAD`: what a `GET` would say."""
    reference = parse_reference(request.reference)
    return _reply(request, await request.engine.manifests.find(request.repository, reference), reference)


async def put(request: Request, passage: Passage) -> Reply:
    """
    `PUT` by tag or by digest; `?tag=` names further tags for a push by digest (distribution-spec, "Pushing manifests").

    The digest in the path chooses the algorithm and is echoed; by tag it is sha256.
    """
    reference = parse_reference(request.reference)
    tags = _tags(request, reference)
    passage.note(status=201)
    content = await request.body(request.parts.manifest_bytes, ManifestTooLarge)
    manifest = await _load(request, content, reference)
    passage.note(digest=manifest.digest.text, bytes=len(content))
    if isinstance(reference, Digest) and manifest.digest != reference:
        raise DigestInvalid(f"Push these bytes under their own digest, {manifest.digest}.")
    named = (reference,) if isinstance(reference, Tag) else tags
    await passage.commit(request.engine.manifests.put(request.repository, manifest, named, request.owner))
    return Reply(201, _created(request, manifest, tags))


async def untag(request: Request, passage: Passage) -> Reply:
    """`DELETE` of a tag: the tag alone; its manifest and its other tags stay."""
    passage.note(status=202)
    await passage.commit(request.engine.manifests.untag(request.repository, Tag(request.reference), request.owner))
    return Reply(202, warning(request.engine.emulated.get(Feature.UNTAG, "")))


async def delete(request: Request, passage: Passage) -> Reply:
    """`DELETE` of a digest: the manifest, with all its tags."""
    passage.note(status=202)
    await passage.commit(request.engine.manifests.delete(request.repository, Digest(request.reference), request.owner))
    return Reply(202)


def _tags(request: Request, reference: Reference) -> tuple[Tag, ...]:
    tags = tuple(dict.fromkeys(Tag.parse(text) for text in request.parameters("tag")))
    if tags and isinstance(reference, Tag):
        raise Invalid("Push by digest to name tags with ?tag=, or by one tag without it.")
    return tags


async def _load(request: Request, content: bytes, reference: Reference) -> Manifest:
    content_type = request.header("content-type") or None
    algorithm = reference.algorithm if isinstance(reference, Digest) else Algorithm.SHA256
    limit = request.parts.manifest_bytes

    def read() -> Manifest:
        return load(content, content_type, algorithm=algorithm, limit_bytes=limit)

    if len(content) <= _INLINE_BYTES:
        return read()
    return await asyncio.get_running_loop().run_in_executor(_reader(), read)


@lru_cache
def _reader() -> ThreadPoolExecutor:
    # One thread: several would take turns with the event loop for the interpreter, and it would get few of them.
    return ThreadPoolExecutor(1, "manifests")


def _reply(request: Request, stored: StoredManifest, reference: Reference) -> Reply:
    cached = "private, max-age=31536000, immutable" if isinstance(reference, Digest) else "no-cache"
    constant: tuple[Header, ...] = (
        ("Docker-Content-Digest", stored.digest.text),
        etag(stored.digest),
        ("Cache-Control", cached),
    )
    if matches(request.header("if-none-match"), stored.digest):
        return Reply(304, constant)
    return Reply(200, (("Content-Type", stored.media_type), *constant), stored.content)


def _created(request: Request, manifest: Manifest, tags: tuple[Tag, ...]) -> tuple[Header, ...]:
    headers: list[Header] = [
        ("Location", f"/v2/{request.repository}/manifests/{manifest.digest}"),
        ("Docker-Content-Digest", manifest.digest.text),
    ]
    if manifest.subject is not None:
        headers.append(("OCI-Subject", manifest.subject.digest.text))
    if tags:
        headers.append(("OCI-Tag", ", ".join(tag.name for tag in tags)))
    return tuple(headers)
