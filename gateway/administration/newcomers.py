"""Newcomers: users of an htpasswd file who become accounts, with the passwords they have."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from gateway.access.htpasswd import Entry, read
from gateway.access.names import AccountName
from gateway.access.passwords import dummy_hash
from gateway.access.principals import Caller
from gateway.administration.values import MANAGE_SYSTEM
from gateway.audit.event import Kind
from gateway.errors import Conflict, Invalid
from gateway.gate import Gate
from gateway.records import accounts as rows
from gateway.records.database import Database


class Arrival(StrEnum):
    """What becomes of a user of the file."""

    ADDED = "added"
    EXISTS = "exists"
    """There is an account of that name; it was left alone."""
    NEEDS_PASSWORD = "needs a password"  # noqa: S105 - a sentence, not one
    """It was added, but its hash is of a scheme that is not kept: nobody can sign in before it is given another."""
    ILLEGAL = "illegal name"


@dataclass(frozen=True, slots=True)
class Newcomer:
    """One user of the file, as it is spelled there; *why* says more where it could not simply be added."""

    name: str
    arrival: Arrival
    why: str = ""


@dataclass(frozen=True, slots=True)
class Newcomers:
    """Needs an administrator; each account that is added is an event."""

    gate: Gate
    database: Database

    async def import_users(self, caller: Caller, content: bytes) -> tuple[Newcomer, ...]:
        """
        Adds the users of an htpasswd file, without any right, and with the passwords whose hashes are bcrypt's.

        Raises `Invalid` for what is no such file: nothing was added then.
        """
        return tuple([await self._import(caller, entry) for entry in read(content)])

    async def plan(self, content: bytes) -> tuple[Newcomer, ...]:
        """What `import_users` would do now."""
        return await planned_users(content, self.database)

    async def _import(self, caller: Caller, entry: Entry) -> Newcomer:
        newcomer = await _expected(entry, self.database)
        if newcomer.arrival in {Arrival.ILLEGAL, Arrival.EXISTS}:
            return newcomer
        account, secret = AccountName(entry.name), entry.hashed or dummy_hash()
        change = rows.add_user(account, secret, administrator=False, auditor=False, now=int(time.time()))
        detail = {"account": entry.name, "from": "htpasswd", "password_kept": bool(entry.hashed)}
        try:
            async with self.gate.passage(caller, Kind.ACCOUNT_IMPORT, MANAGE_SYSTEM, detail=detail) as passage:
                await passage.commit(change)
        except Conflict:
            # Somebody was quicker.
            return Newcomer(entry.name, Arrival.EXISTS, "the account is left as it is")
        return newcomer


async def planned_users(content: bytes, database: Database | None = None) -> tuple[Newcomer, ...]:
    """What `import_users` would do now; without a *database*, in a directory that is still to be made."""
    return tuple([await _expected(entry, database) for entry in read(content)])


async def _expected(entry: Entry, database: Database | None) -> Newcomer:
    try:
        account = AccountName.parse(entry.name)
    except Invalid as refusal:
        return Newcomer(entry.name, Arrival.ILLEGAL, refusal.message)
    if database is not None and await database.read(partial(rows.find, name=account.name)) is not None:
        return Newcomer(entry.name, Arrival.EXISTS, "the account is left as it is")
    if not entry.hashed:
        return Newcomer(entry.name, Arrival.NEEDS_PASSWORD, f"its hash is {entry.scheme}")
    return Newcomer(entry.name, Arrival.ADDED)
