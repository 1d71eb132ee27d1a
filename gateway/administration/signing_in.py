"""Signing in: what a personal token, or a password and where it is asked for a second factor, says who calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NoReturn

from gateway.access.credentials import Believed, Credentials, Disbelieved
from gateway.access.passwords import HashingPool
from gateway.access.policy import Reason, suspended
from gateway.access.principals import (
    ANONYMOUS,
    Caller,
    Credential,
    CredentialKind,
    Origin,
    Principal,
    PrincipalKind,
)
from gateway.access.second_factors import read_ticket, sign_ticket
from gateway.access.secrets import Secrets
from gateway.administration.codes import Codes, Wrong, refuse
from gateway.administration.sight import require_own
from gateway.audit.event import Event, Kind
from gateway.change import Change, Notes, together
from gateway.errors import Denied, Refusal, Unauthorized
from gateway.gate import Act, Gate, Passage
from gateway.records import second_factors as factors
from gateway.records.accounts import numbered, set_secret
from gateway.records.database import Database


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class SecondFactorNeeded:
    """The password was right, and is not enough: nobody is signed in until `SignIn.second_factor` says so."""

    name: str
    ticket: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignIn:
    """
    Who calls, for the API and the console; one a process, with the very credentials that `/token` believes.

    What is not believed is recorded as a denied `account.sign_in`, throttled and padded as at `/token`, and raised:
    `Denied`, or `TooManyRequests` with the seconds to wait.
    """

    gate: Gate
    database: Database
    secrets: Secrets
    credentials: Credentials
    codes: Codes
    hashing: HashingPool
    clock: Callable[[], datetime] = _now

    async def by_token(self, text: str, origin: Origin) -> Caller:
        """The user whose personal token *text* is, bound by it. That it is used is noted once a minute; no event."""
        belief = await self._believed(await self.credentials.believe_personal(text, origin), origin)
        caller = Caller(
            belief.principal,
            origin,
            belief.credential,
            generation=belief.generation,
            bound=belief.bound,
            personal_token=belief.personal_token,
        )
        if belief.change is not None:
            try:
                async with self.gate.passage(caller, Kind.PERSONAL_TOKEN_USE) as passage:
                    await passage.commit(belief.change)
            except Unauthorized as refusal:
                raise _spoken(refusal) from None
        return caller

    async def by_password(self, name: str, password: str, origin: Origin) -> Caller | SecondFactorNeeded:
        """
        The user *name*, whose password is right; or that a second factor is due first.

        A caller is signed in, and recorded so: `administration.sessions.open` is what comes next. Robots have no
        password.
        """
        belief = await self._believed(await self.credentials.believe_password(name, password, origin), origin)
        if belief.second_factor:
            await self._forget(belief, origin)
            ticket = sign_ticket(belief.principal.id, belief.generation, self.clock(), self.secrets.tickets)
            return SecondFactorNeeded(belief.principal.name, ticket)
        caller = Caller(belief.principal, origin, belief.credential, generation=belief.generation)
        async with self.gate.passage(caller, Kind.SIGN_IN) as passage:
            if belief.change is not None:
                await passage.commit(belief.change)
            await passage.seal()
        return caller

    async def second_factor(self, ticket: str, code: str, origin: Origin) -> Caller:
        """
        The user whose password was right less than five minutes ago, when *ticket* was given, and whose *code* is.

        *code* is what the phone shows, or a recovery code, each taken once. Raises `Denied`; its detail has
        `begin_again` when another code would not help: the ticket is over, or the account has changed.
        """
        caller = await self._awaited(ticket, origin)
        number = caller.principal.id
        async with self.codes.turn(number):
            found = await self.codes.check(number, code, origin.address, self.clock())
            if isinstance(found, Wrong):
                await self._deny(found.refusal, found.reason, origin, name=caller.principal.name, change=found.change)
            async with self.gate.passage(caller, Kind.SIGN_IN) as passage:
                await passage.commit(found.change)
        return caller

    async def change_password(self, caller: Caller, password: str, new: str, code: str = "") -> Caller:
        """
        Gives the caller's own account another password, knowing the one it has; returns the caller as signed in anew.

        That is as good as a sign-in, so it takes a *code* as well where there is a second factor: its phone's, or a
        recovery code. Of a `Denied` that is about the code, the detail has it as the `field`.
        Its sessions and bearers end and its offline tokens are revoked, as with every change of a password; personal
        tokens stay. Raises `Denied` for the wrong one, and when the account was changed meanwhile, and `Invalid` for a
        new one that may not be chosen.
        """
        name, origin = caller.principal.name, caller.origin
        belief = await self._believed(await self.credentials.believe_password(name, password, origin), origin)
        async with self.gate.passage(caller, Kind.ACCOUNT_PASSWORD, detail={"account": name}) as passage:
            await require_own(self.gate, caller)
            hashed = await self.hashing.hash(new)
            now = int(self.clock().timestamp())
            change = set_secret(caller.principal.id, hashed, now=now, generation=belief.generation)
            notes = await self._commit(passage, belief, code, change)
        assert notes.after is not None
        # What was committed, and nothing later: a change that came after it ends this sign-in too.
        generation = int(str(notes.after["generation"]))
        return Caller(caller.principal, origin, Credential(CredentialKind.PASSWORD), generation=generation)

    async def _commit(self, passage: Passage, belief: Believed, code: str, change: Change) -> Notes:
        """Makes *change* durable, once the *code* is taken where the account has a second factor."""
        number = belief.principal.id
        if not belief.second_factor:
            return await passage.commit(together(factors.require_none(number), change))
        async with self.codes.turn(number):
            found = await self.codes.check(number, code, passage.caller.origin.address, self.clock())
            if isinstance(found, Wrong):
                await refuse(self.gate, passage, found)
            return await passage.commit(together(found.change, change))

    async def _forget(self, belief: Believed, origin: Origin) -> None:
        """Forgets the failures before a right password; codes are counted by themselves."""
        if belief.change is not None:
            event = Event(Kind.SIGN_IN, Caller(belief.principal, origin, belief.credential))
            await self.gate.ledger.commit(Act(event, belief.change, silent=True))

    async def _awaited(self, ticket: str, origin: Origin) -> Caller:
        """Whom the ticket lets try a code."""
        again = Denied("This sign-in has taken too long; begin again.", detail={"begin_again": True})
        read = read_ticket(ticket, self.clock(), self.secrets.tickets)
        if read is None:
            await self._deny(again, "ticket_expired", origin)
        number, generation = read
        account = await self.database.read(lambda connection: numbered(connection, number))
        if account is None:
            await self._deny(again, Reason.ACCOUNT_REMOVED.value, origin)
        principal = Principal(account.kind, account.id, account.name)
        caller = Caller(principal, origin, Credential(CredentialKind.PASSWORD), generation=generation)
        standing = await self.gate.directory.standing(principal)
        reason = suspended(caller, standing, self.clock())
        if reason is None and standing is not None and standing.generation != generation:
            reason = Reason.CREDENTIAL_CHANGED
        if reason is not None:
            await self._deny(again, reason.value, origin, name=account.name)
        return caller

    async def _believed(self, belief: Believed | Disbelieved, origin: Origin) -> Believed:
        if isinstance(belief, Disbelieved):
            if belief.aggregated:
                raise _spoken(belief.refusal)
            await self._deny(belief.refusal, belief.reason, origin, name=belief.name, change=belief.change)
        return belief

    async def _deny(
        self, refusal: Refusal, reason: str, origin: Origin, *, name: str = "", change: Change | None = None
    ) -> NoReturn:
        # As at `/token`: nobody proved to bear the name.
        principal = Principal(PrincipalKind.ANONYMOUS, 0, name) if name else ANONYMOUS
        await self.gate.deny(Caller(principal, origin), Kind.SIGN_IN, _spoken(refusal), reason=reason, change=change)


def _spoken(refusal: Refusal) -> Refusal:
    """*refusal* as these edges say it: they have no challenge to answer with."""
    return Denied(refusal.message) if isinstance(refusal, Unauthorized) else refusal
