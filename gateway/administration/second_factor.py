"""The second factor of a user: set up, confirmed, disabled, and the recovery codes for when there is no phone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from gateway.access.names import AccountName
from gateway.access.principals import Caller, CredentialKind, PrincipalKind
from gateway.access.second_factors import (
    key_text,
    key_uri,
    matching_step,
    new_key,
    new_recovery_codes,
    open_key,
    recovery_hash,
    seal_key,
)
from gateway.access.secrets import Secrets
from gateway.administration.codes import Codes, Wrong, refuse
from gateway.administration.sight import reading, require_own
from gateway.administration.values import MANAGE_SYSTEM
from gateway.audit.event import Kind
from gateway.change import Change, together
from gateway.errors import Conflict, Invalid, Unknown
from gateway.gate import Gate
from gateway.records import second_factors as rows
from gateway.records.accounts import get
from gateway.records.database import Database

_BEGIN_FIRST = "There is no second factor to confirm: begin to set one up, then type the code that the phone shows."


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a phone must be told, shown this once: *key* to type, *uri* for a QR code. Nothing asks for codes yet."""

    key: str = field(repr=False)
    uri: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The recovery codes, shown this once; and *caller* as it goes on: what it was before is worth nothing any more."""

    codes: tuple[str, ...] = field(repr=False)
    caller: Caller


@dataclass(frozen=True, slots=True)
class SecondFactorState:
    """Whether codes are asked for, since when (UTC), and how many recovery codes are left."""

    enabled: bool
    since: datetime | None
    recovery_codes: int


@dataclass(frozen=True, slots=True)
class SecondFactor:
    """
    A user's own is its own to set up, and to disable with a code of it; an administrator may disable everybody's.

    With one in force the password alone signs in nowhere: the console asks for a code, `/token` for a personal token.
    """

    gate: Gate
    database: Database
    secrets: Secrets
    codes: Codes
    clock: Callable[[], datetime] = _now

    async def show(self, caller: Caller, account: str | None = None) -> SecondFactorState:
        """
        How it stands with the user *account*, an administrator's or auditor's to ask, or with the caller.

        Raises `Unknown`.
        """
        name = AccountName.parse(account).name if account is not None else caller.principal.name
        needs = () if account is None else (await reading(self.gate, caller),)
        async with self.gate.passage(caller, Kind.SECOND_FACTOR_SHOW, *needs, detail={"account": name}) as passage:
            if account is None:
                await require_own(self.gate, caller)
            number = (await self.database.read(lambda connection: get(connection, name))).id
            found = await self.database.read(lambda connection: rows.find(connection, number))
            await passage.seal()
        if found is None or found.confirmed_at is None:
            return SecondFactorState(False, None, 0)
        return SecondFactorState(True, found.confirmed_at, found.recovery_codes)

    async def begin(self, caller: Caller, issuer: str) -> Enrolment:
        """
        A fresh key for the caller's phone, which shows it under the gateway's name, *issuer*.

        In force once `confirm` got a code of it. Raises `Conflict` while another one is in force.
        """
        key, number = new_key(), caller.principal.id
        sealed = seal_key(key, number, self.secrets.second_factors)
        async with self.gate.passage(caller, Kind.SECOND_FACTOR_BEGIN) as passage:
            await require_own(self.gate, caller)
            await passage.commit(rows.begin(number, sealed, int(self.clock().timestamp())))
        return Enrolment(key_text(key), key_uri(key, caller.principal.name, issuer))

    async def confirm(self, caller: Caller, code: str) -> Confirmed:
        """
        Puts the key begun last in force, given a *code* of it; returns ten recovery codes, shown this once.

        The caller's offline tokens, bearers and other sessions end, as do sign-ins under way: they were got with the
        password alone. Raises `Invalid` for a wrong code, `Unknown` when nothing was begun, `Conflict` when it is in
        force already.
        """
        number, now = caller.principal.id, self.clock()
        async with self.gate.passage(caller, Kind.SECOND_FACTOR_CONFIRM) as passage:
            await require_own(self.gate, caller)
            found = await self.database.read(lambda connection: rows.find(connection, number))
            if found is None:
                raise Unknown(_BEGIN_FIRST)
            if found.confirmed_at is not None:
                raise Conflict("This second factor is in force already.")
            step = matching_step(open_key(found.sealed, number, self.secrets.second_factors), code, now)
            if step is None:
                raise Invalid("The code is not the one that the phone should show now; check the clock of the phone.")
            codes, hashes = self._new_codes(number)
            moment = int(now.timestamp())
            kept = rows.confirm(number, found.sealed, step, hashes, moment, session=_session(caller))
            notes = await passage.commit(kept)
        return Confirmed(codes, replace(caller, generation=int(notes.result)))

    async def disable(self, caller: Caller, code: str) -> None:
        """
        Ends the caller's own second factor, given a code of it or a recovery code; its other sessions end too.

        Raises `Denied` for a wrong code, `TooManyRequests` after several.
        """
        remove = rows.remove(caller.principal.name, session=_session(caller))
        await self._with_code(caller, Kind.SECOND_FACTOR_DISABLE, code, remove)

    async def disable_of(self, caller: Caller, account: str) -> None:
        """
        Ends the second factor of the user *account*, and its sessions; needs an administrator. Raises `Unknown`.

        The caller's own ends with a code alone, as everybody's: `Denied`.
        """
        name = AccountName.parse(account).name
        if caller.principal.kind is PrincipalKind.USER and caller.principal.name == name:
            await self.disable(caller, "")
            return
        asked = {"account": name}
        async with self.gate.passage(caller, Kind.SECOND_FACTOR_DISABLE, MANAGE_SYSTEM, detail=asked) as passage:
            await passage.commit(rows.remove(name))

    async def renew_codes(self, caller: Caller, code: str) -> tuple[str, ...]:
        """Ten other recovery codes, given a code; the old ones are worth nothing any more. Raises as `disable`."""
        codes, hashes = self._new_codes(caller.principal.id)
        await self._with_code(caller, Kind.SECOND_FACTOR_CODES, code, rows.replace_codes(caller.principal.id, hashes))
        return codes

    async def _with_code(self, caller: Caller, kind: Kind, code: str, change: Change) -> None:
        number = caller.principal.id
        async with self.codes.turn(number), self.gate.passage(caller, kind) as passage:
            await require_own(self.gate, caller)
            found = await self.codes.check(number, code, caller.origin.address, self.clock())
            if isinstance(found, Wrong):
                await refuse(self.gate, passage, found)
            await passage.commit(together(found.change, change))

    def _new_codes(self, number: int) -> tuple[tuple[str, ...], list[str]]:
        codes = new_recovery_codes()
        return codes, [recovery_hash(code, number, self.secrets.recovery_codes) for code in codes]


def _session(caller: Caller) -> int:
    return int(caller.credential.id) if caller.credential.kind is CredentialKind.SESSION else 0
