"""The keys that sign tokens: one signs, one waits its turn, old ones verify until the last token they signed is over.

next ──rotate──▶ current ──rotate──▶ previous ──retires──▶ gone         any ──revoke──▶ revoked: verifies nothing
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_public_key,
)

from gateway.errors import Invalid, Unavailable

#: A key signs for this long, then the next one does.
ROTATION = timedelta(days=90)
#: How far the clocks of whoever signs and whoever verifies may differ.
LEEWAY_SECONDS = 30
#: No token lives longer, whatever the settings say.
LONGEST_TOKEN_SECONDS = 900

PrivateKey: TypeAlias = EllipticCurvePrivateKey
PublicKey: TypeAlias = EllipticCurvePublicKey

_NONCE_BYTES = 12
_RELOAD_SECONDS = 1.0


class KeyState(StrEnum):
    NEXT = "next"
    """Published, so that everybody knows it before it signs anything."""
    CURRENT = "current"
    PREVIOUS = "previous"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """
    One ES256 key. *kid* is its RFC 7638 thumbprint; *private* is None once it signs no more.

    Times are UTC. *retires_at* is when a previous key stops verifying.
    """

    kid: str
    private: PrivateKey | None
    public: PublicKey
    state: KeyState
    created_at: datetime
    retires_at: datetime | None = None

    def verifies(self, now: datetime) -> bool:
        """Whether what this key signed is believed at *now*."""
        return self.state is not KeyState.REVOKED and (self.retires_at is None or now < self.retires_at)

    def __repr__(self) -> str:
        return f"SigningKey({self.kid}, {self.state.value})"


class StoredKeys(Protocol):
    """Where signing keys are kept; the records implement it."""

    def read(self) -> Sequence[SigningKey]:
        """Every key as committed, private halves opened; synchronous, from any thread."""
        ...


def new_key(state: KeyState, now: datetime) -> SigningKey:
    """A fresh key of that state."""
    private = generate_private_key(SECP256R1())
    return SigningKey(thumbprint(private.public_key()), private, private.public_key(), state, now)


def public_jwk(public: PublicKey) -> dict[str, str]:
    """The members of the key's JWK (RFC 7518 §6.2.1) that its thumbprint is taken of."""
    numbers = public.public_numbers()
    x, y = (_base64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def thumbprint(public: PublicKey) -> str:
    """The key's id: its RFC 7638 thumbprint, 43 characters."""
    canonical = json.dumps(public_jwk(public), sort_keys=True, separators=(",", ":"))
    return _base64url(hashlib.sha256(canonical.encode()).digest())


def public_pem(public: PublicKey) -> str:
    """The public half as it may be stored."""
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def read_public(pem: str, kid: str) -> PublicKey:
    """Undoes `public_pem`; raises `Invalid` for anything but the key that is named *kid*."""
    altered = Invalid(f"The signing key {kid} was altered: restore the database from its backup.")
    try:
        public = load_pem_public_key(pem.encode())
    except ValueError:
        raise altered from None
    if not isinstance(public, PublicKey) or thumbprint(public) != kid:
        raise altered
    return public


def seal_private(private: PrivateKey, kid: str, secret: bytes) -> bytes:
    """The private half as it may be stored: PKCS #8 under AES-256-GCM, bound to its *kid*."""
    plain = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(secret).encrypt(nonce, plain, kid.encode())


def open_private(sealed: bytes, kid: str, secret: bytes) -> PrivateKey:
    """Undoes `seal_private`; raises `Invalid` for another secret, another kid, or bytes that were altered."""
    try:
        plain = AESGCM(secret).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], kid.encode())
    except (InvalidTag, ValueError):
        raise Invalid(
            f"The signing key {kid} was not sealed under this data directory's secret: restore keys/secret and the "
            "database from the same backup."
        ) from None
    private = load_der_private_key(plain, password=None)
    if not isinstance(private, PrivateKey) or not isinstance(private.curve, SECP256R1):
        raise Invalid(f"The signing key {kid} is not a P-256 key: revoke it.")
    return private


def due(keys: Sequence[SigningKey], now: datetime) -> bool:
    """Whether the current key has signed for 90 days: the next one was made when it began to."""
    return any(key.state is KeyState.NEXT and key.created_at + ROTATION <= now for key in keys)


def retirement(now: datetime) -> datetime:
    """When a key that stops signing at *now* may stop verifying: every token it signed is over then."""
    return now + timedelta(seconds=LONGEST_TOKEN_SECONDS + LEEWAY_SECONDS)


class KeyRing:
    """
    The keys as this process knows them, read again when the policy version moves: a revocation counts at once.

    Look-ups that find the ring out of date read the records where they stand; `refresh` beforehand keeps that off the
    event loop. What the records raise when they cannot be read comes through: an old ring is never trusted.
    """

    def __init__(
        self, stored: StoredKeys, version: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stored = stored
        self._policy_version = version
        self._clock = clock
        self._version: int | None = None
        self._read_at = 0.0
        self._keys: Mapping[str, SigningKey] = {}
        # A thread of its own: every request waits for the keys, and what others look for may take seconds.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keys")

    async def refresh(self) -> None:
        """Reads the keys again, in a thread, if the policy version has moved; otherwise costs next to nothing."""
        if self._version != self._policy_version():
            # Of those who wait together the first reads, and the others find it done.
            await asyncio.get_running_loop().run_in_executor(self._thread, self._fresh)

    def current(self) -> SigningKey:
        """The key that signs; raises `Unavailable` when there is none."""
        for key in self._fresh().values():
            if key.state is KeyState.CURRENT and key.private is not None:
                return key
        raise Unavailable("There is no key to sign tokens with: run `gateway key rotate`.", retry_after_seconds=30)

    def find(self, kid: str, now: datetime | None = None) -> SigningKey | None:
        """The key named *kid* if it verifies at *now*; an unknown one is looked for in the records once a second."""
        key = self._fresh().get(kid)
        if key is None and self._clock() - self._read_at >= _RELOAD_SECONDS:
            self._read()
            key = self._keys.get(kid)
        return key if key is not None and key.verifies(now or datetime.now(UTC)) else None

    def due(self, now: datetime) -> bool:
        """Whether it is time to rotate."""
        return due(tuple(self._fresh().values()), now)

    def jwks(self, now: datetime | None = None) -> dict[str, object]:
        """The public keys as a JWK set (RFC 7517 §5): next, current, and previous ones that still verify."""
        moment = now or datetime.now(UTC)
        shown = [key for key in self._fresh().values() if key.verifies(moment)]
        return {"keys": [public_jwk(key.public) | {"kid": key.kid, "use": "sig", "alg": "ES256"} for key in shown]}

    def _fresh(self) -> Mapping[str, SigningKey]:
        if self._version != self._policy_version():
            self._read()
        return self._keys

    def _read(self) -> None:
        # The version first: a change that lands while we read makes the ring look old, never new.
        version, moment = self._policy_version(), self._clock()
        self._keys = {key.kid: key for key in self._stored.read()}
        self._version, self._read_at = version, moment


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode("ascii").rstrip("=")
