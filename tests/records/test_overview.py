"""The overview of a search counts what there is, one by one or by counters, and says how much of it that was."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import insert, select

from gateway.audit.chain import UNTIMED
from gateway.audit.event import Event, Kind, Outcome, time_text
from gateway.audit.overview import BUCKETS, Overview, filled, width_for
from gateway.audit.review import happening
from gateway.audit.trail import Search
from gateway.gate import Act
from gateway.records import overview as rooms_overview
from gateway.records import tallies
from gateway.records.matching import narrowed, projected_until, spanned
from gateway.records.overview import overview
from gateway.records.review_tables import event_counts, origins
from gateway.records.schema import events
from gateway.records.trail import project_tail
from tests.house import GATEWAY, House
from tests.records.test_condition import tamper

BEGUN = datetime(2026, 11, 10, 5, 30, tzinfo=UTC)
NOW = BEGUN + timedelta(days=9)


def an_event(number: int) -> Event:
    return Event(
        Kind.MANIFEST_PUSH if number % 2 else Kind.BLOB_PULL,
        GATEWAY,
        (Outcome.ALLOWED, Outcome.DENIED, Outcome.FAILED)[number % 7 % 3],
        BEGUN + timedelta(hours=number),
        project=f"project{number % 3}",
        repository=f"project{number % 3}/ui{number % 5}",
    )


def fill(house: House, count: int, projected: int | None = None) -> None:
    async def all_of_them() -> None:
        for number in range(count):
            await house.ledger.commit(Act(an_event(number)))

    house.run(all_of_them())
    done = 0
    with house.database.lock(), house.database.engine.connect() as connection:
        while (projected is None or done < projected) and (step := project_tail(house.database, connection)):
            done += step


def looked(house: House, **search: Any) -> Overview:
    return house.database.read_now(lambda connection: overview(connection, Search(**search), NOW))


def totals(found: Overview) -> tuple[int, int, int]:
    buckets = found.timeline.buckets
    return tuple(sum(getattr(bucket, name) for bucket in buckets) for name in ("allowed", "denied", "failed"))  # type: ignore[return-value]


def expected(house: House, **search: Any) -> tuple[int, int, int]:
    found = Counter(record["outcome"] for record in house.records(**search))
    return found["allowed"], found["denied"], found["failed"]


SEARCHES: list[dict[str, Any]] = [
    {},
    {"project": "project1"},
    {"kind": "blob.pull"},
    {"kind": "manifest.*"},
    {"outcome": "denied"},
    {"project": "project2", "outcome": "failed"},
    {"principal": "gateway", "kind": "blob.pull"},
    {"repository": "project0/ui0"},
]


@pytest.mark.parametrize("path", ["one by one", "counters"])
def test_an_overview_counts_every_event_that_matches(house: House, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    fill(house, 200)
    if path == "counters":
        monkeypatch.setattr(rooms_overview, "_LOOKED", 10)
    for search in SEARCHES:
        found = looked(house, **search)
        if path == "counters" and len(search) == 2 and "outcome" not in search:
            # No counter knows where two filters meet: the newest were counted, and it is said.
            assert not found.timeline.whole
            assert found.facets.counted <= 10
            continue
        assert totals(found) == expected(house, **search), search
        assert found.timeline.whole


def test_what_is_not_projected_yet_is_counted_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.records.trail.SLICE", 50)
    fill(house, 60)
    for number in range(60, 65):
        house.run(house.ledger.commit(Act(an_event(number))))
    assert sum(totals(looked(house))) == 65
    monkeypatch.setattr(rooms_overview, "_LOOKED", 10)
    assert sum(totals(looked(house))) == 65


@pytest.mark.parametrize("search", [{}, {"principal": "gateway"}, {"project": "project1", "kind": "blob.pull"}])
def test_with_more_waiting_than_is_looked_at_an_overview_reaches_no_further_back(
    house: House, monkeypatch: pytest.MonkeyPatch, search: dict[str, Any]
) -> None:
    monkeypatch.setattr(rooms_overview, "_LOOKED", 10)
    monkeypatch.setattr(rooms_overview, "_UNPROJECTED", 5)
    fill(house, 60)
    monkeypatch.setattr("gateway.records.ledger.project_tail", lambda *_: 0)
    for number in range(60, 120):
        house.run(house.ledger.commit(Act(an_event(number))))
    found = looked(house, **search)
    newest = house.records(**search)[-5:]
    since = datetime.fromisoformat(newest[0]["time"])
    assert (found.timeline.whole, found.timeline.since, sum(totals(found))) == (False, since, 5)
    assert (found.facets.whole, found.facets.since, found.facets.counted) == (False, since, 5)


def test_facets_are_the_most_frequent_first(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(house, 100)
    counts = Counter(record["repository"] for record in house.records())
    for most in (5000, 10):
        monkeypatch.setattr(rooms_overview, "_LOOKED", most)
        found = looked(house).facets
        ranked = [(share.value, share.total) for share in found.repositories]
        assert ranked == sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:10]
        assert [share.value for share in found.principals] == ["gateway"]
        assert [share.value for share in found.addresses] == ["192.0.2.7"]


@pytest.mark.parametrize("waiting", [3, 40])
def test_facets_add_what_waits_to_what_the_counters_say(
    house: House, monkeypatch: pytest.MonkeyPatch, waiting: int
) -> None:
    monkeypatch.setattr(rooms_overview, "_LOOKED", 10)
    fill(house, 60)
    for number in range(60, 60 + waiting):
        house.run(house.ledger.commit(Act(an_event(number))))
    for outcome in ("", "denied"):
        wanted: dict[str, Any] = {"outcome": outcome} if outcome else {}
        counts = Counter(record["repository"] for record in house.records(**wanted))
        found = looked(house, **wanted).facets
        ranked = [(share.value, share.total) for share in found.repositories]
        assert ranked == sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:10]
        assert [share.total for share in found.principals] == [sum(counts.values())]


@pytest.mark.parametrize(("added", "whole", "days"), [(45, True, 0), (44, False, 0), (30, False, 1)])
def test_facets_say_whether_every_counter_was_added_up_and_how_far_back_they_reach(
    house: House, monkeypatch: pytest.MonkeyPatch, added: int, *, whole: bool, days: int
) -> None:
    monkeypatch.setattr(rooms_overview, "_LOOKED", 10)
    monkeypatch.setattr(rooms_overview, "_ADDED", added)
    # Three days in each of which every one of the 15 repositories was met.
    fill(house, 18 + 24 + 24)
    found = looked(house, until=BEGUN + timedelta(hours=66)).facets
    assert (found.whole, found.since) == (whole, datetime(2026, 11, 10 + days, tzinfo=UTC))


def test_a_period_is_kept_to(house: House) -> None:
    fill(house, 100)
    between = {"since": BEGUN + timedelta(hours=20), "until": BEGUN + timedelta(hours=40)}
    found = looked(house, **between)
    assert sum(totals(found)) == 20
    assert found.timeline.since == between["since"]
    assert found.timeline.buckets[0].begins <= between["since"]


def test_a_period_spans_at_least_what_a_short_look_at_its_ends_tells(house: House) -> None:
    fill(house, 40)
    hours = [None, *(BEGUN + timedelta(hours=number) for number in (-1, 0, 7, 20, 39, 50))]
    for since, until in itertools.product(hours, hours):
        search = Search(since=since, until=until)
        after, upper = house.database.read_now(lambda each, search=search: narrowed(each, search, 0, 40))  # type: ignore[misc]
        told = house.database.read_now(lambda each, search=search: spanned(each, search, 40))  # type: ignore[misc]
        # Events in the order of their times are told exactly.
        assert max(told, 0) == max(upper - after, 0), search


def test_counters_answer_for_whole_days_and_say_so(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(house, 100)
    monkeypatch.setattr(rooms_overview, "_LOOKED", 5)
    found = looked(house, project="project1", since=BEGUN + timedelta(hours=20)).timeline
    assert found.since == datetime(2026, 11, 11, tzinfo=UTC)
    assert found.bucket_seconds == tallies.DAY
    since = found.since
    assert sum(bucket.total for bucket in found.buckets) == sum(expected(house, project="project1", since=since))


def test_the_counters_are_what_the_migration_would_count(house: House) -> None:
    fill(house, 60)
    entries = [{"seq": record["id"], **record} for record in house.records()]
    rows = house.database.read_now(lambda connection: connection.execute(select(event_counts)).all())
    kept = {(row.span, row.field, row.begins, row.value): [row.allowed, row.denied, row.failed] for row in rows}
    assert kept == tallies.counted(entries)


def test_a_principals_networks_are_noted_once_with_the_first_transfer(house: House) -> None:
    fill(house, 30)
    fill(house, 10)
    (row,) = house.database.read_now(lambda connection: connection.execute(select(origins)).all())
    first = next(
        record["id"] for record in house.records(outcome="allowed") if record["kind"] in {"manifest.push", "blob.pull"}
    )
    assert (row.principal, row.network, row.first_seq) == ("gateway", "192.0.2.0/24", first)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("local", "local"),
        ("x" * 100, "x" * 64),
    ],
)
def test_a_network_is_what_rules_compare(address: str, network: str) -> None:
    assert tallies.network_of(address) == network


@pytest.mark.parametrize("seconds", [1, 3600, 86_400, 86_400 * 31, 86_400 * 3650])
def test_a_timeline_has_no_more_buckets_than_a_chart_can_show(seconds: int) -> None:
    width = width_for(seconds)
    found = filled({}, width, NOW - timedelta(seconds=seconds), NOW)
    assert 1 <= len(found) <= BUCKETS + 12
    assert found[0].begins <= NOW - timedelta(seconds=seconds) < NOW <= found[-1].begins + timedelta(seconds=width)


@pytest.mark.parametrize("years", [(1, 1), (1, 9999), (9999, 9999)])
@pytest.mark.parametrize("search", [{}, {"project": "project1"}, {"project": "project1", "kind": "blob.pull"}])
def test_an_overview_reaches_both_ends_of_the_calendar(
    house: House, monkeypatch: pytest.MonkeyPatch, years: tuple[int, int], search: dict[str, Any]
) -> None:
    fill(house, 40)
    period = {
        "since": datetime(years[0], 1, 1, tzinfo=UTC),
        "until": datetime(years[1], 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    }
    for most in (1000, 5):
        monkeypatch.setattr(rooms_overview, "_LOOKED", most)
        found = looked(house, **period, **search)
        if found.timeline.whole:
            assert sum(totals(found)) == sum(expected(house, **period, **search))
        assert found.timeline.buckets[0].begins <= found.timeline.until <= period["until"]


@pytest.mark.parametrize("told", ["gestern", "", "2026-11-30", "0000-01-01T00:00:00.000000Z"])
@pytest.mark.parametrize("projected", [0, None], ids=["waiting", "projected"])
@pytest.mark.parametrize("search", [{}, {"kind": "blob.pull"}, {"since": BEGUN}], ids=["all", "kind", "since"])
def test_an_edited_row_without_a_time_is_counted_nowhere_and_ends_no_overview(
    house: House, monkeypatch: pytest.MonkeyPatch, told: str, projected: int | None, search: dict[str, Any]
) -> None:
    monkeypatch.setattr(house.ledger, "_follow", lambda: None)
    fill(house, 8, projected)
    before = sum(totals(looked(house, **search)))
    edited = f'UPDATE events SET body = replace(body, \'"time":"{time_text(BEGUN)}\', \'"time":"{told}\') WHERE seq = 1'
    tamper(house, edited)
    if projected is None:
        tamper(house, "DELETE FROM event_index", "DELETE FROM event_counts")
        fill(house, 0)
    assert sum(totals(looked(house, **search))) == before - 1
    assert house.records()[0]["time"] == UNTIMED
    assert happening(house.trail.page(Search())[-1]).time == datetime(1970, 1, 1, tzinfo=UTC)


def put_in(house: House, seq: int, time: str) -> None:
    """Puts in a row of that time behind the last event, as what happened in a project of its own."""
    [_, body, hashed] = house.database.read_now(lambda each: each.execute(select(events).limit(1)).one())
    told = body.replace(time_text(BEGUN), time).replace("project0", "project9")
    with house.database.engine.connect() as connection:
        connection.execute(insert(events).values(seq=seq, body=told, hash=hashed))


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59.999999Z", "9999-01-01T00:00:00.000000Z"])
@pytest.mark.parametrize("projected", [0, None], ids=["waiting", "projected"])
@pytest.mark.parametrize("most", [1000, 5])
def test_a_row_put_in_with_a_time_of_the_last_year_of_the_calendar_ends_no_overview_and_is_counted_nowhere(
    house: House, monkeypatch: pytest.MonkeyPatch, time: str, projected: int | None, most: int
) -> None:
    monkeypatch.setattr(house.ledger, "_follow", lambda: None)
    monkeypatch.setattr(rooms_overview, "_LOOKED", most)
    fill(house, 8, projected)
    searches: list[dict[str, Any]] = [{}, {"kind": "blob.pull"}, {"since": BEGUN}, {"project": "project9"}]
    before = [sum(totals(looked(house, **search))) for search in searches]
    put_in(house, 9, time)
    if projected is None:
        house.run(house.ledger.commit(Act(an_event(9))))
        fill(house, 0)
        before = [before[0] + 1, before[1], before[2] + 1, 0]
    assert [sum(totals(looked(house, **search))) for search in searches] == before
    assert [record["time"] for record in house.records(project="project9")] == [UNTIMED]


@pytest.mark.parametrize("projected", [0, None], ids=["waiting", "projected"])
@pytest.mark.parametrize("most", [1000, 0])
def test_an_overview_of_what_has_a_time_to_come_alone_reaches_no_further_than_now(
    house: House, monkeypatch: pytest.MonkeyPatch, projected: int | None, most: int
) -> None:
    monkeypatch.setattr(house.ledger, "_follow", lambda: None)
    monkeypatch.setattr(rooms_overview, "_LOOKED", most)
    fill(house, 8)
    put_in(house, 9, "9998-12-31T23:59:59.999999Z")
    house.run(house.ledger.commit(Act(an_event(9))))
    fill(house, 0, projected)
    for search in ({}, {"project": "project9"}, {"repository": "project9/ui0"}):
        found = looked(house, **search)
        for part in (found.timeline, found.facets):
            assert part.since <= part.until == NOW
        assert found.timeline.buckets[0].begins <= NOW


def test_an_edited_search_entry_without_a_time_ends_no_overview(house: House) -> None:
    fill(house, 8)
    tamper(house, "UPDATE event_index SET time = 'x' WHERE seq = 6")
    assert sum(totals(looked(house))) == 7


def test_of_waiting_rows_without_a_time_none_takes_the_place_of_another(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms_overview, "_LOOKED", 3)
    monkeypatch.setattr(rooms_overview, "_UNPROJECTED", 5)
    monkeypatch.setattr(house.ledger, "_follow", lambda: None)
    fill(house, 8, 0)
    tamper(house, 'UPDATE events SET body = replace(body, \'"time":"2\', \'"time":"x\') WHERE seq = 8')
    found = looked(house)
    assert (found.timeline.whole, sum(totals(found))) == (False, 5)


def test_what_is_projected_while_an_overview_is_made_is_counted_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms_overview, "_LOOKED", 10)
    monkeypatch.setattr(house.ledger, "_follow", lambda: None)
    fill(house, 60)
    for number in range(60, 80):
        house.run(house.ledger.commit(Act(an_event(number))))
    waiting = rooms_overview._waiting

    def projected_meanwhile(*asked: Any) -> Any:
        found = waiting(*asked)
        # From elsewhere, as another process does it.
        other = Thread(target=fill, args=(house, 0))
        other.start()
        other.join()
        return found

    monkeypatch.setattr(rooms_overview, "_waiting", projected_meanwhile)
    found = looked(house)
    assert house.database.read_now(projected_until) == 80
    assert (sum(totals(found)), found.facets.counted) == (80, 80)
    assert sum(share.total for share in found.facets.principals) == 80
    monkeypatch.setattr(rooms_overview, "_waiting", lambda *_: 1 // 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            looked(house)
    monkeypatch.setattr(rooms_overview, "_waiting", waiting)
    assert sum(totals(looked(house))) == 80


def test_an_empty_trail_has_an_empty_overview(house: House) -> None:
    found = looked(house)
    assert (sum(totals(found)), found.facets.principals, found.facets.counted) == (0, (), 0)
