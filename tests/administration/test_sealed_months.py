"""Sealed months are looked through by searches, tracing, reviews and retention, or what was not is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from gateway.access.principals import Caller, Credential, CredentialKind, Principal, PrincipalKind
from gateway.administration import Proposal, Verb, evidence
from gateway.administration.gathering import gather
from gateway.audit.event import Event, Kind, Outcome
from gateway.audit.overview import Overview
from gateway.audit.review import Policy
from gateway.audit.trail import Search
from gateway.errors import TooManyRequests, Unavailable, Unknown
from gateway.gate import Act
from gateway.records import segments
from gateway.records.evidence_tables import segments as rows
from gateway.records.overview import overview
from gateway.records.recounting import counter_flaws
from gateway.records.schema import accounts, grants
from gateway.records.trail import project_tail
from tests.administration.rooms import Rooms
from tests.administration.test_looks import filled
from tests.house import GATEWAY, OPERATOR, ORIGIN
from tests.records.rows import written

#: What asks nothing of a database that the others do not.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
NOW = datetime.now(UTC)
#: Two old months, and the first day that stays.
FIRST = (NOW - timedelta(days=80)).replace(day=5, hour=12)
SECOND = (FIRST + timedelta(days=31)).replace(day=5)
CUT = NOW - timedelta(days=10)
#: Who has an account only later: what happens first is what can be sealed.
JOE = Caller(Principal(PrincipalKind.USER, 77, "joe"), ORIGIN, Credential(CredentialKind.PASSWORD))
A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def happened(rooms: Rooms, *events: Event) -> None:
    for event in events:
        rooms.run(rooms.house.ledger.commit(Act(event)))
    with rooms.house.database.lock(), rooms.house.database.engine.connect() as connection:
        while project_tail(rooms.house.database, connection):
            pass


def an_event(kind: Kind, time: datetime, caller: Caller = GATEWAY, **fields: Any) -> Event:
    return Event(kind, caller, time=time).but(**{"project": "gallery", "repository": "gallery/ui", **fields})


def seal(rooms: Rooms, purge: datetime | None = None) -> None:
    rooms.run(rooms.acts.evidence.retain(OPERATOR, CUT, purge))


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sealed may be purged at once."""
    monkeypatch.setattr(evidence, "SETTLED", timedelta(0))


@pytest.fixture
def old(rooms: Rooms) -> Rooms:
    """Pulls of a robot in two sealed months, a refused push in the first of them, and one pull that is not sealed."""
    refused = an_event(Kind.MANIFEST_PUSH, FIRST, JOE, outcome=Outcome.DENIED, digest=B, action="push")
    happened(
        rooms,
        *(an_event(Kind.MANIFEST_PULL, FIRST + timedelta(minutes=each), JOE, digest=A) for each in range(3)),
        refused,
        *(an_event(Kind.MANIFEST_PULL, SECOND + timedelta(minutes=each), JOE, digest=A) for each in range(2)),
        an_event(Kind.MANIFEST_PULL, NOW - timedelta(days=1), JOE, digest=A),
    )
    seal(rooms)
    rooms.user("joe")
    numbered = update(accounts).values(id=JOE.principal.id)
    written(rooms.house, lambda connection: connection.execute(numbered))
    return rooms


def kinds(events: Sequence[dict[str, object]]) -> list[str]:
    return [f"{event['kind']} {event['outcome']}" for event in events]


# searches


def test_a_search_since_a_sealed_month_looks_through_it(old: Rooms) -> None:
    audit = old.acts.audit

    found = old.run(audit.find_events(OPERATOR, Search(outcome="denied", since=FIRST - timedelta(days=1))))

    assert kinds(found.events) == ["manifest.push denied"]
    assert (found.before, found.sealed) == (None, None)
    pulls = old.run(audit.find_events(OPERATOR, Search(digest=A, since=SECOND)))
    assert len(pulls.events) == 3
    everything = old.run(audit.find_events(OPERATOR, Search(digest=A, since=FIRST)))
    numbers = [int(str(event["id"])) for event in everything.events]
    assert len(numbers) == 6
    assert numbers == sorted(numbers, reverse=True)
    assert (
        old.run(audit.find_events(OPERATOR, Search(digest=A, since=FIRST, until=SECOND))).events
        == (everything.events[3:])
    )


