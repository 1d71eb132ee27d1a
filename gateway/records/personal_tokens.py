"""Personal access tokens in the database: kept by their keyed hash, each with what it may be used for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select

from gateway.access.personal import MOST_TOKENS, Bound, action_names
from gateway.access.scopes import Action
from gateway.change import Change, Notes
from gateway.errors import Conflict, Denied, Unknown
from gateway.records.accounts import get, no_account, numbered
from gateway.records.directory import moment
from gateway.records.schema import accounts, personal_tokens

#: How long a token that is over is still listed.
_REMEMBERED_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class PersonalTokenRow:
    """
    A personal token, without the token. Times are UTC; *used_at* is to the minute, None if it never was.

    *account* is whose it is.
    """

    id: int
    account: str
    name: str
    bound: Bound
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None


def tokens_of(connection: Connection, name: str | None) -> tuple[PersonalTokenRow, ...]:
    """The personal tokens of the account *name* (`Unknown` if there is none), or of all, by number."""
    wanted = _tokens()
    if name is not None:
        wanted = wanted.where(personal_tokens.c.account_id == get(connection, name).id)
    return tuple(_row(row) for row in connection.execute(wanted.order_by(personal_tokens.c.id)))


def find(connection: Connection, number: int) -> PersonalTokenRow | None:
    """The personal token of this number."""
    row = connection.execute(_tokens().where(personal_tokens.c.id == number)).first()
    return _row(row) if row is not None else None


def add(
    account_id: int,
    name: str,
    hashed: str,
    label: str,
    bound: Bound,
    *,
    expires_at: int,
    now: int,
    generation: int | None = None,
) -> Change:
    """
    A new token, called *label*, of the user numbered *account_id*, who is *name*; the result is its row.

    With *generation*, the user asks, who signed in at this generation: on commit raises `Denied` when the account is
    of another one meanwhile. Raises `Unknown` without the user, `Denied` when it is disabled or a robot, `Conflict`
    when it has a token of that label, or 100 live ones. Tokens that were over for a month go.
    """

    def apply(connection: Connection) -> Notes:
        account = numbered(connection, account_id)
        if account is None:
            raise no_account(name)
        at = select(accounts.c.generation).where(accounts.c.id == account_id)
        if generation is not None and connection.execute(at).scalar_one() != generation:
            raise Denied("The account was changed meanwhile: sign in again.")
        if not account.enabled or account.project:
            raise Denied(f"{name} is no user who can sign in; there are personal tokens for those alone.")
        held = personal_tokens.c.account_id == account.id
        connection.execute(
            delete(personal_tokens).where(held, personal_tokens.c.expires_at < now - _REMEMBERED_SECONDS)
        )
        if connection.execute(select(personal_tokens.c.id).where(held, personal_tokens.c.name == label)).first():
            raise Conflict(f"{name} has a token called {label}; choose another name, or revoke that one.")
        live = select(func.count()).select_from(personal_tokens).where(held, personal_tokens.c.expires_at > now)
        if connection.execute(live).scalar_one() >= MOST_TOKENS:
            raise Conflict(f"{name} has {MOST_TOKENS} live tokens; revoke one that is not needed any more.")
        row = {"account_id": account.id, "name": label, "hashed": hashed, "created_at": now, "expires_at": expires_at}
        projects = None if bound.projects is None else " ".join(sorted(bound.projects))
        spelled = {"actions": ",".join(action_names(bound.actions)), "projects": projects}
        made = connection.execute(insert(personal_tokens).values(row | spelled)).inserted_primary_key
        assert made is not None
        found = find(connection, int(made[0]))
        assert found is not None
        return Notes(after=told(found), result=found)

    # What a bearer that was got with it may do is policy's to say.
    return Change(apply, policy=True)


def revoke(number: int, *, owner: int | None = None) -> Change:
    """
    Revokes the token numbered *number*; the result is its row.

    On commit raises `Unknown`, as for a token that is not the account's numbered *owner*, if one is given.
    """

    def apply(connection: Connection) -> Notes:
        wanted = _tokens().where(personal_tokens.c.id == number)
        if owner is not None:
            wanted = wanted.where(personal_tokens.c.account_id == owner)
        row = connection.execute(wanted).first()
        if row is None:
            raise no_token(number)
        connection.execute(delete(personal_tokens).where(personal_tokens.c.id == number))
        before = _row(row)
        return Notes(before=told(before), result=before)

    return Change(apply, policy=True)


def revoke_all(name: str) -> Change:
    """Revokes every personal token of the account; the result is their number. On commit raises `Unknown`."""

    def apply(connection: Connection) -> Notes:
        held = personal_tokens.c.account_id == get(connection, name).id
        revoked = connection.execute(delete(personal_tokens).where(held)).rowcount
        return Notes(detail={"account": name, "personal_tokens_revoked": revoked}, result=revoked)

    return Change(apply, policy=True)


def no_token(number: int) -> Unknown:
    """The refusal for a number that no personal token has."""
    return Unknown(f"There is no personal token {number}; list the tokens to see their numbers.")


def told(row: PersonalTokenRow) -> dict[str, object]:
    """The token as events tell it."""
    named = {"personal_token": row.id, "account": row.account, "name": row.name}
    return {**named, **row.bound.told(), "expires_at": row.expires_at.isoformat()}


def read_bound(actions: str, projects: str | None) -> Bound:
    """The bound as it is kept in two columns."""
    named = None if projects is None else frozenset(projects.split())
    return Bound(frozenset(Action(action) for action in actions.split(",")), named)


def _tokens() -> Select[Any]:
    columns = (column for column in personal_tokens.c if column.name not in {"hashed", "account_id"})
    joined = personal_tokens.join(accounts, accounts.c.id == personal_tokens.c.account_id)
    return select(*columns, accounts.c.name.label("account")).select_from(joined)


def _row(row: Row[Any]) -> PersonalTokenRow:
    created, expires = (datetime.fromtimestamp(seconds, UTC) for seconds in (row.created_at, row.expires_at))
    bound = read_bound(row.actions, row.projects)
    return PersonalTokenRow(row.id, row.account, row.name, bound, created, expires, moment(row.used_at))
