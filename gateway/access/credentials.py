"""Credentials: whether a name and secret, or an offline token, are believed, at the same price for every wrong one.

throttle ─▶ account ─▶ verified lately? ─▶ bcrypt in the pool ─▶ enabled, not expired ─▶ Believed
   │           └ unknown: the same work against a hash nobody has            │
   └▶ 429, nothing hashed                                    Disbelieved ◀───┘  never before 250 ms
"""

from __future__ import annotations

import asyncio
import hmac
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from gateway.access import throttle
from gateway.access.admission import Admission
from gateway.access.directory import (
    Accounts,
    AttemptChanges,
    Attempts,
    AttemptsSeen,
    StoredAccount,
    StoredPersonalToken,
)
from gateway.access.names import is_robot, parse_principal
from gateway.access.passwords import HashingPool, Verified, rehash_needed
from gateway.access.personal import Bound
from gateway.access.principals import Credential, CredentialKind, Origin, Principal, PrincipalKind
from gateway.access.secrets import (
    OFFLINE_PREFIX,
    PERSONAL_PREFIX,
    ROBOT_PREFIX,
    Secrets,
    keyed_hash,
    new_offline_token,
    well_formed,
)
from gateway.access.turns import Turns
from gateway.change import Change, together
from gateway.errors import Invalid, Refusal, TooManyRequests, Unauthorized

#: No answer to a wrong credential comes sooner.
FLOOR_SECONDS = 0.25
JITTER_SECONDS = 0.025

#: The last use of a secret is kept to this grain: a client that signs in all the time writes no more often.
USED_GRAIN = timedelta(minutes=1)

_SECOND_FACTOR = (
    "This account has a second factor, so its password alone is not enough here: make a personal access token in the "
    "console, and use that as the password."
)
_UNSPEAKABLE = "(not a name)"
_NO_HASH = "0" * 64


@dataclass(frozen=True, slots=True)
class Believed:
    """
    The credential is right and its account may sign in.

    *change*, if any, belongs into the transaction of the act this sign-in is for: it forgets failures, keeps the
    password hashed as new ones are, or notes the use of a token and refuses if that was revoked meanwhile. *bound* is
    what a personal token may be used for. *second_factor* says that the password was right and is not enough: nobody
    is signed in yet.
    """

    principal: Principal
    credential: Credential
    generation: int
    change: Change | None = None
    bound: Bound | None = None
    second_factor: bool = False

    @property
    def personal_token(self) -> int:
        """The number of the personal token that was believed, or 0."""
        return int(self.credential.id) if self.credential.kind is CredentialKind.PERSONAL_TOKEN else 0

    @property
    def offline_token(self) -> int:
        """The number of the offline token that was believed, or 0."""
        return int(self.credential.id) if self.credential.kind is CredentialKind.OFFLINE_TOKEN else 0


@dataclass(frozen=True, slots=True)
class Disbelieved:
    """
    The credential is not believed: *refusal* is what the caller is told, the same whatever the *reason*.

    *reason* is for the trail. *change* belongs into the transaction of the denied event. *name* is the claimed
    account's, fit for the trail. *aggregated* says that no event is due: the next one for this flood will count it.
    """

    reason: str
    refusal: Refusal
    change: Change | None
    name: str
    aggregated: bool = False


Belief: TypeAlias = Believed | Disbelieved
#: The counters of a pair, an address, an account, and of what the address lies in.
_Seen: TypeAlias = tuple[Attempts | None, ...]


def account_name(text: str) -> str:
    """The account *text* signs in as: robots are written `gallery+ci` and `gallery/ci`; "" for what is no name."""
    try:
        return parse_principal(text)
    except Invalid:
        return ""


