"""The throttle of sign-ins: how long to wait after so many failures, as arithmetic, and what this process remembers.

    pair      account and address    5 failures at once, then 15 s, 30 s, … 15 min after each
    account   from anywhere          from 100 failures an hour on: each sign-in 2 s slower, however many come at once,
                                     and a pair has one failure instead of 5
    address   against anything       50 failures in 15 minutes, then none until those are over
    /56, /48  of IPv6, passwords     150 and 500 failures in 15 minutes; until those are over an address in it that
                                     failed itself has none, one that has not is 2 s slower; neither where somebody
                                     signed in with a password lately and fewer than 5 failed

Codes of a second factor, six digits that whoever has the password may try, are counted apart, account and address:

    pair      as above
    account   from 10 failures an hour on a pair has one instead of 5; after 30 none until the hour is over, but from
              an address where its owner is signed in

Nobody can lock somebody else out: an account is only ever slowed down for an address that has not failed itself.
Robots and offline tokens have keys of their own; a right one, unguessable as it is, is never refused for failures. A
recovery code is as unguessable, and waits for no failures but those of its address: it always lets its owner in.
"""

from __future__ import annotations

import hmac
import ipaddress
import math
import secrets as randomness
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from gateway.access.directory import Attempts
from gateway.access.secrets import keyed_hash

FAST_FAILURES = 5
FIRST_WAIT_SECONDS = 15
LONGEST_WAIT_SECONDS = 15 * 60
ADDRESS_FAILURES = 50
ACCOUNT_FAILURES = 100
#: By what a key of an address ends in; a /64, and an IPv4 address, has those above.
WIDER_FAILURES = {56: 150, 48: 500}
#: With so many an address is as good as unknown, whoever signed in there.
KNOWN_FAILURES = 5
SLOWED_SECONDS = 2.0
#: Of codes, an hour: one guess in 300,000 is right, so that so many can be let in from everywhere together.
CODES_SLOWED = 10
CODES_FAILURES = 30

_PAIR, _ADDRESS, _ACCOUNT = "pair", "address", "account"
#: How long failures under a key count: pairs from the last one, the others from the first.
_WINDOW_SECONDS = {_PAIR: 24 * 3600, _ADDRESS: 15 * 60, _ACCOUNT: 3600}
#: After this long no row of any kind says anything.
OBLIVION_SECONDS = 24 * 3600

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys one sign-in is counted under; an empty one is not counted."""

    pair: str
    address: str
    account: str = ""
    wider: tuple[str, ...] = ()

    def each(self) -> tuple[str, ...]:
        """In the order in which what was seen under them is told."""
        return (self.pair, self.address, self.account, *self.wider)

    def all(self) -> tuple[str, ...]:
        return tuple(key for key in self.each() if key)


@dataclass(frozen=True, slots=True)
class Wait:
    """*refused_seconds* until the next try is allowed at all (because of *key*), *slowed_seconds* before this one."""

    refused_seconds: int = 0
    key: str = ""
    slowed_seconds: float = 0.0


def user_keys(secret: bytes, name: str, address: str) -> Keys:
    """The keys of a sign-in of a user; the name is hashed, since it may be a password typed in the wrong place."""
    hashed, block = keyed_hash(secret, name)[:32], address_block(address)
    wider = tuple(f"{_ADDRESS}:{wide}" for wide in wider_blocks(address))
    return Keys(f"{_PAIR}:{hashed}:{block}", f"{_ADDRESS}:{block}", f"{_ACCOUNT}:{hashed}", wider)


def robot_keys(secret: bytes, name: str, address: str) -> Keys:
    """The keys of a robot's sign-in: apart from users', and none for the robot as a whole."""
    hashed, block = keyed_hash(secret, name)[:32], address_block(address)
    return Keys(f"{_PAIR}:robot:{hashed}:{block}", f"{_ADDRESS}:robot:{block}")


def offline_keys(address: str) -> Keys:
    """The keys of a sign-in with an offline token, which names nobody."""
    return Keys("", f"{_ADDRESS}:offline:{address_block(address)}")


def personal_keys(address: str) -> Keys:
    """The keys of a sign-in with a personal token, which may name nobody."""
    return Keys("", f"{_ADDRESS}:personal:{address_block(address)}")


def code_keys(secret: bytes, account_id: int, address: str) -> Keys:
    """The keys of a code of a second factor: apart from those of passwords."""
    hashed, block = keyed_hash(secret, str(account_id))[:32], address_block(address)
    return Keys(f"{_PAIR}:code:{hashed}:{block}", f"{_ADDRESS}:code:{block}", f"{_ACCOUNT}:code:{hashed}")


def address_block(address: str) -> str:
    """What one subscriber has: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def wider_blocks(address: str) -> tuple[str, ...]:
    """What a subscriber or a site may have of IPv6, beyond a /64: its /56 and its /48. None for IPv4."""
    block = address_block(address)
    if not block.endswith("/64"):
        return ()
    return tuple(str(ipaddress.IPv6Network(block).supernet(new_prefix=width)) for width in WIDER_FAILURES)


