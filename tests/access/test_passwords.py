"""Passwords: legal or refused, never cut; checked in a pool that has a bound."""

from __future__ import annotations

import asyncio
import threading
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access import passwords
from gateway.access.passwords import (
    HashingPool,
    Verified,
    check_password,
    dummy_hash,
    generate_password,
    hash_password,
    rehash_needed,
    verify,
)
from gateway.errors import Invalid, TooManyRequests

COST = 4


@pytest.fixture
def pool() -> Iterator[HashingPool]:
    pool = HashingPool(COST, workers=1, queue=2)
    yield pool
    pool.close()


def test_the_password_is_right_and_every_other_wrong() -> None:
    hashed = hash_password("correct horse", COST)

    assert verify("correct horse", hashed)
    assert not any(verify(text, hashed) for text in ("", "correct hors", "correct horse ", "Correct horse"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("7 chars", "8 characters"),
        ("x" * 73, "72 bytes"),
        ("ä" * 37, "72 bytes"),
        ("eight\0eight", "control"),
    ],
)
def test_what_cannot_be_a_password_is_refused_and_told_why(text: str, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        hash_password(text, COST)


@pytest.mark.parametrize("text", ["x" * 8, "x" * 72, "ä" * 36, "passwörter sind schön", "🔑🔑🔑🔑🔑🔑🔑🔑"])
def test_passwords_up_to_72_bytes_work(text: str) -> None:
    assert verify(text, hash_password(text, COST))


def test_a_longer_password_is_wrong_even_where_bcrypt_would_cut_it() -> None:
    hashed = hash_password("x" * 72, COST)

    assert not verify("x" * 73, hashed)
    assert not verify("x" * 100_000, hashed)


@pytest.mark.parametrize("form", ["$2b$", "$2y$"])
def test_a_wrong_password_takes_one_work_whoever_made_the_hash(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    pool = HashingPool(8, workers=1)
    imported = [form + hash_password("correct horse", cost)[4:] for cost in (4, 6, 7, 8)]
    done: list[int] = []
    check = bcrypt.checkpw

    def counted(text: bytes, hashed: bytes) -> bool:
        done.append(int(hashed[4:6]))
        return check(text, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", counted)

    async def work(text: str, hashed: str | None, right: bool) -> int:
        done.clear()
        assert await pool.verify(text, hashed) is right
        return sum(1 << cost for cost in done)

    for hashed in (None, *imported):
        assert asyncio.run(work("a wrong one", hashed, False)) == 1 << 8
    for hashed in imported:
        # A disabled account's right one is answered as a wrong one.
        assert asyncio.run(work("correct horse", hashed, True)) == 1 << 8
    pool.close()


def test_strangers_leave_room_for_those_who_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = HashingPool(COST, workers=1, queue=4)
    held = threading.Event()
    monkeypatch.setattr(passwords, "verify", lambda text, hashed: held.wait(10))

    async def crowd() -> tuple[int, int]:
        def ask(number: int, *, known: bool) -> list[asyncio.Task[bool]]:
            return [asyncio.create_task(pool.verify("a wrong one", None, known=known)) for _ in range(number)]

        held.clear()
        strangers, late = ask(10, known=False), ask(10, known=True)
        await asyncio.sleep(0)
        held.set()
        ends = [await asyncio.gather(*tasks, return_exceptions=True) for tasks in (strangers, late)]
        refused = [sum(isinstance(end, TooManyRequests) for end in found) for found in ends]
        return refused[0], refused[1]

    assert asyncio.run(crowd()) == (6, 9)
    assert asyncio.run(crowd()) == (6, 9)
    pool.close()


def test_who_is_known_is_hashed_before_the_strangers_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = HashingPool(COST, workers=1, queue=8)
    held, order = threading.Event(), []

    def noted(text: str, hashed: str) -> bool:
        held.wait(10)
        order.append(text)
        return False

    monkeypatch.setattr(passwords, "verify", noted)

    async def crowd() -> None:
        asked = [asyncio.create_task(pool.verify(f"stranger {number}", None)) for number in range(4)]
        await asyncio.sleep(0.05)
        asked += [asyncio.create_task(pool.verify(f"known {number}", None, known=True)) for number in range(2)]
        await asyncio.sleep(0)
        asked[3].cancel()
        await asyncio.sleep(0)
        held.set()
        await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(crowd())
    pool.close()
    waited = [text for text in order if text != "stranger 0"]
    assert waited == ["known 0", "known 1", "stranger 1", "stranger 2"]


def test_a_pool_that_closes_forgets_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = HashingPool(COST, workers=1, queue=4)
    held = threading.Event()
    monkeypatch.setattr(passwords, "verify", lambda text, hashed: held.wait(10))

    async def closing() -> list[object]:
        asked = [asyncio.create_task(pool.verify("x", None, known=True)) for _ in range(3)]
        await asyncio.sleep(0.05)
        threading.Timer(0.05, held.set).start()
        pool.close()
        return list(await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 10))

    ends = asyncio.run(closing())
    assert [isinstance(end, asyncio.CancelledError) for end in ends][-1]


def test_one_spelling_of_a_character_is_as_good_as_the_other() -> None:
    hashed = hash_password(unicodedata.normalize("NFD", "schönes passwort"), COST)

    assert verify(unicodedata.normalize("NFC", "schönes passwort"), hashed)


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec=None)))
def test_no_text_at_all_breaks_the_check_nor_has_the_dummy(text: str) -> None:
    assert not verify(text, dummy_hash(COST))
    assert not verify(text, "not a hash")


