"""Pairs are judged before they serve, and replaced while they do."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from gateway.certificates import (
    LOCAL_NAMES,
    LivePair,
    Reload,
    ReloadOutcome,
    covers,
    ensure_development_pair,
    fingerprint,
    load_pair,
)
from gateway.errors import Invalid
from tests.edge.serving import dial, read_reply, request, serving, trusting, wait_until

NOW = datetime.now(UTC)


@pytest.fixture
def folder(tls_folder: Path, tmp_path: Path) -> Path:
    """A copy of the development pair that a test may damage."""
    return Path(shutil.copytree(tls_folder, tmp_path / "tls"))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def issue(
    authority: trustme.CA,
    folder: Path,
    *names: str,
    key_type: trustme.KeyType = trustme.KeyType.ECDSA,
    begins: datetime = NOW - timedelta(days=1),
    ends: datetime = NOW + timedelta(days=60),
) -> None:
    leaf = authority.issue_cert(*(names or ("localhost",)), not_before=begins, not_after=ends, key_type=key_type)
    leaf.private_key_pem.write_to_path(folder / "leaf.key")
    leaf.cert_chain_pems[0].write_to_path(folder / "leaf.crt")
    (folder / "leaf.key").chmod(0o600)
    authority.cert_pem.write_to_path(folder / "ca.crt")


def load(folder: Path, now: datetime | None = None) -> object:
    return load_pair(folder / "leaf.crt", folder / "leaf.key", now)


# development


def test_the_development_pair_has_sane_validity_names_and_modes(tmp_path: Path) -> None:
    pair = ensure_development_pair(tmp_path / "tls", ["Registry.Example", "10.0.0.7"], NOW)
    assert set(pair.names) == {*LOCAL_NAMES, "registry.example", "10.0.0.7"}
    assert pair.not_after - NOW > timedelta(days=89, hours=23)
    assert pair.authority is not None
    authority = x509.load_pem_x509_certificate(pair.authority.read_bytes())
    assert timedelta(days=3600) < authority.not_valid_after_utc - NOW < timedelta(days=3660)
    assert NOW - authority.not_valid_before_utc < timedelta(days=2)
    for name in ("ca.key", "leaf.key"):
        assert stat.S_IMODE((tmp_path / "tls" / name).stat().st_mode) == 0o600
    assert len(x509.load_pem_x509_certificates(pair.chain_pem)) == 2
    assert "PRIVATE" not in repr(pair)


def test_the_authority_passes_strict_verification(tls_folder: Path) -> None:
    found = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", tls_folder / "ca.crt", tls_folder / "leaf.crt"],
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip().endswith("OK"), found.stderr


def test_the_fingerprint_is_the_one_openssl_shows(tls_folder: Path) -> None:
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", tls_folder / "ca.crt"],
        capture_output=True,
        text=True,
    ).stdout
    assert shown.strip().partition("=")[2] == fingerprint((tls_folder / "ca.crt").read_bytes())


def test_the_second_start_finds_everything_as_it_was(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    ensure_development_pair(folder, [])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(("days", "renewed"), [(59, False), (61, True), (120, True)])
def test_the_leaf_is_renewed_when_little_time_is_left(folder: Path, days: int, renewed: bool) -> None:
    authority, leaf = (folder / "ca.crt").read_bytes(), (folder / "leaf.crt").read_bytes()
    later = NOW + timedelta(days=days)
    pair = ensure_development_pair(folder, [], later)
    assert (folder / "ca.crt").read_bytes() == authority
    assert ((folder / "leaf.crt").read_bytes() != leaf) == renewed
    assert pair.days_left(later) >= 30


def test_the_leaf_is_renewed_when_names_change(folder: Path) -> None:
    authority = (folder / "ca.crt").read_bytes()
    assert covers(ensure_development_pair(folder, ["other.example"]), "other.example")
    assert not covers(ensure_development_pair(folder, []), "other.example")
    assert (folder / "ca.crt").read_bytes() == authority


def test_a_damaged_leaf_is_made_again(folder: Path) -> None:
    (folder / "leaf.crt").write_bytes(b"")
    ensure_development_pair(folder, [])
    load(folder)


@pytest.mark.parametrize("name", ["ca.key", "leaf.key"])
def test_a_development_key_open_to_others_is_refused(folder: Path, name: str) -> None:
    (folder / name).chmod(0o644)
    with pytest.raises(Invalid, match=rf"chmod 600 .*{name}"):
        ensure_development_pair(folder, [])


@pytest.mark.parametrize("name", ["ca.key", "ca.crt"])
def test_a_lost_authority_is_not_silently_replaced(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(Invalid, match=name):
        ensure_development_pair(folder, [])


def test_an_expired_authority_is_refused(folder: Path) -> None:
    with pytest.raises(Invalid, match="expired"):
        ensure_development_pair(folder, [], NOW + timedelta(days=3700))


# judging


def test_key_open_to_others_is_refused_with_the_remedy(folder: Path) -> None:
    for mode in (0o644, 0o640, 0o604, 0o620):
        (folder / "leaf.key").chmod(mode)
        with pytest.raises(Invalid, match=f"chmod 600 {folder / 'leaf.key'}"):
            load(folder)


@pytest.mark.parametrize("name", ["leaf.crt", "leaf.key"])
def test_missing_and_garbled_files_are_refused(folder: Path, name: str) -> None:
    for content in (b"", b"garbage", (folder / name).read_bytes()[:100]):
        (folder / name).write_bytes(content)
        with pytest.raises(Invalid, match=f"{name} is not a PEM"):
            load(folder)
    (folder / name).unlink()
    with pytest.raises(Invalid, match=f"{name} cannot be read: No such file"):
        load(folder)


def test_a_key_of_another_certificate_is_refused(folder: Path, authority: trustme.CA) -> None:
    certificate = (folder / "leaf.crt").read_bytes()
    issue(authority, folder)
    (folder / "leaf.crt").write_bytes(certificate)
    with pytest.raises(Invalid, match="is not the key of"):
        load(folder)


def test_expired_and_future_leaves_are_refused(folder: Path) -> None:
    with pytest.raises(Invalid, match="expired on"):
        load(folder, NOW + timedelta(days=91))
    with pytest.raises(Invalid, match="not valid before"):
        load(folder, NOW - timedelta(days=1))


def self_signed(
    folder: Path, key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, names: tuple[str, ...] = ("a.example",)
) -> None:
    name = x509.Name([])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
    )
    if names:
        held = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        made = made.add_extension(held, critical=True)
    signed = made.sign(key, hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey) else None)
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "leaf.crt").write_bytes(signed.public_bytes(pem))
    (folder / "leaf.key").write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))


def test_weak_and_unusual_keys_are_refused(folder: Path) -> None:
    self_signed(folder, rsa.generate_private_key(65537, 1024))
    with pytest.raises(Invalid, match="RSA key of 1024 bits"):
        load(folder)
    self_signed(folder, ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(Invalid, match="neither an RSA nor an elliptic-curve"):
        load(folder)
    self_signed(folder, rsa.generate_private_key(65537, 2048))
    load(folder)


def test_a_leaf_without_names_is_refused(folder: Path) -> None:
    self_signed(folder, rsa.generate_private_key(65537, 2048), names=())
    with pytest.raises(Invalid, match="names no host"):
        load(folder)


class Issuers:
    """Authorities as public ones are: a root, its cross-certificate, one between, a leaf; and one that is foreign."""

    def __init__(self) -> None:
        self.key, self._between, self._root, self._old = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))
        self.leaf = self.leaf_of(common_name("between"))
        self.between = _certified("between", self._between, common_name("root"), self._root)
        self.root = _certified("root", self._root, common_name("root"), self._root)
        self.cross = _certified("root", self._root, common_name("old root"), self._old)
        self.foreign = _certified("foreign", self._old, common_name("foreign"), self._old)
        self.namesake = _certified("between", self._old, common_name("root"), self._root)

    def leaf_of(self, issuer: x509.Name) -> x509.Certificate:
        return _certified("leaf", self.key, issuer, self._between, "registry.example")

    def put(self, folder: Path, *chain: x509.Certificate) -> None:
        pem = serialization.Encoding.PEM
        key = self.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / "leaf.key").write_bytes(key)
        (folder / "leaf.key").chmod(0o600)
        (folder / "leaf.crt").write_bytes(b"".join(each.public_bytes(pem) for each in chain))
        (folder / "root.crt").write_bytes(self.root.public_bytes(pem))

    def chain(self, words: str) -> list[x509.Certificate]:
        if words.startswith("printable"):
            printable = x509.NameAttribute(NameOID.COMMON_NAME, "between", _type=_ASN1Type.PrintableString)
            return [self.leaf_of(x509.Name([printable])), *self.chain(words.removeprefix("printable "))]
        return [getattr(self, word) for word in words.split()]


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certified(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *names: str,
) -> x509.Certificate:
    made = x509.CertificateBuilder(issuer, common_name(subject), key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=60))
    made = made.add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
    if names:
        held = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        made = made.add_extension(held, critical=False)
    return made.sign(issuer_key, hashes.SHA256())


@pytest.fixture(scope="module")
def issuers() -> Issuers:
    return Issuers()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "words",
    [
        "leaf between",
        "leaf between root",
        "leaf leaf between",
        "leaf between between",
        "leaf between cross root",
        "leaf between root cross",
        "leaf root between",
        "leaf between foreign",
        "printable between",
    ],
)
def test_a_chain_that_clients_accept_takes_the_place_of_another(tmp_path: Path, issuers: Issuers, words: str) -> None:
    issuers.put(tmp_path, issuers.leaf, issuers.between)
    live = LivePair(tmp_path / "leaf.crt", tmp_path / "leaf.key")
    # Of another leaf, so that there is something to tell.
    other = Issuers()
    other.put(tmp_path, *other.chain(words))
    accepts = ["openssl", "verify", "-CAfile", "root.crt", "-untrusted", "leaf.crt", "leaf.crt"]
    verified = subprocess.run(accepts, cwd=tmp_path, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stderr
    assert [(each.outcome, each.reason) for each in settled(live)] == [(ReloadOutcome.ACCEPTED, "")]
    assert live.warning is None


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("words", ["leaf foreign", "leaf root", "leaf leaf root", "leaf namesake"])
def test_a_chain_without_the_issuer_is_refused_as_a_replacement_and_warned_of_at_the_start(
    tmp_path: Path, issuers: Issuers, words: str
) -> None:
    says = f"{tmp_path / 'leaf.crt'} is no chain: none of its certificates issued the first"
    issuers.put(tmp_path, issuers.leaf, issuers.between)
    live = LivePair(tmp_path / "leaf.crt", tmp_path / "leaf.key")
    before = live.pair
    issuers.put(tmp_path, *issuers.chain(words))
    (reload,) = settled(live)
    assert reload.outcome is ReloadOutcome.REJECTED
    assert reload.reason.startswith(says)
    assert live.pair == before
    begun = LivePair(tmp_path / "leaf.crt", tmp_path / "leaf.key")
    assert (begun.warning or "").startswith(says)
    # A worker of a gateway that began so begins so, too; and what is no worse takes its place, for it may last longer.
    assert settled(LivePair(tmp_path / "leaf.crt", tmp_path / "leaf.key", fallback=begun.pair)) == []
    issuers.put(tmp_path, issuers.leaf_of(common_name("between")), *issuers.chain(words)[1:])
    (reload,) = settled(begun)
    assert reload.outcome is ReloadOutcome.ACCEPTED
    assert reload.reason.startswith(says)
    issuers.put(tmp_path, issuers.leaf, issuers.between)
    assert [(each.outcome, each.reason) for each in settled(begun)] == [(ReloadOutcome.ACCEPTED, "")]
    assert begun.warning is None


@pytest.mark.usefixtures("quick")
def test_a_leaf_that_issued_itself_needs_no_other(folder: Path) -> None:
    live = LivePair(folder / "leaf.crt", folder / "leaf.key")
    self_signed(folder, rsa.generate_private_key(65537, 2048), ("localhost",))
    with (folder / "leaf.crt").open("ab") as file:
        file.write(trustme.CA().cert_pem.bytes())
    assert [(each.outcome, each.reason) for each in settled(live)] == [(ReloadOutcome.ACCEPTED, "")]


def malformed(kind: str) -> tuple[bytes, bytes]:
    """A key, and a certificate of it that `cryptography` parses and then stumbles over, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateBuilder(common_name("x"), common_name("x"), key.public_key(), 7)
    made = made.not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=60))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    for number in (5, 6):
        strange = x509.UnrecognizedExtension(x509.ObjectIdentifier(f"1.2.3.4.{number}"), b"\x05\x00")
        made = made.add_extension(strange, critical=False)
    der = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    old, new = {
        "extension": (b"\x06\x04\x2a\x03\x04\x06", b"\x06\x04\x2a\x03\x04\x05"),
        "version": (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07"),
    }[kind]
    assert der.count(old) == 1
    form = serialization.PrivateFormat.PKCS8
    text = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return text, ssl.DER_cert_to_PEM_cert(der.replace(old, new)).encode()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("kind", "place"), [("extension", "leaf"), ("version", "leaf"), ("version", "second")])
