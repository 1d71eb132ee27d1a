"""Checkpoints: signed statements of where the chain stood, made by the gateway's own key and kept by somebody else.

    checkpoint   event *seq* had this *hash* at that *time*                      every minute, or every 1,000 events
    segment      events *first* to *seq* were sealed into a file                 ends each segment's file
    purge        events *first* to *seq* were removed with their file            stands where the segment was

How one is signed and verified is in `gateway.audit.offline`, which needs nothing of the gateway.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.audit.chain import Head
from gateway.audit.event import time_text
from gateway.audit.offline import key_id, signed_bytes
from gateway.errors import Invalid
from gateway.oci.document import strict_json

#: A checkpoint is due after so many events, or so many seconds, whichever comes first.
EVENTS: Final = 1000
SECONDS: Final = 60
_NONCE_BYTES: Final = 12
#: Many times as long as any statement.
_MOST_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True)
class CheckpointKey:
    """The Ed25519 key that signs statements; *kid* is its RFC 7638 thumbprint."""

    kid: str
    private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def new(cls) -> CheckpointKey:
        """A fresh key."""
        private = Ed25519PrivateKey.generate()
        return cls(key_id(_raw(private)), private)

    @property
    def public_pem(self) -> str:
        """The public half, to be kept where the gateway's administrators cannot change it."""
        public = self.private.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")

    def sealed(self, secret: bytes) -> bytes:
        """The private half as it may be stored: under AES-256-GCM, bound to its *kid*."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(secret).encrypt(nonce, self.private.private_bytes_raw(), self.kid.encode())

    @classmethod
    def opened(cls, sealed: bytes, kid: str, secret: bytes) -> CheckpointKey:
        """Undoes `sealed`; raises `Invalid` for another secret, another kid, or bytes that were altered."""
        try:
            raw = AESGCM(secret).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], kid.encode())
            private = Ed25519PrivateKey.from_private_bytes(raw)
        except (InvalidTag, ValueError):
            raise Invalid(
                f"The checkpoint key {kid} was not sealed under this data directory's secret: restore keys/secret and "
                "the database from the same backup."
            ) from None
        return cls(kid, private)

    def checkpoint(self, number: int, head: Head, moment: datetime) -> str:
        """The checkpoint with this *number* in the order they are made: one line of JSON."""
        return self._signed({"type": "checkpoint", "number": number, "seq": head.seq, "hash": head.hash.hex()}, moment)

    def segment(self, first: int, previous: Head, last: Head, moment: datetime) -> str:
        """That the events from *first*, which follows *previous*, to *last* are in one file: one line of JSON."""
        return self._signed(_range("segment", first, previous, last), moment)

    def purge(
        self,
        first: int,
        previous: Head,
        last: Head,
        moment: datetime,
        file_sha256: str,
        period: tuple[str, str] | None = None,
        broken: int = 0,
    ) -> str:
        """
        That the file of these events, with this digest and of this *period*, is purged: one line of JSON.

        If one of them tells that the trail's end was edited before it, the first such has the number *broken*.
        """
        times = {"first_time": period[0], "last_time": period[1]} if period is not None else {}
        edited = {"broken": broken} if broken else {}
        told = {**_range("purge", first, previous, last), **times, **edited, "file_sha256": file_sha256}
        return self._signed(told, moment)

    def _signed(self, statement: Mapping[str, object], moment: datetime) -> str:
        told = {**statement, "time": time_text(moment), "key": self.kid}
        signature = self.private.sign(signed_bytes(told))
        text = base64.urlsafe_b64encode(signature).decode().rstrip("=")
        # What it is comes first, for people, and for readers that tell it from an event by that.
        return json.dumps({**told, "signature": text}, separators=(",", ":"))


def statement_of(line: str | bytes) -> dict[str, Any]:
    """What a kept statement says, whoever wrote what is kept; raises `ValueError` if that is nothing."""
    content = line.encode() if isinstance(line, str) else line
    found = strict_json(content, limit_bytes=_MOST_BYTES)
    if isinstance(found, dict):
        return found
    raise ValueError("It is no object.")


def is_due(newest: int | None, head: Head, made_at: int, now: float) -> bool:
    """Whether the chain at *head* needs a checkpoint, the *newest* being about that event, and made at *made_at*."""
    if newest is None:
        return head.seq > 0
    return head.seq - newest >= EVENTS or abs(now - made_at) >= SECONDS


def gap(first: int, last: int, reason: str) -> str:
    """What a sink is told in place of events it cannot have any more: one line of JSON."""
    return json.dumps({"type": "gap", "first": first, "last": last, "reason": reason}, separators=(",", ":"))


def _range(kind: str, first: int, previous: Head, last: Head) -> dict[str, object]:
    return {
        "type": kind,
        "first": first,
        "seq": last.seq,
        "previous_hash": previous.hash.hex(),
        "hash": last.hash.hex(),
    }


def _raw(private: Ed25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()
