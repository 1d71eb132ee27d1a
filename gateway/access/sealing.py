"""Sealing: text that travels through strangers' hands and comes back as we gave it away, or not at all."""

from __future__ import annotations

import base64
import binascii
import secrets as randomness
import struct
import time
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12
_EXPIRY = struct.Struct(">Q")


class Sealer:
    """
    Seals under one key (32 bytes, AES-256-GCM) for one *purpose*; what was sealed for another does not open.

    Sealed text is safe in a form's field; nobody else can read or change it, but it can be sent again until it expires.
    """

    __slots__ = ("_cipher", "_clock", "_purpose")

    def __init__(self, key: bytes, purpose: str, clock: Callable[[], float] = time.time) -> None:
        self._cipher = AESGCM(key)
        self._purpose = purpose.encode()
        self._clock = clock

    def seal(self, content: bytes, seconds: int) -> str:
        """*content* as text that opens for so many *seconds*."""
        expires = _EXPIRY.pack(int(self._clock()) + seconds)
        nonce = randomness.token_bytes(_NONCE_BYTES)
        sealed = expires + nonce + self._cipher.encrypt(nonce, content, self._purpose + expires)
        return base64.urlsafe_b64encode(sealed).decode("ascii")

    def unseal(self, text: str) -> bytes | None:
        """What was sealed; None if it was not sealed here for this purpose, was changed, or has expired."""
        try:
            sealed = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            return None
        expires, nonce = sealed[: _EXPIRY.size], sealed[_EXPIRY.size : _EXPIRY.size + _NONCE_BYTES]
        if len(nonce) < _NONCE_BYTES or _EXPIRY.unpack(expires)[0] <= self._clock():
            return None
        try:
            return self._cipher.decrypt(nonce, sealed[_EXPIRY.size + _NONCE_BYTES :], self._purpose + expires)
        except InvalidTag:
            return None