@given(st.text(min_size=1))
def test_whatever_may_be_chosen_is_printable_and_fits(text: str) -> None:
    try:
        check_password(text)
    except Invalid:
        return
    assert text.isprintable()
    assert 8 <= len(unicodedata.normalize("NFC", text).encode()) <= 72


def test_generated_passwords_are_legal_and_never_the_same() -> None:
    made = {generate_password() for _ in range(100)}

    assert len(made) == 100
    for text in made:
        check_password(text)


def test_hashes_are_of_cost_twelve_unless_a_test_says_otherwise() -> None:
    assert passwords.COST == 12
    assert dummy_hash().startswith("$2b$12$")


def test_a_hash_of_another_cost_or_form_is_to_be_renewed() -> None:
    assert rehash_needed(hash_password("correct horse", COST), 5)
    assert not rehash_needed(hash_password("correct horse", COST), COST)
    assert rehash_needed("$2y$12$" + "a" * 53)


def test_nobody_has_the_hash_that_is_missing(pool: HashingPool) -> None:
    assert not asyncio.run(pool.verify("-", None))
    pool._dummy = hash_password("correct horse", COST)
    assert not asyncio.run(pool.verify("correct horse", None))


def test_what_is_hashed_in_place_of_no_password_is_no_password() -> None:
    hashed = bcrypt.hashpw(b"-", bcrypt.gensalt(COST)).decode()

    assert verify("-", hashed)
    assert not any(verify(text, hashed) for text in ("", "x" * 73, "\ud800", "\0"))


def test_the_pool_hashes_and_verifies(pool: HashingPool) -> None:
    async def story() -> bool:
        return await pool.verify("correct horse", await pool.hash("correct horse"))

    assert asyncio.run(story())


def test_beyond_its_queue_the_pool_refuses_and_takes_more_when_there_is_room(
    pool: HashingPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, begun = threading.Event(), threading.Event()

    def slow(text: str, hashed: str) -> bool:
        begun.set()
        return go_on.wait(10)

    monkeypatch.setattr(passwords, "verify", slow)

    async def story() -> None:
        waiting = [asyncio.ensure_future(pool.verify("x", "y")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests) as refused:
            await pool.verify("x", "y")
        assert refused.value.retry_after_seconds > 0
        # Whoever gives up frees a place only when its thread is done with it.
        await asyncio.to_thread(begun.wait, 10)
        waiting[0].cancel()
        await asyncio.sleep(0.01)
        with pytest.raises(TooManyRequests):
            await pool.verify("x", "y")
        go_on.set()
        assert await asyncio.gather(*waiting[1:]) == [True, True]
        assert await pool.verify("x", "y")

    asyncio.run(story())


def test_what_was_verified_is_known_for_a_minute_to_this_account_and_generation_only() -> None:
    now = [0.0]
    verified = Verified(lambda: now[0])
    verified.remember(1, 7, "secret")

    assert verified.knows(1, 7, "secret")
    assert not verified.knows(1, 8, "secret")
    assert not verified.knows(2, 7, "secret")
    assert not verified.knows(1, 7, "Secret")
    assert not verified.knows(17, 0, ":secret")
    now[0] = 59.9
    assert verified.knows(1, 7, "secret")
    now[0] = 60.0
    assert not verified.knows(1, 7, "secret")


def test_the_oldest_go_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Verified, "ENTRIES", 2)
    verified = Verified()
    verified.remember(1, 0, "a")
    verified.remember(2, 0, "b")
    assert verified.knows(1, 0, "a")
    verified.remember(3, 0, "c")

    assert [verified.knows(number, 0, text) for number, text in ((1, "a"), (2, "b"), (3, "c"))] == [True, False, True]


def test_pools_that_take_turns_hash_no_more_at_once_than_one_of_them(tmp_path: Path) -> None:
    pools = [HashingPool(4, workers=1, turns=tmp_path) for _ in range(2)]
    inside, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.02)
        with lock:
            inside -= 1

    async def run() -> None:
        await asyncio.gather(*(pool._run(work) for pool in pools for _ in range(4)))

    asyncio.run(run())
    for pool in pools:
        pool.close()
    assert most == 1
