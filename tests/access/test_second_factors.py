"""Second factors: the codes of RFC 6238, keys that only this data directory opens, and tickets that end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.second_factors import (
    RECOVERY_CODES,
    code_at,
    key_text,
    key_uri,
    matching_step,
    new_key,
    new_recovery_codes,
    open_key,
    plain,
    read_ticket,
    recovery_hash,
    seal_key,
    sign_ticket,
)
from gateway.errors import Invalid

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
STEP = int(NOW.timestamp()) // 30
RFC_KEY = b"12345678901234567890"
SECRET, OTHER = b"s" * 32, b"o" * 32


@pytest.mark.parametrize(
    ("seconds", "code"),
    # RFC 6238, appendix B, SHA-1: the last six of its eight digits.
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_the_codes_are_those_of_the_standard(seconds: int, code: str) -> None:
    assert code_at(RFC_KEY, seconds // 30) == code
    assert matching_step(RFC_KEY, code, datetime.fromtimestamp(seconds, UTC)) == seconds // 30


@pytest.mark.parametrize(("drift", "taken"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_phone_may_be_half_a_minute_off(drift: int, taken: bool) -> None:
    step = matching_step(RFC_KEY, code_at(RFC_KEY, STEP + drift), NOW)
    assert step == (STEP + drift if taken else None)


def test_a_code_may_be_typed_with_a_space() -> None:
    code = code_at(RFC_KEY, STEP)
    assert matching_step(RFC_KEY, f" {code[:3]} {code[3:]}\n", NOW) == STEP


@given(st.text())
def test_no_text_upsets_the_check(text: str) -> None:
    assert matching_step(RFC_KEY, text, NOW) in {None, STEP - 1, STEP, STEP + 1}
    recovery_hash(text, 1, SECRET)
    assert read_ticket(text, NOW, SECRET) is None


def test_a_key_is_told_for_people_and_for_phones() -> None:
    assert key_text(RFC_KEY) == "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ"
    uri = key_uri(RFC_KEY, "alice", "registry.test")
    assert uri.startswith("otpauth://totp/registry.test:alice?")
    assert "secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" in uri
    assert "issuer=registry.test" in uri


def test_a_key_opens_under_its_secret_for_its_account_alone() -> None:
    key = new_key()
    sealed = seal_key(key, 7, SECRET)
    assert open_key(sealed, 7, SECRET) == key
    assert key not in sealed
    assert seal_key(key, 7, SECRET) != sealed
    altered = bytes([*sealed[:-1], sealed[-1] ^ 1])
    for wrong in ((sealed, 8, SECRET), (sealed, 7, OTHER), (altered, 7, SECRET), (b"", 7, SECRET)):
        with pytest.raises(Invalid, match="restore keys/secret"):
            open_key(*wrong)


def test_recovery_codes_are_many_and_kept_as_hashes_of_their_account() -> None:
    codes = new_recovery_codes()
    assert len(set(codes)) == RECOVERY_CODES
    assert all(len(plain(code)) == 16 for code in codes)
    hashed = recovery_hash(codes[0], 7, SECRET)
    assert recovery_hash(codes[0].upper().replace("-", " "), 7, SECRET) == hashed
    assert len({hashed, recovery_hash(codes[0], 8, SECRET), recovery_hash(codes[0], 7, OTHER)}) == 3
    assert recovery_hash("123456", 7, SECRET) == ""


def test_a_ticket_says_whose_password_was_right_for_five_minutes() -> None:
    ticket = sign_ticket(7, 3, NOW, SECRET)
    assert read_ticket(ticket, NOW, SECRET) == (7, 3)
    assert read_ticket(ticket, NOW + timedelta(minutes=4, seconds=59), SECRET) == (7, 3)
    assert read_ticket(ticket, NOW + timedelta(minutes=5), SECRET) is None
    assert read_ticket(ticket, NOW, OTHER) is None


@given(st.integers(0, 200), st.characters())
def test_no_change_of_a_ticket_is_believed(place: int, letter: str) -> None:
    ticket = sign_ticket(7, 3, NOW, SECRET)
    place %= len(ticket)
    changed = ticket[:place] + letter + ticket[place + 1 :]
    assert read_ticket(changed, NOW, SECRET) == ((7, 3) if changed == ticket else None)
