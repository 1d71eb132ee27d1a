"""Grants: who holds which role where, and whether somebody may do something."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.access.names import parse_principal
from gateway.access.policy import Allowed, Need, Reach, Reason, Refused, Role, judge, parse_target
from gateway.access.principals import ANONYMOUS, Caller, Principal, PrincipalKind
from gateway.access.scopes import TOKEN_ACTIONS, Action
from gateway.administration.sight import reading
from gateway.administration.values import Answer
from gateway.audit.event import Kind
from gateway.errors import ContentRefusal, Invalid
from gateway.gate import Gate
from gateway.oci.names import ProjectName, Repository, parse_reference
from gateway.records import grants as rows
from gateway.records.accounts import find, no_account
from gateway.records.database import Database
from gateway.records.grants import GrantRow
from gateway.records.projects import get

#: Nothing that expires lives longer.
LONGEST = timedelta(days=3650)


def expiry(lasts: timedelta) -> int:
    """When something that *lasts* so long from now expires, in UNIX seconds; raises `Invalid` beyond ten years."""
    if not timedelta(seconds=1) <= lasts <= LONGEST:
        raise Invalid(f"An expiry lies in the future and at most {LONGEST.days} days away, as in 90d.")
    return int(time.time() + lasts.total_seconds())


@dataclass(frozen=True, slots=True)
class Grants:
    """
    Giving and taking needs an owner of the project; asking is open to auditors and administrators too.

    A reach is `PROJECT` or `PROJECT/PATTERN`.
    """

    gate: Gate
    database: Database

    async def add_grant(
        self, caller: Caller, principal: str, role: str, reach: str, *, expires: timedelta | None = None
    ) -> GrantRow:
        """
        Gives *principal* the role there; a grant it holds on the very same reach is replaced, expiry included.

        Raises `Invalid` for a role, name or pattern that is not legal, `Unknown` for an account or project that does
        not exist.
        """
        covered = Reach.parse(reach)
        asked = {"account": principal, "role": role, "reach": str(covered)}
        needs = Need(Action.MANAGE, covered.project)
        async with self.gate.passage(caller, Kind.GRANT_ADD, needs, detail=asked) as passage:
            expires_at = expiry(expires) if expires is not None else None
            change = rows.add(
                parse_principal(principal), Role.parse(role), covered, expires_at=expires_at, now=int(time.time())
            )
            notes = await passage.commit(change)
        assert isinstance(notes.result, GrantRow)
        return notes.result

    async def remove_grant(self, caller: Caller, principal: str, reach: str) -> None:
        """Takes away the grant that *principal* holds on exactly this reach. Raises `Unknown`."""
        covered = Reach.parse(reach)
        asked = {"account": principal, "reach": str(covered)}
        needs = Need(Action.MANAGE, covered.project)
        async with self.gate.passage(caller, Kind.GRANT_REMOVE, needs, detail=asked) as passage:
            await passage.commit(rows.remove(parse_principal(principal), covered))

    async def list_grants(
        self, caller: Caller, *, principal: str | None = None, project: str | None = None
    ) -> tuple[GrantRow, ...]:
        """
        The grants of a principal, of a project, of both or all; expired ones included.

        Of a project they are its owner's to see, everywhere an administrator's and an auditor's. Raises `Unknown`.
        """
        name = ProjectName.parse(project) if project is not None else None
        asked = {"account": principal} if principal is not None else {}
        need = await reading(self.gate, caller, name)
        async with self.gate.passage(caller, Kind.GRANT_LIST, need, detail=asked) as passage:
            account_id = (await self._account_id(parse_principal(principal))) if principal is not None else None
            project_id = None
            if name is not None:
                project_id = (await self.database.read(lambda connection: get(connection, name))).id
            found = await self.database.read(
                lambda connection: rows.grants_of(connection, account=account_id, project=project_id)
            )
            await passage.seal()
        return found

    async def ask(self, caller: Caller, principal: str, action: str, target: str) -> Answer:
        """
        Whether *principal* (or `anonymous`) may do *action* on *target*, `REPOSITORY[:TAG]`, and why.

        Judged by the policy that requests are judged by. The owner of the project may ask, and who reads its grants.
        """
        repository = _repository(target)
        asked = {"account": principal, "action": action}
        need = await reading(self.gate, caller, repository.project)
        async with self.gate.passage(
            caller, Kind.ACCESS_ASK, need, repository=repository.name, detail=asked
        ) as passage:
            wanted = _action(action)
            answer = await self._answer(caller, await self._principal(principal), wanted, repository)
            passage.note(detail={**asked, "allowed": answer.allowed, "why": answer.why})
            await passage.seal()
        return answer

    async def _answer(self, caller: Caller, asked: Principal, action: Action, repository: Repository) -> Answer:
        # Managing and reviewing are rights on the project, whatever repository of it was named.
        need = Need(action, repository if action in TOKEN_ACTIONS else repository.project)
        standing = await self.gate.directory.standing(asked)
        project = await self.gate.directory.project(repository.project)
        verdict = judge(Caller(asked, caller.origin), need, standing, project, datetime.now(UTC))
        match verdict:
            case Allowed():
                return Answer(True, verdict.grant)
            case Refused():
                if project is None and verdict.reason is Reason.NO_GRANT:
                    return Answer(False, f"there is no project {repository.project}")
                return Answer(False, _why(verdict, asked))

    async def _principal(self, text: str) -> Principal:
        if text == ANONYMOUS.name:
            return ANONYMOUS
        name = parse_principal(text)
        account = await self.database.read(lambda connection: find(connection, name))
        if account is None:
            raise no_account(name)
        return Principal(PrincipalKind(account.kind), account.id, account.name)

    async def _account_id(self, name: str) -> int:
        return (await self._principal(name)).id


def _why(verdict: Refused, asked: Principal) -> str:
    match verdict.reason:
        case Reason.ACCOUNT_DISABLED:
            return f"{asked.name} is disabled"
        case Reason.ACCOUNT_EXPIRED:
            return f"{asked.name} has expired"
        case Reason.ACCOUNT_REMOVED:
            return f"{asked.name} does not exist any more"
        case _:
            return f"{verdict.missing} is missing; {asked.name} holds {verdict.held or 'nothing there'}"


def _action(text: str) -> Action:
    try:
        return Action(text)
    except ValueError:
        raise Invalid(f"An action is one of {', '.join(action.value for action in Action)}.") from None


def _repository(target: str) -> Repository:
    name, separator, reference = target.partition("@" if "@" in target else ":")
    if separator:
        try:
            parse_reference(reference)
        except ContentRefusal as refusal:
            raise Invalid(refusal.message) from refusal
    return parse_target(name)
