"""An overview counts no event outside the bounds that it tells, whatever they have to be for it to take no longer."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.audit.event import Event, Kind, Outcome
from gateway.audit.overview import Overview, Share, filled
from gateway.audit.trail import Search
from gateway.gate import Act
from gateway.records import overview as rooms_overview
from gateway.records.overview import overview
from gateway.records.trail import project_tail
from tests.house import GATEWAY, House

BEGUN = datetime(2026, 11, 10, 22, 50, tzinfo=UTC)
STEP = timedelta(minutes=7, seconds=13, microseconds=250)
COUNT = 260
LAST = BEGUN + STEP * (COUNT - 1)
NOW = LAST + timedelta(seconds=1)
MIDNIGHT = datetime(2026, 11, 11, tzinfo=UTC)

SEARCHES: list[dict[str, Any]] = [
    {},
    {"outcome": "denied"},
    {"project": "project1"},
    {"repository": "project0/ui0"},
    {"kind": "manifest.*"},
    {"project": "project1", "kind": "blob.pull"},
]
BOUNDS = [None, *(BEGUN + STEP * number + timedelta(seconds=1) for number in (-1, 4, 12, 60, 133, 251, COUNT))]


def fill(house: House, count: int, waiting: int = 0) -> None:
    """Puts so many events; the last ones are *waiting* to be projected."""

    async def put(numbers: range) -> None:
        for number in numbers:
            kind = Kind.MANIFEST_PUSH if number % 2 else Kind.BLOB_PULL
            outcome = (Outcome.ALLOWED, Outcome.DENIED, Outcome.FAILED)[number % 7 % 3]
            names = {"project": f"project{number % 3}", "repository": f"project{number % 3}/ui{number % 5}"}
            await house.ledger.commit(Act(Event(kind, GATEWAY, outcome, BEGUN + STEP * number, **names)))

    house.run(put(range(count - waiting)))
    with house.database.lock(), house.database.engine.connect() as connection:
        while project_tail(house.database, connection):
            pass
    if waiting:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gateway.records.ledger.project_tail", lambda *_: 0)
            house.run(put(range(count - waiting, count)))


def looked(house: House, now: datetime = NOW, horizon: datetime | None = None, **search: Any) -> Overview:
    return house.database.read_now(lambda each: overview(each, Search(**search), now, horizon=horizon))


def shared(shares: Sequence[Share]) -> int:
    return sum(share.total for share in shares)


def in_timeline(found: Overview) -> int:
    return sum(bucket.total for bucket in found.timeline.buckets)


@pytest.mark.parametrize("waiting", [0, 30])
def test_an_overview_counts_what_happened_in_the_bounds_it_tells_and_nothing_else(
    house: House, monkeypatch: pytest.MonkeyPatch, waiting: int
) -> None:
    fill(house, COUNT, waiting)
    events = [(datetime.fromisoformat(record["time"]), record) for record in house.records()]
    for most, search, since, until in itertools.product((1000, 10), SEARCHES, BOUNDS, BOUNDS):
        if since is not None and until is not None and since >= until:
            continue
        monkeypatch.setattr(rooms_overview, "_LOOKED", most)
        found = looked(house, since=since, until=until, **search)
        mine = [
            (at, record)
            for at, record in events
            if all(str(record[name]).startswith(wanted.rstrip("*")) for name, wanted in search.items())
        ]
        told = (most, search, since, until, found.timeline, found.facets)
        for part, counted in ((found.timeline, in_timeline(found)), (found.facets, found.facets.counted)):
            assert counted == sum(part.since <= at < part.until for at, _ in mine), told
            if part.whole:
                assert since is None or part.since <= since, told
                assert part.until >= (min(until, NOW) if until is not None else NOW), told
        facets = found.facets
        assert shared(facets.principals) == shared(facets.addresses) == facets.counted, told
        repositories = Counter(record["repository"] for at, record in mine if facets.since <= at < facets.until)
        ranked = sorted(repositories.items(), key=lambda item: (-item[1], item[0]))[:10]
        assert [(share.value, share.total) for share in facets.repositories] == ranked, told


@pytest.mark.parametrize("second", [0.5, 0.000001])
def test_what_happened_in_the_second_that_a_period_cuts_has_its_bucket(second: float) -> None:
    until = MIDNIGHT + timedelta(seconds=second)
    assert filled({int(MIDNIGHT.timestamp()): (1, 0, 0)}, 60, BEGUN, until)[-1].allowed == 1


def test_an_hour_that_has_just_begun_is_counted_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms_overview, "_LOOKED", 5)
    for number in range(20):
        at = MIDNIGHT + timedelta(milliseconds=10 * number)
        house.run(house.ledger.commit(Act(Event(Kind.BLOB_PULL, GATEWAY, Outcome.ALLOWED, at, project="attic"))))
    with house.database.lock(), house.database.engine.connect() as connection:
        while project_tail(house.database, connection):
            pass
    for search in ({}, {"project": "attic"}):
        assert in_timeline(looked(house, now=MIDNIGHT + timedelta(milliseconds=500), **search)) == 20


def test_facets_that_reach_back_less_far_tell_how_many_events_they_are_of(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms_overview, "_LOOKED", 10)
    fill(house, COUNT)
    monkeypatch.setattr(rooms_overview, "_ADDED", 20)
    found = looked(house).facets
    since = MIDNIGHT
    assert (found.whole, found.since) == (False, since)
    of_it = [record for record in house.records() if datetime.fromisoformat(record["time"]) >= since]
    assert found.counted == shared(found.principals) == len(of_it)


# a horizon


@pytest.mark.parametrize("waiting", [0, 30])
@pytest.mark.parametrize(
    ("search", "most"), [({"project": "project1"}, 70), ({"repository": "project1/ui1"}, 13), ({}, 190)]
)
@pytest.mark.parametrize("later", [0, 3])
def test_nothing_of_before_the_horizon_is_counted_and_its_day_one_by_one(
    house: House, monkeypatch: pytest.MonkeyPatch, search: dict[str, Any], most: int, later: int, waiting: int
) -> None:
    fill(house, COUNT, waiting)
    # More match than are looked at one by one, and fewer do on the day of the horizon.
    monkeypatch.setattr(rooms_overview, "_LOOKED", most)
    horizon = BEGUN + STEP * 30
    first = horizon + STEP * later
    found = looked(house, horizon=horizon, since=first, **search)
    assert (found.timeline.whole, found.timeline.since) == (True, first)
    assert in_timeline(found) == len(house.records(since=first, **search))
    assert found.facets.since >= horizon


def test_a_horizons_day_of_many_events_is_left_out_and_it_is_said(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(house, COUNT)
    monkeypatch.setattr(rooms_overview, "_LOOKED", 5)
    horizon = BEGUN + STEP * 30
    next_day = MIDNIGHT + timedelta(days=1)
    found = looked(house, horizon=horizon, since=horizon, project="project1").timeline
    assert (found.whole, found.since) == (False, next_day)
    counted = sum(bucket.total for bucket in found.buckets)
    assert counted == len(house.records(project="project1", since=next_day)) > 5


def test_of_a_horizon_within_the_last_day_the_newest_are_counted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(house, COUNT)
    monkeypatch.setattr(rooms_overview, "_LOOKED", 5)
    horizon = LAST - STEP * 40
    found = looked(house, horizon=horizon, since=horizon, project="project1")
    since = datetime.fromisoformat(house.records(project="project1")[-5]["time"])
    assert (found.timeline.whole, found.timeline.since, in_timeline(found)) == (False, since, 5)
    assert (found.facets.whole, found.facets.since, found.facets.counted) == (False, since, 5)
