"""The one secret of a data directory, the keys derived from it, and the secrets that are given out once."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import re
import secrets as randomness
import stat
import zlib
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.errors import Invalid

SECRET_BYTES = 32
FILE_NAME = "secret"
ROBOT_PREFIX: Final = "gwr_"
OFFLINE_PREFIX: Final = "gwo_"
PERSONAL_PREFIX: Final = "gwp_"

_GIVEN = re.compile(r"gw[rop]_[A-Za-z0-9_-]{43}[0-9a-z]{6}", re.ASCII)
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Secrets:
    """
    The keys of one data directory, each derived (HKDF-SHA256) for one purpose; none tells anything about another.

    A value of this class never shows what it holds.
    """

    __slots__ = ("_root",)

    def __init__(self, root: bytes) -> None:
        if len(root) != SECRET_BYTES:
            raise ValueError(f"the secret has {SECRET_BYTES} bytes")
        self._root = root

    @classmethod
    def create(cls, folder: Path) -> Secrets:
        """
        Makes *folder* (0700) and its file `secret` (0600, 32 random bytes) if missing; what exists is kept.

        The file appears complete and on disk, or not at all. Raises `Invalid` as `load` does.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = folder / FILE_NAME
        if not target.exists():
            _write_once(target, randomness.token_bytes(SECRET_BYTES))
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> Secrets:
        """
        The secret kept in *folder*.

        Raises `Invalid` when the file is missing, has another length, may be read by others than its owner, or
        belongs to a stranger; and when others may write to the folder.
        """
        path = folder / FILE_NAME
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise Invalid(f"{path} is missing: restore it from the backup of this data directory.") from None
        except OSError as error:
            raise Invalid(f"{path} cannot be read ({error.strerror}): run as the user it belongs to.") from error
        try:
            _check_guarded(path, os.fstat(descriptor))
            root = os.read(descriptor, SECRET_BYTES + 1)
        finally:
            os.close(descriptor)
        if len(root) != SECRET_BYTES:
            raise Invalid(f"{path} does not hold {SECRET_BYTES} bytes: restore it from the backup.")
        return cls(root)

    @property
    def robots(self) -> bytes:
        """Hashes the secrets of robots."""
        return self._derived("robots")

    @property
    def offline_tokens(self) -> bytes:
        """Hashes offline tokens."""
        return self._derived("offline tokens")

    @property
    def personal_tokens(self) -> bytes:
        """Hashes personal access tokens."""
        return self._derived("personal tokens")

    @property
    def sessions(self) -> bytes:
        """Hashes the cookies of the console's sessions."""
        return self._derived("sessions")

    @property
    def second_factors(self) -> bytes:
        """Seals the keys of second factors (AES-256-GCM)."""
        return self._derived("second factors")

    @property
    def recovery_codes(self) -> bytes:
        """Hashes recovery codes."""
        return self._derived("recovery codes")

    @property
    def tickets(self) -> bytes:
        """Signs the word that a password was right and a second factor is due."""
        return self._derived("tickets")

    @property
    def signing_keys(self) -> bytes:
        """Seals the private halves of signing keys (AES-256-GCM)."""
        return self._derived("signing keys")

    @property
    def trail(self) -> bytes:
        """Seals the head of the trail."""
        return self._derived("trail")

    @property
    def checkpoints(self) -> bytes:
        """Seals the private half of the key that signs checkpoints (AES-256-GCM)."""
        return self._derived("checkpoints")

    @property
    def throttle(self) -> bytes:
        """Hashes the names under which failed sign-ins are counted: they may be mistyped passwords."""
        return self._derived("throttle")

    @property
    def console_forms(self) -> bytes:
        """Seals what travels through a browser while somebody signs in again (AES-256-GCM)."""
        return self._derived("console forms")

    @property
    def cursors(self) -> bytes:
        """Seals the cursors of lists to their queries."""
        return self._derived("cursors")

    @property
    def positions(self) -> bytes:
        """Seals where a list goes on if the name there is not for its reader's eyes (AES-256-GCM)."""
        return self._derived("positions")

    @property
    def answers(self) -> bytes:
        """Seals the answers that may be asked for again."""
        return self._derived("answers")

    def fingerprint(self) -> str:
        """What may be stored and shown to recognise this secret by: 32 hexadecimal digits."""
        return self._derived("fingerprint")[:16].hex()

    def _derived(self, label: str) -> bytes:
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"gateway {label} v1".encode()).derive(self._root)

    def __repr__(self) -> str:
        return "Secrets(***)"


def _write_once(target: Path, content: bytes) -> None:
    temporary = target.with_name(f".{target.name}.{randomness.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # A link never overwrites: of two that create at once, one's secret is everybody's.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, target)
    finally:
        temporary.unlink()
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check_guarded(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Invalid(f"{path} is not a regular file: restore it from the backup.")
    if found.st_mode & 0o077:
        raise Invalid(f"{path} can be read by others: run `chmod 600 {path}`, and replace it if it may have leaked.")
    if os.geteuid() not in {0, found.st_uid} and found.st_uid != 0:
        raise Invalid(f"{path} belongs to another user: run `chown` so that it belongs to the gateway's.")
    if path.parent.stat().st_mode & 0o022:
        raise Invalid(f"{path.parent} can be changed by others: run `chmod 700 {path.parent}`.")


def keyed_hash(key: bytes, text: str) -> str:
    """HMAC-SHA256 of *text* under *key*, in hexadecimal; fit for secrets of 256 random bits, not for passwords."""
    return hmac.new(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def new_robot_secret() -> str:
    """A fresh secret for a robot: `gwr_`, 256 random bits, a checksum; 53 characters safe in URLs and shells."""
    return _given(ROBOT_PREFIX)


def new_offline_token() -> str:
    """A fresh offline token: `gwo_`, 256 random bits, a checksum; 53 characters safe in URLs and shells."""
    return _given(OFFLINE_PREFIX)


def new_personal_token() -> str:
    """A fresh personal access token: `gwp_`, 256 random bits, a checksum; 53 characters safe in URLs and shells."""
    return _given(PERSONAL_PREFIX)


def well_formed(text: str, prefix: str) -> bool:
    """Whether *text* has the form and the checksum of a secret with *prefix*; says nothing about it being known."""
    return text.startswith(prefix) and _GIVEN.fullmatch(text) is not None and text[-6:] == _checksum(text[:-6])


def _given(prefix: str) -> str:
    body = prefix + base64.urlsafe_b64encode(randomness.token_bytes(32)).decode().rstrip("=")
    return body + _checksum(body)


def _checksum(body: str) -> str:
    # Tells a mistyped or cut secret, and lets scanners know a leaked one; it protects nothing.
    rest = zlib.crc32(body.encode()) % len(_DIGITS) ** 6
    digits = ""
    for _ in range(6):
        rest, digit = divmod(rest, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
