"""Signing keys: named by what they are, sealed to what they belong to, believed exactly as long as they should be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers, derive_private_key
from jwt.algorithms import ECAlgorithm

from gateway.access.keys import (
    ROTATION,
    KeyRing,
    KeyState,
    SigningKey,
    due,
    new_key,
    open_private,
    public_jwk,
    retirement,
    seal_private,
    thumbprint,
)
from gateway.access.tokens import Tokens
from gateway.errors import Invalid, Unavailable
from tests.access.keeping import NOW, KeptKeys

SECRET = b"s" * 32


def test_a_kid_is_the_thumbprint_of_rfc_7638() -> None:
    # The members and their order are the RFC's; the value was computed apart, with coreutils' sha256sum.
    public = derive_private_key(1, SECP256R1()).public_key()

    assert thumbprint(public) == "xx0BcA-wMohw8atYDJOe6peGModklG2wRHBlXHMvl0M"


def test_small_coordinates_keep_their_length() -> None:
    jwks = [public_jwk(derive_private_key(number, SECP256R1()).public_key()) for number in range(1, 600)]

    assert {len(jwk[axis]) for jwk in jwks for axis in ("x", "y")} == {43}


def test_a_sealed_key_opens_again() -> None:
    key = new_key(KeyState.CURRENT, NOW)
    assert key.private is not None

    opened = open_private(seal_private(key.private, key.kid, SECRET), key.kid, SECRET)

    assert opened.private_numbers() == key.private.private_numbers()


def test_a_sealed_key_is_worth_nothing_elsewhere_or_altered() -> None:
    key = new_key(KeyState.CURRENT, NOW)
    assert key.private is not None
    sealed = seal_private(key.private, key.kid, SECRET)

    for content, kid, secret in (
        (sealed, key.kid, b"t" * 32),
        (sealed, "another kid", SECRET),
        (sealed[:-1] + bytes([sealed[-1] ^ 1]), key.kid, SECRET),
        (sealed[:20], key.kid, SECRET),
        (b"", key.kid, SECRET),
    ):
        with pytest.raises(Invalid):
            open_private(content, kid, secret)


def test_keys_do_not_show_what_they_hold() -> None:
    assert "private" not in repr(new_key(KeyState.CURRENT, NOW))


def test_the_current_key_signs_and_there_must_be_one() -> None:
    kept = KeptKeys.fresh()

    assert kept.ring().current() == kept.current()
    with pytest.raises(Unavailable):
        KeptKeys().ring().current()


def test_an_old_key_verifies_until_its_last_token_is_over() -> None:
    kept = KeptKeys.fresh()
    old = kept.current().kid
    ring = kept.ring()
    kept.rotate(NOW)

    assert ring.current().kid != old
    assert ring.find(old, NOW + timedelta(seconds=929)) is not None
    assert ring.find(old, NOW + timedelta(seconds=930)) is None
    assert retirement(NOW) == NOW + timedelta(seconds=930)


def test_a_revoked_key_verifies_nothing_from_the_moment_the_version_moves() -> None:
    kept = KeptKeys.fresh()
    ring = kept.ring()
    kid = ring.current().kid
    assert ring.find(kid, NOW) is not None

    kept.revoke(kid)

    assert ring.find(kid, NOW) is None
    with pytest.raises(Unavailable):
        ring.current()


def test_the_ring_is_read_once_while_nothing_moves() -> None:
    kept = KeptKeys.fresh()
    ring = kept.ring()
    for _ in range(10):
        ring.current()
        asyncio.run(ring.refresh())

    assert kept.reads == 1
    kept.version += 1
    asyncio.run(ring.refresh())
    ring.current()
    assert kept.reads == 2


def test_tokens_take_up_changed_keys_beforehand() -> None:
    kept = KeptKeys.fresh()
    asyncio.run(Tokens(kept.ring(), "gateway", "registry", 300).refresh())

    assert kept.reads == 1


def test_unknown_kids_cause_one_reading_a_second() -> None:
    kept, now = KeptKeys.fresh(), [100.0]
    ring = KeyRing(kept, lambda: kept.version, lambda: now[0])
    late = new_key(KeyState.NEXT, NOW)
    ring.current()
    kept.keys.append(late)

    assert [ring.find(late.kid, NOW) for _ in range(100)] == [None] * 100
    assert kept.reads == 1
    now[0] += 1
    assert ring.find(late.kid, NOW) == late
    for _ in range(100):
        ring.find("unknown", NOW)
    assert kept.reads == 2


def test_a_ring_that_cannot_be_read_again_is_not_trusted() -> None:
    kept = KeptKeys.fresh()
    ring = kept.ring()
    kid = ring.current().kid

    kept.broken = True
    kept.version += 1

    for _ in range(2):
        with pytest.raises(ConnectionError):
            ring.find(kid, NOW)


def test_a_revocation_that_lands_while_the_ring_is_read_is_not_missed() -> None:
    kept = KeptKeys.fresh()
    kid = kept.current().kid

    class Meanwhile:
        def read(self) -> Sequence[SigningKey]:
            found = kept.read()
            if kept.reads == 1:
                kept.revoke(kid)
            return found

    ring = KeyRing(Meanwhile(), lambda: kept.version)
    ring.find(kid, NOW)

    assert ring.find(kid, NOW) is None


def test_published_are_next_current_and_what_still_verifies() -> None:
    kept = KeptKeys.fresh()
    revoked = kept.keys[1].kid
    kept.rotate(NOW)
    kept.rotate(NOW + timedelta(days=1))
    kept.revoke(revoked)
    shown = kept.ring().jwks(NOW + timedelta(days=1))

    expected = {key.kid for key in kept.keys if key.verifies(NOW + timedelta(days=1))}
    keys = shown["keys"]
    assert isinstance(keys, list)
    assert {key["kid"] for key in keys} == expected
    assert revoked not in expected
    assert len(expected) == 2
    for key in keys:
        assert {"kty", "crv", "x", "y", "kid", "use", "alg"} == set(key)
        read = ECAlgorithm.from_jwk(json.dumps(key))
        assert isinstance(read.public_numbers(), EllipticCurvePublicNumbers)  # type: ignore[union-attr]
        assert "d" not in key


def test_rotation_is_due_ninety_days_after_the_last() -> None:
    kept = KeptKeys.fresh()
    assert not due(kept.keys, NOW + ROTATION - timedelta(seconds=1))
    assert due(kept.keys, NOW + ROTATION)
    kept.rotate(NOW + ROTATION)
    assert not kept.ring().due(NOW + ROTATION)
    assert kept.ring().due(NOW + 2 * ROTATION)
