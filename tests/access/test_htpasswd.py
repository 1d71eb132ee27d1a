from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.htpasswd import read
from gateway.errors import Invalid

SALTED = "." * 53


@pytest.mark.parametrize(
    ("hashed", "scheme"),
    [
        ("$apr1$salt$hash", "Apache's MD5"),
        ("{SHA}hash", "SHA-1"),
        ("$6$salt$hash", "SHA-512"),
        ("$5$salt$hash", "SHA-256"),
        ("cRyPt3dhAsh..", "an unknown scheme"),
        (f"$2y$31${SALTED}", "bcrypt of cost 31"),
        (f"$2y$03${SALTED}", "bcrypt of cost 3"),
        (f"$2y$05${SALTED}.", "bcrypt"),
        (f"$2x$05${SALTED}", "bcrypt"),
    ],
)
def test_a_hash_that_cannot_be_kept_is_named_and_dropped(hashed: str, scheme: str) -> None:
    (entry,) = read(f"alice:{hashed}\n".encode())
    assert (entry.name, entry.hashed, entry.scheme) == ("alice", "", scheme)


@pytest.mark.parametrize("letter", "aby")
@pytest.mark.parametrize("cost", ["04", "05", "10", "12", "15"])
def test_bcrypt_is_kept_whatever_its_letter_and_cost(letter: str, cost: str) -> None:
    hashed = f"$2{letter}${cost}${SALTED}"
    assert [entry.hashed for entry in read(f"# users\r\n\r\nalice:{hashed}\r\n".encode())] == [hashed]


def test_no_hash_is_shown() -> None:
    assert SALTED not in repr(read(f"alice:$2y$05${SALTED}".encode()))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        found = read(content)
    except Invalid:
        return
    assert all(entry.name and ":" not in entry.name for entry in found)
