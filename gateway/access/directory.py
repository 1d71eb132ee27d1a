"""What access asks of the records, which implement it: who exists, with what secret, how they stand, what changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.access.personal import Bound
from gateway.access.policy import Project, Standing
from gateway.access.principals import Principal
from gateway.change import Change
from gateway.oci.names import ProjectName


class View(Protocol):
    """One look at policy, synchronous; inside the ledger's transaction it sees what that transaction sees."""

    def standing(self, principal: Principal) -> Standing | None:
        """How *principal* stands, or None if the account is gone."""
        ...

    def project(self, name: ProjectName) -> Project | None: ...


class Directory(Protocol):
    """
    Policy as it stands now, cached per process and never older than the last acknowledged change.

    `version` moves with every change of an account, project or grant, by any process; it costs eight bytes of shared
    memory to read. It is odd while such a change is being committed: what is concluded then may not be remembered. The
    look-ups may touch the database, off the event loop where that would block it.
    """

    def version(self) -> int: ...

    async def standing(self, principal: Principal, *, offline_token: int = 0) -> Standing | None:
        """
        How *principal* stands, or None if the account is gone.

        Making an offline token does not move the version: whoever asks about one names its number, so that one made
        since is among the account's.
        """
        ...

    async def project(self, name: ProjectName) -> Project | None: ...

    async def projects(self, names: Iterable[ProjectName]) -> Sequence[Project]: ...

    async def public_projects(self) -> Sequence[Project]: ...


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """
    What a sign-in is checked against. *secret* is a bcrypt string for users, a keyed hash (hex) for robots.

    *second_factor* says that a password alone is not enough. Robots may have a *former_secret* that is good as well
    before *former_until*; *used_at* and *former_used_at* are when each was used last, to the minute.
    """

    principal: Principal
    secret: str
    enabled: bool
    generation: int
    expires_at: datetime | None = None
    second_factor: bool = False
    former_secret: str = ""
    former_until: datetime | None = None
    used_at: datetime | None = None
    former_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredPersonalToken:
    """A personal token's row: its number, whose it is, what it may be used for, and until when."""

    id: int
    account: StoredAccount
    bound: Bound
    expires_at: datetime
    used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredOfflineToken:
    """An offline token's row: its number, whose it is, and the service it was issued for."""

    id: int
    account: StoredAccount
    service: str


class Accounts(Protocol):
    """The secrets of accounts, as stored; only `credentials` reads them."""

    async def account(self, name: str) -> StoredAccount | None:
        """The user `writer` or robot `gallery+ci` of exactly this name."""
        ...

    async def offline_token(self, hashed: str) -> StoredOfflineToken | None:
        """The live offline token whose keyed hash is *hashed* (hex)."""
        ...

    async def personal_token(self, hashed: str) -> StoredPersonalToken | None:
        """The personal token, expired or not, whose keyed hash is *hashed* (hex)."""
        ...


@dataclass(frozen=True, slots=True)
class Attempts:
    """Failed sign-ins under one key of the throttle."""

    failures: int
    first_at: datetime
    last_at: datetime
    suppressed: int = 0


class AttemptsSeen(Protocol):
    """The throttle's counters: in the database, so that they survive restarts and all processes share them."""

    async def attempts(self, keys: Sequence[str]) -> Sequence[Attempts | None]:
        """The counters under *keys*, in that order."""
        ...


class AttemptChanges(Protocol):
    """What a sign-in changes in the records; `records.credentials` has it."""

    def count_failure(self, keys: Sequence[str], now: datetime) -> Change:
        """One more failure under each of *keys*."""
        ...

    def clear(self, keys: Sequence[str]) -> Change:
        """Forgets the failures under *keys*."""
        ...

    def suppress(self, key: str, count: int, now: datetime) -> Change:
        """Notes that *count* throttled sign-ins under *key* had no event of their own; the notes' detail says so."""
        ...

    def add_offline_token(
        self, account_id: int, hashed: str, service: str, client: str, address: str, now: datetime, *, generation: int
    ) -> Change:
        """Keeps an offline token; refused (`Unauthorized`) when the account is disabled or of another generation."""
        ...

    def renew_secret(self, account_id: int, old: str, new: str) -> Change:
        """Keeps another hash, *new*, of the same password; nothing where the hash is not *old* any more."""
        ...

    def touch_offline_token(self, token_id: int, now: datetime) -> Change:
        """Notes the use of an offline token; refused (`Unauthorized`) when it was revoked meanwhile."""
        ...

    def touch_personal_token(self, token_id: int, now: datetime) -> Change:
        """Notes the use of a personal token; refused (`Unauthorized`) when it was revoked meanwhile."""
        ...

    def touch_robot(self, account_id: int, now: datetime, *, former: bool) -> Change:
        """Notes the use of a robot's secret, or of the *former* one."""
        ...
