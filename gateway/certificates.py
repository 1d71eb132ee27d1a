"""TLS material: the development authority and its leaf, the judgement of any pair, and the pair that is live.

    ensure_development_pair ─▶ DATA/tls/{ca,leaf}.{crt,key} ─▶ load_pair ─▶ Pair ─▶ server_context
                                  production's own files ─────────┘             └▶ LivePair: swapped while serving

A pair is judged from the very bytes that are then used, so a file that changes in between changes nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import ssl
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from gateway.errors import Invalid

AUTHORITY_DAYS: Final = 3650
LEAF_DAYS: Final = 90
RENEW_DAYS: Final = 30
WARN_DAYS: Final = 14
LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1", "registry.local")

_ORGANIZATION: Final = "Registry gateway"
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_RSA_BITS: Final = 2048


@dataclass(frozen=True, slots=True)
class Pair:
    """
    A certificate chain and its key that were judged fit to serve.

    *names* are the leaf's subject alternative names, lower case; *fingerprint* is the leaf's SHA-256 as colon hex.
    """

    certificate: Path
    key: Path
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    fingerprint: str
    authority: Path | None = None
    chain_pem: bytes = field(default=b"", repr=False, compare=False)
    key_pem: bytes = field(default=b"", repr=False, compare=False)

    def days_left(self, now: datetime) -> int:
        """Whole days until the leaf expires; negative once it has."""
        return (self.not_after - now).days


def fingerprint(certificate_pem: bytes) -> str:
    """The SHA-256 of the first certificate in *certificate_pem*, as colon hex: what people compare by eye."""
    return _fingerprint(x509.load_pem_x509_certificate(certificate_pem))


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def covers(pair: Pair, host: str) -> bool:
    """Whether a client that asks for *host* accepts the pair: by name, by address, or by a wildcard of one label."""
    wanted = _canonical(host)
    label, _, parent = wanted.partition(".")
    return wanted in pair.names or (bool(label) and f"*.{parent}" in pair.names)


def _canonical(host: str) -> str:
    bare = host.lower().strip("[]")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return bare


# judging


def load_pair(certificate: Path, key: Path, now: datetime | None = None) -> Pair:
    """
    Read and judge the pair at *certificate* (leaf first, then its chain) and *key*.

    Raises `Invalid` when a file is missing, unreadable or not PEM, the key is open to others, encrypted, weak or
    another certificate's, or the leaf carries no names or is outside its validity.
    """
    chain_pem = _read(certificate)
    _check_private(key)
    key_pem = _read(key)
    leaf = _leaf(certificate, chain_pem)
    _check_key(key, key_pem, certificate, leaf)
    moment = now or datetime.now(UTC)
    if moment < leaf.not_valid_before_utc:
        raise Invalid(f"{certificate} is not valid before {leaf.not_valid_before_utc:%Y-%m-%d}: check the clock.")
    if moment >= leaf.not_valid_after_utc:
        raise Invalid(f"{certificate} expired on {leaf.not_valid_after_utc:%Y-%m-%d}: put a renewed one in its place.")
    pair = Pair(
        certificate=certificate,
        key=key,
        names=_names(certificate, leaf),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        fingerprint=_fingerprint(leaf),
        chain_pem=chain_pem,
        key_pem=key_pem,
    )
    server_context(pair)
    return pair


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise Invalid(f"{path} cannot be read: {problem.strerror}.") from problem


def _check_private(key: Path) -> None:
    try:
        mode = key.stat().st_mode
    except OSError as problem:
        raise Invalid(f"{key} cannot be read: {problem.strerror}.") from problem
    if stat.S_IMODE(mode) & 0o077:
        raise Invalid(f"{key} can be read by others than its owner: run `chmod 600 {key}`.")


def _leaf(path: Path, chain_pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(chain_pem)[0]
    except (ValueError, IndexError) as problem:
        raise Invalid(f"{path} is not a PEM certificate: give the leaf first, then its chain.") from problem


def _check_key(path: Path, key_pem: bytes, certificate: Path, leaf: x509.Certificate) -> None:
    try:
        private = serialization.load_pem_private_key(key_pem, password=None)
    except TypeError as problem:
        raise Invalid(f"{path} is encrypted: give a key without a passphrase, with mode 600.") from problem
    except ValueError as problem:
        raise Invalid(f"{path} is not a PEM private key.") from problem
    if isinstance(private, rsa.RSAPrivateKey):
        if private.key_size < _RSA_BITS:
            raise Invalid(f"{path} is an RSA key of {private.key_size} bits: use at least {_RSA_BITS}, or P-256.")
    elif not isinstance(private, ec.EllipticCurvePrivateKey):
        raise Invalid(f"{path} is neither an RSA nor an elliptic-curve key: make one of those.")
    if _public(private.public_key()) != _public(leaf.public_key()):
        raise Invalid(f"{path} is not the key of {certificate}: put the matching key in its place.")


def _public(key: object) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    encoded: bytes = key.public_bytes(serialization.Encoding.DER, form)  # type: ignore[attr-defined]
    return encoded


def _names(path: Path, leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        held = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        held = x509.SubjectAlternativeName([])
    names = [name.lower() for name in held.get_values_for_type(x509.DNSName)]
    names += [str(address) for address in held.get_values_for_type(x509.IPAddress)]
    if not names:
        raise Invalid(f"{path} names no host: issue it with subject alternative names.")
    return tuple(names)


# serving


def server_context(pair: Pair) -> ssl.SSLContext:
    """A context that serves *pair*: TLS 1.2 and 1.3, forward-secret AEAD suites only, `http/1.1`, no renegotiation."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    with _in_memory(pair.chain_pem) as chain, _in_memory(pair.key_pem) as key:
        try:
            context.load_cert_chain(chain, key)
        except (ssl.SSLError, OSError) as problem:
            raise Invalid(f"{pair.certificate} and {pair.key} cannot be used together: {problem}.") from problem
    return context


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    # OpenSSL reads only files; a file without a name holds exactly the bytes that were judged.
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class ReloadOutcome(StrEnum):
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Reload:
    """What became of a changed pair: the new `Pair` when accepted, else why the old one stays."""

    outcome: ReloadOutcome
    reason: str
    pair: Pair


