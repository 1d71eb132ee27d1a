"""The trash: what was deleted and can be had back, where tags pointed, and manifests that go there."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.administration import TrashRow
from gateway.api.answers import Page
from gateway.api.bodies import OfProject, TagRestored
from gateway.api.kept import Dropped, Restored, Trashed
from gateway.api.replies import Reply, done, reply
from gateway.api.request import Request


async def index(request: Request) -> Reply:
    """List what was deleted and can be had back, of a project or of all, the newest first"""
    project = request.query_as(OfProject).project
    return _page(request, await request.administration.trash.list_trash(request.caller, project=project))


async def of_repository(request: Request) -> Reply:
    """List what was deleted from a repository and can be had back, the newest first"""
    repository = request.values["repository"]
    return _page(request, await request.administration.trash.list_trash(request.caller, repository))


async def empty(request: Request) -> Reply:
    """Drop what is in every trash for good; the next sweep frees the bytes"""
    return reply(Dropped(await request.administration.trash.empty_trash(request.caller)))


async def empty_repository(request: Request) -> Reply:
    """Drop what is in the trash of a repository for good; the next sweep frees the bytes"""
    repository = request.values["repository"]
    return reply(Dropped(await request.administration.trash.empty_trash(request.caller, repository)))


async def tag_history(request: Request) -> Reply:
    """Where a tag pointed, who moved or removed it, and what of that can be had back, the newest first"""
    values = request.values
    position = request.position
    found = await request.administration.histories.of_tag(
        request.caller,
        values["repository"],
        values["tag"],
        before=int(position) if position else None,
        limit=request.asked.limit,
    )
    more = str(found.before) if found.before is not None else ""
    return reply(Page(list(found.moves), request.cursor_to(more)))


async def restore_tag(request: Request) -> Reply:
    """Bring a removed tag back, with its manifest if that was deleted too, or move it to an earlier digest"""
    repository, tag = request.values["repository"], request.values["tag"]
    body = request.body_as(TagRestored)
    digest = await request.administration.trash.restore_tag(
        request.caller, repository, tag, to=body.to or "", force=body.force
    )
    return reply(Restored(repository, digest, [tag]))


async def restore_manifest(request: Request) -> Reply:
    """Bring a deleted manifest back, with those of its tags that name nothing else now"""
    repository, digest = request.values["repository"], request.values["reference"]
    tags = await request.administration.trash.restore_manifest(request.caller, repository, digest)
    return reply(Restored(repository, digest, list(tags)))


async def remove_manifest(request: Request) -> Reply:
    """Remove a manifest, named by its digest, with all its tags; what lists it or is about it stays"""
    repository, digest = request.values["repository"], request.values["reference"]
    await request.administration.repositories.remove_manifest(request.caller, repository, digest)
    return done()


def _page(request: Request, rows: Sequence[TrashRow]) -> Reply:
    return request.page(rows, _place, Trashed.of)


def _place(row: TrashRow) -> str:
    return f"{_backwards(int(row.deleted_at.timestamp()))} {row.repository} {row.tag} {row.digest}"


def _backwards(number: int) -> str:
    return f"{2**53 - number:019d}"