def test_a_malformed_certificate_is_refused_like_any_other_bad_one(folder: Path, kind: str, place: str) -> None:
    live = LivePair(folder / "leaf.crt", folder / "leaf.key")
    before = live.pair
    if place == "leaf":
        for name, content in zip(("leaf.key", "leaf.crt"), malformed(kind), strict=True):
            (folder / name).write_bytes(content)
    else:
        (folder / "leaf.crt").write_bytes((folder / "leaf.crt").read_bytes() + malformed(kind)[1])
    with pytest.raises(Invalid, match=r"leaf\.crt cannot be judged"):
        load(folder)
    (reload,) = settled(live)
    assert reload.outcome is ReloadOutcome.REJECTED
    assert reload.reason in (live.warning or "")
    assert live.pair == before


def test_a_chain_of_several_issuers_serves(folder: Path, authority: trustme.CA) -> None:
    between = authority.create_child_ca()
    leaf = between.issue_cert("localhost")
    leaf.private_key_pem.write_to_path(folder / "leaf.key")
    (folder / "leaf.crt").write_bytes(
        b"".join(each.bytes() for each in leaf.cert_chain_pems) + authority.cert_pem.bytes()
    )
    load(folder)


def test_an_encrypted_key_is_refused(folder: Path) -> None:
    key = serialization.load_pem_private_key((folder / "leaf.key").read_bytes(), None)
    sealed = serialization.BestAvailableEncryption(b"word")
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "leaf.key").write_bytes(key.private_bytes(pem, form, sealed))
    with pytest.raises(Invalid, match="is encrypted"):
        load(folder)