def failures(key: str, seen: Attempts | None, now: datetime) -> int:
    """How many failures count under *key* at *now*."""
    if seen is None:
        return 0
    kind = key.partition(":")[0]
    begun = seen.last_at if kind == _PAIR else seen.first_at
    return seen.failures if (now - begun).total_seconds() < _WINDOW_SECONDS[kind] else 0


def after_failure(key: str, seen: Attempts | None, now: datetime) -> Attempts:
    """The counters under *key* after one more failure at *now*."""
    count = failures(key, seen, now)
    if seen is None or count == 0:
        return Attempts(1, now, now)
    return Attempts(count + 1, seen.first_at, max(now, seen.last_at), seen.suppressed)


def wait(
    keys: Keys,
    pair: Attempts | None,
    address: Attempts | None,
    account: Attempts | None,
    now: datetime,
    wider: Sequence[Attempts | None] = (),
) -> Wait:
    """What the counters under *keys* mean for a sign-in at *now*; *wider* are left out where its address is known."""
    slowed = bool(keys.account) and failures(keys.account, account, now) >= ACCOUNT_FAILURES
    allowance = 1 if slowed else FAST_FAILURES
    waits = [
        (_pair_seconds(keys.pair, pair, allowance, now) if keys.pair else 0, keys.pair),
        (_address_seconds(keys.address, address, now), keys.address),
    ]
    around = [(_address_seconds(key, seen, now), key) for key, seen in zip(keys.wider, wider, strict=False)]
    if failures(keys.address, address, now):
        waits += around
    seconds, key = max(waits)
    if seconds > 0:
        return Wait(seconds, key)
    # What neighbours did refuses nobody who has not failed.
    return Wait(slowed_seconds=SLOWED_SECONDS if slowed or any(seconds for seconds, _ in around) else 0.0)


def code_wait(
    keys: Keys,
    pair: Attempts | None,
    address: Attempts | None,
    account: Attempts | None,
    now: datetime,
    *,
    known: bool,
) -> int:
    """The seconds before a phone's code may be tried; *known* says that its owner is signed in at this address."""
    count = failures(keys.account, account, now)
    over = account is not None and count >= CODES_FAILURES and not known
    return max(
        _pair_seconds(keys.pair, pair, 1 if count >= CODES_SLOWED else FAST_FAILURES, now),
        _address_seconds(keys.address, address, now),
        _until(account.first_at, _WINDOW_SECONDS[_ACCOUNT], now) if account is not None and over else 0,
    )


def recovery_wait(keys: Keys, address: Attempts | None, now: datetime) -> int:
    """The seconds before a recovery code may be tried."""
    return _address_seconds(keys.address, address, now)


def _pair_seconds(key: str, seen: Attempts | None, allowance: int, now: datetime) -> int:
    count = failures(key, seen, now)
    if seen is None or count < allowance:
        return 0
    pause = min(FIRST_WAIT_SECONDS << min(count - allowance, 16), LONGEST_WAIT_SECONDS)
    return _until(seen.last_at, pause, now)


def _address_seconds(key: str, seen: Attempts | None, now: datetime) -> int:
    width = key.rpartition("/")[2]
    most = WIDER_FAILURES.get(int(width), ADDRESS_FAILURES) if width.isdecimal() else ADDRESS_FAILURES
    if seen is None or failures(key, seen, now) < most:
        return 0
    return _until(seen.first_at, _WINDOW_SECONDS[_ADDRESS], now)


def _until(begun: datetime, seconds: int, now: datetime) -> int:
    remaining = math.ceil((begun + timedelta(seconds=seconds) - now).total_seconds())
    # A clock that was set back must not make anybody wait longer than the rule says.
    return max(0, min(remaining, seconds))


