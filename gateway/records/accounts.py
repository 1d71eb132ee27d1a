"""Accounts in the database: users and robots, and the offline tokens they hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from gateway.access.names import AccountName
from gateway.access.principals import PrincipalKind
from gateway.change import Change, Notes
from gateway.errors import Conflict, Denied, Unknown
from gateway.records.directory import moment
from gateway.records.schema import accounts, grants, offline_tokens, projects

#: Values in one IN list: below what either database takes.
_CHUNK = 500
#: Columns that no account tells.
_HIDDEN = {"secret", "former_secret", "generation", "project_id"}


@dataclass(frozen=True, slots=True)
class Account:
    """
    A user or robot, without its secret. *project* is a robot's; times are UTC; *changed_at* is the secret's.

    Robots alone have *used_at*, the secret's last use to the minute; and *former_until* and *former_used_at* while the
    secret before it is good as well.
    """

    id: int
    kind: PrincipalKind
    name: str
    project: str
    enabled: bool
    administrator: bool
    auditor: bool
    created_at: datetime
    changed_at: datetime
    expires_at: datetime | None
    used_at: datetime | None = None
    former_until: datetime | None = None
    former_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OfflineTokenRow:
    """A live offline token, without the token. *client* is what the client called itself; times are UTC."""

    id: int
    principal: str
    service: str
    client: str
    address: str
    created_at: datetime
    used_at: datetime | None


def no_account(name: str) -> Unknown:
    """The refusal for a name that no account has."""
    noun = "robot" if "+" in name else "user"
    return Unknown(f"There is no {noun} {name}; add it first, or check how it is spelled.")


# looking


def find(connection: Connection, name: str) -> Account | None:
    """The account of exactly this canonical name."""
    row = connection.execute(_accounts().where(accounts.c.name == name)).first()
    return _account(row) if row is not None else None


def numbered(connection: Connection, number: int) -> Account | None:
    """The account of this number."""
    row = connection.execute(_accounts().where(accounts.c.id == number)).first()
    return _account(row) if row is not None else None


def get(connection: Connection, name: str) -> Account:
    """The account of exactly this canonical name; raises `Unknown`."""
    account = find(connection, name)
    if account is None:
        raise no_account(name)
    return account


def every_account(connection: Connection) -> tuple[Account, ...]:
    """All users and robots, by name."""
    return tuple(_account(row) for row in connection.execute(_accounts().order_by(accounts.c.name)))


def robots_of(connection: Connection, project: int) -> tuple[Account, ...]:
    """The robots of the project numbered *project*, by name."""
    rows = connection.execute(_accounts().where(accounts.c.project_id == project).order_by(accounts.c.name))
    return tuple(_account(row) for row in rows)


def offline_tokens_of(connection: Connection, name: str | None) -> tuple[OfflineTokenRow, ...]:
    """The offline tokens of the account *name* (`Unknown` if there is none), or of all, by number."""
    wanted = _tokens()
    if name is not None:
        wanted = wanted.where(offline_tokens.c.account_id == get(connection, name).id)
    return tuple(_token(row) for row in connection.execute(wanted.order_by(offline_tokens.c.id)))


def find_offline_token(connection: Connection, number: int) -> OfflineTokenRow | None:
    """The live offline token of this number."""
    row = connection.execute(_tokens().where(offline_tokens.c.id == number)).first()
    return _token(row) if row is not None else None


def offline_token_count(connection: Connection, account: int) -> int:
    counted = select(func.count()).select_from(offline_tokens).where(offline_tokens.c.account_id == account)
    return int(connection.execute(counted).scalar_one())


def account_names(connection: Connection, owners: Iterable[str]) -> dict[str, str]:
    """The names of the *owners*, spelled `kind:id`, that are accounts still."""
    wanted = select(accounts.c.id, accounts.c.kind, accounts.c.name)
    numbers = sorted({int(number) for owner in owners for number in [owner.partition(":")[2]] if number.isdecimal()})
    found: dict[str, str] = {}
    for start in range(0, len(numbers), _CHUNK):
        rows = connection.execute(wanted.where(accounts.c.id.in_(numbers[start : start + _CHUNK])))
        found.update({f"{row.kind}:{row.id}": row.name for row in rows})
    return found


# changing


def add_user(name: AccountName, secret: str, *, administrator: bool, auditor: bool, now: int) -> Change:
    """A new, enabled user; *secret* is the hash. On commit raises `Conflict` if the name is taken."""

    def apply(connection: Connection) -> Notes:
        if find(connection, name.name) is not None:
            raise Conflict(f"There is a user {name} already; choose another name, or change that user.")
        values = {"administrator": administrator, "auditor": auditor}
        insert_account(connection, PrincipalKind.USER, name.name, secret, now=now, **values)
        account = get(connection, name.name)
        return Notes(after=told(account), result=account)

    return Change(apply, policy=True)


def insert_account(
    connection: Connection, kind: PrincipalKind, name: str, secret: str, *, now: int, **values: object
) -> int:
    """A new, enabled row, within a change; returns its id."""
    fresh = {"administrator": False, "auditor": False, "enabled": True, "generation": 0}
    times = {"created_at": now, "changed_at": now}
    row = {"kind": kind.value, "name": name, "secret": secret, **fresh, **times, **values}
    made = connection.execute(insert(accounts).values(row)).inserted_primary_key
    assert made is not None
    return int(made[0])


def set_roles(name: str, *, administrator: bool | None, auditor: bool | None) -> Change:
    """Gives or takes system roles; None leaves one. On commit raises `Unknown`, or `Conflict`: see `_keep_one`."""

    def apply(connection: Connection) -> Notes:
        before = get(connection, name)
        if administrator is False:
            _keep_one(connection, before)
        wanted = {"administrator": administrator, "auditor": auditor}
        changed = {column: value for column, value in wanted.items() if value is not None}
        return _changed(connection, before, changed)

    return Change(apply, policy=True)


def set_enabled(name: str, *, enabled: bool) -> Change:
    """Disables or enables. On commit raises `Unknown`, or `Conflict`: see `_keep_one`."""

    def apply(connection: Connection) -> Notes:
        before = get(connection, name)
        if not enabled:
            _keep_one(connection, before)
        return _changed(connection, before, {"enabled": enabled})

    return Change(apply, policy=True)


def set_secret(
    account_id: int, secret: str, *, now: int, expires_at: int | None = None, generation: int | None = None
) -> Change:
    """
    Another secret, given as its hash, and (robots) another expiry; the generation moves, offline tokens are revoked.

    With *generation*, the account's owner asks, who proved to be that at this generation: on commit raises `Denied`
    when the account is of another one meanwhile, disabled or gone. Without, `Conflict` when it is gone: one that was
    added again under its name is another.
    """

    def apply(connection: Connection) -> Notes:
        mine = accounts.c.id == account_id
        row = connection.execute(select(accounts.c.generation, accounts.c.enabled).where(mine)).first()
        before = numbered(connection, account_id)
        if generation is not None and (row is None or row.generation != generation or not row.enabled):
            raise Denied("The account was changed meanwhile: sign in again.")
        if row is None or before is None:
            raise Conflict("The account was removed meanwhile; look it up again.")
        return _with_secret(connection, before, row.generation + 1, secret, now=now, expires_at=expires_at)

    return Change(apply, policy=True)


def keep_an_administrator(account_id: int) -> Change:
    """Changes nothing; on commit raises `Conflict` if nobody could administer any more without this account."""

    def apply(connection: Connection) -> Notes:
        account = numbered(connection, account_id)
        if account is not None:
            _keep_one(
                connection,
                account,
                "nobody could administer afterwards. Make another user one first, or give it another password instead; "
                f"to do it nevertheless, force it (gateway leak {account.name} --force).",
            )
        return Notes()

    return Change(apply)


def remove(name: str) -> Change:
    """Removes the account, its grants and offline tokens. On commit `Unknown`, or `Conflict`: see `_keep_one`."""

    def apply(connection: Connection) -> Notes:
        before = get(connection, name)
        _keep_one(connection, before)
        held = connection.execute(delete(grants).where(grants.c.account_id == before.id)).rowcount
        revoked = drop_offline_tokens(connection, before.id)
        connection.execute(delete(accounts).where(accounts.c.id == before.id))
        detail = {"account": name, "grants_removed": held, "offline_tokens_revoked": revoked}
        return Notes(before=told(before), detail=detail, result=before)

    return Change(apply, policy=True)


def revoke_token(token: int) -> Change:
    """Revokes the offline token numbered *token*; on commit raises `Unknown`."""

    def apply(connection: Connection) -> Notes:
        before = find_offline_token(connection, token)
        if before is None:
            raise Unknown(f"There is no offline token {token}; list the tokens to see their numbers.")
        connection.execute(delete(offline_tokens).where(offline_tokens.c.id == token))
        shown = {"offline_token": token, "account": before.principal, "client": before.client}
        return Notes(before=shown, result=before)

    return Change(apply, policy=True)


def revoke_tokens(name: str) -> Change:
    """Revokes every offline token of the account; the result is their number. On commit raises `Unknown`."""

    def apply(connection: Connection) -> Notes:
        revoked = drop_offline_tokens(connection, get(connection, name).id)
        return Notes(detail={"account": name, "offline_tokens_revoked": revoked}, result=revoked)

    return Change(apply, policy=True)


def told(account: Account) -> dict[str, object]:
    """The account as events tell it: no secret."""
    if account.kind is PrincipalKind.ROBOT:
        expires = account.expires_at.isoformat() if account.expires_at is not None else None
        return {"account": account.name, "enabled": account.enabled, "expires_at": expires}
    names = ("enabled", "administrator", "auditor")
    return {"account": account.name, **{name: getattr(account, name) for name in names}}


def _with_secret(
    connection: Connection, before: Account, generation: int, secret: str, *, now: int, expires_at: int | None
) -> Notes:
    row = {"secret": secret, "generation": generation, "changed_at": now, "expires_at": expires_at, "used_at": None}
    row |= dict.fromkeys(("former_secret", "former_until", "former_used_at"))
    connection.execute(update(accounts).where(accounts.c.id == before.id).values(row))
    revoked = drop_offline_tokens(connection, before.id)
    after = get(connection, before.name)
    return Notes(
        before={**told(before), "generation": generation - 1},
        after={**told(after), "generation": generation},
        detail={"account": before.name, "offline_tokens_revoked": revoked},
        result=after,
    )


def _changed(connection: Connection, before: Account, changed: dict[str, bool]) -> Notes:
    if changed:
        connection.execute(update(accounts).where(accounts.c.id == before.id).values(changed))
    after = get(connection, before.name)
    return Notes(before=told(before), after=told(after), result=after)


def _keep_one(connection: Connection, account: Account, advice: str = "make another user one first.") -> None:
    """Raises `Conflict` if *account* is the last enabled administrator."""
    if not (account.administrator and account.enabled):
        return
    others = select(func.count()).select_from(accounts).where(accounts.c.administrator.is_(True))
    others = others.where(accounts.c.enabled.is_(True), accounts.c.id != account.id)
    if connection.execute(others).scalar_one() == 0:
        raise Conflict(f"{account.name} is the last enabled administrator; {advice}")


def move_generation(connection: Connection, account: int) -> int:
    """Ends what was given out at the account's generation up to now, within a change; returns the next one."""
    mine = accounts.c.id == account
    connection.execute(update(accounts).where(mine).values(generation=accounts.c.generation + 1))
    return int(connection.execute(select(accounts.c.generation).where(mine)).scalar_one())


