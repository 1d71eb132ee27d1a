"""The development authority and the leaf it issues, made by trustme and kept in `DATA/tls/`."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.certificates.pair import Pair, canonical, check_private, fingerprint, fingerprint_of, load_pair, read
from gateway.errors import Invalid

AUTHORITY_DAYS: Final = 3650
LEAF_DAYS: Final = 90
RENEW_DAYS: Final = 30
LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1", "registry.local")

_ORGANIZATION: Final = "Registry gateway"


def ensure_development_pair(folder: Path, hosts: Iterable[str], now: datetime | None = None) -> Pair:
    """
    The development pair in *folder* for *hosts* and the local names, made or renewed when needed.

    The authority is made once and kept while it is valid; the leaf (90 days, P-256) is renewed when under 30 days
    are left, when the names change, or when it is damaged. Key files have mode 600. Several processes may call it at
    once. Raises `Invalid` when the authority's files are damaged, expired or readable by others.
    """
    moment = now or datetime.now(UTC)
    names = tuple(dict.fromkeys([*LOCAL_NAMES, *map(canonical, hosts)]))
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
    # A key alone is what a first run left that was killed between the two: nobody can have trusted its authority.
    begun = key.exists() and (folder / "leaf.crt").exists()
    if not certificate.exists() and not begun:
        _make_authority(certificate, key, moment)
    check_private(key)
    try:
        authority = trustme.CA.from_pem(read(certificate), read(key))
        expired = x509.load_pem_x509_certificate(read(certificate)).not_valid_after_utc <= moment
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
    check_private(key)
    try:
        pair = load_pair(certificate, key, moment)
    except Invalid:
        return False
    chain = x509.load_pem_x509_certificates(pair.chain_pem)
    issued = len(chain) > 1 and fingerprint_of(chain[1]) == fingerprint(authority.cert_pem.bytes())
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