class Credentials:
    """
    Decides whether credentials are believed; owns no secret and changes nothing but its own short memory.

    Used from one event loop. Raises nothing but what the records raise when they cannot be read.
    """

    def __init__(
        self,
        accounts: Accounts,
        attempts: AttemptsSeen,
        secrets: Secrets,
        hashing: HashingPool,
        changes: AttemptChanges,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        floor_seconds: float = FLOOR_SECONDS,
    ) -> None:
        self._accounts = accounts
        self._attempts = attempts
        self._robots = secrets.robots
        self._offline_tokens = secrets.offline_tokens
        self._personal_tokens = secrets.personal_tokens
        self._names = secrets.throttle
        self._hashing = hashing
        self._changes = changes
        self._clock = clock
        self._floor_seconds = floor_seconds
        self._verified = Verified()
        self._recent = throttle.Recent()
        self._turns = Turns()
        self._admission = Admission(hashing.workers, hashing.queue)

    async def believe(self, name: str, secret: str, origin: Origin) -> Belief:
        """
        Whether *secret* is the password, or a personal token, of user *name*, or the secret of robot `project+name`
        (or `project/name`).

        Wrong, unknown, disabled and expired are one answer after one time; while throttled for failures, right and
        wrong are one answer too, and nothing is hashed. A right password that a second factor must follow is not
        believed, and the refusal says what to use in its place.
        """
        if well_formed(secret, PERSONAL_PREFIX):
            return await self.believe_personal(secret, origin, name=name)
        if is_robot(name):
            begun = time.monotonic()
            return await self._padded(begun, await self._robot(account_name(name), secret, origin))
        belief = await self.believe_password(name, secret, origin)
        if isinstance(belief, Believed) and belief.second_factor:
            refusal = Unauthorized(_SECOND_FACTOR)
            return Disbelieved("second_factor_required", refusal, belief.change, belief.principal.name)
        return belief

    async def believe_password(self, name: str, secret: str, origin: Origin) -> Belief:
        """As `believe`, for the password of a user alone; whoever is believed may still owe a second factor."""
        begun = time.monotonic()
        account = account_name(name)
        keys = throttle.user_keys(self._names, account, origin.address)
        try:
            slowed_seconds = (await self._wait(keys, origin))[0].slowed_seconds
            with self._turns.line(keys.pair, slowed=slowed_seconds > 0) as turn:
                # Whoever is slowed is so beside the others in the line, and not once for each of them.
                await asyncio.sleep(slowed_seconds)
                # One at a time for an account and address: the right ones behind the first need no hashing, and wrong
                # ones sent all at once meet the counter.
                async with turn:
                    belief = await self._user(account, secret, keys, origin)
        except TooManyRequests as refusal:
            return self._throttled(keys.pair, refusal, account, self._clock())
        return await self._padded(begun, belief)

    async def believe_personal(self, token: str, origin: Origin, *, name: str = "") -> Belief:
        """Whether *token* is a live personal token of a user who may sign in, called *name* if that is given."""
        begun = time.monotonic()
        now = self._clock()
        formed = well_formed(token, PERSONAL_PREFIX)
        stored = await self._accounts.personal_token(keyed_hash(self._personal_tokens, token)) if formed else None
        reason = _personal_reason(stored, account_name(name) if name else None, now)
        if stored is not None and not reason:
            principal, number = stored.account.principal, str(stored.id)
            touched = self._changes.touch_personal_token(stored.id, now) if _due(stored.used_at, now) else None
            credential = Credential(CredentialKind.PERSONAL_TOKEN, number)
            return Believed(principal, credential, stored.account.generation, touched, stored.bound)
        # Who holds a token that is over, or was used under another name, is worth knowing; what was guessed is not.
        owner = stored.account.principal.name if stored is not None else account_name(name)
        keys = throttle.personal_keys(origin.address)
        return await self._padded(begun, await self._wrong(keys, token, reason, owner))

    async def believe_offline(self, token: str, service: str, origin: Origin) -> Belief:
        """Whether *token* is a live offline token for *service* of an account that may sign in."""
        begun = time.monotonic()
        now = self._clock()
        formed = well_formed(token, OFFLINE_PREFIX)
        stored = await self._accounts.offline_token(keyed_hash(self._offline_tokens, token)) if formed else None
        if stored is not None and stored.service == service and not _standing_reason(stored.account, now):
            credential = Credential(CredentialKind.OFFLINE_TOKEN, str(stored.id))
            touched = self._changes.touch_offline_token(stored.id, now)
            return Believed(stored.account.principal, credential, stored.account.generation, touched)
        reason, name = "unknown_token", ""
        if stored is not None:
            reason = "wrong_service" if stored.service != service else _standing_reason(stored.account, now)
            name = stored.account.principal.name
        keys = throttle.offline_keys(origin.address)
        return await self._padded(begun, await self._wrong(keys, token, reason, name))

    def new_offline_token(
        self, principal: Principal, generation: int, service: str, client: str, origin: Origin
    ) -> tuple[str, Change]:
        """A fresh offline token for *principal*, bound to *service*, and the change that makes it live."""
        token = new_offline_token()
        hashed = keyed_hash(self._offline_tokens, token)
        change = self._changes.add_offline_token(
            principal.id, hashed, service, client[:200], origin.address, self._clock(), generation=generation
        )
        return token, change

    async def _user(self, name: str, secret: str, keys: throttle.Keys, origin: Origin) -> Belief:
        wait, seen, now = await self._wait(keys, origin)
        if wait.refused_seconds:
            return self._throttled(wait.key, _too_many(wait.refused_seconds), name, now)
        account = await self._accounts.account(name) if name else None
        if account is not None and account.principal.kind is not PrincipalKind.USER:
            account = None
        known = self._known(keys, seen, origin, now)
        try:
            right, verified = await self._right(account, secret, keys, origin, known=known)
        except TooManyRequests as refusal:
            flood = self._admission.wait(origin.address, known=known) > 0
            return self._throttled(keys.address if flood else "hashing", refusal, name, now)
        reason = _standing_reason(account, now) or ("" if right else "wrong_secret")
        if reason or account is None:
            return self._failed(keys, seen, secret, reason, name, now)
        self._recent.forget(keys.pair)
        self._admission.welcome(origin.address)
        changes = [self._changes.clear([keys.pair])] if seen[0] is not None else []
        if verified:
            changes += await self._renewed(account, secret)
        change = together(*changes) if changes else None
        credential = Credential(CredentialKind.PASSWORD)
        return Believed(account.principal, credential, account.generation, change, second_factor=account.second_factor)

    async def _renewed(self, account: StoredAccount, secret: str) -> list[Change]:
        """What keeps the password as new ones are kept, where it was hashed otherwise, as by another program."""
        if not rehash_needed(account.secret, self._hashing.cost):
            return []
        try:
            hashed = await self._hashing.hash_again(secret)
        except TooManyRequests:
            # The next sign-in will do.
            return []
        return [self._changes.renew_secret(account.principal.id, account.secret, hashed)]

    async def _right(
        self, account: StoredAccount | None, secret: str, keys: throttle.Keys, origin: Origin, *, known: bool
    ) -> tuple[bool, bool]:
        """Whether the password is right, and whether it was hashed to find out."""
        # A disabled account is never a short cut: it would answer sooner.
        able = account is not None and not _standing_reason(account, self._clock())
        entry = _entry(account, secret) if account is not None else None
        if entry and able and self._admission.looks(keys.pair) and self._verified.knows(*entry):
            return True, False
        with self._admission.trying(origin.address, keys.pair, known=known) as was_right:
            right = await self._hashing.verify(secret, account.secret if account is not None else None, known=known)
            if right and able:
                was_right()
        if right and entry:
            self._verified.remember(*entry)
        return right, True

    async def _robot(self, name: str, secret: str, origin: Origin) -> Belief:
        now = self._clock()
        formed = well_formed(secret, ROBOT_PREFIX)
        account = await self._accounts.account(name) if name and formed else None
        if account is not None and account.principal.kind is not PrincipalKind.ROBOT:
            account = None
        hashed = keyed_hash(self._robots, secret)
        right = hmac.compare_digest(hashed, account.secret if account is not None else _NO_HASH)
        former = hmac.compare_digest(hashed, _former_secret(account, now))
        reason = _standing_reason(account, now) if formed else "wrong_secret"
        if account is not None and (right or former) and not reason:
            used_at = account.used_at if right else account.former_used_at
            number = account.principal.id
            touched = self._changes.touch_robot(number, now, former=not right) if _due(used_at, now) else None
            return Believed(account.principal, Credential(CredentialKind.ROBOT_SECRET), account.generation, touched)
        keys = throttle.robot_keys(self._names, name, origin.address)
        return await self._wrong(keys, secret, reason or "wrong_secret", name)

    async def _wrong(self, keys: throttle.Keys, secret: str, reason: str, name: str) -> Disbelieved:
        wait, seen, now = await self._wait(keys, None)
        if wait.refused_seconds:
            return self._throttled(wait.key, _too_many(wait.refused_seconds), name, now)
        return self._failed(keys, seen, secret, reason, name, now)

    def _failed(
        self,
        keys: throttle.Keys,
        seen: _Seen,
        secret: str,
        reason: str,
        name: str,
        now: datetime,
    ) -> Disbelieved:
        change = None
        if not self._recent.repeated(keys.pair or keys.address, secret, now):
            for key, found in zip(keys.each(), seen, strict=True):
                if key:
                    self._recent.count(key, found, now)
            change = self._changes.count_failure(keys.all(), now)
        refusal = Unauthorized("The name or the password is wrong, or the account cannot sign in.")
        return Disbelieved(reason, refusal, change, _speakable(name))

    def _throttled(self, key: str, refusal: TooManyRequests, name: str, now: datetime) -> Disbelieved:
        suppressed = self._recent.event_due(key, now)
        if suppressed is None:
            return Disbelieved("throttled", refusal, None, _speakable(name), aggregated=True)
        return Disbelieved("throttled", refusal, self._changes.suppress(key, suppressed, now), _speakable(name))

    async def _wait(self, keys: throttle.Keys, origin: Origin | None) -> tuple[throttle.Wait, _Seen, datetime]:
        """What the failures up to now mean, which they are, and when that was."""
        now, named = self._clock(), keys.all()
        stored = dict(zip(named, await self._attempts.attempts(named), strict=True))
        seen = tuple(self._recent.merged(key, stored.get(key), now) if key else None for key in keys.each())
        known = origin is not None and self._known(keys, seen, origin, now)
        pair, address, account, *wider = seen
        return throttle.wait(keys, pair, address, account, now, () if known else wider), seen, now

    def _known(self, keys: throttle.Keys, seen: _Seen, origin: Origin, now: datetime) -> bool:
        few = throttle.failures(keys.address, seen[1], now) < throttle.KNOWN_FAILURES
        return few and self._admission.known(origin.address)

    async def _padded(self, begun: float, belief: Belief) -> Belief:
        if isinstance(belief, Disbelieved) and belief.reason != "throttled":
            floor = self._floor_seconds * (1 + random.random() * JITTER_SECONDS / FLOOR_SECONDS)  # noqa: S311 - noise
            await asyncio.sleep(max(0.0, begun + floor - time.monotonic()))
        return belief


