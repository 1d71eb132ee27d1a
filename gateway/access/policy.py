"""The judgement: from who asks, what for, and what stands in the records, to allowed or refused, with a reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias, assert_never

from gateway.access.patterns import matches
from gateway.access.principals import Caller, CredentialKind, PrincipalKind
from gateway.access.scopes import TOKEN_ACTIONS, Access, Action
from gateway.errors import Invalid, NameInvalid
from gateway.oci.names import ProjectName, Repository


class Role(StrEnum):
    """What a grant gives in a project."""

    PULLER = "puller"
    PUSHER = "pusher"
    MAINTAINER = "maintainer"
    OWNER = "owner"

    @classmethod
    def parse(cls, text: str) -> Role:
        """The role *text* names; raises `Invalid` listing the roles."""
        try:
            return cls(text)
        except ValueError:
            raise Invalid(f"A role is one of {', '.join(role.value for role in cls)}.") from None


#: A role's actions; nothing else in the project says what a role may do.
ACTIONS: dict[Role, frozenset[Action]] = {
    Role.PULLER: frozenset({Action.PULL}),
    Role.PUSHER: frozenset({Action.PULL, Action.PUSH}),
    Role.MAINTAINER: frozenset({Action.PULL, Action.PUSH, Action.DELETE}),
    Role.OWNER: frozenset({Action.PULL, Action.PUSH, Action.DELETE, Action.MANAGE, Action.REVIEW}),
}
EVERY_ACTION = frozenset(Action)
#: Credentials that were given out at one generation of the account, and are worth nothing at another.
_DATED = frozenset({CredentialKind.BEARER, CredentialKind.SESSION})

_PATTERN_COMPONENT = re.compile(r"[a-z0-9*](?:[a-z0-9*._-]*[a-z0-9*])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reach:
    """
    What a grant covers: a project to any depth, or the repositories of it that match a pattern.

    The pattern is anchored at both ends and `*` stays within one component: `gallery/ui` does not cover
    `gallery/ui/x`, and `gallery/*` does not cover `gallery/a/b`.
    """

    project: ProjectName
    pattern: str = ""

    @classmethod
    def parse(cls, text: str) -> Reach:
        """The reach `PROJECT[/PATTERN]` spells; raises `Invalid`."""
        name, _, pattern = text.partition("/")
        project = ProjectName.parse(name)
        if "/" in text:
            whole_stars = any("**" in part for part in pattern.split("/"))
            if whole_stars or not all(_PATTERN_COMPONENT.fullmatch(part) for part in pattern.split("/")):
                raise Invalid(
                    "A pattern is made of repository name components in which '*' stands for any characters but '/', "
                    "as in gallery/ui-*; leave it away to cover the whole project."
                )
        if len(text) > 255:
            raise Invalid("A project and pattern have at most 255 characters.")
        return cls(project, pattern)

    def covers(self, repository: Repository) -> bool:
        if repository.project != self.project:
            return False
        if not self.pattern:
            return True
        patterns, components = self.pattern.split("/"), repository.name.split("/")[1:]
        return len(patterns) == len(components) and all(map(matches, patterns, components))

    def __str__(self) -> str:
        return f"{self.project}/{self.pattern}" if self.pattern else self.project.name


@dataclass(frozen=True, slots=True)
class Grant:
    """A role held on a reach, until *expires_at* (UTC) if that is given."""

    role: Role
    reach: Reach
    expires_at: datetime | None = None

    def __str__(self) -> str:
        return f"{self.role} on {self.reach}"

    def live(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at


@dataclass(frozen=True, slots=True)
class Standing:
    """
    What the records say of one principal at one policy version.

    *personal_tokens* are the numbers of those that were not revoked, with the UNIX second at which each ends;
    *offline_tokens* the numbers of those that were not, up to when the standing was read: making one moves no version.
    """

    enabled: bool = True
    generation: int = 0
    administrator: bool = False
    auditor: bool = False
    expires_at: datetime | None = None
    grants: tuple[Grant, ...] = ()
    personal_tokens: Mapping[int, int] = field(default_factory=dict)
    offline_tokens: frozenset[int] = frozenset()

    def live(self, now: datetime) -> bool:
        return self.enabled and (self.expires_at is None or now < self.expires_at)


#: Whoever may run commands on the data directory could read every byte of it; what counts is that it is recorded.
OPERATOR_STANDING = Standing(administrator=True)
ANONYMOUS_STANDING = Standing()


@dataclass(frozen=True, slots=True)
class Project:
    """A project as policy sees it. *id* is never reused: a recreated project has another."""

    id: int
    name: ProjectName
    public: bool = False


@dataclass(frozen=True, slots=True)
class Need:
    """
    A right that an act needs: an action on a repository, on a project, or (None) on the system.

    MANAGE on the system is an administrator's; REVIEW on the system an administrator's or auditor's. *optional* needs
    do not refuse the act: the passage says which were met (a mount's source).
    """

    action: Action
    target: Repository | ProjectName | None = None
    optional: bool = False

    @property
    def project(self) -> ProjectName | None:
        match self.target:
            case Repository():
                return self.target.project
            case ProjectName() | None:
                return self.target
            case _:
                assert_never(self.target)

    def __str__(self) -> str:
        return f"{self.action} on {self.target if self.target is not None else 'the system'}"


class Reason(StrEnum):
    """Why a request was refused; stands in the trail."""

    NO_CREDENTIAL = "no_credential"
    INSUFFICIENT_SCOPE = "insufficient_scope"
    """The token does not carry the right, or is not meant for it."""
    NO_GRANT = "no_grant"
    """No grant gives the right, or none does any more."""
    ACCOUNT_DISABLED = "account_disabled"
    ACCOUNT_EXPIRED = "account_expired"
    ACCOUNT_REMOVED = "account_removed"
    CREDENTIAL_CHANGED = "credential_changed"
    """The password or secret was changed after the token was issued."""
    CREDENTIAL_REVOKED = "credential_revoked"
    """The personal or offline token that the caller came with, or got its token with, was revoked or is over."""
    PROJECT_RECREATED = "project_recreated"


@dataclass(frozen=True, slots=True)
class Allowed:
    """*grant* says what decided: `pusher on gallery`, `administrator`, `public project`, `operator`."""

    grant: str


@dataclass(frozen=True, slots=True)
class Refused:
    """
    *missing* is the need that was not met; *disclose* is whether the caller may know that the target exists.

    *held* says what the caller does have there, for the message, when it may be told.
    """

    reason: Reason
    missing: Need | None = None
    disclose: bool = False
    held: str = ""


Verdict: TypeAlias = Allowed | Refused


def judge(caller: Caller, need: Need, standing: Standing | None, project: Project | None, now: datetime) -> Verdict:
    """
    Whether *caller* may do what *need* names: what its credential bounds ∩ the live policy, denied by default.

    *standing* is None when the account no longer exists, *project* when there is none of that name (only an
    administrator may act there, and auditors review what happened). Never raises; never looks anything up.
    """
    live = _live(caller, need, standing, project, now)
    if _bounded(caller, need):
        return live
    may_know = isinstance(live, Allowed) or live.disclose
    return Refused(Reason.INSUFFICIENT_SCOPE, need, may_know, "" if isinstance(live, Allowed) else live.held)


def _bounded(caller: Caller, need: Need) -> bool:
    """Whether *need* lies within what the caller's credential bounds it to."""
    if caller.bound is not None and not caller.bound.allows(need.action, need.project):
        return False
    if caller.access is None or not isinstance(need.target, Repository):
        return True
    return need.action in TOKEN_ACTIONS and caller.access.includes(need.action, need.target)


def suspended(caller: Caller, standing: Standing | None, now: datetime) -> Reason | None:
    """Why *caller* can do nothing at all, if that is so: its account, or the credential it came with, is not live."""
    if standing is None:
        return Reason.ACCOUNT_REMOVED
    if not standing.enabled:
        return Reason.ACCOUNT_DISABLED
    if not standing.live(now):
        return Reason.ACCOUNT_EXPIRED
    if caller.credential.kind in _DATED and caller.generation != standing.generation:
        return Reason.CREDENTIAL_CHANGED
    if caller.personal_token and standing.personal_tokens.get(caller.personal_token, 0) <= now.timestamp():
        return Reason.CREDENTIAL_REVOKED
    if caller.offline_token and caller.offline_token not in standing.offline_tokens:
        return Reason.CREDENTIAL_REVOKED
    return None


def _live(caller: Caller, need: Need, standing: Standing | None, project: Project | None, now: datetime) -> Verdict:
    reason = suspended(caller, standing, now)
    if reason is not None or standing is None:
        return Refused(reason or Reason.ACCOUNT_REMOVED, need)
    name = need.project
    if name is not None and project is not None and caller.projects.get(name.name, project.id) != project.id:
        return Refused(Reason.PROJECT_RECREATED, need)
    return _by_policy(caller, need, standing, project, now)


def _by_policy(caller: Caller, need: Need, standing: Standing, project: Project | None, now: datetime) -> Verdict:
    if standing.administrator:
        return Allowed("operator" if caller.principal.kind is PrincipalKind.OPERATOR else "administrator")
    if need.action is Action.REVIEW and standing.auditor:
        return Allowed("auditor")
    if need.target is None or project is None:
        return Refused(Reason.NO_GRANT, need)
    covering = [grant for grant in standing.grants if grant.live(now) and covers(grant.reach, need.target)]
    for grant in covering:
        if need.action in ACTIONS[grant.role]:
            return Allowed(str(grant))
    if need.action is Action.PULL and project.public and isinstance(need.target, Repository):
        return Allowed("public project")
    held = ", ".join(str(grant) for grant in covering) or ("public project" if project.public else "")
    return Refused(Reason.NO_GRANT, need, disclose=bool(covering) or project.public, held=held)


def covers(reach: Reach, target: Repository | ProjectName) -> bool:
    """Whether a grant on *reach* speaks for *target*."""
    match target:
        case Repository():
            return reach.covers(target)
        case ProjectName():
            # Only a grant on the whole project speaks for the project.
            return reach.project == target and not reach.pattern
        case _:
            assert_never(target)


def granted(
    caller: Caller, wanted: Access, standing: Standing | None, projects: Iterable[Project], now: datetime
) -> Access:
    """
    The part of *wanted* that the live policy gives *caller*; possibly empty, never more than was asked for.

    `registry:catalog:*` is given to every signed-in account: the catalog shows only what its reader may pull. A
    personal token must be meant for pulling from every project: the catalog knows no narrower bound.
    """
    by_name = {project.name: project for project in projects}
    repositories: dict[str, frozenset[Action]] = {}
    for name, actions in wanted.repositories.items():
        repository = Repository.parse(name)
        project = by_name.get(repository.project)
        repositories[name] = frozenset(
            action
            for action in actions
            if isinstance(judge(caller, Need(action, repository), standing, project, now), Allowed)
        )
    signed_in = caller.principal.kind in {PrincipalKind.USER, PrincipalKind.ROBOT}
    catalog = wanted.catalog and signed_in and suspended(caller, standing, now) is None
    if caller.bound is not None and not caller.bound.allows(Action.PULL, None):
        catalog = False
    return Access({name: actions for name, actions in repositories.items() if actions}, catalog)


def parse_target(text: str) -> Repository:
    """The repository *text* names, for the command line; raises `Invalid` instead of a content refusal."""
    try:
        return Repository.parse(text)
    except NameInvalid as refusal:
        raise Invalid(refusal.message) from refusal
