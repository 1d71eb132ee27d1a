"""The history of a tag: a page at a time, of its own project, and never more of a look than anybody may ask for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.access.principals import Caller
from gateway.administration import TagHistory, histories
from gateway.audit.event import Event, Kind
from gateway.errors import Invalid, TooManyRequests
from gateway.gate import Act
from tests.administration.rooms import Rooms
from tests.administration.test_looks import filled
from tests.administration.test_tracing import projected
from tests.house import GATEWAY, OPERATOR

UI = "gallery/ui"
#: When everything that a test adds is there.
LATER = datetime.now(UTC) + timedelta(days=1)


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def moved(rooms: Rooms, number: int, tag: str = "v1", kind: Kind = Kind.MANIFEST_PUSH, **fields: Any) -> None:
    tags = {"before": {"tags": {tag: digest(number - 1)}}, "after": {"tags": {tag: digest(number)}}}
    event = Event(kind, GATEWAY, time=LATER).but(**{"project": "gallery", "repository": UI, **tags, **fields})
    rooms.run(rooms.house.ledger.commit(Act(event)))


def puller(rooms: Rooms) -> Caller:
    rooms.run(rooms.acts.projects.add_project(OPERATOR, "gallery"))
    pete = rooms.user("pete")
    rooms.run(rooms.acts.grants.add_grant(OPERATOR, "pete", "puller", "gallery"))
    return pete


def history(rooms: Rooms, caller: Caller, tag: str = "v1", **asked: Any) -> TagHistory:
    return rooms.run(rooms.acts.histories.of_tag(caller, UI, tag, **asked))


def told(found: TagHistory) -> list[int]:
    """The numbers of the digests that the tag named after each move."""
    return [int(move.after.removeprefix("sha256:"), 16) for move in found.moves]


@pytest.mark.parametrize("searched", [False, True])
def test_pages_follow_one_another_and_mix_the_kinds_by_their_order(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, *, searched: bool
) -> None:
    monkeypatch.setattr(histories, "_STRIDE", 2)
    pete = puller(rooms)
    for number in range(1, 10):
        moved(rooms, number, kind=Kind.TAG_RESTORE if number % 3 == 0 else Kind.MANIFEST_PUSH)
        moved(rooms, number, tag="v10")
    if searched:
        projected(rooms)

    pages = [history(rooms, pete, limit=4)]
    while pages[-1].before is not None:
        pages.append(history(rooms, pete, limit=4, before=pages[-1].before))

    assert [told(page) for page in pages] == [[9, 8, 7, 6], [5, 4, 3, 2], [1]]
    assert pages[0].moves[0].kind == "tag.restore"
    assert told(history(rooms, pete, limit=9)) == list(range(9, 0, -1))


def test_a_page_looks_through_no_more_events_than_that_and_says_where_to_go_on(rooms: Rooms) -> None:
    pete = puller(rooms)
    moved(rooms, 1, tag="stable")
    for number in range(1, 8):
        moved(rooms, number)

    first = history(rooms, pete, "stable", events=7)
    assert (first.moves, first.before is not None) == ((), True)
    then = history(rooms, pete, "stable", before=first.before, events=7)
    assert (told(then), then.before) == ([1], None)
    assert told(history(rooms, pete, "stable", events=None)) == [1]


def test_only_the_digests_of_the_page_are_looked_for(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(histories.trash, "at_hand", lambda _, __, digests: asked.append(digests) or set())
    pete = puller(rooms)
    for number in range(1, 8):
        moved(rooms, number)
    history(rooms, pete, limit=2)
    assert asked == [[digest(5), digest(6)]]


def test_who_may_only_pull_sees_nothing_of_a_project_that_had_the_name_before(rooms: Rooms) -> None:
    moved(rooms, 1, time=datetime.now(UTC) - timedelta(days=1))
    pete = puller(rooms)
    assert history(rooms, pete).moves == ()
    moved(rooms, 2)
    assert told(history(rooms, pete)) == [2]
    assert told(history(rooms, OPERATOR)) == [2, 1]


def test_few_histories_are_looked_through_at_once_and_none_keeps_a_reviewer_waiting(rooms: Rooms) -> None:
    pete = puller(rooms)

    async def trying() -> None:
        with filled(rooms.acts.glances, 7, 7, 8, 8) as running:
            await asyncio.sleep(0)
            with pytest.raises(TooManyRequests, match="Enough looks"):
                await rooms.acts.histories.of_tag(pete, UI, "v1")
            await rooms.acts.tracing.who_pulled(OPERATOR, digest(1))
        await asyncio.gather(*running)

    rooms.run(trying())
    assert rooms.last("tag.history")["reason"] == "toomanyrequests"


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_page_of_no_sensible_length_is_refused(rooms: Rooms, limit: int) -> None:
    with pytest.raises(Invalid):
        history(rooms, puller(rooms), limit=limit)