def test_covers_names_addresses_and_one_label_of_a_wildcard(folder: Path, authority: trustme.CA) -> None:
    issue(authority, folder, "a.example", "*.b.example", "10.0.0.7", "::1")
    pair = load_pair(folder / "leaf.crt", folder / "leaf.key")
    for host in ("a.example", "A.EXAMPLE", "x.b.example", "10.0.0.7", "::1", "[::1]", "0:0:0:0:0:0:0:1"):
        assert covers(pair, host), host
    for host in ("b.example", "x.y.b.example", "x.a.example", "10.0.0.8", "example", "", ".b.example"):
        assert not covers(pair, host), host


# the handshake


def shake(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=5)
    try:
        return context.wrap_socket(plain, server_hostname="localhost")
    except BaseException:
        plain.close()
        raise


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_tls_1_1_is_refused(tls_folder: Path) -> None:
    context = trusting(tls_folder)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with serving(tls_folder) as running, pytest.raises(OSError, match=r"."):
        shake(running.port, context)


@pytest.mark.parametrize(
    ("ciphers", "served"),
    [
        ("ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA", False),
        ("AES128-GCM-SHA256", False),
        ("ECDHE-ECDSA-AES128-GCM-SHA256", True),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", True),
    ],
)
def test_tls_1_2_takes_forward_secret_aead_suites_only(tls_folder: Path, ciphers: str, served: bool) -> None:
    context = trusting(tls_folder)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    with serving(tls_folder) as running:
        if served:
            with shake(running.port, context) as connection:
                assert connection.version() == "TLSv1.2"
        else:
            with pytest.raises(OSError, match=r"."):
                shake(running.port, context)


