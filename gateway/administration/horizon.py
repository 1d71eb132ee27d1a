"""How far back somebody sees what happened in a project: a name may have been another project's before."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from gateway.access.principals import Caller
from gateway.administration.sight import sees_all
from gateway.audit.event import Kind, Outcome
from gateway.audit.trail import Search, Trail
from gateway.gate import Gate
from gateway.oci.names import ProjectName
from gateway.records.database import Database
from gateway.records.projects import find


async def horizon(
    gate: Gate, database: Database, trail: Trail, caller: Caller, project: ProjectName | None
) -> datetime | None:
    """
    Since when *caller*, who may review *project* (None: the system), sees what happened there; None: always.

    Whoever may do so by a grant alone sees nothing of a project that had the name before.
    """
    standing = await gate.directory.standing(caller.principal)
    if project is None or (standing is not None and sees_all(caller, standing)):
        return None
    return await beginning(database, trail, project)


async def beginning(database: Database, trail: Trail, project: ProjectName) -> datetime:
    """As `birth`; now, if there is no such project: nothing of before is its own."""
    return await birth(database, trail, project) or datetime.now(UTC)


async def birth(database: Database, trail: Trail, project: ProjectName) -> datetime | None:
    """When the project that has this name now began; what happened before was another's. None if there is none."""
    row = await database.read(lambda connection: find(connection, project))
    if row is None:
        return None
    # The records know the second, the event the very moment; one that is sealed away is of long before.
    search = Search(project=project.name, kind=Kind.PROJECT_ADD.value, outcome=Outcome.ALLOWED.value)
    added = await asyncio.to_thread(trail.page, search, limit=1)
    moments = (datetime.fromisoformat(str(event.record()["time"])) for event in added)
    return max(row.created_at, *moments) if added else row.created_at