def _entry(account: StoredAccount, secret: str) -> tuple[int, int, str]:
    return account.principal.id, account.generation, secret


def _standing_reason(account: StoredAccount | None, now: datetime) -> str:
    if account is None:
        return "unknown_account"
    if not account.enabled:
        return "account_disabled"
    if account.expires_at is not None and account.expires_at <= now:
        return "account_expired"
    return ""


def _personal_reason(stored: StoredPersonalToken | None, name: str | None, now: datetime) -> str:
    if stored is None:
        return "unknown_token"
    if name is not None and name != stored.account.principal.name:
        return "account_mismatch"
    return _standing_reason(stored.account, now) or ("" if now < stored.expires_at else "token_expired")


def _former_secret(account: StoredAccount | None, now: datetime) -> str:
    if account is None or account.former_until is None or account.former_until <= now:
        return _NO_HASH
    return account.former_secret or _NO_HASH


def _due(used_at: datetime | None, now: datetime) -> bool:
    return used_at is None or abs(now - used_at) >= USED_GRAIN


def _too_many(seconds: int) -> TooManyRequests:
    return TooManyRequests(f"Too many sign-ins failed; try again in {seconds} seconds.", retry_after_seconds=seconds)


def _speakable(name: str) -> str:
    """*name* as the trail may keep it: secrets pasted into the wrong field are not kept."""
    return _UNSPEAKABLE if not name or name.startswith((ROBOT_PREFIX, OFFLINE_PREFIX, PERSONAL_PREFIX)) else name
