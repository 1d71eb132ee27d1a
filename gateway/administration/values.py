"""What the acts of administration answer with, beside the records' own rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from gateway.access.policy import Need
from gateway.access.principals import Caller, PrincipalKind
from gateway.access.scopes import Action
from gateway.records.accounts import Account
from gateway.records.grants import GrantRow
from gateway.records.projects import ProjectRow

#: What acts on accounts, keys and the set of projects need.
MANAGE_SYSTEM = Need(Action.MANAGE)


def owner_of(caller: Caller) -> str:
    """
    How the records of content name who acts: `kind:id`, which finds an account's name as long as it is there.

    Of an operator there is no account: its name is kept as events have it, `operator:root`.
    """
    if caller.principal.kind is PrincipalKind.OPERATOR:
        return caller.principal.name
    return f"{caller.principal.kind.value}:{caller.principal.id}"


@dataclass(frozen=True, slots=True)
class RemovedProject:
    """
    So many *repositories*, *robots* and *grants* (those of the robots, too) went with a project.

    *stays* is a sentence on what of its content does not go, where the engine cannot remove it; "" elsewhere.
    """

    stays: str
    repositories: int
    robots: int
    grants: int


@dataclass(frozen=True, slots=True)
class NewSecret:
    """
    The secret of a new or renewed account, to be shown once; None if the asker chose it.

    *expires* is set for robots and tokens, in UTC; *number* is a token's. Until *former_until* the secret before it is
    good as well. *account* is a renewed robot as it is from then on.
    """

    name: str
    secret: str | None = field(repr=False)
    expires: datetime | None = None
    number: int = 0
    former_until: datetime | None = None
    account: Account | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AccountDetail:
    account: Account
    grants: tuple[GrantRow, ...]
    offline_tokens: int


@dataclass(frozen=True, slots=True)
class ProjectDetail:
    """*repositories* are counted; *size_bytes* is what they hold, a blob linked twice in the project counted once."""

    project: ProjectRow
    grants: tuple[GrantRow, ...]
    robots: tuple[Account, ...]
    repositories: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Freeze:
    """Whether the whole gateway is read-only, why ("" if not), and since when, in UTC."""

    read_only: bool
    reason: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether the principal may, and *why*: the grant that decided, or what is missing."""

    allowed: bool
    why: str


@dataclass(frozen=True, slots=True)
class TagRow:
    """
    A tag: the manifest it names, with that manifest's own size, and when (UTC) and by whom it was moved there.

    *moved_by* is a name, or `kind:id` of an account that is gone.
    """

    name: str
    digest: str
    media_type: str
    size_bytes: int
    moved_at: datetime
    moved_by: str
