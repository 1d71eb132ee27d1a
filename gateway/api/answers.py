"""What is answered: each thing as programs see it, made from the acts' own values."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

from msgspec import Struct

from gateway import administration as acts
from gateway.access.personal import action_names
from gateway.access.principals import PrincipalKind
from gateway.access.retention import Retention as Kept
from gateway.administration.reviews import Finding
from gateway.api import words
from gateway.api.kept import Retention
from gateway.audit.trail import SealedPart, Verification

T = TypeVar("T")


class Page(Struct, Generic[T], frozen=True):
    """A part of a list; *next*, if there is one, is the cursor of the part that follows."""

    items: list[T]
    next: str | None


class User(Struct, frozen=True):
    """A user or robot. Times are UTC."""

    id: int
    name: str
    kind: str
    enabled: bool
    administrator: bool
    auditor: bool
    created: datetime
    secret_changed: datetime
    expires: datetime | None

    @classmethod
    def of(cls, row: acts.Account) -> User:
        held = (row.enabled, row.administrator, row.auditor)
        return cls(row.id, row.name, row.kind.value, *held, row.created_at, row.changed_at, row.expires_at)


class Grant(Struct, frozen=True):
    """A role held on a reach; *expires* is UTC, None for a grant without an end."""

    id: int
    principal: str
    role: str
    reach: str
    created: datetime
    expires: datetime | None

    @classmethod
    def of(cls, row: acts.GrantRow) -> Grant:
        return cls(row.id, row.principal, row.role, row.reach, row.created_at, row.expires_at)


class UserDetail(Struct, frozen=True):
    """A user or robot with its grants, expired ones included, and the number of its offline tokens."""

    user: User
    grants: list[Grant]
    offline_tokens: int

    @classmethod
    def of(cls, row: acts.AccountDetail) -> UserDetail:
        return cls(User.of(row.account), [Grant.of(grant) for grant in row.grants], row.offline_tokens)


class Secret(Struct, frozen=True):
    """A secret, shown this once; None if the asker chose it."""

    name: str
    secret: str | None
    expires: datetime | None

    @classmethod
    def of(cls, made: acts.NewSecret) -> Secret:
        return cls(made.name, made.secret, made.expires)


class Project(Struct, frozen=True):
    """A project with its rules; *quota_bytes* None is no quota, *read_only* is the reason or empty."""

    id: int
    name: str
    public: bool
    created: datetime
    used_bytes: int
    quota_bytes: int | None
    immutable: list[str]
    read_only: str

    @classmethod
    def of(cls, row: acts.ProjectRow) -> Project:
        rules = row.rules
        ruled = (rules.quota_bytes, list(rules.immutable), rules.read_only)
        return cls(row.id, row.name, row.public, row.created_at, row.used_bytes, *ruled)


class Robot(Struct, frozen=True):
    """
    A robot; it signs in as *name*, `PROJECT+NAME`.

    *former_until* is until when the secret before the last rotation is good too, None if it is not.
    """

    id: int
    name: str
    project: str
    enabled: bool
    created: datetime
    secret_changed: datetime
    expires: datetime | None
    used: datetime | None
    former_until: datetime | None
    former_used: datetime | None

    @classmethod
    def of(cls, row: acts.Account) -> Robot:
        told = (row.id, row.name, row.project, row.enabled, row.created_at, row.changed_at, row.expires_at)
        return cls(*told, row.used_at, row.former_until, row.former_used_at)


class ProjectDetail(Struct, frozen=True):
    """A project with its grants and robots, and what it holds."""

    project: Project
    repositories: int
    size_bytes: int
    grants: list[Grant]
    robots: list[Robot]

    @classmethod
    def of(cls, row: acts.ProjectDetail) -> ProjectDetail:
        grants, robots = [Grant.of(grant) for grant in row.grants], [Robot.of(robot) for robot in row.robots]
        return cls(Project.of(row.project), row.repositories, row.size_bytes, grants, robots)


class Repository(Struct, frozen=True):
    """A repository that holds something; *size_bytes* counts what it shares with others too."""

    name: str
    project: str
    tags: int
    manifests: int
    blobs: int
    size_bytes: int
    created: datetime

    @classmethod
    def of(cls, row: acts.RepositoryRow) -> Repository:
        project = row.name.partition("/")[0]
        return cls(row.name, project, row.tags, row.manifests, row.blobs, row.size_bytes, row.created_at)


class Tag(Struct, frozen=True):
    """A tag, the manifest it names with that manifest's own size, and when and by whom it was moved there."""

    name: str
    digest: str
    media_type: str
    size_bytes: int
    moved: datetime
    moved_by: str

    @classmethod
    def of(cls, row: acts.TagRow) -> Tag:
        return cls(row.name, row.digest, row.media_type, row.size_bytes, row.moved_at, row.moved_by)


