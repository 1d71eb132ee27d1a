"""Uploads over HTTP: begun, appended to, asked about, finished, cancelled; and the mount that spares one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from gateway.access.policy import Need
from gateway.access.scopes import Action
from gateway.audit.event import Kind
from gateway.engine.port import Interrupted, Upload
from gateway.errors import (
    AccessRefusal,
    AgainstRule,
    BlobUploadUnknown,
    ContentDamaged,
    ContentRefusal,
    DigestInvalid,
    NameInvalid,
    QuotaExceeded,
    SizeInvalid,
)
from gateway.gate import Passage
from gateway.oci.digest import Digest
from gateway.oci.names import Repository
from gateway.oci.ranges import ContentRange, render_upload_range
from gateway.registry.replies import Header, Reply
from gateway.registry.request import Request

#: Said because some clients ask; a chunk of any length is taken.
_CHUNK = ("OCI-Chunk-Min-Length", "1")
_ID_CHARACTERS = 64
#: A body of unknown length is asked about so often whether it may go on.
_ASKED_BYTES = 8 * 1024 * 1024


async def begin(request: Request, passage: Passage) -> Reply:
    """`POST`: a new upload; also what a mount that cannot be done becomes (distribution-spec, "Mounting")."""
    await request.engine.admit(request.repository)
    upload, change = await request.engine.uploads.begin(request.repository, request.owner)
    await passage.commit(change)
    return Reply(202, (*_where(upload, 0), _CHUNK))


async def whole(request: Request, passage: Passage) -> Reply:
    """`POST ?digest=`: the whole blob in one request."""
    digest = Digest.parse(request.parameter("digest"))
    passage.note(digest=digest.text, status=201)
    await request.engine.admit(request.repository, coming_bytes=request.length_bytes or 0, digest=digest)
    upload, begun = await request.engine.uploads.begin(request.repository, request.owner)
    await passage.step(begun)
    try:
        body = _watched(request, request.pieces(), 0, digest)
        _, change = await request.engine.uploads.finish(upload, body, None, digest)
    except DigestInvalid:
        raise
    except Exception:
        # Nobody was told its id: it could only wait, and count as open, until it expires.
        await _forget(request, upload)
        raise
    try:
        await passage.commit(change)
    except AgainstRule:
        await _forget(request, upload)
        raise
    return _created(request, digest)


async def mount(request: Request, passage: Passage) -> Reply:
    """
    `POST ?mount=&from=`: the source's blob, if the caller may pull it there; an upload otherwise.

    Why it could not be mounted is not told: it would tell what exists where the caller may not look.
    """
    source = mount_source(request)
    digest = await _mountable(request, source) if source is not None and passage.met else None
    # What follows are passages of their own; this one is a step, and has nothing of its own to record any more.
    await passage.seal()
    if source is not None and digest is not None:
        try:
            return await _mount(request, source, digest)
        except AgainstRule:
            # Of the target, where the caller may push.
            raise
        except (ContentRefusal, AccessRefusal, ContentDamaged):
            pass
    if request.parameter("digest"):
        async with request.gate.passage(request.caller, Kind.BLOB_PUSH, *_push(request)) as pushing:
            return await whole(request, pushing)
    # Judged afresh, for the target alone: the right to pull the source may be what was lost.
    async with request.gate.passage(request.caller, Kind.UPLOAD_BEGIN, *_push(request)) as beginning:
        return await begin(request, beginning)


def mount_source(request: Request) -> Repository | None:
    """The repository that `from` names, or None if it is not a legal name."""
    try:
        return Repository.parse(request.parameter("from"))
    except NameInvalid:
        return None


async def status(request: Request, passage: Passage) -> Reply:
    """`GET`: how many bytes the upload durably holds."""
    upload = await _found(request)
    return Reply(204, _where(upload, upload.offset))


async def append(request: Request, passage: Passage) -> Reply:
    """`PATCH`: a chunk, or a stream of any length; acknowledged once it is on disk and its offset is."""
    upload = await _found(request)
    first, body = _chunk(request)
    body = await _admitted(request, body, upload)
    appended = await request.engine.uploads.append(upload, body, first)
    await passage.commit(appended.change)
    if appended.interrupted:
        raise Interrupted("the client stopped before the end of its chunk")
    return Reply(202, _where(upload, appended.offset))


async def finish(request: Request, passage: Passage) -> Reply:
    """
    `PUT ?digest=`: the last chunk or nothing; the upload becomes a blob if its digest is the one named.

    One that its project has no room for is gone: it would only take up room until it expires.
    """
    upload = await _found(request)
    digest = Digest.parse(request.parameter("digest"))
    passage.note(digest=digest.text, status=201)
    first, body = _chunk(request)
    try:
        body = await _admitted(request, body, upload, digest)
        blob, change = await request.engine.uploads.finish(upload, body, first, digest)
        passage.note(bytes=blob.size_bytes)
        await passage.commit(change)
    except QuotaExceeded:
        await _forget(request, upload)
        raise
    return _created(request, digest)


async def cancel(request: Request, passage: Passage) -> Reply:
    """`DELETE`: the upload and its bytes are forgotten."""
    upload = await _found(request)
    await passage.commit(await request.engine.uploads.cancel(upload))
    return Reply(204)


async def _forget(request: Request, upload: Upload) -> None:
    with contextlib.suppress(ContentRefusal, AccessRefusal):
        # An engine that has forgotten it already leaves nothing to cancel, and so nothing to record.
        upload = await request.engine.uploads.find(request.repository, request.owner, upload.id)
        async with request.gate.passage(request.caller, Kind.UPLOAD_CANCEL, *_push(request)) as passage:
            await passage.commit(await request.engine.uploads.cancel(upload))


async def _found(request: Request) -> Upload:
    upload_id = request.reference
    if len(upload_id) > _ID_CHARACTERS or not upload_id.replace("-", "").isalnum() or not upload_id.isascii():
        raise BlobUploadUnknown("There is no such upload of yours here; begin a new one.")
    return await request.engine.uploads.find(request.repository, request.owner, upload_id)


async def _mountable(request: Request, source: Repository) -> Digest | None:
    """A look beforehand: what is not there is an ordinary upload, not a mount that failed."""
    try:
        digest = Digest.parse(request.parameter("mount"))
        await request.engine.blobs.find(source, digest, spares_push=True)
    except (ContentRefusal, ContentDamaged):
        return None
    return digest


async def _mount(request: Request, source: Repository, digest: Digest) -> Reply:
    needs = (*_push(request), Need(Action.PULL, source))
    facts = {"digest": digest.text, "status": 201, "detail": {"from": source.name}}
    async with request.gate.passage(request.caller, Kind.BLOB_MOUNT, *needs, **facts) as mounting:
        await mounting.commit(request.engine.blobs.mount(source, request.repository, digest))
    return _created(request, digest)


async def _admitted(
    request: Request, body: AsyncIterator[bytes], upload: Upload, digest: Digest | None = None
) -> AsyncIterator[bytes]:
    """*body*, if it may come as far as its length tells; it is stopped when it may not go on."""
    coming = request.length_bytes or 0
    await request.engine.admit(request.repository, held_bytes=upload.offset, coming_bytes=coming, digest=digest)
    return _watched(request, body, upload.offset, digest)


async def _watched(
    request: Request, body: AsyncIterator[bytes], held_bytes: int, digest: Digest | None
) -> AsyncIterator[bytes]:
    asked = 0
    async for piece in body:
        yield piece
        asked += len(piece)
        held_bytes += len(piece)
        if asked >= _ASKED_BYTES:
            asked = 0
            await request.engine.admit(request.repository, held_bytes=held_bytes, digest=digest)


def _chunk(request: Request) -> tuple[int | None, AsyncIterator[bytes]]:
    """Where the chunk claims to begin, and its bytes, which must be as many as it claims."""
    header = request.header("content-range")
    if not header:
        return None, request.pieces()
    claimed = ContentRange.parse(header)
    length = request.length_bytes
    if length is not None and length != claimed.length_bytes:
        raise SizeInvalid("Send as many bytes as Content-Range says; Content-Length says otherwise.")
    return claimed.first, request.pieces(claimed.length_bytes)


def _where(upload: Upload, offset: int) -> tuple[Header, ...]:
    return (
        ("Location", f"/v2/{upload.repository}/blobs/uploads/{upload.id}"),
        ("Range", render_upload_range(offset)),
        ("Docker-Upload-UUID", upload.id),
    )


def _created(request: Request, digest: Digest) -> Reply:
    return Reply(
        201,
        (("Location", f"/v2/{request.repository}/blobs/{digest}"), ("Docker-Content-Digest", digest.text)),
    )


def _push(request: Request) -> tuple[Need, ...]:
    return Need(Action.PUSH, request.repository), Need(Action.PULL, request.repository)
