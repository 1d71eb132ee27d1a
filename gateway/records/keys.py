"""Signing keys in the database, sealed under the data directory's secret, and the mark by which that is recognised."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from gateway.access.keys import (
    KeyState,
    PrivateKey,
    SigningKey,
    due,
    new_key,
    open_private,
    public_pem,
    read_public,
    retirement,
    seal_private,
)
from gateway.access.secrets import Secrets
from gateway.change import Change, Notes
from gateway.errors import Conflict, Invalid, Unknown
from gateway.records.database import Database
from gateway.records.directory import moment
from gateway.records.schema import facts, signing_keys

FINGERPRINT = "secret_fingerprint"


def check(connection: Connection, secrets: Secrets) -> None:
    """
    Raises `Invalid` unless *secrets* are those the database was made with.

    Without this a wrong key file would make every robot, offline token and signing key silently worthless.
    """
    known = connection.execute(select(facts.c.value).where(facts.c.name == FINGERPRINT)).scalar()
    if known is None:
        raise Invalid("The database does not know its secret yet: run `gateway up` to finish making it.")
    if known != secrets.fingerprint():
        raise Invalid("keys/secret is not the one this database was made with: restore both from the same backup.")


def keep_fingerprint(secrets: Secrets) -> Change:
    """Marks the database as made with *secrets*; nothing if it is. On commit raises `Invalid` if with others."""

    def apply(connection: Connection) -> Notes:
        known = connection.execute(select(facts.c.value).where(facts.c.name == FINGERPRINT)).scalar()
        if known is None:
            connection.execute(insert(facts).values(name=FINGERPRINT, value=secrets.fingerprint()))
        check(connection, secrets)
        return Notes(after={FINGERPRINT: secrets.fingerprint()})

    return Change(apply)


class StoredKeys:
    """
    The signing keys of one database.

    The changes make keys beforehand and only keep them on commit; each moves the policy version, so that every process
    reads the keys again. Their result is the key that was asked for.
    """

    def __init__(self, database: Database, secrets: Secrets) -> None:
        self._database = database
        self._secret = secrets.signing_keys
        self._opened: dict[bytes, PrivateKey] = {}

    def read(self) -> Sequence[SigningKey]:
        """Every key as committed, the newest first. Raises `Invalid` if one was sealed under another secret."""
        return self._database.read_now(self._read)

    def add_first(self, now: datetime) -> Change:
        """The first current and next keys; nothing if there are keys. The result is the current one."""
        fresh = [new_key(KeyState.CURRENT, now), new_key(KeyState.NEXT, now)]

        def apply(connection: Connection) -> Notes:
            known = [key for key in self._read(connection) if key.state is KeyState.CURRENT]
            if known:
                return Notes(result=known[0])
            for key in fresh:
                self._insert(connection, key)
            return Notes(after=_told(fresh), result=fresh[0])

        return Change(apply, policy=True)

    def rotate(self, now: datetime, *, if_due: bool = False) -> Change:
        """
        The next key signs from now on, a fresh one waits, the old one verifies until its last token is over.

        With *if_due* nothing happens, and the result is None, unless the current key has had its 90 days: of several
        processes that notice at once, one rotates.
        """
        fresh = [new_key(KeyState.NEXT, now), new_key(KeyState.NEXT, now)]

        def apply(connection: Connection) -> Notes:
            before = self._read(connection)
            if if_due and not due(before, now):
                return Notes(detail={"rotated": False})
            ended = delete(signing_keys).where(signing_keys.c.retires_at <= int(now.timestamp()))
            connection.execute(ended.where(signing_keys.c.state == KeyState.PREVIOUS.value))
            # What signs no more needs no private half.
            retired = {"state": KeyState.PREVIOUS.value, "retires_at": int(retirement(now).timestamp()), "sealed": b""}
            current = signing_keys.c.state == KeyState.CURRENT.value
            connection.execute(update(signing_keys).where(current).values(retired))
            return self._succeed(connection, before, fresh)

        return Change(apply, policy=True)

    def revoke(self, kid: str, now: datetime) -> Change:
        """
        What *kid* signed is believed no more; if it was the current key the next one signs, and a fresh one waits.

        On commit raises `Unknown` for a kid there is not, `Conflict` for one that is revoked.
        """
        fresh = [new_key(KeyState.NEXT, now), new_key(KeyState.NEXT, now)]

        def apply(connection: Connection) -> Notes:
            before = self._read(connection)
            found = next((key for key in before if key.kid == kid), None)
            if found is None:
                raise Unknown("There is no signing key of this id; list the keys to see their ids.")
            if found.state is KeyState.REVOKED:
                raise Conflict("This signing key is revoked already.")
            revoked = {"state": KeyState.REVOKED.value, "sealed": b"", "retires_at": int(now.timestamp())}
            connection.execute(update(signing_keys).where(signing_keys.c.kid == kid).values(revoked))
            notes = self._succeed(connection, before, fresh)
            return Notes(notes.before, notes.after, {"kid": kid}, result=found)

        return Change(apply, policy=True)

    def _succeed(self, connection: Connection, before: Sequence[SigningKey], fresh: Sequence[SigningKey]) -> Notes:
        """Fills what is vacant: the next key becomes current, a fresh one next."""
        spare = list(fresh)
        states = {key.state: key for key in self._read(connection)}
        if KeyState.CURRENT not in states:
            waiting = states.pop(KeyState.NEXT, None) or self._insert(connection, spare.pop(0))
            promoted = update(signing_keys).where(signing_keys.c.kid == waiting.kid)
            connection.execute(promoted.values(state=KeyState.CURRENT.value))
        if KeyState.NEXT not in states:
            self._insert(connection, spare.pop(0))
        after = self._read(connection)
        current = next(key for key in after if key.state is KeyState.CURRENT)
        return Notes(before=_told(before), after=_told(after), result=current)

    def _insert(self, connection: Connection, key: SigningKey) -> SigningKey:
        assert key.private is not None
        row = {
            "kid": key.kid,
            "public": public_pem(key.public),
            "sealed": seal_private(key.private, key.kid, self._secret),
            "state": key.state.value,
            "created_at": int(key.created_at.timestamp()),
        }
        connection.execute(insert(signing_keys).values(row))
        return key

    def _read(self, connection: Connection) -> list[SigningKey]:
        newest = select(signing_keys).order_by(signing_keys.c.created_at.desc(), signing_keys.c.kid)
        return [self._key(row) for row in connection.execute(newest)]

    def _key(self, row: Any) -> SigningKey:
        public = read_public(row.public, row.kid)
        sealed, created = bytes(row.sealed), datetime.fromtimestamp(row.created_at, UTC)
        private = self._open(sealed, row.kid) if sealed else None
        return SigningKey(row.kid, private, public, KeyState(row.state), created, moment(row.retires_at))

    def _open(self, sealed: bytes, kid: str) -> PrivateKey:
        private = self._opened.get(sealed)
        if private is None:
            private = open_private(sealed, kid, self._secret)
            self._opened = {sealed: private, **dict(list(self._opened.items())[:3])}
        return private


def _told(keys: Sequence[SigningKey]) -> dict[str, object]:
    """The keys as events tell them: which signs and which waits."""
    shown = (KeyState.CURRENT, KeyState.NEXT)
    return {key.state.value: key.kid for key in keys if key.state in shown}
