"""Effective access: what somebody can do, and who can do something here; each with everything that gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gateway.access.names import parse_principal
from gateway.access.policy import ACTIONS, Grant, Need, Project, Reach, Role, Standing, parse_target
from gateway.access.principals import ANONYMOUS, Caller, Principal, PrincipalKind
from gateway.access.reasons import PUBLIC, Cause, barred, causes
from gateway.access.rules import Rules
from gateway.access.scopes import TOKEN_ACTIONS, Action
from gateway.administration.sight import may_know, standing_of
from gateway.audit.event import Kind
from gateway.errors import ReadOnly, Unknown
from gateway.gate import Gate, Passage
from gateway.oci.names import ProjectName, Repository
from gateway.records import holders, rules
from gateway.records.accounts import Account, find, no_account
from gateway.records.database import Database
from gateway.records.grants import GrantRow, grants_of
from gateway.records.holders import Holder

#: Accounts on a page, and administrators and auditors that are named.
PAGE: Final = 100
_MOST: Final = 500
_EVERYWHERE: Final = 100
_ACCOUNTS: Final = frozenset({PrincipalKind.USER, PrincipalKind.ROBOT})
_EVERY_PROJECT, _PUBLIC_PROJECTS = "every project", "every public project"


@dataclass(frozen=True, slots=True)
class Right:
    """
    Something that gives *actions* on *reach*: a grant (`why` is `pusher on gallery/ui-*`), a system role, being public.

    It does not count at the moment unless *live*; *held_off* names actions that a rule forbids there for now, with
    the rule.
    """

    reach: str
    actions: tuple[Action, ...]
    why: str
    expires_at: datetime | None = None
    live: bool = True
    held_off: Mapping[Action, str] | None = None


@dataclass(frozen=True, slots=True)
class AccountAccess:
    """
    What an account can do, and why. *barred* says why nothing of it counts now: disabled, expired.

    Personal tokens and robots' secrets of the account may be bound to less, never to more. With a *project*, only
    what concerns that project is told. *more* grants are not shown.
    """

    account: Account
    barred: str
    rights: tuple[Right, ...]
    project: str = ""
    more: int = 0


@dataclass(frozen=True, slots=True)
class Explained:
    """
    What one principal may do on one repository: for each action everything that gives it, nothing where it may not.

    *others* are its grants in the project that give nothing here, each with why not; *hindrances* are rules that
    forbid an action to everybody for now.
    """

    principal: Principal
    barred: str
    causes: Mapping[Action, tuple[Cause, ...]]
    others: tuple[tuple[Grant, str], ...]
    hindrances: Mapping[Action, str]

    def may(self, action: Action) -> bool:
        return bool(self.causes[action]) and action not in self.hindrances


@dataclass(frozen=True, slots=True)
class RepositoryAccess:
    """
    Who may do what on a repository of that name, whether there is one or not, and why.

    *holders* are the accounts with a grant in the project, by name, *next* what the following page begins after, ""
    for none. Administrators may do everything everywhere, auditors review; up to a hundred of each are named, and
    stand on no page unless they hold a grant besides. *immutable* are the patterns of tags that stay where they are.
    """

    repository: str
    public: bool
    holders: tuple[Explained, ...]
    next: str
    administrators: tuple[Principal, ...]
    auditors: tuple[Principal, ...]
    hindrances: Mapping[Action, str]
    immutable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Effective:
    """
    Answers by the judgement that requests meet. An account may ask about itself; auditors and administrators about
    everybody, the owner of a project about what concerns that project.
    """

    gate: Gate
    database: Database

    async def of_account(self, caller: Caller, name: str, project: str | None = None) -> AccountAccess:
        """
        What the user or robot *name* can do, everywhere or as far as *project* goes, and why.

        Raises `Unknown` for an account or project that does not exist.
        """
        wanted = parse_principal(name)
        place = ProjectName.parse(project) if project is not None else None
        mine = is_oneself(caller, wanted)
        needs = () if mine else (Need(Action.REVIEW, place),)
        facts = {"detail": {"account": wanted}, "project": place.name if place is not None else ""}
        async with self.gate.passage(caller, Kind.ACCESS_ASK, *needs, **facts) as passage:
            if mine:
                await standing_of(self.gate, caller)
                if place is not None and not await may_know(self.gate, caller, place):
                    raise _no_project(place)
            account = await self.database.read(lambda connection: find(connection, wanted))
            if account is None:
                raise no_account(wanted)
            found = await self._account(account, place)
            await passage.seal()
        return found

    async def explain(self, caller: Caller, name: str, repository: str) -> Explained:
        """
        What *name* (or `anonymous`) may do on *repository*, and why; the repository need not exist, its project must.

        Raises `Unknown`.
        """
        target = parse_target(repository)
        wanted = name if name == ANONYMOUS.name else parse_principal(name)
        async with self._asking(caller, target, {"account": wanted}) as passage:
            project = await self._project(target.project)
            found = await self._explained(wanted, target, project)
            await passage.seal()
        return found

    async def who(self, caller: Caller, repository: str, *, after: str = "", limit: int = PAGE) -> RepositoryAccess:
        """Who may pull from, push to, delete in, manage and review *repository*, and why. Raises `Unknown`."""
        target = parse_target(repository)
        page = max(1, min(limit, _MOST))
        async with self._asking(caller, target, {"asked": "who"}) as passage:
            project = await self._project(target.project)
            found = await self._who(target, project, after, page)
            await passage.seal()
        return found

    def _asking(self, caller: Caller, target: Repository, detail: Mapping[str, object]) -> Passage:
        need = Need(Action.REVIEW, target.project)
        return self.gate.passage(caller, Kind.ACCESS_ASK, need, repository=target.name, detail=detail)

    async def _project(self, name: ProjectName) -> Project:
        project = await self.gate.directory.project(name)
        if project is None:
            raise _no_project(name)
        return project

    # of an account

    async def _account(self, account: Account, place: ProjectName | None) -> AccountAccess:
        now = datetime.now(UTC)
        number = None
        if place is not None:
            number = (await self._project(place)).id
        held = await self.database.read(lambda connection: grants_of(connection, account=account.id, project=number))
        shown = held[:_MOST]
        names = {row.reach.partition("/")[0] for row in shown}
        ruled = {name: await self._rules(ProjectName(name)) for name in names}
        rights = [*_of_system(account), *(_of_grant(row, ruled[row.reach.partition("/")[0]], now) for row in shown)]
        if place is None:
            rights.append(Right(_PUBLIC_PROJECTS, (Action.PULL,), PUBLIC))
        elif (await self._project(place)).public:
            rights.append(Right(place.name, (Action.PULL,), PUBLIC))
        standing = Standing(account.enabled, 0, account.administrator, account.auditor, account.expires_at)
        told_place = place.name if place is not None else ""
        return AccountAccess(account, barred(standing, now), tuple(rights), told_place, len(held) - len(shown))

    async def _rules(self, name: ProjectName) -> Rules:
        return await self.database.read(lambda connection: rules.read(connection, name))

    # of a repository

    async def _explained(self, name: str, target: Repository, project: Project) -> Explained:
        hindrances = held_off(await self._rules(target.project), target.project)
        if name == ANONYMOUS.name:
            return explained(Holder(ANONYMOUS, Standing()), target, project, hindrances)
        account = await self.database.read(lambda connection: find(connection, name))
        if account is None:
            raise no_account(name)
        holder = await self.database.read(
            lambda connection: holders.of_account(connection, account.id, project.id, target.project)
        )
        if holder is None:
            raise no_account(name)
        return explained(holder, target, project, hindrances)

    async def _who(self, target: Repository, project: Project, after: str, limit: int) -> RepositoryAccess:
        rule = await self._rules(target.project)
        hindrances = held_off(rule, target.project)
        found = await self.database.read(
            lambda connection: holders.of_project(connection, project.id, target.project, after, limit + 1)
        )
        ruling = await self.database.read(lambda connection: holders.administrators(connection, _EVERYWHERE))
        reading = await self.database.read(lambda connection: holders.auditors(connection, _EVERYWHERE))
        return RepositoryAccess(
            target.name,
            project.public,
            tuple(explained(holder, target, project, hindrances) for holder in found[:limit]),
            found[limit - 1].principal.name if len(found) > limit else "",
            _live(ruling),
            _live(reading),
            hindrances,
            rule.immutable,
        )


def is_oneself(caller: Caller, name: str) -> bool:
    """Whether *caller* is the account *name*, by a credential that may look after it and not only be used by it."""
    whole = caller.bound is None or caller.bound.administers
    return whole and name == caller.principal.name and caller.principal.kind in _ACCOUNTS


def _no_project(name: ProjectName) -> Unknown:
    return Unknown(f"There is no project {name}; add it first, or check how it is spelled.")


def explained(holder: Holder, target: Repository, project: Project, hindrances: Mapping[Action, str]) -> Explained:
    """What *holder* may do on *target*, by the judgement."""
    now = datetime.now(UTC)
    # Managing and reviewing are rights on the project, whatever repository of it was named.
    needs = {action: Need(action, target if action in TOKEN_ACTIONS else target.project) for action in Action}
    given = {action: causes(need, holder.standing, project, now) for action, need in needs.items()}
    counting = {cause.grant for found in given.values() for cause in found}
    others = [(grant, _why_not(grant, target, now)) for grant in holder.standing.grants if grant not in counting]
    return Explained(holder.principal, barred(holder.standing, now), given, tuple(others), hindrances)


def held_off(found: Rules, project: ProjectName) -> dict[Action, str]:
    """What the rules forbid to everybody for now, with the sentence that says why."""
    try:
        found.require_writable(project)
    except ReadOnly as refusal:
        return dict.fromkeys((Action.PUSH, Action.DELETE), refusal.message)
    return {}


def _live(found: list[Holder]) -> tuple[Principal, ...]:
    now = datetime.now(UTC)
    return tuple(holder.principal for holder in found if holder.standing.live(now))


def _of_system(account: Account) -> list[Right]:
    found = []
    if account.administrator:
        found.append(Right(_EVERY_PROJECT, tuple(Action), "administrator"))
    if account.auditor:
        found.append(Right(_EVERY_PROJECT, (Action.REVIEW,), "auditor"))
    return found


def _of_grant(row: GrantRow, found: Rules, now: datetime) -> Right:
    given = ACTIONS[Role(row.role)]
    # Managing and reviewing are rights on the project: a grant on some of its repositories does not give them.
    whole = "/" not in row.reach
    actions = tuple(action for action in Action if action in given and (whole or action in TOKEN_ACTIONS))
    hindrances = held_off(found, Reach.parse(row.reach).project)
    mine = {action: why for action, why in hindrances.items() if action in actions}
    live = row.expires_at is None or now < row.expires_at
    return Right(row.reach, actions, f"{row.role} on {row.reach}", row.expires_at, live, mine)


def _why_not(grant: Grant, target: Repository, now: datetime) -> str:
    if not grant.live(now):
        return "it has expired"
    return "it gives nothing here" if grant.reach.covers(target) else f"it does not cover {target}"
