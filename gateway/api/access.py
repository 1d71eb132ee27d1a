"""Effective access: what somebody can do, and who can do something on a repository, each with what gives it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from gateway.access.scopes import Action
from gateway.administration import AccountAccess, Explained
from gateway.api.answers import User
from gateway.api.bodies import Paging, Within
from gateway.api.replies import Reply, reply
from gateway.api.request import Request


class Right(Struct, frozen=True):
    """
    Something that gives *actions* on *reach*; it *counts* unless it has expired or the account is barred.

    *held_off* are actions that a rule forbids there for now, with the rule.
    """

    reach: str
    actions: list[str]
    why: str
    counts: bool
    expires: datetime | None
    held_off: dict[str, str]


class AccountRights(Struct, frozen=True):
    """What an account can do, and why; *barred* says why nothing of it counts now, *more* grants are not shown."""

    account: User
    barred: str
    rights: list[Right]
    more: int

    @classmethod
    def of(cls, found: AccountAccess) -> AccountRights:
        rights = [
            Right(
                each.reach,
                [action.value for action in each.actions],
                each.why,
                each.live and not found.barred,
                each.expires_at,
                _texts(each.held_off or {}),
            )
            for each in found.rights
        ]
        return cls(User.of(found.account), found.barred, rights, found.more)


class Power(Struct, frozen=True):
    """Whether an *action* may be done now: *why* is everything that gives it, *hindrance* the rule that forbids it."""

    action: str
    may: bool
    why: list[str]
    hindrance: str


class Idle(Struct, frozen=True):
    """A grant in the project that gives nothing here, and why."""

    grant: str
    why: str


class Holder(Struct, frozen=True):
    """What one principal may do on one repository; *barred* says why nothing of it counts now."""

    principal: str
    barred: str
    actions: list[Power]
    idle: list[Idle]

    @classmethod
    def of(cls, found: Explained) -> Holder:
        powers = [
            Power(action.value, found.may(action), [str(cause) for cause in causes], found.hindrances.get(action, ""))
            for action, causes in found.causes.items()
        ]
        idle = [Idle(str(grant), why) for grant, why in found.others]
        return cls(found.principal.name, found.barred, powers, idle)


class Holders(Struct, frozen=True):
    """
    Who may do what on a repository of that name: *items* are the accounts with a grant in the project, by name.

    Administrators may do everything everywhere and auditors review; they are named besides, a hundred of each.
    """

    repository: str
    public: bool
    administrators: list[str]
    auditors: list[str]
    hindrances: dict[str, str]
    immutable: list[str]
    items: list[Holder]
    next: str | None


async def of_account(request: Request) -> Reply:
    """Show what a user or robot can do, and what gives it; with `project`, what concerns that alone"""
    project = request.query_as(Within).project
    found = await request.administration.effective.of_account(request.caller, request.values["user"], project)
    return reply(AccountRights.of(found))


async def explain(request: Request) -> Reply:
    """Show what somebody, or `anonymous`, may do on a repository, everything that gives it, and what does not"""
    principal, repository = request.values["principal"], request.values["repository"]
    return reply(Holder.of(await request.administration.effective.explain(request.caller, principal, repository)))


async def who(request: Request) -> Reply:
    """List who may do what on a repository, and why"""
    limit = request.query_as(Paging).limit
    found = await request.administration.effective.who(
        request.caller, request.values["repository"], after=request.position, limit=limit
    )
    told = Holders(
        found.repository,
        found.public,
        [principal.name for principal in found.administrators],
        [principal.name for principal in found.auditors],
        _texts(found.hindrances),
        list(found.immutable),
        [Holder.of(each) for each in found.holders],
        request.cursor_to(found.next),
    )
    return reply(told)


def _texts(found: Mapping[Action, str]) -> dict[str, str]:
    return {action.value: why for action, why in found.items()}