Signature = tuple[tuple[int, int, int, int], ...]


class LivePair:
    """
    The pair new connections are served with; `context` stays the same object while the pair behind it is replaced.

    Raises `Invalid` when the pair it begins with is not fit to serve. Established connections never notice a change.
    """

    CHECK_SECONDS = 1.0

    def __init__(self, certificate: Path, key: Path, *, now: Callable[[], datetime] | None = None) -> None:
        self._now = now or (lambda: datetime.now(UTC))
        self._paths = (certificate, key)
        self._seen = self._signature()
        self._doubted: Signature | None = None
        self._rejection: str | None = None
        self._looked = time.monotonic()
        self.pair = load_pair(certificate, key, self._now())
        self._current = server_context(self.pair)
        self.context = server_context(self.pair)
        # A context keeps one certificate per kind of key, so loading an RSA pair over an elliptic-curve one would
        # leave the old one in use: each handshake is moved to a context that holds the current pair alone.
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _signature(self) -> Signature:
        found = []
        for path in self._paths:
            try:
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size))
            except OSError:
                found.append((0, 0, 0, 0))
        return tuple(found)

    def refresh(self) -> Reload | None:
        """
        Look for a changed pair, at most once a second; None when there is nothing to tell.

        A good pair is live when this returns. A bad one is reported once, after two looks found the same files, so
        that a certificate and key replaced one after the other are not mistaken for a mismatch.
        """
        if time.monotonic() - self._looked < self.CHECK_SECONDS:
            return None
        self._looked = time.monotonic()
        signature = self._signature()
        if signature == self._seen:
            return None
        try:
            pair = load_pair(*self._paths, self._now())
            self._current = server_context(pair)
        except Invalid as refusal:
            return self._reject(signature, refusal.message)
        same = self._rejection is None and (pair.chain_pem, pair.key_pem) == (self.pair.chain_pem, self.pair.key_pem)
        self._seen, self._doubted, self._rejection, self.pair = signature, None, None, pair
        return None if same else Reload(ReloadOutcome.ACCEPTED, "", pair)

    def _reject(self, signature: Signature, reason: str) -> Reload | None:
        if self._doubted != signature:
            self._doubted = signature
            return None
        self._seen, self._doubted, self._rejection = signature, None, reason
        return Reload(ReloadOutcome.REJECTED, reason, self.pair)

    @property
    def warning(self) -> str | None:
        """What an operator should know about the certificate now, in one sentence; None when all is well."""
        left = self.pair.days_left(self._now())
        if self._rejection is not None:
            return f"The new certificate was refused and the old one stays: {self._rejection}"
        if left < 0:
            return f"The certificate expired on {self.pair.not_after:%Y-%m-%d}."
        if left < WARN_DAYS:
            return f"The certificate expires in {left} days, on {self.pair.not_after:%Y-%m-%d}."
        return None


