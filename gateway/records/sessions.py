"""Sessions of the console in the database: kept by the keyed hash of their cookie, and over after a while."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, delete, insert, select, update

from gateway.access.principals import Principal, PrincipalKind
from gateway.change import Change, Notes
from gateway.errors import Denied, Unknown
from gateway.records import driver
from gateway.records.schema import accounts, sessions

#: A session that nobody used for so long is over.
IDLE_SECONDS = 30 * 60
#: Sessions of one account; one more ends the one that was unused for longest.
SESSIONS_PER_ACCOUNT = 20
#: Sessions that are over which go with each that begins.
_PRUNED = 50


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session, without its cookie. Times are UTC; *seen_at* is to the minute; *expires_at* is its end in any case."""

    id: int
    account: str
    address: str
    agent: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class StoredSession:
    """What a cookie stands for."""

    row: SessionRow
    principal: Principal
    generation: int
    csrf: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Beginning:
    """A session that is to begin: whose, at which generation, known by which hashes, from where."""

    account_id: int
    generation: int
    hashed: str
    csrf: str = field(repr=False)
    address: str
    agent: str
    now: int
    expires_at: int
    replacing: str = ""
    """The hash of the cookie that the browser had before, whosever it was: that session ends."""


def find(connection: Connection, hashed: str, now: int) -> StoredSession | None:
    """The live session whose cookie has this hash, of an account that may sign in and has not changed since."""
    rows = driver.rows(connection, _FOUND, {"hashed": hashed, **_at(now)})
    if not rows:
        return None
    row = dict(zip(_FOUND.selected_columns.keys(), rows[0], strict=True))
    if row["account_ends"] is not None and row["account_ends"] <= now:
        return None
    principal = Principal(PrincipalKind(row["kind"]), row["account_id"], row["account"])
    return StoredSession(_row(row), principal, row["generation"], row["csrf"])


def sessions_of(connection: Connection, account_id: int, now: int) -> tuple[SessionRow, ...]:
    """The live sessions of the account of this number, the newest first."""
    live = _live(sessions.c.account_id == account_id).order_by(sessions.c.id.desc())
    return tuple(_row(row) for row in connection.execute(live, _at(now)).mappings())


def begin(wanted: Beginning) -> Change:
    """
    A new session; the result is its number. Those that are over go, and beyond 20 the longest unused of the account,
    which the notes tell.

    On commit raises `Denied` when the account is gone, disabled, or of another generation.
    """

    def apply(connection: Connection) -> Notes:
        account = (accounts.c.id == wanted.account_id, accounts.c.generation == wanted.generation)
        if connection.execute(select(accounts.c.id).where(*account, accounts.c.enabled.is_(True))).first() is None:
            raise Denied("The account was changed meanwhile: sign in again.")
        if wanted.replacing:
            connection.execute(delete(sessions).where(sessions.c.hashed == wanted.replacing))
        ended = _make_room(connection, wanted)
        row = {name: getattr(wanted, name) for name in ("account_id", "generation", "hashed", "csrf", "expires_at")}
        seen = {"address": wanted.address, "agent": wanted.agent[:200], "created_at": wanted.now, "seen_at": wanted.now}
        made = connection.execute(insert(sessions).values(row | seen)).inserted_primary_key
        assert made is not None
        detail = {"unused_sessions_ended": ended} if ended else None
        return Notes(after={"session": int(made[0])}, detail=detail, result=int(made[0]))

    return Change(apply)


def touch(number: int, now: int) -> Change:
    """Notes that the session was used."""

    def apply(connection: Connection) -> Notes:
        connection.execute(update(sessions).where(sessions.c.id == number).values(seen_at=now))
        return Notes()

    return Change(apply)


def end(number: int, account_id: int) -> Change:
    """Ends one session of the account; on commit raises `Unknown` if it has none of this number."""

    def apply(connection: Connection) -> Notes:
        mine = (sessions.c.id == number, sessions.c.account_id == account_id)
        if connection.execute(delete(sessions).where(*mine)).rowcount == 0:
            raise Unknown("There is no such session any more; list the sessions to see which there are.")
        return Notes(before={"session": number}, result=1)

    return Change(apply)


def end_others(account_id: int, name: str, kept: int = 0) -> Change:
    """Ends every session of the account, called *name*, but the one numbered *kept*; the result is their number."""

    def apply(connection: Connection) -> Notes:
        ended = drop_others(connection, account_id, kept)
        return Notes(detail={"account": name, "sessions_ended": ended}, result=ended)

    return Change(apply)


def drop_others(connection: Connection, account_id: int, kept: int = 0) -> int:
    """As `end_others`, within a change."""
    others = delete(sessions).where(sessions.c.account_id == account_id, sessions.c.id != kept)
    return connection.execute(others).rowcount


def carry_over(connection: Connection, account_id: int, kept: int, generation: int) -> None:
    """Lets the account's session numbered *kept* go on at *generation*, which has just followed its own."""
    mine = (sessions.c.id == kept, sessions.c.account_id == account_id, sessions.c.generation == generation - 1)
    connection.execute(update(sessions).where(*mine).values(generation=generation))


def _make_room(connection: Connection, wanted: Beginning) -> list[int]:
    """Returns the numbers of the sessions that were not over, and ended all the same."""
    over = sessions.c.expires_at <= wanted.now
    surplus = set(connection.execute(select(sessions.c.id).where(over).limit(_PRUNED)).scalars())
    mine = select(sessions.c.id).where(sessions.c.account_id == wanted.account_id)
    newest = connection.execute(mine.order_by(sessions.c.seen_at.desc(), sessions.c.id.desc())).scalars().all()
    displaced = newest[SESSIONS_PER_ACCOUNT - 1 :]
    live = {session.id for session in sessions_of(connection, wanted.account_id, wanted.now)} if displaced else set()
    surplus |= set(displaced)
    if surplus:
        connection.execute(delete(sessions).where(sessions.c.id.in_(surplus)))
    return sorted(live & surplus)


def _live(*wanted: Any) -> Select[Any]:
    """The sessions that are live `_at` a moment, of accounts that have not changed since."""
    account = (accounts.c.kind, accounts.c.name.label("account"), accounts.c.expires_at.label("account_ends"))
    joined = sessions.join(accounts, accounts.c.id == sessions.c.account_id)
    live = (sessions.c.expires_at > bindparam("now"), sessions.c.seen_at > bindparam("idle"))
    same = accounts.c.generation == sessions.c.generation
    return select(*sessions.c, *account).select_from(joined).where(*wanted, same, *live)


def _at(now: int) -> dict[str, int]:
    return {"now": now, "idle": now - IDLE_SECONDS}


_FOUND: Final = _live(sessions.c.hashed == bindparam("hashed"), accounts.c.enabled.is_(True))


def _row(row: Mapping[Any, Any]) -> SessionRow:
    times = (row["created_at"], row["seen_at"], row["expires_at"])
    created, seen, expires = (datetime.fromtimestamp(seconds, UTC) for seconds in times)
    return SessionRow(row["id"], row["account"], row["address"], row["agent"], created, seen, expires)
