"""Second factors: codes that a phone shows (RFC 6238), codes on paper for when there is none, and tickets between."""

from __future__ import annotations

import base64
import hmac
import os
import re
import secrets as randomness
from datetime import datetime
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from gateway.access.secrets import keyed_hash
from gateway.errors import Invalid

STEP_SECONDS: Final = 30
#: How many steps the clock of a phone may be behind or ahead.
DRIFT: Final = 1
RECOVERY_CODES: Final = 10
#: How long a right password waits for its code.
TICKET_SECONDS: Final = 5 * 60

_KEY_BYTES = 20
_NONCE_BYTES = 12
_DIGITS = 6
_CODE = re.compile(r"[0-9]{6}", re.ASCII)
#: No letter or digit that is easily read as another.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_RECOVERY = re.compile(r"[a-z0-9]{16}", re.ASCII)
_TICKET = re.compile(r"([0-9]{1,16})\.([0-9]{1,16})\.([0-9]{1,16})\.[0-9a-f]{64}", re.ASCII)


def new_key() -> bytes:
    """A fresh key of codes: 160 random bits, as RFC 4226 wants them."""
    return randomness.token_bytes(_KEY_BYTES)


def key_text(key: bytes) -> str:
    """The key as people type it into a phone: base32, in groups of four."""
    text = base64.b32encode(key).decode("ascii")
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def key_uri(key: bytes, account: str, issuer: str) -> str:
    """The key as a QR code tells it to a phone: `otpauth://totp/…`, with whose it is and where."""
    return _codes(key).get_provisioning_uri(account, issuer)


def code_at(key: bytes, step: int) -> str:
    """The code of the half minute numbered *step* since 1970."""
    return _codes(key).generate(step * STEP_SECONDS).decode("ascii")


def matching_step(key: bytes, code: str, now: datetime) -> int | None:
    """The step whose code *code* is, now or half a minute around it; None if it is none of those."""
    code = plain(code)
    if _CODE.fullmatch(code) is None:
        return None
    current = int(now.timestamp()) // STEP_SECONDS
    # All are compared, whichever is right: how long it takes tells nothing.
    steps = [step for step in range(current - DRIFT, current + DRIFT + 1) if _equal(code_at(key, step), code)]
    return steps[-1] if steps else None


def seal_key(key: bytes, account_id: int, secret: bytes) -> bytes:
    """The key as it may be stored: under AES-256-GCM, bound to its account."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(secret).encrypt(nonce, key, str(account_id).encode())


def open_key(sealed: bytes, account_id: int, secret: bytes) -> bytes:
    """Undoes `seal_key`; raises `Invalid` for another secret, another account, or bytes that were altered."""
    try:
        return AESGCM(secret).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], str(account_id).encode())
    except (InvalidTag, ValueError):
        raise Invalid(
            "The second factor was not sealed under this data directory's secret: restore keys/secret and the "
            "database from the same backup, or have an administrator remove the second factor."
        ) from None


def new_recovery_codes() -> tuple[str, ...]:
    """Ten fresh recovery codes of 79 random bits each, in groups of four."""
    return tuple(_recovery_code() for _ in range(RECOVERY_CODES))


def recovery_hash(code: str, account_id: int, secret: bytes) -> str:
    """The keyed hash that is kept of a recovery code, "" for what cannot be one; spaces, dashes and case are not it."""
    code = plain(code)
    return keyed_hash(secret, f"{account_id}:{code}") if _RECOVERY.fullmatch(code) else ""


def plain(code: str) -> str:
    """A code as people type it, without the spaces and dashes they put in."""
    return re.sub(r"[\s-]", "", code[:64]).lower()


def sign_ticket(account_id: int, generation: int, now: datetime, secret: bytes) -> str:
    """The word that the password of this account, at this *generation*, was right: good for five minutes."""
    said = f"{account_id}.{generation}.{int(now.timestamp()) + TICKET_SECONDS}"
    return f"{said}.{keyed_hash(secret, said)}"


def read_ticket(ticket: str, now: datetime, secret: bytes) -> tuple[int, int] | None:
    """The account and generation that *ticket* is of, if it was signed here and is not over."""
    matched = _TICKET.fullmatch(ticket[:200])
    if matched is None:
        return None
    said, _, signature = ticket.rpartition(".")
    if not _equal(keyed_hash(secret, said), signature) or int(matched[3]) <= now.timestamp():
        return None
    return int(matched[1]), int(matched[2])


def _codes(key: bytes) -> TOTP:
    # HMAC does not rest on what SHA-1 is weak in.
    return TOTP(key, _DIGITS, SHA1(), STEP_SECONDS)  # noqa: S303 - RFC 6238's default, which every phone's app shares


def _recovery_code() -> str:
    return "-".join("".join(randomness.choice(_ALPHABET) for _ in range(4)) for _ in range(4))


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
