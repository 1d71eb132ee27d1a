"""Exports under way: few at once, fewer of one account, and none that nobody reads."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from gateway.access.principals import Caller, Origin, Principal, PrincipalKind
from gateway.administration.exports import Exports, NobodyReads, Slot
from gateway.errors import TooManyRequests


def caller(number: int) -> Caller:
    return Caller(Principal(PrincipalKind.USER, number, f"user-{number}"), Origin("192.0.2.1", "192.0.2.1", "", ""))


def taken(exports: Exports, number: int) -> Slot:
    with exports.slot(caller(number)) as slot:
        return slot


def test_nobody_has_more_places_than_each_may_and_all_together_no_more_than_there_are() -> None:
    exports = Exports(most=4, most_each=2)
    slots = [taken(exports, number) for number in (1, 1, 2)]

    with pytest.raises(TooManyRequests, match="2 exports of yours") as refused:
        taken(exports, 1)
    assert refused.value.retry_after_seconds > 0
    taken(exports, 3)
    with pytest.raises(TooManyRequests, match="Enough exports"):
        taken(exports, 2)

    slots[0].give_back()
    slots[0].give_back()
    assert exports.under_way == 3
    taken(exports, 2)
    with pytest.raises(TooManyRequests):
        taken(exports, 1)


def test_a_place_is_free_again_when_preparing_fails_and_when_sending_ends() -> None:
    exports = Exports()
    with pytest.raises(ZeroDivisionError), exports.slot(caller(1)):
        raise ZeroDivisionError
    assert exports.under_way == 0
    with taken(exports, 1):
        assert exports.under_way == 1
    assert exports.under_way == 0


def test_a_piece_that_nobody_takes_ends_the_export_and_one_that_is_taken_does_not() -> None:
    async def trying() -> list[int]:
        got: list[int] = []

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["number"] == 3:
                await asyncio.Event().wait()
            await asyncio.sleep(0.005)
            got.append(message["number"])

        sending = taken(Exports(stall_seconds=0.2), 1).bounded(send)
        for number in range(3):
            await sending({"number": number})
        with pytest.raises(NobodyReads):
            await sending({"number": 3})
        return got

    assert asyncio.run(trying()) == [0, 1, 2]
