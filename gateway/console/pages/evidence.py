"""Evidence: checkpoints and the key they are verified with, how far sinks have got, and old months sealed away."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from starlette.responses import Response

from gateway.console.frame import render
from gateway.console.plan import Group, Page
from gateway.console.visit import Visit
from gateway.errors import Unknown

#: Segments that are shown, the newest.
_ROWS: Final = 50


async def index(visit: Visit) -> Response:
    """The newest checkpoint, the sinks with what keeps them, and the files of old months."""
    kept = await visit.acts.evidence.kept(visit.caller)
    sinks = await visit.acts.evidence.sinks(visit.caller)
    newest = kept.newest
    return await render(
        visit,
        "evidence.html",
        newest=newest,
        kid=newest.statement["key"] if newest is not None else "",
        edited=kept.edited,
        sinks=[(each, _moment(each.delivered_at), _moment(each.failing_since)) for each in sinks],
        segments=kept.segments[: -_ROWS - 1 : -1],
        segment_count=len(kept.segments),
        sealed=sum(each.count for each in kept.segments),
        purged=sum(each.count for each in kept.segments if each.stub),
        rows=_ROWS,
    )


async def key(visit: Visit) -> Response:
    """The public key, as a file to keep elsewhere."""
    found = await visit.acts.evidence.public_key(visit.caller)
    return _file(found.pem, "checkpoint-key.pem", "application/x-pem-file")


async def checkpoint(visit: Visit) -> Response:
    """The newest checkpoint, as a file to keep elsewhere."""
    newest = (await visit.acts.evidence.kept(visit.caller)).newest
    if newest is None:
        raise Unknown("No checkpoint was made yet; a gateway that serves makes one every minute.")
    return _file(f"{newest.line}\n", f"checkpoint-{newest.number}.json", "application/json")


def _file(text: str, name: str, media_type: str) -> Response:
    return Response(text, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def _moment(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None


GROUP = Group(
    pages=(
        Page("/audit/evidence", index),
        Page("/audit/evidence/key", key),
        Page("/audit/evidence/checkpoint", checkpoint),
    ),
)
