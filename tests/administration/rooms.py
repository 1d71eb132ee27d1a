"""What the tests of administration share: the acts on a real database, and callers of every sort."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from gateway.access.passwords import HashingPool
from gateway.access.principals import Caller, Credential, CredentialKind, Principal
from gateway.administration import Administration
from gateway.engine.port import Engine
from gateway.records import accounts
from gateway.records.directory import ConnectionView
from tests.house import OPERATOR, ORIGIN, SECRETS, House

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Rooms:
    """The acts of administration over *house*."""

    house: House
    acts: Administration

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        return self.house.run(coroutine)

    def user(self, name: str, **roles: bool) -> Caller:
        """A new user, signed in with its password."""
        self.run(self.acts.accounts.add_user(OPERATOR, name, password="correct horse battery", **roles))
        return self.caller(name)

    def caller(self, name: str) -> Caller:
        """Whoever is called *name* now, signed in with the password."""
        account = self.house.database.read_now(lambda connection: accounts.get(connection, name))
        principal = Principal(account.kind, account.id, name)
        standing = self.house.database.read_now(lambda connection: ConnectionView(connection).standing(principal))
        assert standing is not None
        return Caller(principal, ORIGIN, Credential(CredentialKind.PASSWORD), generation=standing.generation)

    def owner(self, name: str, project: str) -> Caller:
        """A new project, and a new user who owns it."""
        caller = self.user(name)
        self.run(self.acts.projects.add_project(OPERATOR, project))
        self.run(self.acts.grants.add_grant(OPERATOR, name, "owner", project))
        return caller

    def may(self, name: str, action: str, target: str) -> bool:
        return self.run(self.acts.grants.ask(OPERATOR, name, action, target)).allowed

    def last(self, kind: str) -> dict[str, Any]:
        """The newest event of *kind*."""
        return self.house.records(kind=kind)[-1]


#: An engine that keeps nothing and can do nothing.
NO_ENGINE = Engine(*cast(tuple[Any, Any, Any, Any], (None,) * 4))


def rooms_of(house: House, *, engine: Any = NO_ENGINE, stored_keys: Any = None, trash_seconds: int = 0) -> Rooms:
    """The acts over *house*; what a test does not touch may be left out."""
    hashing = HashingPool(cost=4, workers=1)
    acts = Administration(house.gate, house.database, engine, house.trail, SECRETS, hashing, stored_keys, trash_seconds)
    return Rooms(house, acts)
