"""A certificate chain and its key: how they are judged, whom they cover, and a context that serves them."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from gateway.errors import Invalid, Refusal

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_RSA_BITS: Final = 2048
#: What a client is told when its handshake fails for it: what an honest one, or one made weaker on its way, can mend.
_TOLD: Final = frozenset({"INAPPROPRIATE_FALLBACK", "NO_SHARED_CIPHER", "UNSUPPORTED_PROTOCOL"})


@dataclass(frozen=True, slots=True)
class Pair:
    """
    A certificate chain and its key that were judged fit to serve.

    *names* are the leaf's subject alternative names, lower case; *fingerprint* is the leaf's SHA-256 as colon hex.
    *flaw* is a sentence on why clients may not accept the chain, "" for nothing.
    """

    certificate: Path
    key: Path
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    fingerprint: str
    authority: Path | None = None
    flaw: str = ""
    chain_pem: bytes = field(default=b"", repr=False, compare=False)
    key_pem: bytes = field(default=b"", repr=False, compare=False)

    def days_left(self, now: datetime) -> int:
        """Whole days until the leaf expires; negative once it has."""
        return (self.not_after - now).days


def fingerprint(certificate_pem: bytes) -> str:
    """The SHA-256 of the first certificate in *certificate_pem*, as colon hex: what people compare by eye."""
    return fingerprint_of(x509.load_pem_x509_certificate(certificate_pem))


def fingerprint_of(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def covers(pair: Pair, host: str) -> bool:
    """Whether a client that asks for *host* accepts the pair: by name, by address, or by a wildcard of one label."""
    wanted = canonical(host)
    label, _, parent = wanted.partition(".")
    return wanted in pair.names or (bool(label) and f"*.{parent}" in pair.names)


def canonical(host: str) -> str:
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
    another certificate's, or the leaf carries no names or is outside its validity. That no certificate of the chain
    issued the leaf is a flaw of the pair.
    """
    try:
        return _judged(certificate, key, now or datetime.now(UTC))
    except Refusal:
        raise
    except Exception as problem:
        # Of what stands in a certificate, several exceptions tell that are of no common kind, some at the first use.
        raise Invalid(f"{certificate} cannot be judged: {problem}.") from problem


def _judged(certificate: Path, key: Path, moment: datetime) -> Pair:
    chain_pem = read(certificate)
    check_private(key)
    key_pem = read(key)
    chain = _chain(certificate, chain_pem)
    leaf = chain[0]
    _check_key(key, key_pem, certificate, leaf)
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
        fingerprint=fingerprint_of(leaf),
        flaw=_flaw(certificate, chain),
        chain_pem=chain_pem,
        key_pem=key_pem,
    )
    server_context(pair)
    return pair


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise Invalid(f"{path} cannot be read: {problem.strerror}.") from problem


def check_private(key: Path) -> None:
    try:
        mode = key.stat().st_mode
    except OSError as problem:
        raise Invalid(f"{key} cannot be read: {problem.strerror}.") from problem
    if stat.S_IMODE(mode) & 0o077:
        raise Invalid(f"{key} can be read by others than its owner: run `chmod 600 {key}`.")


def _chain(path: Path, chain_pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(chain_pem)
    except ValueError as problem:
        raise Invalid(f"{path} is not a PEM certificate: give the leaf first, then its chain.") from problem


def _flaw(path: Path, chain: list[x509.Certificate]) -> str:
    # Clients find their way among what they are given: order, repetitions and strangers disturb none of them.
    leaf = chain[0]
    others = [each for each in chain if each != leaf]
    if not others or any(_issued(leaf, each) for each in (*others, leaf)):
        return ""
    return (
        f"{path} is no chain: none of its certificates issued the first; "
        f"give the leaf first, then who issued it, then who issued that one."
    )


def _issued(leaf: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether *issuer*'s key signed *leaf*; where that cannot be checked, whether their names say so."""
    # Names alone tell little: one name is spelt in several ways, and an authority's next key has the name of its last.
    signature, signed = leaf.signature, leaf.tbs_certificate_bytes
    try:
        match issuer.public_key(), leaf.signature_algorithm_parameters, leaf.signature_hash_algorithm:
            case rsa.RSAPublicKey() as key, (
                padding.PKCS1v15() | padding.PSS()
            ) as scheme, hashes.HashAlgorithm() as used:
                key.verify(signature, signed, scheme, used)
            case ec.EllipticCurvePublicKey() as key, ec.ECDSA() as scheme, _:
                key.verify(signature, signed, scheme)
            case (ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey()) as key, None, None:
                key.verify(signature, signed)
            case ((rsa.RSAPublicKey() | ec.EllipticCurvePublicKey()), (padding.AsymmetricPadding() | ec.ECDSA()), _):
                return False
            case _:
                return leaf.issuer == issuer.subject
    except InvalidSignature:
        return False
    except (UnsupportedAlgorithm, ValueError):
        return leaf.issuer == issuer.subject
    return True


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


class _Telling(ssl.SSLObject):
    """
    A connection that is told why its handshake fails, before it ends.

    An event loop drops a handshake that failed, and the alert with it; what it has for one that needs more, it sends.
    So a handshake that failed asks once for more: the client has its alert and closes, or is closed as if it hung.
    """

    _told = False

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except ssl.SSLError as problem:
            if self._told or problem.reason not in _TOLD:
                raise
            self._told = True
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "the alert is on its way") from problem


class _Serving(ssl.SSLContext):
    sslobject_class = _Telling


def server_context(pair: Pair) -> ssl.SSLContext:
    """A context that serves *pair*: TLS 1.2 and 1.3, forward-secret AEAD suites only, `http/1.1`, no renegotiation."""
    context = _Serving(ssl.PROTOCOL_TLS_SERVER)
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
