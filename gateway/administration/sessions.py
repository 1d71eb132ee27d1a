"""Sessions: people who are signed in to the console, each by a cookie that only its browser knows."""

from __future__ import annotations

import secrets as randomness
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.access.names import AccountName
from gateway.access.principals import Caller, Credential, CredentialKind, Origin
from gateway.access.secrets import Secrets, keyed_hash
from gateway.administration.sight import require_own
from gateway.administration.values import MANAGE_SYSTEM
from gateway.audit.event import Kind
from gateway.gate import Gate
from gateway.records import sessions as rows
from gateway.records.accounts import get
from gateway.records.database import Database
from gateway.records.sessions import Beginning, SessionRow

#: A session ends after so long, however much it is used.
LIFE_SECONDS = 12 * 3600
#: The last use of a session is kept to this grain.
_SEEN_SECONDS = 60
_COOKIE_CHARACTERS = 43


@dataclass(frozen=True, slots=True)
class NewSession:
    """
    A session that has just begun. *cookie* is what the browser must send, shown this once; *csrf* what forms carry.

    *expires* is its end in any case, in UTC.
    """

    number: int
    cookie: str = field(repr=False)
    csrf: str = field(repr=False)
    expires: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """A live session: whose request this is, the secret that its forms carry, and what there is to tell of it."""

    caller: Caller
    csrf: str = field(repr=False)
    row: SessionRow


@dataclass(frozen=True, slots=True)
class Sessions:
    """
    A user's own are its own to see and end, an administrator may see and end everybody's.

    A session is over after 30 minutes without use, after 12 hours in any case, when its account is disabled, and when
    the password is changed.
    """

    gate: Gate
    database: Database
    secrets: Secrets
    clock: Callable[[], float] = time.time

    async def open(self, caller: Caller, *, replacing: str = "") -> NewSession:
        """
        A new session for *caller*, who has just signed in (`SignIn`), or to go on under another cookie after a change
        of rights: *replacing* is the cookie that the browser had, which is worth nothing from then on.

        Raises `Denied` when the account was changed meanwhile.
        """
        now = int(self.clock())
        cookie, csrf = randomness.token_urlsafe(32), randomness.token_urlsafe(32)
        wanted = Beginning(
            caller.principal.id,
            caller.generation,
            self._hashed(cookie),
            csrf,
            caller.origin.address,
            caller.origin.agent,
            now,
            now + LIFE_SECONDS,
            self._hashed(replacing) if replacing else "",
        )
        async with self.gate.passage(caller, Kind.SESSION_OPEN) as passage:
            await require_own(self.gate, caller)
            notes = await passage.commit(rows.begin(wanted))
        return NewSession(notes.result, cookie, csrf, datetime.fromtimestamp(wanted.expires_at, UTC))

    async def find(self, cookie: str, origin: Origin) -> Session | None:
        """The live session that *cookie* is of, or None; that it is used is noted once a minute. No event."""
        if len(cookie) != _COOKIE_CHARACTERS:
            return None
        now, hashed = int(self.clock()), self._hashed(cookie)
        found = await self.database.read(lambda connection: rows.find(connection, hashed, now))
        if found is None:
            return None
        credential = Credential(CredentialKind.SESSION, str(found.row.id))
        caller = Caller(found.principal, origin, credential, generation=found.generation)
        if now - int(found.row.seen_at.timestamp()) >= _SEEN_SECONDS:
            async with self.gate.passage(caller, Kind.SESSION_USE) as passage:
                await passage.commit(rows.touch(found.row.id, now))
        return Session(caller, found.csrf, found.row)

    async def close(self, session: Session) -> None:
        """Signs out: ends the session. Raises `Unknown` if it is over already."""
        await self.end(session.caller, session.row.id)

    async def list(self, caller: Caller, account: str | None = None) -> tuple[SessionRow, ...]:
        """The live sessions of the user *account*, or the caller's own, the newest first. Raises `Unknown`."""
        name = AccountName.parse(account).name if account is not None else caller.principal.name
        needs = () if account is None else (MANAGE_SYSTEM,)
        now = int(self.clock())
        async with self.gate.passage(caller, Kind.SESSION_LIST, *needs, detail={"account": name}) as passage:
            if account is None:
                await require_own(self.gate, caller)
            number = await self._number(name) if account is not None else caller.principal.id
            found = await self.database.read(lambda connection: rows.sessions_of(connection, number, now))
            await passage.seal()
        return found

    async def end(self, caller: Caller, number: int) -> None:
        """Ends one session of the caller's own. Raises `Unknown`, as for somebody else's."""
        async with self.gate.passage(caller, Kind.SESSION_END, detail={"session": number}) as passage:
            await require_own(self.gate, caller)
            await passage.commit(rows.end(number, caller.principal.id))

    async def end_others(self, caller: Caller) -> int:
        """Ends every session of the caller's own but the one it came with; returns how many there were."""
        kept = int(caller.credential.id) if caller.credential.kind is CredentialKind.SESSION else 0
        async with self.gate.passage(caller, Kind.SESSION_END) as passage:
            await require_own(self.gate, caller)
            notes = await passage.commit(rows.end_others(caller.principal.id, caller.principal.name, kept))
        assert isinstance(notes.result, int)
        return notes.result

    async def end_all(self, caller: Caller, account: str) -> int:
        """Signs the user *account* out everywhere: an administrator's act. Raises `Unknown`."""
        name = AccountName.parse(account).name
        async with self.gate.passage(caller, Kind.SESSION_END, MANAGE_SYSTEM, detail={"account": name}) as passage:
            number = await self._number(name)
            notes = await passage.commit(rows.end_others(number, name))
        assert isinstance(notes.result, int)
        return notes.result

    async def _number(self, name: str) -> int:
        return (await self.database.read(lambda connection: get(connection, name))).id

    def _hashed(self, cookie: str) -> str:
        return keyed_hash(self.secrets.sessions, cookie)
