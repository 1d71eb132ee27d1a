"""Answers that may be asked for again: for a day, in sealed files that all processes on the data directory share."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets as randomness
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import Unavailable

KEPT_SECONDS: Final = 24 * 3600
#: Kept at once, and for one owner; honest programs need a dozen.
MOST: Final = 10_000
MOST_EACH: Final = 1_000
_SWEPT_SECONDS: Final = 300.0
_NONCE_BYTES: Final = 12
_OWNER_DIGITS: Final = 16


class Answers:
    """
    Answers by name; which names there are, and what was answered, cannot be read from the files without the name.

    Of all that begin under one name, in any process on this *folder*, one is first. What is sealed is on disk when
    `keep` returns. Raises `Unavailable` when so much is kept, for an owner or for all, that nothing new is; what is
    kept is told all the same.
    """

    def __init__(self, folder: Path, key: bytes) -> None:
        self._folder = folder
        self._key = key
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._swept_at = -_SWEPT_SECONDS

    def begin(self, name: bytes, owner: bytes = b"") -> bytes | None:
        """
        None for the first who begins under *name* today: `keep` or `drop` is theirs to call.

        Otherwise what was kept, or nothing (`b""`) while the first has not come to an end, or never did.
        """
        self._sweep()
        path = self._path(name, owner)
        if not path.exists():
            self._require_room(path)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return self._read(path, name)
        self._count(path, 1)
        _sync(self._folder)
        return None

    def keep(self, name: bytes, answer: bytes, owner: bytes = b"") -> None:
        """What is answered under *name* from now on."""
        path = self._path(name, owner)
        nonce = randomness.token_bytes(_NONCE_BYTES)
        temporary = path.with_name(f".{path.name}.{nonce.hex()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(nonce + self._seal(name).encrypt(nonce, answer, None))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(self._folder)

    def drop(self, name: bytes, owner: bytes = b"") -> None:
        """Nothing was done under *name*: whoever comes next is first."""
        path = self._path(name, owner)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            self._count(path, -1)

    def _read(self, path: Path, name: bytes) -> bytes:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            # Dropped this very moment: as good as under way.
            return b""
        if not content:
            return b""
        try:
            return self._seal(name).decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], None)
        except InvalidTag:
            # Damaged, or from before the secret was changed: it cannot be told, and must not be done again.
            return b""

    def _sweep(self) -> None:
        """Removes what is over, now and then, and counts what is not."""
        with self._lock:
            if time.monotonic() - self._swept_at >= _SWEPT_SECONDS:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                self._swept_at, self._counts = time.monotonic(), Counter()
                for path in list(self._folder.iterdir()):
                    with contextlib.suppress(FileNotFoundError):
                        if time.time() - path.stat().st_mtime > KEPT_SECONDS:
                            path.unlink()
                        else:
                            self._counts[path.name[:_OWNER_DIGITS]] += 1

    def _require_room(self, path: Path) -> None:
        with self._lock:
            full = self._counts[path.name[:_OWNER_DIGITS]] >= MOST_EACH or self._counts.total() >= MOST
        if full:
            raise Unavailable("Too many requests were made once; make this one without Idempotency-Key.")

    def _count(self, path: Path, more: int) -> None:
        with self._lock:
            self._counts[path.name[:_OWNER_DIGITS]] += more

    def _path(self, name: bytes, owner: bytes) -> Path:
        # Whose it is stands first, so that one owner's can be counted.
        whose = hmac.new(self._key, b"owner" + owner, "sha256").hexdigest()[:_OWNER_DIGITS]
        return self._folder / (whose + hmac.new(self._key, b"name" + name, "sha256").hexdigest())

    def _seal(self, name: bytes) -> AESGCM:
        # The name is part of the key: files and secret alone, without what the client called its request, tell nothing.
        return AESGCM(hmac.digest(self._key, b"seal" + name, "sha256"))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
