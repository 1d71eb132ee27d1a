"""Credentials in the database: stored secrets, offline tokens, and the counters of failed sign-ins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, insert, select, update

from gateway.access.directory import Attempts, StoredAccount, StoredOfflineToken, StoredPersonalToken
from gateway.access.principals import Principal, PrincipalKind
from gateway.access.throttle import OBLIVION_SECONDS, after_failure
from gateway.change import Change, Notes
from gateway.errors import Unauthorized
from gateway.records.database import Database
from gateway.records.directory import moment
from gateway.records.personal_tokens import read_bound
from gateway.records.schema import accounts, attempts, offline_tokens, personal_tokens, second_factors

#: Offline tokens an account holds; one more ends the one that was unused for longest.
TOKENS_PER_ACCOUNT = 100
#: Forgotten counters that go with each failure counted.
_PRUNED = 20

_SECRET = (
    accounts.c.id.label("account_id"),
    accounts.c.kind,
    accounts.c.name,
    accounts.c.secret,
    accounts.c.enabled,
    accounts.c.generation,
    accounts.c.expires_at.label("account_ends"),
    accounts.c.former_secret,
    accounts.c.former_until,
    accounts.c.used_at.label("secret_used_at"),
    accounts.c.former_used_at,
    exists(second_factors.select().with_only_columns(second_factors.c.account_id))
    .where(second_factors.c.account_id == accounts.c.id, second_factors.c.confirmed_at.is_not(None))
    .correlate(accounts)
    .label("second_factor"),
)
_ACCOUNT = select(*_SECRET).where(accounts.c.name == bindparam("name"))
_TOKEN = (
    select(offline_tokens.c.id, offline_tokens.c.service, *_SECRET)
    .join(accounts, accounts.c.id == offline_tokens.c.account_id)
    .where(offline_tokens.c.hashed == bindparam("hashed"))
)
_PERSONAL = (
    select(
        personal_tokens.c.id,
        personal_tokens.c.actions,
        personal_tokens.c.projects,
        personal_tokens.c.expires_at,
        personal_tokens.c.used_at,
        *_SECRET,
    )
    .join(accounts, accounts.c.id == personal_tokens.c.account_id)
    .where(personal_tokens.c.hashed == bindparam("hashed"))
)


class CredentialRecords:
    """
    What `access.credentials` asks of the records and changes in them.

    Answers are as committed, nothing is cached; the changes take effect when the ledger applies them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def account(self, name: str) -> StoredAccount | None:
        row = await self._database.read(lambda connection: connection.execute(_ACCOUNT, {"name": name}).first())
        return _account(row) if row is not None else None

    async def offline_token(self, hashed: str) -> StoredOfflineToken | None:
        row = await self._database.read(lambda connection: connection.execute(_TOKEN, {"hashed": hashed}).first())
        return StoredOfflineToken(row.id, _account(row), row.service) if row is not None else None

    async def personal_token(self, hashed: str) -> StoredPersonalToken | None:
        row = await self._database.read(lambda connection: connection.execute(_PERSONAL, {"hashed": hashed}).first())
        if row is None:
            return None
        bound = read_bound(row.actions, row.projects)
        return StoredPersonalToken(row.id, _account(row), bound, _time(row.expires_at), moment(row.used_at))

    async def attempts(self, keys: Sequence[str]) -> Sequence[Attempts | None]:
        found = await self._database.read(lambda connection: _attempts(connection, keys))
        return [found.get(key) for key in keys]

    def count_failure(self, keys: Sequence[str], now: datetime) -> Change:
        """One more failed sign-in at *now* under each of *keys*; a few forgotten counters go with it."""

        def apply(connection: Connection) -> Notes:
            seen = _attempts(connection, keys)
            for key in keys:
                counted = after_failure(key, seen.get(key), now)
                row = {
                    "failures": counted.failures,
                    "first_at": int(counted.first_at.timestamp()),
                    "last_at": int(counted.last_at.timestamp()),
                    "suppressed": counted.suppressed,
                }
                if key in seen:
                    connection.execute(update(attempts).where(attempts.c.key == key).values(row))
                else:
                    connection.execute(insert(attempts).values(key=key, **row))
            _prune(connection, now)
            return Notes()

        return Change(apply)

    def clear(self, keys: Sequence[str]) -> Change:
        """Forgets the failed sign-ins under *keys*."""

        def apply(connection: Connection) -> Notes:
            connection.execute(delete(attempts).where(attempts.c.key.in_(keys)))
            return Notes()

        return Change(apply)

    def suppress(self, key: str, count: int, now: datetime) -> Change:
        """Notes that *count* throttled sign-ins under *key* had no event of their own; this one's detail says so."""

        def apply(connection: Connection) -> Notes:
            added = {"suppressed": attempts.c.suppressed + count}
            connection.execute(update(attempts).where(attempts.c.key == key).values(added))
            return Notes(detail={"suppressed": count})

        return Change(apply)

    def add_offline_token(
        self, account_id: int, hashed: str, service: str, client: str, address: str, now: datetime, *, generation: int
    ) -> Change:
        """
        Keeps an offline token by its keyed hash; the result is its number.

        On commit raises `Unauthorized` when the account is gone, disabled, or of another *generation*: whoever signed
        in with a password that was changed meanwhile gets nothing that outlives the change. Beyond 100 tokens an
        account's longest unused one ends, which the notes tell.
        """

        def apply(connection: Connection) -> Notes:
            wanted = (accounts.c.id == account_id, accounts.c.generation == generation, accounts.c.enabled.is_(True))
            if connection.execute(select(accounts.c.id).where(*wanted)).first() is None:
                raise Unauthorized("The account was changed meanwhile: sign in again.")
            ended = _make_room(connection, account_id)
            row = {"account_id": account_id, "hashed": hashed, "service": service, "client": client, "address": address}
            made = connection.execute(insert(offline_tokens).values(**row, created_at=int(now.timestamp())))
            assert made.inserted_primary_key is not None
            number = int(made.inserted_primary_key[0])
            detail = {"offline_token": number, "client": client} | ({"offline_tokens_ended": ended} if ended else {})
            return Notes(detail=detail, result=number)

        # It gives nothing that its owner had not; who is asked about it and does not know it yet, looks.
        return Change(apply)

    def renew_secret(self, account_id: int, old: str, new: str) -> Change:
        """
        Keeps another hash, *new*, of the password that *old* is of: what was got with it goes on.

        Nothing where another password was given meanwhile.
        """

        def apply(connection: Connection) -> Notes:
            same = (accounts.c.id == account_id, accounts.c.secret == old)
            connection.execute(update(accounts).where(*same).values(secret=new))
            return Notes()

        return Change(apply)

    def touch_offline_token(self, token_id: int, now: datetime) -> Change:
        """Notes when an offline token was last used; on commit raises `Unauthorized` when it was revoked meanwhile."""

        def apply(connection: Connection) -> Notes:
            used = update(offline_tokens).where(offline_tokens.c.id == token_id).values(used_at=int(now.timestamp()))
            if connection.execute(used).rowcount == 0:
                raise Unauthorized("The offline token was revoked: sign in again.")
            return Notes()

        return Change(apply)

    def touch_personal_token(self, token_id: int, now: datetime) -> Change:
        """Notes when a personal token was last used; on commit raises `Unauthorized` when it was revoked meanwhile."""

        def apply(connection: Connection) -> Notes:
            used = update(personal_tokens).where(personal_tokens.c.id == token_id).values(used_at=int(now.timestamp()))
            if connection.execute(used).rowcount == 0:
                raise Unauthorized("The token was revoked: use another one.")
            return Notes()

        return Change(apply)

    def touch_robot(self, account_id: int, now: datetime, *, former: bool) -> Change:
        """Notes when a robot's secret, or the *former* one, was last used."""

        def apply(connection: Connection) -> Notes:
            values = {("former_used_at" if former else "used_at"): int(now.timestamp())}
            connection.execute(update(accounts).where(accounts.c.id == account_id).values(values))
            return Notes()

        return Change(apply)


