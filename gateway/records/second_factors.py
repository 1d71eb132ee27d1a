"""Second factors in the database: a sealed key each account, the last step it was used at, and recovery codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from gateway.change import Change, Notes
from gateway.errors import Conflict, Denied, Unknown
from gateway.records.accounts import drop_offline_tokens, get, move_generation
from gateway.records.directory import moment
from gateway.records.schema import recovery_codes, second_factors
from gateway.records.sessions import carry_over, drop_others

_REPLAYED = "This code was used already: wait for the next one."


@dataclass(frozen=True, slots=True)
class StoredFactor:
    """*sealed* is the key, encrypted; *confirmed_at* (UTC) is None while the factor is not asked for."""

    sealed: bytes
    last_step: int
    confirmed_at: datetime | None
    recovery_codes: int


def find(connection: Connection, account_id: int) -> StoredFactor | None:
    """The second factor of the account of this number, if it has one."""
    row = connection.execute(select(second_factors).where(second_factors.c.account_id == account_id)).first()
    if row is None:
        return None
    counted = select(func.count()).select_from(recovery_codes).where(recovery_codes.c.account_id == account_id)
    left = int(connection.execute(counted).scalar_one())
    return StoredFactor(bytes(row.sealed), row.last_step, moment(row.confirmed_at), left)


def knows_code(connection: Connection, account_id: int, hashed: str) -> bool:
    """Whether the account has a recovery code of this hash."""
    known = select(recovery_codes.c.hashed).where(*_code(account_id, hashed))
    return connection.execute(known).first() is not None


def begin(account_id: int, sealed: bytes, now: int) -> Change:
    """
    A key that is not asked for before it is confirmed, in place of another such one.

    On commit raises `Conflict` if a second factor is in force.
    """

    def apply(connection: Connection) -> Notes:
        before = find(connection, account_id)
        if before is not None and before.confirmed_at is not None:
            raise Conflict("There is a second factor already; disable it before you set up another one.")
        connection.execute(delete(second_factors).where(second_factors.c.account_id == account_id))
        row = {"account_id": account_id, "sealed": sealed, "last_step": 0, "created_at": now}
        connection.execute(insert(second_factors).values(row))
        return Notes()

    return Change(apply)


def confirm(account_id: int, sealed: bytes, step: int, codes: Sequence[str], now: int, *, session: int = 0) -> Change:
    """
    From now on the factor is asked for; *codes* are the hashes of the recovery codes.

    What was got with the password alone ends: offline tokens, and sessions but the one numbered *session*. The
    generation moves, so that it ends too where it is still being got, bearers included; the result is the new one. On
    commit raises `Conflict` when another key was begun meanwhile.
    """

    def apply(connection: Connection) -> Notes:
        mine = (second_factors.c.account_id == account_id, second_factors.c.sealed == sealed)
        waiting = update(second_factors).where(*mine, second_factors.c.confirmed_at.is_(None))
        if connection.execute(waiting.values(confirmed_at=now, last_step=step)).rowcount == 0:
            raise Conflict("The second factor was set up anew meanwhile; begin again.")
        _keep_codes(connection, account_id, codes)
        generation = move_generation(connection, account_id)
        carry_over(connection, account_id, session, generation)
        detail = {
            "offline_tokens_revoked": drop_offline_tokens(connection, account_id),
            "sessions_ended": drop_others(connection, account_id, session),
        }
        before, after = {"generation": generation - 1}, {"generation": generation}
        return Notes(before=before, after=after, detail=detail, result=generation)

    return Change(apply, policy=True)


def use_step(account_id: int, step: int) -> Change:
    """Takes the code of *step*; on commit raises `Denied` if it, or a later one, was taken already."""

    def apply(connection: Connection) -> Notes:
        unused = (second_factors.c.account_id == account_id, second_factors.c.last_step < step)
        if connection.execute(update(second_factors).where(*unused).values(last_step=step)).rowcount == 0:
            raise Denied(_REPLAYED)
        return Notes(detail={"second_factor": "code"})

    return Change(apply)


def use_code(account_id: int, hashed: str) -> Change:
    """Takes a recovery code, which is gone then; on commit raises `Denied` if it was taken meanwhile."""

    def apply(connection: Connection) -> Notes:
        if connection.execute(delete(recovery_codes).where(*_code(account_id, hashed))).rowcount == 0:
            raise Denied("This recovery code was used already: use another one.")
        found = find(connection, account_id)
        left = found.recovery_codes if found is not None else 0
        return Notes(detail={"second_factor": "recovery_code", "recovery_codes_left": left})

    return Change(apply)


def require_none(account_id: int) -> Change:
    """Changes nothing; on commit raises `Denied` if the account has a second factor in force meanwhile."""

    def apply(connection: Connection) -> Notes:
        factor = find(connection, account_id)
        if factor is not None and factor.confirmed_at is not None:
            raise Denied("The account has a second factor meanwhile: sign in again.")
        return Notes()

    return Change(apply)


def replace_codes(account_id: int, codes: Sequence[str]) -> Change:
    """Other recovery codes, by their hashes; those there were are worth nothing any more."""

    def apply(connection: Connection) -> Notes:
        _keep_codes(connection, account_id, codes)
        return Notes()

    return Change(apply)


def remove(name: str, *, session: int = 0) -> Change:
    """
    The account has no second factor any more; its sessions end but the one numbered *session*.

    On commit raises `Unknown` if there is no such account, or it has none.
    """

    def apply(connection: Connection) -> Notes:
        account_id = get(connection, name).id
        removed = connection.execute(delete(second_factors).where(second_factors.c.account_id == account_id))
        if removed.rowcount == 0:
            raise Unknown(f"{name} has no second factor.")
        connection.execute(delete(recovery_codes).where(recovery_codes.c.account_id == account_id))
        return Notes(detail={"account": name, "sessions_ended": drop_others(connection, account_id, session)})

    return Change(apply)


def _keep_codes(connection: Connection, account_id: int, codes: Sequence[str]) -> None:
    connection.execute(delete(recovery_codes).where(recovery_codes.c.account_id == account_id))
    connection.execute(insert(recovery_codes), [{"account_id": account_id, "hashed": hashed} for hashed in codes])


def _code(account_id: int, hashed: str) -> tuple[Any, Any]:
    return (recovery_codes.c.account_id == account_id, recovery_codes.c.hashed == hashed)