class Recent:
    """
    What this process saw in the last seconds, in bounded memory: the part of the throttle that must not wait for disk.

    Failures count here from the moment they are found, so that guesses sent all at once are not judged by a counter
    that none of them has reached yet.
    """

    ENTRIES = 10_000
    COUNTED_SECONDS = 10.0
    REPEATED_SECONDS = 10.0
    EVENT_SECONDS = 60.0

    def __init__(self) -> None:
        self._process_key = randomness.token_bytes(32)
        self._counted: OrderedDict[str, Attempts] = OrderedDict()
        self._wrong: OrderedDict[str, tuple[bytes, datetime]] = OrderedDict()
        self._told: OrderedDict[str, tuple[datetime, int]] = OrderedDict()

    def merged(self, key: str, stored: Attempts | None, now: datetime) -> Attempts | None:
        """*stored*, or what is known here and may not be stored yet."""
        local = self._counted.get(key)
        if local is None:
            return stored
        if abs((now - local.last_at).total_seconds()) > self.COUNTED_SECONDS:
            del self._counted[key]
            return stored
        return stored if stored is not None and stored.failures >= local.failures else local

    def count(self, key: str, merged: Attempts | None, now: datetime) -> None:
        _keep(self._counted, key, after_failure(key, merged, now), self.ENTRIES)

    def forget(self, key: str) -> None:
        self._counted.pop(key, None)
        self._wrong.pop(key, None)

    def repeated(self, key: str, secret: str, now: datetime) -> bool:
        """
        Whether this wrong *secret* was the last one under *key*, moments ago, and is sent a second time.

        containerd tries a login that fails by POST again by GET; the two are one failure. A third is another.
        """
        digest = hmac.digest(self._process_key, secret.encode("utf-8", "surrogatepass"), "sha256")
        last = self._wrong.pop(key, None)
        if last is not None and last[0] == digest and (now - last[1]).total_seconds() <= self.REPEATED_SECONDS:
            return True
        _keep(self._wrong, key, (digest, now), self.ENTRIES)
        return False

    def event_due(self, key: str, now: datetime) -> int | None:
        """How many throttled sign-ins under *key* had no event since the last one; None if this gets none either."""
        told = self._told.get(key)
        if told is not None and abs((now - told[0]).total_seconds()) < self.EVENT_SECONDS:
            _keep(self._told, key, (told[0], told[1] + 1), self.ENTRIES)
            return None
        _keep(self._told, key, (now, 0), self.ENTRIES)
        return 0 if told is None else told[1]


class Strangers:
    """
    Which refusals of callers who proved nothing are events of their own; in bounded memory, one a process.

    From one address the first 250 of ten minutes are. Of a flood beyond that the 500th is, the 1,000th and so on, each
    with its number: the trail tells how large it was, and cannot be filled by it.
    """

    ENTRIES = 10_000
    EVENTS = 250
    SECONDS = 600.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counted: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def strike(self, address: str) -> int:
        """The number of this refusal among those of its address; 0 when no event is due for it."""
        key, now = address_block(address), self._clock()
        begun, count = self._counted.get(key, (now, 0))
        if now - begun >= self.SECONDS:
            begun, count = now, 0
        count += 1
        _keep(self._counted, key, (begun, count), self.ENTRIES)
        times, rest = divmod(count, self.EVENTS)
        told = count <= self.EVENTS or (rest == 0 and times.bit_count() == 1)
        return count if told else 0


class Budget:
    """
    How often callers may ask, by address (or what else names them): a bucket each, in bounded memory, one a process.

    *per_second* requests are earned back each second, up to *burst*.
    """

    ENTRIES = 10_000

    def __init__(
        self, per_second: float = 20.0, burst: float = 200.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, address: str) -> int:
        """0 when the request may be answered; otherwise the whole seconds after which the next one may."""
        key, now = address_block(address), self._clock()
        left = self._unspent(key, now)
        _keep(self._left, key, (now, left - 1.0 if left >= 1.0 else left), self.ENTRIES)
        return self._seconds(left)

    def wait(self, address: str) -> int:
        """As `spend`, but nothing is spent."""
        return self._seconds(self._unspent(address_block(address), self._clock()))

    def give_back(self, address: str) -> None:
        """Takes back one `spend` that was allowed."""
        key, now = address_block(address), self._clock()
        _keep(self._left, key, (now, min(self._burst, self._unspent(key, now) + 1.0)), self.ENTRIES)

    def _unspent(self, key: str, now: float) -> float:
        at, left = self._left.get(key, (now, self._burst))
        return min(self._burst, left + (now - at) * self._per_second)

    def _seconds(self, left: float) -> int:
        return 0 if left >= 1.0 else max(1, math.ceil((1.0 - left) / self._per_second))


def _keep(entries: OrderedDict[str, V], key: str, value: V, most: int) -> None:
    entries[key] = value
    entries.move_to_end(key)
    while len(entries) > most:
        entries.popitem(last=False)