def test_a_search_without_a_beginning_tells_what_it_did_not_look_through(old: Rooms) -> None:
    found = old.run(old.acts.audit.find_events(OPERATOR, Search(digest=A)))

    assert len(found.events) == 1
    assert found.sealed is not None
    files = [segment.file for segment in old.house.database.read_now(segments.every)]
    assert (found.sealed.files, found.sealed.oldest, found.sealed.newest) == (len(files), files[0], files[-1])
    assert files[0] in found.sealed.told
    recent = old.run(old.acts.audit.find_events(OPERATOR, Search(digest=A, since=CUT)))
    assert (len(recent.events), recent.sealed) == (1, None)


def test_a_page_goes_on_where_the_one_before_it_ended_across_files(old: Rooms) -> None:
    search = Search(digest=A, since=FIRST)
    whole = old.run(old.acts.audit.find_events(OPERATOR, search)).events
    pages: list[dict[str, object]] = []
    before = None
    for _ in range(4):
        page = old.run(old.acts.audit.find_events(OPERATOR, search, before=before, limit=2))
        pages += page.events
        before = page.before
        if before is None:
            break

    assert pages == list(whole)
    assert before is None


def test_so_many_files_are_looked_through_for_one_page_and_it_says_where_to_go_on(old: Rooms) -> None:
    search = Search(outcome="denied", since=FIRST - timedelta(days=1))

    page = old.run(old.acts.audit.find_events(OPERATOR, search, files=1))
    assert (page.events, page.sealed) == ([], None)
    assert page.before is not None
    rest = old.run(old.acts.audit.find_events(OPERATOR, search, before=page.before, files=1))
    assert (kinds(rest.events), rest.before) == (["manifest.push denied"], None)


@ON_SQLITE
def test_an_export_skips_the_files_of_other_months(old: Rooms) -> None:
    first, *_ = old.house.database.read_now(segments.every)
    (old.house.data / segments.FOLDER / first.file).unlink()

    assert len(list(old.house.trail.export(Search(digest=A, since=SECOND)))) == 3
    with pytest.raises(Unavailable, match="restore its file"):
        list(old.house.trail.export(Search(digest=A)))
    with pytest.raises(Unavailable, match="restore its file"):
        old.run(old.acts.audit.find_events(OPERATOR, Search(digest=A, since=FIRST)))


def test_what_was_purged_is_told_and_not_looked_for(old: Rooms) -> None:
    seal(old, purge=SECOND - timedelta(days=5))

    found = old.run(old.acts.audit.find_events(OPERATOR, Search(outcome="denied", since=FIRST)))

    assert (found.events, found.before) == ([], None)
    assert found.sealed is not None
    assert found.sealed.files == 0
    assert "purged, and cannot be read any more" in found.sealed.told


def of(old: Rooms, search: Search) -> Overview:
    return old.house.database.read_now(lambda connection: overview(connection, search, NOW + timedelta(minutes=1)))


def test_an_overview_of_sealed_months_is_of_the_counters_or_says_how_far_back_it_reaches(old: Rooms) -> None:
    everything = of(old, Search(project="gallery"))
    assert sum(bucket.total for bucket in everything.timeline.buckets) == 7
    assert (everything.timeline.whole, everything.facets.whole, everything.facets.counted) == (True, False, 1)
    digest = of(old, Search(digest=A))
    assert (digest.timeline.whole, digest.facets.counted) == (False, 1)
    assert digest.timeline.since > SECOND
    assert of(old, Search(project="gallery", since=CUT)).facets.whole


EDITED = ["abc", "", "2025-03-31", "2025-99-99T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z"]


