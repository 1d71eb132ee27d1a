"""What the fuzzer's runs stand on: a loop without waiting, and the count of what was tried."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.count import COUNT, read_count
from tests.fuzz.turns import Turns


@pytest.fixture
def turns() -> Iterator[Turns]:
    made = Turns()
    yield made
    made.close()


def test_what_waits_goes_on_when_it_is_woken_and_not_before(turns: Turns) -> None:
    news, told = asyncio.Event(), list[str]()

    async def wait() -> None:
        told.append("waits")
        await news.wait()
        told.append("woken")

    task = turns.create_task(wait())
    turns.settle()
    assert (told, task.done()) == (["waits"], False)
    news.set()
    turns.settle()
    assert (told, task.done()) == (["waits", "woken"], True)


def test_a_turn_runs_what_is_ready_and_not_what_becomes_ready_by_it(turns: Turns) -> None:
    told = list[int]()
    turns.call_soon(lambda: (told.append(1), turns.call_soon(told.append, 2)))
    turns.turn()
    assert told == [1]
    turns.settle()
    assert told == [1, 2]


def test_what_fails_where_nobody_looks_and_what_never_ends_are_found(turns: Turns) -> None:
    turns.call_soon(lambda: 1 / 0)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        turns.settle()

    def again() -> None:
        turns.call_soon(again)

    again()
    with pytest.raises(AssertionError, match="no end"):
        turns.settle()


def test_the_count_is_what_was_written_last(tmp_path: Path) -> None:
    file = tmp_path / "count"
    assert read_count(file) == 0
    file.write_bytes(b"")
    assert read_count(file) == 0
    file.write_bytes(COUNT.pack(3) + b"\0" * 9)
    assert read_count(file) == 3
