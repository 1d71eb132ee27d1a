"""A review: begun, marked, signed and handed over by an auditor; signed ones stay as they are."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError

from gateway.access.principals import Caller
from gateway.administration.reviews import Finding, Review, ReviewDetail
from gateway.audit.event import Event, Kind, Outcome
from gateway.audit.review import Policy
from gateway.audit.trail import Search
from gateway.errors import Conflict, Denied, Invalid, Unknown
from gateway.gate import Act
from gateway.records.review_tables import findings
from gateway.records.review_tables import reviews as reviews_table
from gateway.records.reviews import begin as begin_row
from gateway.records.trail import project_tail
from tests.administration.rooms import Rooms
from tests.house import GATEWAY, OPERATOR, second_over
from tests.records.rows import written

SINCE = datetime.now(UTC) - timedelta(days=1)
STRICT = Policy(denials=2, failures=1, secret_days=1)


def until() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=1)


def happened(rooms: Rooms, *events: Event) -> None:
    for event in events:
        rooms.run(rooms.house.ledger.commit(Act(event)))
    with rooms.house.database.lock(), rooms.house.database.engine.connect() as connection:
        while project_tail(rooms.house.database, connection):
            pass


def refused(rooms: Rooms, project: str, count: int = 2) -> None:
    event = Event(Kind.MANIFEST_PUSH, GATEWAY, Outcome.DENIED, project=project, repository=f"{project}/ui")
    happened(rooms, *[event.but(time=datetime.now(UTC))] * count)


def begun(rooms: Rooms, caller: Caller, **more: Any) -> ReviewDetail:
    """A review up to now: what happened a moment ago is in it, for its clock is ahead by as much."""
    reviews = replace(rooms.acts.reviews, clock=lambda: time.time() + 1)
    return rooms.run(reviews.begin(caller, SINCE, until(), policy=STRICT, **more))


def signed(rooms: Rooms, caller: Caller, **more: Any) -> ReviewDetail:
    detail = begun(rooms, caller, **more)
    for finding in detail.findings:
        rooms.run(rooms.acts.reviews.mark(caller, detail.review.number, finding.number, "fine"))
    rooms.run(rooms.acts.reviews.sign_off(caller, detail.review.number, "seen"))
    return rooms.run(rooms.acts.reviews.show(caller, detail.review.number))


def by_rule(detail: ReviewDetail) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for each in detail.findings:
        found.setdefault(each.rule, []).append(each)
    return found


def test_an_auditor_does_the_whole_review_and_can_change_nothing_else(rooms: Rooms) -> None:
    auditor = rooms.user("auditor", auditor=True)
    rooms.run(rooms.acts.projects.add_project(OPERATOR, "gallery"))
    refused(rooms, "gallery")

    detail = signed(rooms, auditor)

    assert {"denied_bursts", "rights_changed"} <= set(by_rule(detail))
    assert detail.review.signed_by == "auditor"
    assert rooms.run(rooms.acts.reviews.list_reviews(auditor)) == (detail.review,)
    for act in (
        rooms.acts.accounts.add_user(auditor, "joe"),
        rooms.acts.projects.set_project(auditor, "gallery", public=True),
        rooms.acts.grants.add_grant(auditor, "auditor", "owner", "gallery"),
        rooms.acts.tracing.leak(auditor, "auditor", SINCE),
    ):
        with pytest.raises(Denied):
            rooms.run(act)


def test_marks_and_sign_off_are_events_of_the_chain(rooms: Rooms) -> None:
    auditor = rooms.user("auditor", auditor=True)
    detail = begun(rooms, auditor)
    number = detail.review.number

    rooms.run(rooms.acts.reviews.mark(auditor, number, 1, "follow_up", "ask  Jane\nwhy"))
    mark = rooms.last("review.mark")
    assert mark["after"] == {"mark": "follow_up", "note": "ask Jane why"}
    assert (mark["detail"]["review"], mark["detail"]["finding"]) == (number, 1)
    rooms.run(rooms.acts.reviews.mark(auditor, number, 1, "fine"))
    assert rooms.last("review.mark")["before"] == {"mark": "follow_up", "note": "ask Jane why"}

    for finding in detail.findings[1:]:
        rooms.run(rooms.acts.reviews.mark(auditor, number, finding.number, "fine"))
    review = rooms.run(rooms.acts.reviews.sign_off(auditor, number, "all seen"))
    sign_off = rooms.last("review.sign_off")
    assert (sign_off["after"]["content"], sign_off["after"]["note"]) == (review.content, "all seen")
    assert rooms.last("review.begin")["after"] == {"review": number, "findings": len(detail.findings)}


def test_a_review_with_an_unmarked_finding_cannot_be_signed(rooms: Rooms) -> None:
    detail = begun(rooms, OPERATOR)
    rooms.user("joe")
    assert begun(rooms, OPERATOR).findings
    with pytest.raises(Conflict, match="Mark every finding"):
        rooms.run(rooms.acts.reviews.sign_off(OPERATOR, detail.review.number + 1))
    assert rooms.last("review.sign_off")["outcome"] == "failed"


def test_a_signed_review_is_never_changed_not_even_in_the_database(rooms: Rooms) -> None:
    rooms.user("joe")
    detail = signed(rooms, OPERATOR)
    number = detail.review.number

    for act in (
        rooms.acts.reviews.mark(OPERATOR, number, 1, "follow_up", "late"),
        rooms.acts.reviews.sign_off(OPERATOR, number),
    ):
        with pytest.raises(Conflict, match="signed off by"):
            rooms.run(act)
    for statement in (
        f"UPDATE findings SET mark = 'follow_up' WHERE review_id = {number}",
        f"DELETE FROM findings WHERE review_id = {number}",
        f"UPDATE reviews SET note = 'other' WHERE id = {number}",
        f"DELETE FROM reviews WHERE id = {number}",
    ):
        with rooms.house.database.engine.connect() as connection, pytest.raises(DBAPIError, match="never changed"):
            connection.exec_driver_sql(statement)
    assert rooms.run(rooms.acts.reviews.show(OPERATOR, number)) == detail


def test_an_owner_reviews_its_own_project_and_sees_no_other(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")
    rooms.owner("joe", "attic")
    refused(rooms, "gallery")
    refused(rooms, "attic")
    others = begun(rooms, OPERATOR, project="attic").review.number

    detail = signed(rooms, owner, project="gallery")

    assert "attic" not in repr(detail.findings)
    assert [each.subject for each in by_rule(detail)["denied_bursts"]] == ["gateway"]
    reviews = rooms.acts.reviews
    for act in (
        reviews.begin(owner, SINCE, until()),
        reviews.begin(owner, SINCE, until(), project="attic"),
        reviews.list_reviews(owner),
        reviews.list_reviews(owner, "attic"),
    ):
        with pytest.raises(Denied):
            rooms.run(act)
    for number in (others, 999):
        for act in (
            reviews.show(owner, number),
            reviews.mark(owner, number, 1, "fine"),
            reviews.sign_off(owner, number),
            reviews.export(owner, number),
        ):
            with pytest.raises(Unknown, match=f"^There is no review {number} that you may see; list those you may.$"):
                rooms.run(act)
    assert rooms.run(reviews.list_reviews(owner, "gallery")) == (detail.review,)


def test_a_network_that_is_new_to_a_robot_is_found(rooms: Rooms) -> None:
    robot = replace(GATEWAY, principal=replace(GATEWAY.principal, name="gallery+ci"))
    away = replace(robot, origin=replace(robot.origin, address="203.0.113.9"))
    pull = Event(Kind.MANIFEST_PULL, robot, project="gallery", repository="gallery/ui")
    happened(rooms, pull, pull.but(caller=away, time=datetime.now(UTC)))

    (found,) = by_rule(begun(rooms, OPERATOR))["new_networks"]

    assert (found.subject, found.count) == ("gallery+ci", 1)
    assert "203.0.113.9" in found.summary


def test_access_that_was_used_is_not_told_of_and_unused_access_is(rooms: Rooms) -> None:
    rooms.owner("jane", "gallery")
    rooms.user("joe")
    rooms.run(rooms.acts.grants.add_grant(OPERATOR, "joe", "puller", "gallery/ui*"))
    with rooms.house.database.lock(), rooms.house.database.engine.connect() as connection:
        connection.exec_driver_sql("UPDATE grants SET created_at = created_at - 100 * 86400")
    used = Event(Kind.PROJECT_SHOW, rooms.caller("jane"), project="gallery")
    happened(rooms, used)

    found = by_rule(begun(rooms, OPERATOR))["unused_access"]

    assert [(each.subject, each.summary.partition(",")[0]) for each in found] == [("joe", "puller on gallery/ui*")]


@pytest.mark.parametrize("kind", [Kind.TAG_RESTORE, Kind.MANIFEST_RESTORE])
def test_a_protected_tag_that_was_moved_back_is_told_of(rooms: Rooms, kind: Kind) -> None:
    rooms.owner("jane", "gallery")
    back = Event(kind, GATEWAY, project="gallery", repository="gallery/ui", reference="v1", time=datetime.now(UTC))
    happened(rooms, back.but(before={"tags": {"v1": "sha256:bb"}}, after={"tags": {"v1": "sha256:aa"}}))

    (found,) = by_rule(begun(rooms, OPERATOR))["moved_tags"]

    assert (found.subject, found.summary) == ("gallery/ui:v1", "moved to sha256:aa from sha256:bb by gateway.")


def test_a_period_that_is_none_is_refused(rooms: Rooms) -> None:
    later = datetime.now(UTC) + timedelta(days=400)
    for since, end in ((SINCE, SINCE), (SINCE, SINCE - timedelta(days=3)), (later, later + timedelta(days=1))):
        with pytest.raises(Invalid):
            rooms.run(rooms.acts.reviews.begin(OPERATOR, since, end))


def test_a_period_that_is_not_over_ends_now_and_is_signed_as_it_was_looked_at(rooms: Rooms) -> None:
    late = datetime.now(UTC) + timedelta(days=27_000)
    review = rooms.run(rooms.acts.reviews.begin(OPERATOR, SINCE.replace(microsecond=900_000), late)).review
    assert review.since == SINCE.replace(microsecond=0)
    assert timedelta(0) <= datetime.now(UTC) - review.until < timedelta(seconds=10)
    assert rooms.last("review.begin")["detail"]["until"] == review.until.isoformat()


def test_a_part_of_a_second_at_its_beginning_belongs_to_the_period(rooms: Rooms) -> None:
    early = SINCE.replace(microsecond=100_000)
    refused_then = Event(Kind.MANIFEST_PUSH, GATEWAY, Outcome.DENIED, time=early)
    happened(rooms, refused_then, refused_then)
    act = rooms.acts.reviews.begin(OPERATOR, SINCE.replace(microsecond=900_000), until(), policy=STRICT)
    assert "denied_bursts" in by_rule(rooms.run(act))


def test_what_ends_in_a_period_and_began_before_it_is_found_once(rooms: Rooms) -> None:
    seam = (SINCE + timedelta(hours=2)).replace(microsecond=0)
    jane = replace(GATEWAY, principal=replace(GATEWAY.principal, name="jane"))
    failed = Event(Kind.SIGN_IN, jane, Outcome.DENIED)
    happened(
        rooms,
        *(failed.but(time=seam - timedelta(seconds=10 + each)) for each in range(8, 0, -1)),
        *(failed.but(time=seam + timedelta(seconds=each)) for each in range(4)),
        failed.but(time=seam + timedelta(seconds=5), outcome=Outcome.ALLOWED),
    )
    policy = Policy(denials=10, failures=7)
    found = []
    for since, end in ((-2, -1), (-1, 0), (0, 1), (1, 2)):
        span = seam + timedelta(hours=since), seam + timedelta(hours=end)
        detail = rooms.run(rooms.acts.reviews.begin(OPERATOR, *span, policy=policy))
        found.append({rule: each[0].count for rule, each in by_rule(detail).items() if each[0].subject == "jane"})
    assert found == [{}, {}, {"denied_bursts": 12, "late_sign_ins": 13}, {}]


def test_a_review_is_signed_as_it_was_shown_or_not_at_all(rooms: Rooms) -> None:
    rooms.user("joe")
    reviews, detail = rooms.acts.reviews, begun(rooms, OPERATOR)
    number = detail.review.number
    for finding in detail.findings:
        rooms.run(reviews.mark(OPERATOR, number, finding.number, "fine"))
    seen = rooms.run(reviews.show(OPERATOR, number))
    rooms.run(reviews.mark(OPERATOR, number, 1, "follow_up", "meanwhile"))

    for shown in (detail.shown, seen.shown):
        with pytest.raises(Conflict, match="marked otherwise since"):
            rooms.run(reviews.sign_off(OPERATOR, number, "all is fine", shown=shown))
    now = rooms.run(reviews.show(OPERATOR, number)).shown
    assert rooms.run(reviews.sign_off(OPERATOR, number, "one is open", shown=now)).signed_by


def test_a_finding_that_was_not_seen_as_it_is_when_the_review_is_closed_keeps_it_open(rooms: Rooms) -> None:
    rooms.user("joe")
    reviews, detail = rooms.acts.reviews, begun(rooms, OPERATOR)
    number = detail.review.number
    for finding in detail.findings:
        rooms.run(reviews.mark(OPERATOR, number, finding.number, "fine"))
    seen = rooms.run(reviews.show(OPERATOR, number)).findings
    rooms.run(reviews.mark(OPERATOR, number, 1, "follow_up", "meanwhile"))

    with pytest.raises(Conflict, match=f"not shown finding 1 of review {number} as it is now; look again"):
        rooms.run(reviews.sign_off(OPERATOR, number, "all is fine", seen=seen.__contains__))
    assert rooms.last("review.sign_off")["outcome"] == "failed"
    seen = rooms.run(reviews.show(OPERATOR, number)).findings
    assert rooms.run(reviews.sign_off(OPERATOR, number, "one is open", seen=seen.__contains__)).signed_by


def test_an_owner_reads_the_auditors_review_and_neither_marks_nor_signs_it(rooms: Rooms) -> None:
    reviews, auditor, owner = rooms.acts.reviews, rooms.user("auditor", auditor=True), rooms.owner("jane", "gallery")
    number = begun(rooms, auditor, project="gallery").review.number

    assert rooms.run(reviews.show(owner, number)).findings
    for act in (reviews.mark(owner, number, 1, "fine"), reviews.sign_off(owner, number)):
        with pytest.raises(Denied, match="signed off by auditor, who began it, or by an auditor or administrator"):
            rooms.run(act)
    assert rooms.last("review.sign_off")["outcome"] == "denied"
    assert rooms.run(reviews.mark(OPERATOR, number, 1, "fine")).marked_by
    assert signed(rooms, owner, project="gallery").review.signed_by == "jane"


def test_an_owner_sees_no_review_of_a_project_that_had_the_name_before(rooms: Rooms) -> None:
    reviews = rooms.acts.reviews
    rooms.owner("jane", "gallery")
    refused(rooms, "gallery", 5)
    number = begun(rooms, OPERATOR, project="gallery").review.number
    rooms.run(rooms.acts.projects.remove_project(OPERATOR, "gallery"))
    second_over()
    owner = rooms.owner("joe", "gallery")

    assert rooms.run(reviews.list_reviews(owner, "gallery")) == ()
    for act in (
        reviews.show(owner, number),
        reviews.mark(owner, number, 1, "fine"),
        reviews.sign_off(owner, number),
        reviews.export(owner, number),
    ):
        with pytest.raises(Unknown, match=f"^There is no review {number} that you may see; list those you may.$"):
            rooms.run(act)
    assert [each.number for each in rooms.run(reviews.list_reviews(OPERATOR, "gallery"))] == [number]

    detail = signed(rooms, owner, project="gallery")
    assert "denied_bursts" not in by_rule(detail)
    events = list(rooms.run(reviews.export(owner, detail.review.number)).events())
    assert events[0].record()["kind"] == "project.add"
    assert "denied_bursts" in by_rule(begun(rooms, OPERATOR, project="gallery"))


def former(rooms: Rooms) -> tuple[Caller, int]:
    """The owner of a project whose name another one had before, and an event of that one."""
    rooms.owner("jane", "gallery")
    refused(rooms, "gallery", 5)
    number = rooms.house.trail.page(Search(project="gallery"), limit=1)[0].seq
    rooms.run(rooms.acts.projects.remove_project(OPERATOR, "gallery"))
    second_over()
    return rooms.owner("joe", "gallery"), number


def test_an_owner_sees_no_review_that_looks_at_what_was_before_its_project_whenever_it_was_begun(rooms: Rooms) -> None:
    reviews, auditor = rooms.acts.reviews, rooms.user("auditor", auditor=True)
    owner, _ = former(rooms)
    looked = signed(rooms, auditor, project="gallery").review
    assert looked.since == SINCE.replace(microsecond=0)

    assert rooms.run(reviews.list_reviews(owner, "gallery")) == ()
    for act in (
        reviews.show(owner, looked.number),
        reviews.mark(owner, looked.number, 1, "fine"),
        reviews.sign_off(owner, looked.number),
        reviews.export(owner, looked.number),
    ):
        with pytest.raises(Unknown, match="that you may see; list those you may"):
            rooms.run(act)
    assert rooms.run(reviews.list_reviews(auditor, "gallery")) == (looked,)


def as_of_before(rooms: Rooms, number: int) -> None:
    """Older gateways kept the *since* that was asked for, though of a project they looked from its beginning on."""
    asked = update(reviews_table).where(reviews_table.c.id == number).values(since=int(SINCE.timestamp()))
    written(rooms.house, lambda connection: connection.execute(asked))


def test_an_owner_keeps_the_review_that_it_began_with_an_older_gateway(rooms: Rooms) -> None:
    reviews, owner = rooms.acts.reviews, rooms.owner("jane", "gallery")
    second_over()
    number = begun(rooms, owner, project="gallery").review.number
    as_of_before(rooms, number)

    assert [each.number for each in rooms.run(reviews.list_reviews(owner, "gallery"))] == [number]
    for finding in rooms.run(reviews.show(owner, number)).findings:
        rooms.run(reviews.mark(owner, number, finding.number, "fine"))
    rooms.run(reviews.sign_off(owner, number))
    events = list(rooms.run(reviews.export(owner, number)).events())
    assert events[0].record()["kind"] == "project.add"

    other = rooms.user("joe")
    rooms.run(rooms.acts.grants.add_grant(OPERATOR, "joe", "owner", "gallery"))
    assert rooms.run(reviews.list_reviews(other, "gallery")) == ()


def test_a_name_that_was_added_again_has_nothing_of_the_reviews_that_it_began_before(rooms: Rooms) -> None:
    reviews, owner = rooms.acts.reviews, rooms.owner("jane", "gallery")
    second_over()
    older, newer = (begun(rooms, owner, project="gallery").review.number for _ in range(2))
    as_of_before(rooms, older)
    rooms.run(rooms.acts.accounts.remove_user(OPERATOR, "jane"))
    second_over()
    again = rooms.user("jane")
    rooms.run(rooms.acts.grants.add_grant(OPERATOR, "jane", "owner", "gallery"))

    assert [each.number for each in rooms.run(reviews.list_reviews(again, "gallery"))] == [newer]
    with pytest.raises(Unknown, match="that you may see"):
        rooms.run(reviews.show(again, older))
    with pytest.raises(Denied, match="signed off by jane, who began it"):
        rooms.run(reviews.mark(again, newer, 1, "fine"))


def test_an_owner_keeps_no_review_that_it_began_in_a_project_that_had_the_name_before(rooms: Rooms) -> None:
    reviews, owner = rooms.acts.reviews, rooms.owner("jane", "gallery")
    second_over()
    number = begun(rooms, owner, project="gallery").review.number
    as_of_before(rooms, number)
    rooms.run(rooms.acts.projects.remove_project(OPERATOR, "gallery"))
    second_over()
    rooms.run(rooms.acts.projects.add_project(OPERATOR, "gallery"))
    rooms.run(rooms.acts.grants.add_grant(OPERATOR, "jane", "owner", "gallery"))

    assert rooms.run(reviews.list_reviews(owner, "gallery")) == ()
    with pytest.raises(Unknown, match="that you may see"):
        rooms.run(reviews.show(owner, number))


def test_a_burst_that_began_in_a_former_project_shows_in_no_review_that_begins_with_the_new_one(rooms: Rooms) -> None:
    auditor = rooms.user("auditor", auditor=True)
    owner, _ = former(rooms)
    refused(rooms, "gallery", 1)
    born = rooms.run(rooms.acts.projects.list_projects(OPERATOR))[0].created_at
    second_over()
    detail = rooms.run(rooms.acts.reviews.begin(auditor, born, until(), project="gallery", policy=STRICT))

    assert rooms.run(rooms.acts.reviews.show(owner, detail.review.number)) == detail
    assert "denied_bursts" not in by_rule(detail)


def test_a_review_tells_of_a_credential_that_was_ended_and_of_none_that_was_only_asked_about(rooms: Rooms) -> None:
    leak = rooms.acts.tracing.leak
    for name in ("joe", "ann"):
        rooms.user(name)
        rooms.run(leak(OPERATOR, name, SINCE, plan=True))
    with pytest.raises(Unknown):
        rooms.run(leak(OPERATOR, "nobody", SINCE, plan=True))
    happened(rooms)
    assert "credential.leak" not in " ".join(each.summary for each in begun(rooms, OPERATOR).findings)

    rooms.run(leak(OPERATOR, "joe", SINCE))
    happened(rooms)
    found = by_rule(begun(rooms, OPERATOR))["rights_changed"]
    assert [each.summary for each in found if "credential.leak" in each.summary] == ["credential.leak, 1 time: joe."]


@pytest.mark.parametrize("who", ["jane", "auditor"])
def test_a_review_begins_with_its_project_and_is_its_owners_to_see(rooms: Rooms, who: str) -> None:
    auditor, owner = rooms.user("auditor", auditor=True), rooms.owner("jane", "gallery")
    added = rooms.last("project.add")["time"]

    detail = begun(rooms, {"jane": owner, "auditor": auditor}[who], project="gallery")

    assert detail.review.since == datetime.fromisoformat(str(added)).replace(microsecond=0)
    assert rooms.last("review.begin")["detail"]["since"] == detail.review.since.isoformat()
    assert "rights_changed" in by_rule(detail)
    assert rooms.run(rooms.acts.reviews.show(owner, detail.review.number)) == detail


def test_an_owner_is_refused_a_period_from_before_its_project(rooms: Rooms) -> None:
    owner, auditor = rooms.owner("jane", "gallery"), rooms.user("auditor", auditor=True)
    span = SINCE, SINCE + timedelta(hours=1)
    with pytest.raises(Invalid, match="The project began at") as caught:
        rooms.run(rooms.acts.reviews.begin(owner, *span, project="gallery"))
    assert caught.value.detail == {"field": "until"}
    review = rooms.run(rooms.acts.reviews.begin(auditor, *span, project="gallery")).review
    assert review.until - review.since == timedelta(hours=1)


def test_a_pack_of_an_owner_holds_no_event_from_before_though_a_finding_names_it(rooms: Rooms) -> None:
    reviews = rooms.acts.reviews
    owner, number = former(rooms)
    review = begun(rooms, owner, project="gallery").review.number
    change = update(findings).values(events=json.dumps([number]))
    written(rooms.house, lambda connection: connection.execute(change))
    for finding in rooms.run(reviews.show(owner, review)).findings:
        rooms.run(reviews.mark(owner, review, finding.number, "fine"))
    rooms.run(reviews.sign_off(owner, review))

    assert rooms.run(reviews.export(owner, review)).event(number) is None
    assert rooms.run(reviews.export(OPERATOR, review)).event(number) is not None


def test_a_mark_that_says_nothing_is_refused(rooms: Rooms) -> None:
    number = begun(rooms, OPERATOR).review.number
    with pytest.raises(Invalid, match="one of fine, follow-up"):
        rooms.run(rooms.acts.reviews.mark(OPERATOR, number, 1, "okay"))
    for mark, note in (("good", ""), ("follow_up", " "), ("fine", "x" * 501), ("fine", "\x1b[2J")):
        with pytest.raises(Invalid):
            rooms.run(rooms.acts.reviews.mark(OPERATOR, number, 1, mark, note))


def test_what_is_not_there_is_said_to_be_unknown(rooms: Rooms) -> None:
    reviews = rooms.acts.reviews
    for act in (reviews.show(OPERATOR, 7), reviews.mark(OPERATOR, 7, 1, "fine"), reviews.sign_off(OPERATOR, 7)):
        with pytest.raises(Unknown, match="no review 7"):
            rooms.run(act)
    number = begun(rooms, OPERATOR).review.number
    with pytest.raises(Unknown, match="no finding 99"):
        rooms.run(reviews.mark(OPERATOR, number, 99, "fine"))


def test_an_open_review_is_not_handed_over(rooms: Rooms) -> None:
    number = begun(rooms, OPERATOR).review.number
    with pytest.raises(Conflict, match="is open"):
        rooms.run(rooms.acts.reviews.export(OPERATOR, number))


@pytest.mark.parametrize("project", [None, "gallery"])
def test_a_pack_holds_what_was_signed_and_the_events_of_its_scope(rooms: Rooms, project: str | None) -> None:
    rooms.owner("jane", "gallery")
    rooms.owner("joe", "attic")
    detail = signed(rooms, OPERATOR, project=project)

    stream = io.BytesIO()
    rooms.run(rooms.acts.reviews.export(OPERATOR, detail.review.number)).zipped(stream)

    with zipfile.ZipFile(stream) as archive:
        content = archive.read("review.json")
        lines = [json.loads(line) for line in archive.read("events.jsonl").splitlines()]
        assert hashlib.sha256(content).hexdigest() == detail.review.content
        checkpoint = json.loads(archive.read("checkpoint.json"))
    numbers = [line["seq"] for line in lines]
    if project is None:
        assert numbers == list(range(1, numbers[-1] + 1))
    else:
        assert {json.loads(line["body"])["project"] for line in lines} == {"gallery"}
    (sign_off,) = (line for line in lines if '"kind":"review.sign_off"' in line["body"])
    named = next(line for line in lines if line["seq"] == checkpoint["seq"])
    assert (named["hash"], named["seq"] > sign_off["seq"]) == (checkpoint["hash"], True)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_pack_proves_its_own_sign_off_however_soon_it_is_exported(rooms: Rooms, tmp_path: Path) -> None:
    rooms.run(rooms.acts.evidence.checkpoint(OPERATOR))
    key = rooms.run(rooms.acts.evidence.public_key(OPERATOR)).pem
    detail = signed(rooms, OPERATOR)

    stream = io.BytesIO()
    rooms.run(rooms.acts.reviews.export(OPERATOR, detail.review.number)).zipped(stream)
    with zipfile.ZipFile(stream) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "key.pem").write_text(key)
    command = ["offline.py", "events.jsonl", "--checkpoint", "checkpoint.json", "--key", "key.pem"]
    told = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert "Not proven by a signature: 0 events" in told
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert f"Proven by 1 signed statement: {len(lines)} events" in told


def test_a_project_that_never_was_cannot_be_reviewed_and_one_that_was_removed_can(rooms: Rooms) -> None:
    reviews = rooms.acts.reviews
    for _ in range(2):  # what was refused is an event of that name, and makes no project of it
        with pytest.raises(Unknown, match="There is no project attic"):
            begun(rooms, OPERATOR, project="attic")
        with pytest.raises(Unknown, match="There is no project attic"):
            rooms.run(reviews.list_reviews(OPERATOR, "attic"))

    rooms.owner("joe", "attic")
    assert rooms.run(reviews.list_reviews(OPERATOR, "attic")) == ()
    rooms.run(rooms.acts.projects.remove_project(OPERATOR, "attic"))

    assert rooms.run(reviews.list_reviews(OPERATOR, "attic")) == ()
    detail = begun(rooms, OPERATOR, project="attic")
    assert rooms.run(reviews.list_reviews(OPERATOR, "attic")) == (detail.review,)


def flooded(rooms: Rooms, project: str, count: int, *, by: str = "jane") -> list[int]:
    """So many more reviews of *project* ("" for every one), begun now; their numbers."""
    now = int(time.time())
    begin = begin_row(project, now, now + 1, Policy(), (), (), by=by, now=now)
    return [written(rooms.house, lambda connection: begin.apply(connection).result) for _ in range(count)]


def numbers(found: tuple[Review, ...]) -> list[int]:
    return [review.number for review in found]


def test_no_review_leaves_the_list_for_how_many_were_begun_after_it(rooms: Rooms) -> None:
    reviews, auditor = rooms.acts.reviews, rooms.user("auditor", auditor=True)
    rooms.owner("jane", "gallery")
    [first] = flooded(rooms, "", 1, by="auditor")
    rooms.run(reviews.sign_off(auditor, first))
    [second] = flooded(rooms, "", 1, by="auditor")
    flood = flooded(rooms, "gallery", 7)

    listed = rooms.run(reviews.list_reviews(auditor, limit=4))
    assert numbers(listed) == flood[:2:-1]
    rest = rooms.run(reviews.list_reviews(auditor, below=listed[-1].number, limit=9))
    assert numbers(rest) == [*flood[2::-1], second, first]
    assert numbers(rooms.run(reviews.list_reviews(auditor, above=first, limit=2))) == [flood[0], second]
    assert numbers(rooms.run(reviews.list_reviews(auditor, every_project=True))) == [second, first]
    assert numbers(rooms.run(reviews.list_reviews(auditor, every_project=True, unsigned=True))) == [second]
    assert numbers(rooms.run(reviews.list_reviews(auditor, "gallery", unsigned=True))) == flood[::-1]
    with pytest.raises(Invalid, match="of one project or those of every project"):
        rooms.run(reviews.list_reviews(auditor, "gallery", every_project=True))


def test_a_page_of_an_owners_reviews_is_full_though_others_are_out_of_sight(rooms: Rooms) -> None:
    reviews = rooms.acts.reviews
    owner, _ = former(rooms)
    [oldest, *_] = own = flooded(rooms, "gallery", 2, by="joe")
    for _ in range(3):
        signed(rooms, OPERATOR, project="gallery")
    own += flooded(rooms, "gallery", 1, by="joe")

    assert numbers(rooms.run(reviews.list_reviews(owner, "gallery", limit=3))) == own[::-1]
    assert numbers(rooms.run(reviews.list_reviews(owner, "gallery", below=own[1], limit=3))) == [oldest]
    with pytest.raises(Denied):
        rooms.run(reviews.list_reviews(owner, every_project=True))