@pytest.mark.parametrize("forged", EDITED)
def test_an_overview_and_a_recount_go_on_whatever_is_written_for_the_last_time_of_a_sealed_month(
    old: Rooms, forged: str
) -> None:
    edit = update(rows).values(last_time=forged)
    written(old.house, lambda connection: connection.execute(edit))

    assert_told(old)


@ON_SQLITE
@pytest.mark.parametrize("forged", ["x'ff00'", "x''", "1.5"])
def test_an_overview_and_a_recount_go_on_where_the_last_time_of_a_sealed_month_is_not_even_a_text(
    old: Rooms, forged: str
) -> None:
    written(old.house, lambda connection: connection.exec_driver_sql(f"UPDATE segments SET last_time = {forged}"))

    assert_told(old)


def assert_told(old: Rooms) -> None:
    """What is in the table is told whole, what is in files by counters, and no day of those is recounted."""
    digest = of(old, Search(digest=A))
    assert (digest.timeline.whole, digest.facets.counted) == (False, 1)
    assert SECOND < digest.timeline.since <= NOW + timedelta(minutes=1)
    assert of(old, Search(project="gallery", since=NOW - timedelta(hours=12))).facets.whole
    assert sum(bucket.total for bucket in of(old, Search(project="gallery")).timeline.buckets) == 7
    assert list(counter_flaws(old.house.database, lambda _: None)) == []


# tracing


def test_a_search_of_sealed_months_is_one_of_the_few_looks_and_any_other_search_is_not(old: Rooms) -> None:
    find, looks = old.acts.audit.find_events, old.acts.looks

    async def trying() -> None:
        with filled(looks, 77, 77, 78, 78) as running:
            await asyncio.sleep(0)
            with pytest.raises(TooManyRequests, match="Enough looks"):
                await find(OPERATOR, Search(project="gallery", since=FIRST))
            assert (await find(OPERATOR, Search(project="gallery", since=CUT))).sealed is None
            assert (await find(OPERATOR, Search(project="gallery"))).sealed is not None
        await asyncio.gather(*running)

    old.run(trying())


def test_who_pulled_a_digest_looks_through_sealed_months_when_asked_to(old: Rooms) -> None:
    tracing = old.acts.tracing

    plain = old.run(tracing.who_pulled(OPERATOR, A))
    assert [pull.count for pull in plain.pulls] == [1]
    assert plain.sealed is not None

    found = old.run(tracing.who_pulled(OPERATOR, A, sealed=True))
    assert [(pull.principal, pull.count) for pull in found.pulls] == [("joe", 6)]
    assert (found.looked, found.whole, found.sealed) == (6, True, None)


def test_a_tag_is_what_it_was_in_a_sealed_month(rooms: Rooms) -> None:
    tags = {"before": {"tags": {}}, "after": {"tags": {"v1": A}}}
    happened(
        rooms, an_event(Kind.MANIFEST_PUSH, FIRST, reference="v1", digest=A, **tags), an_event(Kind.BLOB_PULL, NOW)
    )
    seal(rooms)
    tracing = rooms.acts.tracing

    with pytest.raises(Unknown, match="sealed away in 1 file"):
        rooms.run(tracing.who_pulled(OPERATOR, "gallery/ui:v1"))
    assert rooms.run(tracing.who_pulled(OPERATOR, "gallery/ui:v1", sealed=True)).digest == A
    with pytest.raises(Unknown, match="give a digest instead"):
        rooms.run(tracing.who_pulled(OPERATOR, "gallery/ui:v2", sealed=True))


def test_a_leak_is_followed_into_sealed_months(old: Rooms) -> None:
    found = old.run(old.acts.tracing.leak(OPERATOR, "joe", FIRST, plan=True))

    assert [(each.verb, each.digest, each.count) for each in found.touched] == [("pull", A, 6)]
    assert (found.whole, found.sealed) == (True, None)
    assert old.run(old.acts.tracing.leak(OPERATOR, "joe", CUT, plan=True)).touched[0].count == 1


