"""TLS made weaker, begun and not ended, negotiated again: the gateway speaks as it speaks, or not at all."""

from __future__ import annotations

import base64
import contextlib
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from tests.attacks.site import Site, head, read_answer

OPENSSL = shutil.which("openssl") or "openssl"
#: Every suite of TLS 1.2 without forward secrecy, without authentication, or with a cipher that is no AEAD.
WEAK = (
    "AES128-SHA",
    "AES256-SHA",
    "AES128-SHA256",
    "AES256-SHA256",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA384",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-ECDSA-AES256-SHA384",
    "DHE-RSA-AES128-GCM-SHA256",
    "DHE-RSA-AES256-SHA",
    "AECDH-AES128-SHA",
    "ADH-AES128-GCM-SHA256",
    "ECDHE-ECDSA-NULL-SHA",
    "NULL-SHA256",
    "PSK-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES128-CCM8",
)


def client(site: Site, *options: str, said: bytes = b"", seconds: float = 20) -> subprocess.CompletedProcess[bytes]:
    """What `openssl s_client` says of a connection on which it says *said*."""
    command = [OPENSSL, "s_client", "-connect", f"127.0.0.1:{site.port}", "-servername", "localhost", *options]
    return subprocess.run(command, input=said, capture_output=True, timeout=seconds)


def negotiated(ended: subprocess.CompletedProcess[bytes]) -> bool:
    return ended.returncode == 0 and b"Cipher is (NONE)" not in ended.stdout


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_older_versions_are_not_spoken(site: Site, version: str) -> None:
    ended = client(site, version, "-cipher", "ALL:@SECLEVEL=0")
    assert b"alert protocol version" in ended.stderr
    assert not negotiated(ended)


@pytest.mark.parametrize("suite", WEAK)
def test_weak_suites_are_not_spoken(site: Site, suite: str) -> None:
    ended = client(site, "-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0")
    assert not negotiated(ended), suite


def test_strong_suites_are(site: Site) -> None:
    assert negotiated(client(site, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"))
    assert negotiated(client(site, "-tls1_3"))


def test_a_fall_back_is_recognised(site: Site) -> None:
    """A client that comes back with less than it can is told so: somebody in between made it (RFC 7507)."""
    ended = client(site, "-tls1_2", "-fallback_scsv")
    assert b"inappropriate fallback" in ended.stderr
    assert not negotiated(ended)


def test_nothing_is_negotiated_again(site: Site) -> None:
    # `R` asks for a renegotiation; what follows it must not be answered on renegotiated keys.
    ended = client(site, "-tls1_2", "-state", "-msg", said=b"R\nGET /v2/ HTTP/1.1\r\n")
    text = ended.stdout + ended.stderr
    assert b"RENEGOTIATING" in text
    assert b"no_renegotiation" in text or b"no renegotiation" in text or b"handshake failure" in text
    assert b"HTTP/1.1 200" not in text


def test_no_compression_and_no_other_protocol(site: Site) -> None:
    told = client(site, "-tls1_2", "-comp", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256").stdout
    assert b"Compression: NONE" in told
    assert b"ALPN protocol: h2" not in client(site, "-alpn", "h2,spdy/3.1").stdout
    assert b"ALPN protocol: http/1.1" in client(site, "-alpn", "h2,http/1.1").stdout


def test_early_words_are_not_taken(site: Site, tmp_path: Path) -> None:
    """A ticket invites to none (RFC 8446, 4.2.10), and those of a client that needs no invitation are not heard."""
    ticket, forged, early = tmp_path / "ticket", tmp_path / "forged", tmp_path / "early"
    early.write_bytes(head("GET", "/ca.crt", [], "localhost", close=False))
    said = head("GET", "/health/live", [], "localhost")
    told = client(site, "-tls1_3", "-ign_eof", "-sess_out", str(ticket), said=said).stdout
    assert b"Max Early Data: 0" in told
    forged.write_bytes(inviting(ticket.read_bytes()))
    for session, fate in ((ticket, b"not sent"), (forged, b"rejected")):
        options = ("-tls1_3", "-ign_eof", "-sess_in", str(session), "-early_data", str(early))
        # Each worker knows its own tickets: until one is known again.
        for _ in range(30):
            told = client(site, *options, said=said).stdout
            assert b"Early data was " + fate in told
            assert told.count(b"HTTP/1.1 200") == 1
            if b"Reused, TLSv1.3" in told:
                break
        assert b"Reused, TLSv1.3" in told


def inviting(ticket: bytes) -> bytes:
    """The session in *ticket* (OpenSSL's PEM) as if its server had offered to take 16 KiB of early data."""
    first, *lines, last = ticket.strip().split(b"\n")
    fields, _ = _value(base64.b64decode(b"".join(lines)), 0)
    offer, kept = b"\xaf\x04\x02\x02\x40\x00", b""
    at = 0
    while at < len(fields):
        _, end = _value(fields, at)
        if offer and fields[at] >= offer[0]:
            kept, offer = kept + offer, b""
        kept += fields[at:end] if fields[at] != 0xAF else b""
        at = end
    kept += offer
    whole = b"\x30\x82" + len(kept).to_bytes(2, "big") + kept
    return b"\n".join((first, base64.encodebytes(whole).strip(), last, b""))


def _value(der: bytes, at: int) -> tuple[bytes, int]:
    """What the DER element at *at* holds, and where the next begins."""
    size, at = der[at + 1], at + 2
    if size >= 0x80:
        octets = size & 0x7F
        size, at = int.from_bytes(der[at : at + octets], "big"), at + octets
    return der[at : at + size], at + size


def test_a_stranger_s_name_gets_the_same_certificate_and_no_service(site: Site) -> None:
    loose = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    loose.check_hostname, loose.verify_mode = False, ssl.CERT_NONE
    for name in ("evil.example", "a" * 63 + ".example", None):
        raw = socket.create_connection(("127.0.0.1", site.port), timeout=10)
        with loose.wrap_socket(raw, server_hostname=name) as wire:
            wire.sendall(head("GET", "/v2/", [], "evil.example"))
            assert read_answer(wire).status == 421


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"\x16",
        b"\x16\x03\x01\x02\x00",
        b"\x16\x03\x01\xff\xff" + b"\x01" * 200,
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x80\x2e\x01\x03\x01",
        b"\x15\x03\x01\x00\x02\x01\x00",
        b"\x17\x03\x03\x40\x00" + b"x" * 500,
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 443\r\n",
        b"\r\n\r\n\r\n",
        b"\0" * 4096,
    ],
    ids=lambda start: repr(start[:8]),
)
def test_what_is_no_handshake_disturbs_nobody(site: Site, start: bytes) -> None:
    """Forty beginnings without an end, from one address; others are served while those hang."""
    address, hanging = site.address(), []
    try:
        for _ in range(40):
            hung = socket.create_connection(("127.0.0.1", site.port), timeout=5, source_address=(address, 0))
            with contextlib.suppress(OSError):
                hung.sendall(start)
            hanging.append(hung)
        begun = time.monotonic()
        token = site.widest("alice", "alpha/app")
        assert site.ask("GET", "/v2/alpha/app/manifests/v1", token=token).status == 200
        assert time.monotonic() - begun < 5
    finally:
        for hung in hanging:
            hung.close()
    assert site.process.poll() is None
