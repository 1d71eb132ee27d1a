"""Policy as the database holds it: a cached directory for the gate, and a look from inside a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import assert_never

from sqlalchemy import Connection, Text, bindparam, cast, func, select

from gateway.access.policy import ANONYMOUS_STANDING, OPERATOR_STANDING, Grant, Project, Reach, Role, Standing
from gateway.access.principals import Principal, PrincipalKind
from gateway.oci.names import ProjectName
from gateway.records.database import Database
from gateway.records.schema import accounts, grants, offline_tokens, personal_tokens, projects
from gateway.records.versions import settled

#: Entries kept per kind; when there are more the cache starts afresh.
_ENTRIES = 20_000

#: Number and end of each personal token, and the numbers of the offline ones, in a text each: one query says all of an
#: account but its grants.
_TOKENS = (
    select(
        func.aggregate_strings(cast(personal_tokens.c.id, Text) + ":" + cast(personal_tokens.c.expires_at, Text), " ")
    )
    .where(personal_tokens.c.account_id == accounts.c.id)
    .correlate(accounts)
    .scalar_subquery()
)
_OFFLINE = (
    select(func.aggregate_strings(cast(offline_tokens.c.id, Text), " "))
    .where(offline_tokens.c.account_id == accounts.c.id)
    .correlate(accounts)
    .scalar_subquery()
)
_ACCOUNT = select(
    accounts.c.enabled,
    accounts.c.generation,
    accounts.c.administrator,
    accounts.c.auditor,
    accounts.c.expires_at,
    _TOKENS.label("tokens"),
    _OFFLINE.label("offline"),
).where(accounts.c.id == bindparam("account"))
_GRANTS = (
    select(grants.c.role, grants.c.pattern, grants.c.expires_at, projects.c.name)
    .join(projects, projects.c.id == grants.c.project_id)
    .where(grants.c.account_id == bindparam("account"))
    .order_by(grants.c.id)
)
_PROJECT = select(projects.c.id, projects.c.public).where(projects.c.name == bindparam("project"))
_PUBLIC = select(projects.c.id, projects.c.name).where(projects.c.public.is_(True)).order_by(projects.c.name)


class ConnectionView:
    """Policy as *connection*'s transaction sees it; nothing cached."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def standing(self, principal: Principal) -> Standing | None:
        fixed = _fixed(principal)
        return fixed if fixed is not None else read_standing(self._connection, principal.id)

    def project(self, name: ProjectName) -> Project | None:
        return read_project(self._connection, name)


class SqlDirectory:
    """The gate's directory: each answer is kept until the policy version moves."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version = -1
        self._standings: dict[int, Standing | None] = {}
        self._projects: dict[str, Project | None] = {}
        #: Numbers of offline tokens that were looked for at this version and are gone: none of them comes back.
        self._gone: set[int] = set()
        self._public: tuple[Project, ...] | None = None

    def version(self) -> int:
        return self._database.versions.policy()

    async def standing(self, principal: Principal, *, offline_token: int = 0) -> Standing | None:
        fixed = _fixed(principal)
        if fixed is not None:
            return fixed
        version = self._refresh()
        if principal.id in self._standings:
            known = self._standings[principal.id]
            if offline_token in self._gone or not _lacks(known, offline_token):
                return known
        standing = await self._database.read(lambda connection: read_standing(connection, principal.id))
        if self._keepable(version):
            _bound(self._standings)
            self._standings[principal.id] = standing
            if _lacks(standing, offline_token):
                _bound(self._gone)
                self._gone.add(offline_token)
        return standing

    async def project(self, name: ProjectName) -> Project | None:
        version = self._refresh()
        if name.name in self._projects:
            return self._projects[name.name]
        project = await self._database.read(lambda connection: read_project(connection, name))
        if self._keepable(version):
            _bound(self._projects)
            self._projects[name.name] = project
        return project

    async def projects(self, names: Iterable[ProjectName]) -> Sequence[Project]:
        found = [await self.project(name) for name in dict.fromkeys(names)]
        return [project for project in found if project is not None]

    async def public_projects(self) -> Sequence[Project]:
        version = self._refresh()
        if self._public is not None:
            return self._public
        public = await self._database.read(_read_public)
        if self._keepable(version):
            self._public = public
        return public

    def _refresh(self) -> int:
        """The version now; what was cached at another is forgotten."""
        version = self._database.versions.policy()
        if version != self._version:
            self._standings.clear()
            self._projects.clear()
            self._gone.clear()
            self._public = None
            self._version = version
        return version

    def _keepable(self, version: int) -> bool:
        return settled(version) and version == self._version == self._database.versions.policy()


def read_standing(connection: Connection, account: int) -> Standing | None:
    """The standing of the account numbered *account*, or None if there is none."""
    row = connection.execute(_ACCOUNT, {"account": account}).first()
    if row is None:
        return None
    held = connection.execute(_GRANTS, {"account": account})
    return Standing(
        enabled=row.enabled,
        generation=row.generation,
        administrator=row.administrator,
        auditor=row.auditor,
        expires_at=moment(row.expires_at),
        grants=tuple(
            Grant(Role(role), Reach(ProjectName(name), pattern), moment(expires_at))
            for role, pattern, expires_at, name in held
        ),
        personal_tokens=_numbered(row.tokens or ""),
        offline_tokens=frozenset(map(int, (row.offline or "").split())),
    )


def read_project(connection: Connection, name: ProjectName) -> Project | None:
    row = connection.execute(_PROJECT, {"project": name.name}).first()
    return Project(row.id, name, row.public) if row is not None else None


def moment(seconds: int | None) -> datetime | None:
    """A column of UNIX seconds as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None


def _numbered(text: str) -> dict[int, int]:
    return {int(number): int(end) for number, _, end in (each.partition(":") for each in text.split())}


def _read_public(connection: Connection) -> tuple[Project, ...]:
    return tuple(Project(row.id, ProjectName(row.name), True) for row in connection.execute(_PUBLIC))


def _fixed(principal: Principal) -> Standing | None:
    match principal.kind:
        case PrincipalKind.OPERATOR | PrincipalKind.SYSTEM:
            return OPERATOR_STANDING
        case PrincipalKind.ANONYMOUS:
            return ANONYMOUS_STANDING
        case PrincipalKind.USER | PrincipalKind.ROBOT:
            return None
        case _:
            assert_never(principal.kind)


def _lacks(standing: Standing | None, offline_token: int) -> bool:
    return standing is not None and offline_token > 0 and offline_token not in standing.offline_tokens


def _bound(cache: dict[int, Standing | None] | dict[str, Project | None] | set[int]) -> None:
    if len(cache) >= _ENTRIES:
        cache.clear()