class Answer(Struct, frozen=True):
    """Whether, and why: the grant that decided, or what is missing."""

    allowed: bool
    why: str


class OfflineToken(Struct, frozen=True):
    """What a client keeps instead of a password, without the token."""

    id: int
    principal: str
    service: str
    client: str
    address: str
    created: datetime
    used: datetime | None

    @classmethod
    def of(cls, row: acts.OfflineTokenRow) -> OfflineToken:
        whose = (row.id, row.principal, row.service, row.client, row.address)
        return cls(*whose, row.created_at, row.used_at)


class PersonalToken(Struct, frozen=True):
    """
    A personal access token, without the token: what it may be used for at most, and when it was.

    *projects* None: all.
    """

    id: int
    account: str
    name: str
    actions: list[str]
    projects: list[str] | None
    created: datetime
    expires: datetime
    used: datetime | None

    @classmethod
    def of(cls, row: acts.PersonalTokenRow) -> PersonalToken:
        projects = None if row.bound.projects is None else sorted(row.bound.projects)
        bound = (action_names(row.bound.actions), projects)
        return cls(row.id, row.account, row.name, *bound, row.created_at, row.expires_at, row.used_at)


class Session(Struct, frozen=True):
    """A browser that somebody signed in with."""

    id: int
    account: str
    address: str
    agent: str
    created: datetime
    seen: datetime
    expires: datetime

    @classmethod
    def of(cls, row: acts.SessionRow) -> Session:
        return cls(row.id, row.account, row.address, row.agent, row.created_at, row.seen_at, row.expires_at)


class Revoked(Struct, frozen=True):
    """How many were revoked."""

    count: int


class Key(Struct, frozen=True):
    """A signing key without its private half; *state* is next, current, previous or revoked."""

    kid: str
    state: str
    created: str
    retires: str | None

    @classmethod
    def of(cls, row: acts.KeyRow) -> Key:
        return cls(row.kid, row.state, row.created, row.retires)


class ReadOnly(Struct, frozen=True):
    """Whether the whole gateway is read-only, why, and since when."""

    read_only: bool
    reason: str
    since: datetime | None

    @classmethod
    def of(cls, row: acts.Freeze) -> ReadOnly:
        return cls(row.read_only, row.reason, row.since)


class Verified(Struct, frozen=True):
    """
    Whether the trail is as it was written; *fault* and *event* name the first thing that is not.

    It is not called whole either while so many checkpoints given are *uncompared*, for their events were purged.
    """

    whole: bool
    count: int
    head: str
    fault: str | None
    event: int | None
    uncompared: int = 0

    @classmethod
    def of(cls, found: Verification) -> Verified:
        fault, event = (found.fault, found.seq) if found.fault else (None, None)
        return cls(found.whole, found.count, found.head, fault, event, found.uncompared)


class Events(Struct, frozen=True):
    """
    A part of the events, the newest first; *next*, if there is one, is the cursor of the part that follows.

    *sealed* is the part of the period that was not looked through, for it was sealed away: say *since* to have it
    looked through, some files for each answer, which may then hold fewer events than there is room for.
    """

    items: list[words.Event]
    next: str | None
    sealed: SealedPart | None = None


def present(thing: object) -> Any:
    """What an editor is shown of the thing that somebody else changed; None for what is gone."""
    match thing:
        case acts.Account() if thing.kind is PrincipalKind.ROBOT:
            return Robot.of(thing)
        case acts.Account():
            return User.of(thing)
        case acts.ProjectRow():
            return Project.of(thing)
        case acts.GrantRow():
            return Grant.of(thing)
        case Finding():
            return thing
        case Kept():
            return Retention.of(thing)
        case _:
            return None
