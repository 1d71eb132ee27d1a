"""Codes of second factors, checked: one at a time for an account, a few wrong ones, none twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NoReturn, TypeAlias
from weakref import WeakValueDictionary

from gateway.access import throttle
from gateway.access.directory import Attempts
from gateway.access.second_factors import matching_step, open_key, plain, recovery_hash
from gateway.access.secrets import Secrets
from gateway.change import Change, together
from gateway.errors import Denied, Refusal, TooManyRequests
from gateway.gate import Act, Gate, Passage
from gateway.records import second_factors as rows
from gateway.records.credentials import CredentialRecords
from gateway.records.database import Database
from gateway.records.sessions import sessions_of

#: The field that a refusal is about, where a form has others.
FIELD: Final = "code"

_WRONG = "The code is wrong, was used already, or is over: type the one that is shown now, or a recovery code."
_MISSING = "Type the code that the phone shows now, or a recovery code."


@dataclass(frozen=True, slots=True)
class Right:
    """The code is right; *change* takes it, refusing one that was taken meanwhile: it belongs into the act."""

    change: Change


@dataclass(frozen=True, slots=True)
class Wrong:
    """The code is not taken; *change*, if any, counts that."""

    refusal: Refusal
    reason: str
    change: Change | None = None


Check: TypeAlias = Right | Wrong


@dataclass(frozen=True, slots=True)
class Codes:
    """
    Checks codes against the second factors in force, and makes those who guess them wait: see `access.throttle`.

    One a process: hold `turn` from the check until its change is committed, so that guesses sent at once are counted.
    """

    database: Database
    secrets: Secrets
    _turns: WeakValueDictionary[int, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    @asynccontextmanager
    async def turn(self, account_id: int) -> AsyncIterator[None]:
        """Holds off other checks of the account's codes in this process."""
        async with self._turns.setdefault(account_id, asyncio.Lock()):
            yield

    async def check(self, account_id: int, code: str, address: str, now: datetime) -> Check:
        """
        Whether *code*, sent from *address*, is the account's, shown now or on paper.

        None at all is no guess, and is not counted. One on paper cannot be guessed: it is taken even while the phone's
        have to wait, so that who guesses those locks nobody out.
        """
        if not plain(code):
            return Wrong(_denied(_MISSING), "no_code")
        keys = throttle.code_keys(self.secrets.throttle, account_id, address)
        hashed = recovery_hash(code, account_id, self.secrets.recovery_codes)
        records = CredentialRecords(self.database)
        seen = await records.attempts(keys.all())
        wait = await self._wait(account_id, keys, seen, address, now, on_paper=bool(hashed))
        if wait:
            told = f"Too many codes were wrong; try again in {wait} seconds."
            told += "" if hashed else " A recovery code is taken at once."
            return Wrong(TooManyRequests(told, retry_after_seconds=wait), "throttled")
        taken, reason = await self._taken(account_id, code, hashed, now)
        if taken is None:
            counted = (keys.address,) if hashed else keys.all()
            return Wrong(_denied(_WRONG), reason, records.count_failure(counted, now))
        return Right(together(records.clear([keys.pair]), taken) if seen[0] is not None else taken)

    async def _wait(
        self,
        account_id: int,
        keys: throttle.Keys,
        seen: Sequence[Attempts | None],
        address: str,
        now: datetime,
        *,
        on_paper: bool,
    ) -> int:
        pair, here, account = seen
        if on_paper:
            return throttle.recovery_wait(keys, here, now)
        moment, block = int(now.timestamp()), throttle.address_block(address)
        held = await self.database.read(lambda connection: sessions_of(connection, account_id, moment))
        known = any(throttle.address_block(session.address) == block for session in held)
        return throttle.code_wait(keys, pair, here, account, now, known=known)

    async def _taken(self, account_id: int, code: str, hashed: str, now: datetime) -> tuple[Change | None, str]:
        """The change that takes the code, a recovery code if it has a hash, or why there is none."""
        factor = await self.database.read(lambda connection: rows.find(connection, account_id))
        if factor is None or factor.confirmed_at is None:
            return None, "no_second_factor"
        if hashed:
            known = await self.database.read(lambda found: rows.knows_code(found, account_id, hashed))
            return (rows.use_code(account_id, hashed), "") if known else (None, "wrong_code")
        step = matching_step(open_key(factor.sealed, account_id, self.secrets.second_factors), code, now)
        if step is None:
            return None, "wrong_code"
        return (rows.use_step(account_id, step), "") if step > factor.last_step else (None, "code_replayed")


async def refuse(gate: Gate, passage: Passage, wrong: Wrong) -> NoReturn:
    """Counts the wrong code, and ends the *passage* that needed a right one with its refusal."""
    passage.note(detail={"code": wrong.reason})
    if wrong.change is not None:
        await gate.ledger.commit(Act(passage.event(), wrong.change, silent=True))
    raise wrong.refusal


def _denied(message: str) -> Denied:
    return Denied(message, detail={"field": FIELD})
