"""Blobs over HTTP: asked for, downloaded whole or in part, unlinked."""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, AsyncIterator

from gateway.engine.port import Blob
from gateway.errors import BlobUnknown, ContentDamaged
from gateway.gate import Passage
from gateway.oci.digest import Digest
from gateway.oci.ranges import parse_range, render_content_range
from gateway.registry.replies import Header, Reply, etag, matches
from gateway.registry.request import Request

#: A blob up to this size goes out in one piece.
SMALL_BYTES = 64 * 1024


async def head(request: Request, passage: Passage) -> Reply:
    """`HEAD`: what a `GET` would say, without the bytes; damaged ones are not here."""
    try:
        blob = await request.engine.blobs.find(request.repository, Digest(request.reference), spares_push=True)
    except ContentDamaged as damaged:
        # Clients look before they push, and give up on anything but a blob that is missing: so a push heals it.
        raise BlobUnknown(damaged.message) from None
    if matches(request.header("if-none-match"), blob.digest):
        return Reply(304, _constant(blob.digest))
    return Reply(200, _headers(blob.digest), length_bytes=blob.size_bytes)


async def get(request: Request, passage: Passage) -> Reply:
    """`GET`: the blob, or the one range of it that is asked for (RFC 9110 §14)."""
    digest = Digest(request.reference)
    blob = await request.engine.blobs.find(request.repository, digest)
    if matches(request.header("if-none-match"), digest):
        return Reply(304, _constant(digest))
    asked = parse_range(_wanted_range(request, digest), blob.size_bytes)
    first, last = asked if asked is not None else (0, blob.size_bytes - 1)
    length = last - first + 1
    passage.note(bytes=length)
    headers = _headers(digest)
    if asked is not None:
        headers = (*headers, ("Content-Range", render_content_range(first, last, blob.size_bytes)))
    status = 200 if asked is None else 206
    if length <= SMALL_BYTES:
        return Reply(status, headers, await _whole(request, blob, first, last))
    return Reply(status, headers, stream=_counted(request, passage, blob, first, last), length_bytes=length)


async def delete(request: Request, passage: Passage) -> Reply:
    """`DELETE`: the blob is gone from this repository; refused while a manifest here needs it."""
    digest = Digest(request.reference)
    passage.note(status=202)
    await passage.commit(request.engine.blobs.delete(request.repository, digest))
    return Reply(202)


async def _whole(request: Request, blob: Blob, first: int, last: int) -> bytes:
    try:
        pieces = request.engine.blobs.read(blob, first, last)
        content = b"".join([piece async for piece in pieces]) if last >= first else b""
    except OSError as error:
        if error.errno not in (None, errno.EIO):
            raise
        # Nothing was sent yet: the client can be told.
        message = f"The stored bytes of {blob.digest} are damaged; push the blob again to heal it."
        raise ContentDamaged(message) from error
    if len(content) != last - first + 1:
        raise RuntimeError(f"{blob.digest} ended after {len(content)} of {last - first + 1} bytes")
    return content


async def _counted(
    request: Request, passage: Passage, blob: Blob, first: int, last: int
) -> AsyncGenerator[bytes, None]:
    """The bytes; the passage knows how many the transport has taken if the stream is cut."""
    sent = 0
    pieces: AsyncIterator[bytes] = request.engine.blobs.read(blob, first, last, request.appetite)
    try:
        async for piece in pieces:
            yield piece
            sent += len(piece)
            del piece
        if sent != last - first + 1:
            # A reply that ends cleanly would be taken for the whole.
            raise RuntimeError(f"{blob.digest} ended after {sent} of {last - first + 1} bytes")
    finally:
        passage.note(bytes=sent)
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


def _wanted_range(request: Request, digest: Digest) -> str:
    """The `Range` header, unless `If-Range` says that it is meant for other content."""
    condition = request.header("if-range")
    return request.header("range") if not condition or condition.strip('"') == digest.text else ""


def _constant(digest: Digest) -> tuple[Header, ...]:
    return (
        ("Docker-Content-Digest", digest.text),
        etag(digest),
        ("Cache-Control", "private, max-age=31536000, immutable"),
    )


def _headers(digest: Digest) -> tuple[Header, ...]:
    return ("Content-Type", "application/octet-stream"), ("Accept-Ranges", "bytes"), *_constant(digest)
