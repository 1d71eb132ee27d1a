"""TLS made weaker, begun and not ended, negotiated again: the gateway speaks as it speaks, or not at all."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import time

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
    assert not negotiated(client(site, version, "-cipher", "ALL:@SECLEVEL=0"))


@pytest.mark.parametrize("suite", WEAK)
def test_weak_suites_are_not_spoken(site: Site, suite: str) -> None:
    ended = client(site, "-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0")
    assert not negotiated(ended), suite


def test_strong_suites_are(site: Site) -> None:
    assert negotiated(client(site, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"))
    assert negotiated(client(site, "-tls1_3"))


def test_a_fall_back_is_recognised(site: Site) -> None:
    """A client that comes back with less than it can gets nothing: somebody in between made it (RFC 7507)."""
    assert not negotiated(client(site, "-tls1_2", "-fallback_scsv"))


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
