"""The chain, followed: what was sealed after a gap is no continuation, however well it was sealed."""

from __future__ import annotations

from gateway.audit.chain import Head, Kept, Sealed, follow, seal
from gateway.audit.event import Event, Kind
from tests.house import GATEWAY


def chain(head: Head, count: int) -> list[Sealed]:
    found = []
    for _ in range(count):
        found.append(seal(head, Event(Kind.BLOB_PULL, GATEWAY).record()))
        head = Head(found[-1].seq, found[-1].hash)
    return found


def kept(events: list[Sealed]) -> list[Kept]:
    return [(event.seq, event.body.encode(), event.hash) for event in events]


def test_events_that_follow_one_another_are_followed_to_the_last() -> None:
    events = chain(Head(), 5)

    assert follow(Head(), kept(events), 0).head == Head(5, events[-1].hash)


def test_events_taken_out_of_a_chain_that_was_then_sealed_anew_are_missed() -> None:
    before = chain(Head(), 3)
    after = chain(Head(5, before[-1].hash), 2)

    found = follow(Head(), kept(before + after), 0)

    assert found.head == Head(3, before[-1].hash)
    assert found.fault == "event 4 is missing; the next one is 6"