def test_tls_1_3_is_spoken_and_sessions_resume(tls_folder: Path) -> None:
    context = trusting(tls_folder)
    with serving(tls_folder) as running:
        with dial(running, context=context) as first:
            assert first.version() == "TLSv1.3"
            first.sendall(request("/"))
            read_reply(first)
            session = first.session
        plain = socket.create_connection(("127.0.0.1", running.port), timeout=5)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as second:
            assert second.session_reused


def test_a_handshake_that_never_ends_is_cut(tls_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.protocol.listener.HANDSHAKE_SECONDS", 0.4)
    with (
        serving(tls_folder) as running,
        socket.create_connection(("127.0.0.1", running.port), timeout=5) as silent,
        socket.create_connection(("127.0.0.1", running.port), timeout=5) as cut,
    ):
        cut.sendall(b"\x16\x03\x01\x02\x00\x01")
        for connection in (silent, cut):
            try:
                assert connection.recv(100) == b""
            except ConnectionResetError:
                continue


# replacing


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LivePair, "CHECK_SECONDS", 0.0)


def served_by(running_port: int) -> str:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with shake(running_port, context) as connection:
        der = connection.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256()).hex(":").upper()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("key_type", list(trustme.KeyType))
def test_a_new_pair_serves_new_connections_and_drops_none(
    folder: Path, authority: trustme.CA, key_type: trustme.KeyType
) -> None:
    with serving(folder) as running, dial(running) as old:
        old.sendall(request("/"))
        read_reply(old)
        before = served_by(running.port)
        issue(authority, folder, key_type=key_type)
        wait_until(lambda: running.reloads)
        (reload,) = running.reloads
        assert reload.outcome is ReloadOutcome.ACCEPTED
        assert served_by(running.port) == reload.pair.fingerprint != before
        old.sendall(request("/"))
        assert read_reply(old).body == b"ok"
        with dial(running, context=trusting(folder)) as new:
            new.sendall(request("/"))
            assert read_reply(new).body == b"ok"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", ["garbage", "mismatch", "expired", "empty", "missing", "open"])