def _attempts(connection: Connection, keys: Sequence[str]) -> dict[str, Attempts]:
    rows = connection.execute(select(attempts).where(attempts.c.key.in_(keys)))
    return {row.key: Attempts(row.failures, _time(row.first_at), _time(row.last_at), row.suppressed) for row in rows}


def _prune(connection: Connection, now: datetime) -> None:
    old = attempts.c.last_at < int(now.timestamp()) - OBLIVION_SECONDS
    keys = connection.execute(select(attempts.c.key).where(old).limit(_PRUNED)).scalars().all()
    if keys:
        connection.execute(delete(attempts).where(attempts.c.key.in_(keys)))


def _make_room(connection: Connection, account_id: int) -> list[int]:
    """Ends the longest unused tokens of an account that has no room for one more; returns their numbers."""
    held = select(offline_tokens.c.id, offline_tokens.c.used_at, offline_tokens.c.created_at).where(
        offline_tokens.c.account_id == account_id
    )
    by_use = sorted(connection.execute(held), key=lambda row: (row.used_at or row.created_at, row.id))
    surplus = [row.id for row in by_use[: max(0, len(by_use) - TOKENS_PER_ACCOUNT + 1)]]
    if surplus:
        connection.execute(delete(offline_tokens).where(offline_tokens.c.id.in_(surplus)))
    return surplus


def _account(row: Any) -> StoredAccount:
    principal = Principal(PrincipalKind(row.kind), row.account_id, row.name)
    return StoredAccount(
        principal,
        row.secret,
        row.enabled,
        row.generation,
        moment(row.account_ends),
        bool(row.second_factor),
        row.former_secret or "",
        moment(row.former_until),
        moment(row.secret_used_at),
        moment(row.former_used_at),
    )


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
