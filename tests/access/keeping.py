"""What tests of access keep in memory where the gateway has a database: accounts, counters, signing keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from gateway.access.directory import Attempts, StoredAccount, StoredOfflineToken, StoredPersonalToken
from gateway.access.keys import KeyRing, KeyState, SigningKey, new_key, retirement
from gateway.access.principals import Origin, Principal, PrincipalKind
from gateway.access.throttle import after_failure
from gateway.change import Change, Notes
from gateway.errors import Unauthorized

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def origin(address: str = "192.0.2.7") -> Origin:
    return Origin(address, address, "tests/1", "0" * 32)


@dataclass(slots=True)
class Clock:
    """A clock that stands until it is moved."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass(slots=True)
class KeptAccounts:
    """Accounts, offline tokens and counters as `access.credentials` asks for and changes them."""

    by_name: dict[str, StoredAccount] = field(default_factory=dict)
    tokens: dict[str, StoredOfflineToken] = field(default_factory=dict)
    personal: dict[str, StoredPersonalToken] = field(default_factory=dict)
    counters: dict[str, Attempts] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def add(self, name: str, secret: str, *, kind: PrincipalKind = PrincipalKind.USER) -> StoredAccount:
        account = StoredAccount(Principal(kind, len(self.by_name) + 1, name), secret, True, 1)
        self.by_name[name] = account
        return account

    def alter(self, name: str, **changes: object) -> None:
        self.by_name[name] = replace(self.by_name[name], **changes)  # type: ignore[arg-type]

    async def account(self, name: str) -> StoredAccount | None:
        self.asked.append(name)
        return self.by_name.get(name)

    async def offline_token(self, hashed: str) -> StoredOfflineToken | None:
        return self.tokens.get(hashed)

    async def personal_token(self, hashed: str) -> StoredPersonalToken | None:
        return self.personal.get(hashed)

    async def attempts(self, keys: Sequence[str]) -> Sequence[Attempts | None]:
        return [self.counters.get(key) for key in keys]

    def count_failure(self, keys: Sequence[str], now: datetime) -> Change:
        def apply(_: object) -> Notes:
            for key in keys:
                self.counters[key] = after_failure(key, self.counters.get(key), now)
            return Notes()

        return Change(apply)

    def clear(self, keys: Sequence[str]) -> Change:
        def apply(_: object) -> Notes:
            for key in keys:
                self.counters.pop(key, None)
            return Notes()

        return Change(apply)

    def suppress(self, key: str, count: int, now: datetime) -> Change:
        return Change(lambda _: Notes(detail={"suppressed": count}))

    def add_offline_token(
        self, account_id: int, hashed: str, service: str, client: str, address: str, now: datetime, *, generation: int
    ) -> Change:
        def apply(_: object) -> Notes:
            account = next(known for known in self.by_name.values() if known.principal.id == account_id)
            if account.generation != generation:
                raise Unauthorized("changed")
            self.tokens[hashed] = StoredOfflineToken(len(self.tokens) + 1, account, service)
            return Notes(result=len(self.tokens))

        return Change(apply)

    def renew_secret(self, account_id: int, old: str, new: str) -> Change:
        def apply(_: object) -> Notes:
            name = next(name for name, known in self.by_name.items() if known.principal.id == account_id)
            if self.by_name[name].secret == old:
                self.alter(name, secret=new)
            return Notes()

        return Change(apply)

    def touch_offline_token(self, token_id: int, now: datetime) -> Change:
        return Change(lambda _: Notes(result=token_id))

    def touch_personal_token(self, token_id: int, now: datetime) -> Change:
        def apply(_: object) -> Notes:
            hashed = next(hashed for hashed, kept in self.personal.items() if kept.id == token_id)
            self.personal[hashed] = replace(self.personal[hashed], used_at=now)
            return Notes()

        return Change(apply)

    def touch_robot(self, account_id: int, now: datetime, *, former: bool) -> Change:
        def apply(_: object) -> Notes:
            name = next(name for name, known in self.by_name.items() if known.principal.id == account_id)
            self.alter(name, **{("former_used_at" if former else "used_at"): now})
            return Notes()

        return Change(apply)


@dataclass(slots=True)
class KeptKeys:
    """Signing keys, and the version that moves when they do; counts how often they were read."""

    keys: list[SigningKey] = field(default_factory=list)
    version: int = 0
    reads: int = 0
    broken: bool = False

    @classmethod
    def fresh(cls, now: datetime = NOW) -> KeptKeys:
        return cls([new_key(KeyState.CURRENT, now), new_key(KeyState.NEXT, now)])

    def read(self) -> Sequence[SigningKey]:
        self.reads += 1
        if self.broken:
            raise ConnectionError
        return tuple(self.keys)

    def ring(self) -> KeyRing:
        return KeyRing(self, lambda: self.version)

    def current(self) -> SigningKey:
        return next(key for key in self.keys if key.state is KeyState.CURRENT)

    def rotate(self, now: datetime) -> None:
        old = self.current()
        turned = {KeyState.CURRENT: KeyState.PREVIOUS, KeyState.NEXT: KeyState.CURRENT}
        self.keys = [replace(key, state=turned.get(key.state, key.state)) for key in self.keys]
        self.keys = [replace(key, retires_at=retirement(now)) if key.kid == old.kid else key for key in self.keys]
        self.keys.append(new_key(KeyState.NEXT, now))
        self.version += 1

    def revoke(self, kid: str) -> None:
        self.keys = [replace(key, state=KeyState.REVOKED) if key.kid == kid else key for key in self.keys]
        self.version += 1