def test_a_bad_pair_is_refused_once_and_the_old_one_serves(folder: Path, authority: trustme.CA, fault: str) -> None:
    live = LivePair(folder / "leaf.crt", folder / "leaf.key")
    before = live.pair
    match fault:
        case "garbage":
            (folder / "leaf.crt").write_bytes(b"-----BEGIN CERTIFICATE-----\ngarbage\n")
        case "mismatch":
            certificate = (folder / "leaf.crt").read_bytes()
            issue(authority, folder)
            (folder / "leaf.crt").write_bytes(certificate)
        case "expired":
            issue(authority, folder, ends=NOW - timedelta(hours=1))
        case "empty":
            (folder / "leaf.key").write_bytes(b"")
        case "missing":
            (folder / "leaf.key").unlink()
        case "open":
            (folder / "leaf.key").chmod(0o644)
    told = [live.refresh() for _ in range(4)]
    (reload,) = [each for each in told if each is not None]
    assert reload.outcome is ReloadOutcome.REJECTED
    assert str(folder) in reload.reason
    assert live.pair == before
    assert live.warning is not None
    assert reload.reason in live.warning
    (folder / "leaf.key").unlink(missing_ok=True)
    issue(authority, folder)
    accepted = live.refresh()
    assert accepted is not None
    assert accepted.outcome is ReloadOutcome.ACCEPTED
    assert live.warning is None


def settled(live: LivePair) -> list[Reload]:
    return [told for told in (live.refresh() for _ in range(4)) if told is not None]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("hosts", [("registry.example", "other.example"), ()])