# development


def ensure_development_pair(folder: Path, hosts: Iterable[str], now: datetime | None = None) -> Pair:
    """
    The development pair in *folder* for *hosts* and the local names, made or renewed when needed.

    The authority is made once and kept while it is valid; the leaf (90 days, P-256) is renewed when under 30 days
    are left, when the names change, or when it is damaged. Key files have mode 600. Several processes may call it at
    once. Raises `Invalid` when the authority's files are damaged, expired or readable by others.
    """
    moment = now or datetime.now(UTC)
    names = tuple(dict.fromkeys([*LOCAL_NAMES, *map(_canonical, hosts)]))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(folder / ".lock"):
        authority = _authority(folder, moment)
        certificate, key = folder / "leaf.crt", folder / "leaf.key"
        if not _still_good(certificate, key, names, authority, moment):
            _issue(folder, authority, names, moment)
        pair = load_pair(certificate, key, moment)
    return replace(pair, authority=folder / "ca.crt")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _authority(folder: Path, moment: datetime) -> trustme.CA:
    certificate, key = folder / "ca.crt", folder / "ca.key"
    if not certificate.exists() and not key.exists():
        _make_authority(certificate, key, moment)
    _check_private(key)
    try:
        authority = trustme.CA.from_pem(_read(certificate), _read(key))
        expired = x509.load_pem_x509_certificate(_read(certificate)).not_valid_after_utc <= moment
    except (ValueError, TypeError) as problem:
        raise Invalid(
            f"{certificate} or {key} is damaged: restore both, or remove both and trust the new authority."
        ) from problem
    if expired:
        raise Invalid(f"{certificate} has expired: remove it with its key, and trust the new authority.")
    return authority


def _make_authority(certificate: Path, key: Path, moment: datetime) -> None:
    # trustme bounds the validity of leaves only; its authorities would outlive us all.
    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{_ORGANIZATION} development authority {os.urandom(4).hex()}"),
        ]
    )
    made = (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number())
        .not_valid_before(moment - timedelta(days=1))
        .not_valid_after(moment + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_authority_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(private, hashes.SHA256())
    )
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    _write(key, private.private_bytes(encoding, form, serialization.NoEncryption()), 0o600)
    _write(certificate, made.public_bytes(encoding), 0o644)


def _authority_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _still_good(certificate: Path, key: Path, names: tuple[str, ...], authority: trustme.CA, moment: datetime) -> bool:
    if not certificate.exists() or not key.exists():
        return False
    _check_private(key)
    try:
        pair = load_pair(certificate, key, moment)
    except Invalid:
        return False
    chain = x509.load_pem_x509_certificates(pair.chain_pem)
    issued = len(chain) > 1 and _fingerprint(chain[1]) == fingerprint(authority.cert_pem.bytes())
    return issued and set(pair.names) == set(names) and pair.not_after - moment >= timedelta(days=RENEW_DAYS)


def _issue(folder: Path, authority: trustme.CA, names: tuple[str, ...], moment: datetime) -> None:
    leaf = authority.issue_cert(
        *names,
        common_name=names[-1][:64],
        organization_name=_ORGANIZATION,
        organization_unit_name="development",
        not_before=moment - timedelta(hours=1),
        not_after=moment + timedelta(days=LEAF_DAYS),
        key_type=trustme.KeyType.ECDSA,
    )
    _write(folder / "leaf.key", leaf.private_key_pem.bytes(), 0o600)
    _write(folder / "leaf.crt", leaf.cert_chain_pems[0].bytes() + authority.cert_pem.bytes(), 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