def drop_offline_tokens(connection: Connection, account: int) -> int:
    """Revokes the account's offline tokens, within a change; returns how many there were."""
    return connection.execute(delete(offline_tokens).where(offline_tokens.c.account_id == account)).rowcount


def _accounts() -> Select[Any]:
    columns = (column for column in accounts.c if column.name not in _HIDDEN)
    joined = accounts.outerjoin(projects, projects.c.id == accounts.c.project_id)
    return select(*columns, projects.c.name.label("project")).select_from(joined)


def _account(row: Row[Any]) -> Account:
    return Account(
        row.id,
        PrincipalKind(row.kind),
        row.name,
        row.project or "",
        row.enabled,
        row.administrator,
        row.auditor,
        datetime.fromtimestamp(row.created_at, UTC),
        datetime.fromtimestamp(row.changed_at, UTC),
        moment(row.expires_at),
        moment(row.used_at),
        moment(row.former_until),
        moment(row.former_used_at),
    )


def _tokens() -> Select[Any]:
    columns = (column for column in offline_tokens.c if column.name not in {"hashed", "account_id"})
    joined = offline_tokens.join(accounts, accounts.c.id == offline_tokens.c.account_id)
    return select(*columns, accounts.c.name.label("principal")).select_from(joined)


def _token(row: Row[Any]) -> OfflineTokenRow:
    created = datetime.fromtimestamp(row.created_at, UTC)
    return OfflineTokenRow(row.id, row.principal, row.service, row.client, row.address, created, moment(row.used_at))
