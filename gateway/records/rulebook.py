"""The rulebook: what one process knows of the rules, for a look before bytes are taken."""

from __future__ import annotations

from gateway.access.rules import Rules
from gateway.oci.digest import Digest
from gateway.oci.names import ProjectName, Repository
from gateway.records import rules, usage
from gateway.records.database import Database
from gateway.records.versions import settled

_ENTRIES = 20_000


class Rulebook:
    """Rules are kept until the policy version moves, as it does with each of them; what is used is read each time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version = -1
        self._known: dict[str, Rules] = {}

    async def admit(
        self, repository: Repository, *, held_bytes: int = 0, coming_bytes: int = 0, digest: Digest | None = None
    ) -> None:
        """As `gateway.engine.port.Admission`; raises `ReadOnly`, `QuotaExceeded`."""
        project = repository.project
        found = await self._rules(project)
        found.require_writable(project)
        if found.quota_bytes is not None:
            wanted = held_bytes + coming_bytes
            await self._database.read(lambda connection: usage.require_room(connection, project, wanted, digest))

    async def _rules(self, project: ProjectName) -> Rules:
        version = self._database.versions.policy()
        if version != self._version or len(self._known) >= _ENTRIES:
            self._known.clear()
            self._version = version
        known = self._known.get(project.name)
        if known is None:
            known = await self._database.read(lambda connection: rules.read(connection, project))
            if settled(version) and version == self._version == self._database.versions.policy():
                self._known[project.name] = known
        return known