@ON_SQLITE
def test_a_replay_judges_the_requests_of_sealed_months(old: Rooms) -> None:
    old.run(old.acts.projects.add_project(OPERATOR, "gallery"))
    proposal = Proposal(Verb.GRANT, "joe", "gallery", "pusher")

    found = old.run(old.acts.replays.replay(OPERATOR, proposal, days=120))

    assert [(each.action, each.outcome, each.count) for each in found.differences] == [("push", "denied", 1)]


# reviews


def test_a_review_of_a_sealed_month_finds_what_it_would_have_found_before(rooms: Rooms) -> None:
    refused = [
        an_event(Kind.SIGN_IN, FIRST + timedelta(minutes=each), JOE, outcome=Outcome.DENIED) for each in range(3)
    ]
    pushed = {"before": {"tags": {"v1": B}}, "after": {"tags": {"v1": A}}}
    happened(
        rooms,
        *refused,
        an_event(Kind.SIGN_IN, FIRST + timedelta(minutes=4), JOE),
        an_event(Kind.MANIFEST_PUSH, FIRST + timedelta(minutes=5), JOE, reference="v1", digest=A, **pushed),
        an_event(Kind.GRANT_ADD, FIRST + timedelta(minutes=6), JOE, after={"account": "x", "role": "owner"}),
        an_event(Kind.MANIFEST_PULL, FIRST + timedelta(minutes=7), JOE, digest=A),
        an_event(Kind.MANIFEST_PULL, CUT, JOE, digest=A),
    )
    strict = Policy(denials=2, failures=2)

    def review() -> Any:
        since, until = FIRST - timedelta(days=1), FIRST + timedelta(days=1)
        return rooms.run(rooms.acts.reviews.begin(OPERATOR, since, until, policy=strict))

    before = review()
    seal(rooms)
    after = review()

    def told(detail: Any) -> list[tuple[object, ...]]:
        return [(each.rule, each.subject, each.summary, each.count, each.events) for each in detail.findings]

    assert {each.rule for each in before.findings} >= {
        "denied_bursts",
        "late_sign_ins",
        "rights_changed",
        "moved_tags",
    }
    assert told(after) == told(before)
    assert after.review.runs == before.review.runs

    for finding in after.findings:
        rooms.run(rooms.acts.reviews.mark(OPERATOR, after.review.number, finding.number, "fine"))
    rooms.run(rooms.acts.reviews.sign_off(OPERATOR, after.review.number))
    pack = rooms.run(rooms.acts.reviews.export(OPERATOR, after.review.number))
    numbers = [event.seq for event in pack.events()]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert numbers[0] <= min(number for each in after.findings for number in each.events)
    named = [number for each in after.findings for number in each.events]
    assert all(pack.event(number) is not None for number in named)


@ON_SQLITE
def test_a_review_of_purged_months_says_that_its_rules_saw_a_part(old: Rooms) -> None:
    seal(old, purge=CUT)

    detail = old.run(old.acts.reviews.begin(OPERATOR, FIRST, NOW))

    partial = {run.rule for run in detail.review.runs if not run.whole}
    assert {"denied_bursts", "rights_changed", "moved_tags", "new_networks"} <= partial


def test_access_that_was_used_in_a_sealed_month_was_used(rooms: Rooms) -> None:
    happened(rooms, an_event(Kind.MANIFEST_PULL, SECOND, JOE, digest=A), an_event(Kind.BLOB_PULL, CUT))
    seal(rooms)
    rooms.user("joe")
    rooms.run(rooms.acts.projects.add_project(OPERATOR, "gallery"))
    for reach in ("gallery", "gallery/ui*", "gallery/api*"):
        rooms.run(rooms.acts.grants.add_grant(OPERATOR, "joe", "puller", reach))
    long_ago = int((NOW - timedelta(days=200)).timestamp())
    written(rooms.house, lambda connection: connection.execute(update(grants).values(created_at=long_ago)))

    found = gather(rooms.house.database, rooms.house.trail, "gallery", CUT, NOW, Policy(unused_days=110))

    assert {each.held.partition(" on ")[2]: each.used_at for each in found.access} == {
        "gallery": SECOND,
        "gallery/ui*": SECOND,
        "gallery/api*": None,
    }