def test_a_pair_of_another_server_is_refused_and_the_old_one_serves(
    tmp_path: Path, authority: trustme.CA, hosts: tuple[str, ...]
) -> None:
    issue(authority, tmp_path, "registry.example", "10.0.0.7")
    live = LivePair(tmp_path / "leaf.crt", tmp_path / "leaf.key", hosts=hosts)
    before = live.pair
    issue(authority, tmp_path, "mail.example")
    (reload,) = settled(live)
    assert reload.outcome is ReloadOutcome.REJECTED
    assert "names none of registry.example" in reload.reason
    assert live.pair == before
    assert reload.reason in (live.warning or "")
    # A worker that begins meanwhile has the old one from its parent.
    late = LivePair(tmp_path / "leaf.crt", tmp_path / "leaf.key", hosts=hosts, fallback=before)
    assert late.pair == before
    assert [each.outcome for each in settled(late)] == [ReloadOutcome.REJECTED]
    issue(authority, tmp_path, "*.example", "10.0.0.7")
    assert [each.outcome for each in settled(live)] == [ReloadOutcome.ACCEPTED]
    assert live.warning is None


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("before", "after", "lacking"),
    [
        (("old.example",), ("new.example",), "old.example"),
        (("localhost",), ("new.example",), "old.example"),
        (("localhost", "old.example"), ("localhost", "new.example"), "old.example"),
        (("mail.example",), ("old.example",), "new.example"),
        (("localhost", "old.example"), ("localhost",), "old.example, new.example"),
    ],
)
def test_a_pair_that_covers_a_configured_name_takes_the_place_of_one_with_others(
    tmp_path: Path, authority: trustme.CA, before: tuple[str, ...], after: tuple[str, ...], lacking: str
) -> None:
    issue(authority, tmp_path, *before)
    hosts = ("old.example", "new.example", *LOCAL_NAMES)
    live = LivePair(tmp_path / "leaf.crt", tmp_path / "leaf.key", hosts=hosts)
    issue(authority, tmp_path, *after)
    (reload,) = settled(live)
    assert reload.outcome is ReloadOutcome.ACCEPTED
    assert reload.reason == live.warning == f"The certificate does not name {lacking}."


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("registry.example",), ("mail.example", "localhost")),
        (("localhost",), ("mail.example",)),
    ],
)
def test_a_local_name_alone_makes_no_pair_this_gateways(
    tmp_path: Path, authority: trustme.CA, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    issue(authority, tmp_path, *before)
    hosts = ("registry.example", *LOCAL_NAMES)
    live = LivePair(tmp_path / "leaf.crt", tmp_path / "leaf.key", hosts=hosts)
    issue(authority, tmp_path, *after)
    assert [each.outcome for each in settled(live)] == [ReloadOutcome.REJECTED]


@pytest.mark.usefixtures("quick")
def test_local_names_are_missed_only_where_there_are_no_others(tmp_path: Path, authority: trustme.CA) -> None:
    issue(authority, tmp_path, "registry.example")
    live = LivePair(tmp_path / "leaf.crt", tmp_path / "leaf.key", hosts=("registry.example", *LOCAL_NAMES))
    assert live.warning is None
    issue(authority, tmp_path, "*.example")
    assert [(each.outcome, each.reason) for each in settled(live)] == [(ReloadOutcome.ACCEPTED, "")]
    assert live.warning is None
    issue(authority, tmp_path, "localhost")
    local = LivePair(tmp_path / "leaf.crt", tmp_path / "leaf.key", hosts=("localhost", "127.0.0.1"))
    assert local.warning == "The certificate does not name 127.0.0.1."


@pytest.mark.usefixtures("quick")
def test_a_pair_that_lacks_some_names_serves_with_a_warning(tmp_path: Path, authority: trustme.CA) -> None:
    issue(authority, tmp_path, "a.example", "b.example")
    live = LivePair(tmp_path / "leaf.crt", tmp_path / "leaf.key", hosts=("a.example", "b.example"))
    assert live.warning is None
    issue(authority, tmp_path, "b.example")
    (reload,) = settled(live)
    assert reload.outcome is ReloadOutcome.ACCEPTED
    assert reload.reason == live.warning == "The certificate does not name a.example."


@pytest.mark.usefixtures("quick")
def test_a_pair_that_was_wrong_from_the_start_can_be_mended(tmp_path: Path, authority: trustme.CA) -> None:
    issue(authority, tmp_path, "mail.example")
    live = LivePair(tmp_path / "leaf.crt", tmp_path / "leaf.key", hosts=("a.example",))
    assert live.warning == "The certificate does not name a.example."
    issue(authority, tmp_path, "a.example")
    assert [each.outcome for each in settled(live)] == [ReloadOutcome.ACCEPTED]
    assert live.warning is None


@pytest.mark.usefixtures("quick")
def test_the_remedy_in_the_message_is_enough(folder: Path) -> None:
    live = LivePair(folder / "leaf.crt", folder / "leaf.key")
    (folder / "leaf.key").chmod(0o644)
    assert any(live.refresh() for _ in range(2))
    (folder / "leaf.key").chmod(0o600)
    reload = live.refresh()
    assert reload is not None
    assert reload.outcome is ReloadOutcome.ACCEPTED


@pytest.mark.usefixtures("quick")
def test_the_same_pair_written_again_is_nothing_to_tell(folder: Path) -> None:
    live = LivePair(folder / "leaf.crt", folder / "leaf.key")
    os.utime(folder / "leaf.crt")
    assert [live.refresh() for _ in range(3)] == [None] * 3


@pytest.mark.usefixtures("quick")
def test_a_pair_that_was_refused_is_judged_again_where_it_lies(
    folder: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = [NOW]
    live = LivePair(folder / "leaf.crt", folder / "leaf.key", now=lambda: moment[0])
    issue(authority, folder, begins=NOW + timedelta(minutes=3))
    (refused,) = [each for each in (live.refresh() for _ in range(4)) if each is not None]
    assert refused.outcome is ReloadOutcome.REJECTED
    moment[0] += timedelta(hours=2)
    monotonic, later = time.monotonic, [50.0]
    monkeypatch.setattr("time.monotonic", lambda: monotonic() + later[0])
    assert live.refresh() is None
    later[0] = 60.0
    accepted = live.refresh()
    assert accepted is not None
    assert accepted.outcome is ReloadOutcome.ACCEPTED
    assert live.pair == accepted.pair != refused.pair
    assert live.warning is None


@pytest.mark.usefixtures("quick")
def test_a_pair_that_is_refused_each_minute_is_told_of_once_for_each_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LivePair, "AGAIN_SECONDS", 0.0)
    live = LivePair(folder / "leaf.crt", folder / "leaf.key")
    (folder / "leaf.crt").write_bytes(b"garbage")

    def none_left(*_: object) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", none_left)
        told = [live.refresh() for _ in range(5)]
    told += [live.refresh() for _ in range(5)]
    reasons = [each.reason for each in told if each is not None]
    assert ["Too many open files" in reason for reason in reasons] == [True, False]


@pytest.mark.usefixtures("quick")
def test_a_process_without_free_files_refuses_a_pair_and_serves_on(
    folder: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> int:
        raise OSError(24, "Too many open files")

    with serving(folder) as running:
        before = served_by(running.port)
        with monkeypatch.context() as patched:
            patched.setattr(os, "memfd_create", none_left)
            issue(authority, folder)
            wait_until(lambda: running.reloads)
        assert running.reloads[0].outcome is ReloadOutcome.REJECTED
        assert served_by(running.port) == before


@pytest.mark.usefixtures("quick")
def test_a_pair_that_was_live_elsewhere_serves_while_the_one_on_disk_is_bad(
    folder: Path, authority: trustme.CA
) -> None:
    good = LivePair(folder / "leaf.crt", folder / "leaf.key").pair
    (folder / "leaf.crt").write_bytes(b"garbage")
    with pytest.raises(Invalid):
        LivePair(folder / "leaf.crt", folder / "leaf.key")
    live = LivePair(folder / "leaf.crt", folder / "leaf.key", fallback=good)
    assert live.pair == good
    (refused,) = [each for each in (live.refresh() for _ in range(4)) if each is not None]
    assert refused.outcome is ReloadOutcome.REJECTED
    issue(authority, folder)
    accepted = live.refresh()
    assert accepted is not None
    assert accepted.outcome is ReloadOutcome.ACCEPTED


@pytest.mark.usefixtures("quick")
def test_a_bad_pair_does_not_disturb_the_server(folder: Path) -> None:
    with serving(folder) as running:
        before = served_by(running.port)
        (folder / "leaf.crt").write_bytes(b"garbage")
        wait_until(lambda: running.reloads)
        assert running.reloads[0].outcome is ReloadOutcome.REJECTED
        assert served_by(running.port) == before


def test_a_look_that_fails_does_not_end_the_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(live: LivePair) -> None:
        raise ZeroDivisionError

    with serving(folder) as running:
        monkeypatch.setattr(LivePair, "refresh", broken)
        wait_until(lambda: "a look at the certificate failed" in caplog.text)
        with dial(running) as connection:
            connection.sendall(request("/"))
            assert read_reply(connection).body == b"ok"


@pytest.mark.usefixtures("quick")
def test_replacing_one_file_after_the_other_is_no_mismatch(folder: Path, authority: trustme.CA) -> None:
    live = LivePair(folder / "leaf.crt", folder / "leaf.key")
    key = (folder / "leaf.key").read_bytes()
    issue(authority, folder)
    new_key = (folder / "leaf.key").read_bytes()
    (folder / "leaf.key").write_bytes(key)
    assert live.refresh() is None
    (folder / "leaf.key").write_bytes(new_key)
    reload = live.refresh()
    assert reload is not None
    assert reload.outcome is ReloadOutcome.ACCEPTED


def test_the_files_are_looked_at_once_a_second(folder: Path) -> None:
    live = LivePair(folder / "leaf.crt", folder / "leaf.key")
    (folder / "leaf.crt").write_bytes(b"garbage")
    assert [live.refresh() for _ in range(5)] == [None] * 5


def test_a_certificate_near_its_end_is_warned_about(folder: Path) -> None:
    moment = [NOW]
    live = LivePair(folder / "leaf.crt", folder / "leaf.key", now=lambda: moment[0])
    assert live.warning is None
    moment[0] = NOW + timedelta(days=80)
    assert live.warning is not None
    assert "expires in" in live.warning
    moment[0] = NOW + timedelta(days=91)
    assert live.warning is not None
    assert "expired on" in live.warning


def test_another_user_can_load_a_pair_after_hardening(folder: Path) -> None:
    # Without dumpability /proc/self belongs to root; the pair must load all the same.
    script = (
        "import os, sys; from pathlib import Path; from gateway.server import harden;"
        "from gateway.certificates import LivePair; folder = Path(sys.argv[1]);"
        "os.getuid() or (os.setgid(65534), os.setuid(65534));"
        "harden(); LivePair(folder / 'leaf.crt', folder / 'leaf.key'); print('loaded')"
    )
    place = Path("/tmp") / f"edge-{os.getpid()}-{folder.parent.name}"
    shutil.copytree(folder, place)
    try:
        if os.getuid() == 0:
            for path in (place, *place.iterdir()):
                os.chown(path, 65534, 65534)
        found = subprocess.run([sys.executable, "-c", script, place], capture_output=True, text=True)
        assert found.stdout == "loaded\n", found.stderr
    finally:
        shutil.rmtree(place)


# the script for private authorities

SCRIPT = Path(__file__).parents[2] / "certs" / "make-ca.sh"


def make(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, folder, *names], capture_output=True, text=True)


def test_the_script_makes_a_pair_that_serves_and_renews_it_under_the_same_authority(tmp_path: Path) -> None:
    names = ("registry.company.com", "*.company.com", "10.0.0.7", "::1")
    made = make(tmp_path, *names)
    assert made.returncode == 0, made.stderr
    pair = load_pair(tmp_path / "gateway.crt", tmp_path / "gateway.key")
    assert set(pair.names) == set(names)
    assert 88 <= pair.days_left(NOW) <= 90
    assert fingerprint((tmp_path / "authority.crt").read_bytes()) in made.stdout
    authority = (tmp_path / "authority.crt").read_bytes()
    assert make(tmp_path, "registry.company.com").returncode == 0
    renewed = load_pair(tmp_path / "gateway.crt", tmp_path / "gateway.key")
    assert renewed.fingerprint != pair.fingerprint
    assert (tmp_path / "authority.crt").read_bytes() == authority
    verified = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", tmp_path / "authority.crt", tmp_path / "gateway.crt"],
        capture_output=True,
        text=True,
    )
    assert verified.returncode == 0, verified.stderr
    assert stat.S_IMODE((tmp_path / "authority.key").stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {
        "authority.crt",
        "authority.key",
        "gateway.crt",
        "gateway.key",
    }


def test_the_script_says_how_it_is_used(tmp_path: Path) -> None:
    assert make(tmp_path).returncode == 2
    assert make(tmp_path, "a b").returncode == 2
    assert make(tmp_path, "a,DNS:b").returncode == 2
    assert not (tmp_path / "authority.key").exists()
