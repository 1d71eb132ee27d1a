"""The auditor's pages: search, one event, who pulled, replay; and a review from begin to the pack."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway.access.principals import Caller, Origin, Principal, PrincipalKind
from gateway.administration.exports import Exports
from gateway.audit.event import Event, Kind, Outcome
from gateway.audit.overview import Timeline, filled
from gateway.audit.review import RULES, Found, Policy, Run
from gateway.console import chart
from gateway.console.download import Download
from gateway.gate import Act
from gateway.records import reviews as rows
from gateway.records.trail import project_tail
from tests.console.browsing import Browser, Desk, Sheet
from tests.console.test_leaves import walked
from tests.house import GATEWAY, OPERATOR, second_over
from tests.records.rows import written

DIGEST = "sha256:" + "4f" * 32
HOSTILE = '"><script>alert(1)'


def happened(desk: Desk, kind: Kind, outcome: Outcome = Outcome.ALLOWED, **fields: object) -> None:
    facts = {"project": "gallery", "repository": "gallery/ui", "digest": DIGEST, "action": "pull", **fields}
    caller = facts.pop("caller", GATEWAY)
    assert isinstance(caller, Caller)
    desk.run(desk.house.ledger.commit(Act(Event(kind, caller, outcome).but(**facts))))


def test_an_auditor_finds_a_refused_push_and_reads_its_event(desk: Desk) -> None:
    browser = desk.browser("ann", auditor=True)
    happened(desk, Kind.MANIFEST_PUSH, Outcome.DENIED, reason="no_grant", action="push")
    happened(desk, Kind.MANIFEST_PULL)

    page = browser.get("/console/audit?outcome=denied&kind=manifest.push")

    assert page.status == 200
    assert "no_grant" in page.words
    assert "1 denied" in page.words
    assert '<rect class="denied"' in page.text
    assert page.fields["outcome"] == "denied"
    number = desk.last("manifest.push")["id"]
    event = browser.get(f"/console/audit/events/{number}")
    assert event.heading == f"Event {number}"
    assert "as they were sealed" in event.words
    assert desk.last("audit.show")["principal"] == "ann"


def test_a_filter_that_cannot_be_is_told_beside_it_and_the_others_are_kept(desk: Desk) -> None:
    page = desk.browser("ann", auditor=True).get("/console/audit?since=soon&project=gallery&outcome=denied")
    assert page.status == 422
    assert "2026-01-31" in page.error("since")
    assert (page.fields["since"], page.fields["project"], page.fields["outcome"]) == ("soon", "gallery", "denied")
    period = "since=2026-11-02&until=2026-11-01"
    part = desk.browser("ann").get(f"/console/audit?digest=sha256:abc&address=1.2.3&{period}")
    assert part.status == 422
    assert "64 hex digits" in part.error("digest")
    assert "192.0.2.7" in part.error("address")
    assert "ends after it begins" in part.error("until")
    assert (part.fields["digest"], part.fields["address"], part.fields["since"]) == (
        "sha256:abc",
        "1.2.3",
        "2026-11-02",
    )
    crossed = desk.browser("ann").get("/console/audit?project=gallery&repository=attic/ui")
    assert crossed.status == 422
    assert "not a repository of gallery" in crossed.error("repository")


@pytest.mark.parametrize(("since", "until"), [("0001-01-01", "0001-12-31"), ("9999-12-30", "9999-12-31")])
def test_either_end_of_the_calendar_has_a_page(desk: Desk, since: str, until: str) -> None:
    page = desk.browser("ann", auditor=True).get(f"/console/audit?since={since}&until={until}")
    assert page.status == 200
    assert (page.fields["since"], page.fields["until"]) == (since, until)


def test_pages_follow_one_another_with_the_same_filters(desk: Desk) -> None:
    browser = desk.browser("ann", auditor=True)
    for _ in range(60):
        happened(desk, Kind.MANIFEST_PULL)
    first = browser.get("/console/audit?kind=manifest.pull")
    assert first.text.count("/console/audit/events/") == 50
    older = first.text.partition("before=")[2].partition('"')[0]
    second = browser.get(f"/console/audit?kind=manifest.pull&before={older}")
    assert second.text.count("/console/audit/events/") == 10


def test_a_search_is_kept_and_forgotten(desk: Desk) -> None:
    browser = desk.browser("ann", auditor=True)
    kept = browser.post("/console/audit/saved", {"name": "refused", "outcome": "denied", "since": "24h"})
    page = browser.follow(kept)
    assert "Saved." in page.words
    assert "/console/audit?outcome=denied&amp;since=24h" in page.text
    assert browser.post("/console/audit/saved", {"name": "", "outcome": "denied"}).error("name")
    empty = browser.post("/console/audit/saved", {"name": "all the refused", "principal": " "})
    assert (empty.status, "nothing to keep" in empty.error("name")) == (422, True)
    assert empty.fields["name"] == "all the refused"
    assert "all the refused" not in browser.get("/console/audit").words
    assert "You keep none." in browser.follow(browser.post("/console/audit/forget", {"name": "refused"})).words


def test_what_clients_wrote_is_shown_and_does_nothing(desk: Desk) -> None:
    browser = desk.browser("ann", auditor=True)
    origin = Origin("192.0.2.9", "192.0.2.9", HOSTILE, "0" * 32)
    stranger = Caller(Principal(PrincipalKind.ANONYMOUS, 0, HOSTILE), origin)
    happened(desk, Kind.SIGN_IN, Outcome.DENIED, caller=stranger, reason=HOSTILE, reference=HOSTILE)
    number = desk.last("account.sign_in")["id"]
    saved = {"name": HOSTILE, "principal": HOSTILE}
    browser.post("/console/audit/saved", saved)
    query = urlencode({"principal": HOSTILE})
    for target in ("/console/audit", f"/console/audit?{query}", f"/console/audit/events/{number}"):
        page = browser.get(target)
        assert page.status == 200
        assert "<script>alert" not in page.text
        assert "&lt;script&gt;alert" in page.text


@pytest.mark.parametrize("asked", ["since=1h", "until=1m"])
def test_a_page_tells_of_which_period_it_counted_and_when_that_is_more_than_was_asked_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    browser = desk.browser("ann", auditor=True)
    earlier = datetime.now(UTC) - timedelta(minutes=10)
    for number in range(10):
        happened(desk, Kind.MANIFEST_PULL, time=earlier + timedelta(minutes=number))
    few = browser.get(f"/console/audit?{asked}").words
    assert "more than you asked for" not in few
    monkeypatch.setattr("gateway.records.overview._LOOKED", 3)
    with desk.house.database.lock(), desk.house.database.engine.connect() as connection:
        while project_tail(desk.house.database, connection):
            pass

    many = browser.get(f"/console/audit?{asked}").words

    # Beside the bars, and with the facets.
    assert many.count("That is more than you asked for") == 2
    for words in (few, many):
        assert re.search(r"Counted \d+ events: every one from .* UTC to .* UTC ?\.", words)


def test_an_owner_sees_the_audit_of_its_project_and_of_no_other(desk: Desk) -> None:
    for project in ("gallery", "attic"):
        desk.project(project)
    browser = desk.browser("jane")
    desk.grant("jane", "owner", "gallery")
    happened(desk, Kind.MANIFEST_PULL)
    happened(desk, Kind.MANIFEST_PULL, project="attic", repository="attic/ui")
    foreign = desk.last("manifest.pull")["id"]

    page = browser.get("/console/projects/gallery/audit?project=attic")
    assert page.status == 200
    assert "gallery/ui" in page.words
    assert "attic" not in page.words
    for target in (
        "/console/audit",
        "/console/audit?project=attic",
        "/console/projects/attic/audit",
        "/console/projects/attic/audit/export",
        f"/console/audit/who-pulled?target=attic/ui@{DIGEST}",
        f"/console/audit/who-pulled?target={DIGEST}",
        "/console/audit/export",
        "/console/reviews?project=attic",
    ):
        assert browser.get(target).status == 403, target
    # Not even the project of somebody else's event can be told.
    unknown = browser.get("/console/audit/events/99999")
    assert unknown.status == 404
    assert browser.get(f"/console/audit/events/{foreign}").words == unknown.words.replace("99999", str(foreign))


def test_an_owner_reviews_its_project_and_cannot_tell_whether_there_is_another_review(desk: Desk) -> None:
    for name, project in (("jane", "gallery"), ("joe", "attic")):
        desk.project(project)
        desk.user(name)
        desk.grant(name, "owner", project)
    jane, joe = desk.browser("jane"), desk.browser("joe")
    # A period has whole seconds, and begins with the project.
    second_over()
    begun = joe.post("/console/reviews", {"since": "1d", "project": "attic"})
    assert begun.header("location") == "/console/reviews/1"
    assert joe.follow(begun).status == 200
    unknown = jane.get("/console/reviews/99").words.replace("99", "1")
    assert "attic" not in unknown
    for path, fields in (
        ("", None),
        ("/mark", {"mark": "fine:1"}),
        ("/mark", {"mark": ""}),
        ("/sign-off", {"note": ""}),
    ):
        seen = jane.get("/console/reviews/1") if fields is None else jane.post(f"/console/reviews/1{path}", fields)
        assert (seen.status, seen.words) == (404, unknown)
    assert jane.get("/console/reviews/1/pack").words == unknown


def test_an_owners_crumbs_lead_to_the_audit_of_its_project(desk: Desk) -> None:
    desk.project("gallery")
    jane = desk.browser("jane")
    desk.grant("jane", "owner", "gallery")
    happened(desk, Kind.MANIFEST_PULL)
    event = jane.get(f"/console/audit/events/{desk.last('manifest.pull')['id']}")
    traced = jane.get("/console/audit/who-pulled?target=gallery/")
    for page in (event, traced):
        assert page.status == 200
        assert '<li><a href="/console/projects/gallery/audit">Audit</a></li>' in page.text
        assert 'href="/console/audit"' not in page.text
    own = jane.get("/console/projects/gallery/audit/export?project=attic").text
    assert {json.loads(line)["project"] for line in own.splitlines()} == {"gallery"}


@pytest.mark.long
def test_an_owner_finds_the_audit_of_its_project_from_every_page_of_it(desk: Desk) -> None:
    desk.project("gallery")
    jane = desk.browser("jane")
    desk.grant("jane", "owner", "gallery")
    happened(desk, Kind.MANIFEST_PULL)
    happened(desk, Kind.MANIFEST_PULL, project="attic", repository="attic/ui")
    number = desk.house.records(kind="manifest.pull", project="gallery")[-1]["id"]
    jane.fill("/console/projects/gallery/robots", name="ci", role="puller")
    own = "/console/projects/gallery/audit"
    replayed = {"verb": "grant", "principal": "jane", "reach": "gallery/ui", "role": "pusher"}
    pages = [
        jane.get(own),
        jane.get(f"/console/audit/events/{number}"),
        jane.get(f"/console/audit/who-pulled?target=gallery/ui@{DIGEST}"),
        jane.get("/console/audit/leak?credential=gallery%2Bci&since=30d"),
        jane.post("/console/audit/replay", replayed),
    ]
    for page in pages:
        assert page.status == 200, page.words
        assert f'href="{own}"' in page.text
        for target in re.findall(r'href="(/console/[^"]+)"', page.text):
            assert jane.get(target.replace("&amp;", "&")).status in {200, 303}, target
    export = jane.get(f"{own}/export?project=attic")
    assert {json.loads(line)["project"] for line in export.text.splitlines()} == {"gallery"}


def test_what_no_search_has_is_told_and_the_rest_is_kept(desk: Desk) -> None:
    desk.project("gallery")
    ann, jane = desk.browser("ann", auditor=True), desk.browser("jane")
    desk.grant("jane", "owner", "gallery")
    page = ann.get("/console/audit?colour=red&outcome=denied")
    assert (page.status, "There is no filter 'colour'" in page.words) == (422, True)
    assert page.fields["outcome"] == "denied"
    page = ann.get("/console/audit?before=yesterday&outcome=denied")
    assert (page.status, "no such page" in page.words) == (422, True)
    crossed = jane.get("/console/projects/gallery/audit?repository=attic/ui&kind=manifest.pull")
    assert (crossed.status, "not a repository of gallery" in crossed.error("repository")) == (422, True)
    assert crossed.fields["kind"] == "manifest.pull"


def test_who_pulled_is_one_form_away(desk: Desk) -> None:
    browser = desk.browser("ann", auditor=True)
    happened(desk, Kind.MANIFEST_PULL)
    assert "/console/audit/who-pulled" in browser.get("/console/audit").text
    page = browser.get(f"/console/audit/who-pulled?target={DIGEST}")
    assert "gateway" in page.words
    assert "192.0.2.7" in page.words
    wrong = browser.get("/console/audit/who-pulled?target=nothing&at=soon")
    assert wrong.status == 422
    assert wrong.error("at")


def test_a_replay_is_asked_before_a_grant_is_changed(desk: Desk) -> None:
    desk.project("gallery")
    desk.user("joe")
    desk.grant("joe", "puller", "gallery")
    browser = desk.browser("jane")
    desk.grant("jane", "owner", "gallery")
    joe = desk.run(desk.acts.accounts.list_accounts(GATEWAY))
    number = next(account.id for account in joe if account.name == "joe")
    caller = Caller(Principal(PrincipalKind.USER, number, "joe"), GATEWAY.origin)
    happened(desk, Kind.MANIFEST_PUSH, Outcome.DENIED, caller=caller, action="push", reason="no_grant")

    editing = browser.get("/console/projects/gallery/members/edit?principal=joe&reach=gallery")
    assert 'formaction="/console/audit/replay"' in editing.text
    asked = {"verb": "grant", "principal": "joe", "reach": "gallery", "role": "pusher"}
    page = browser.post("/console/audit/replay", asked)
    assert "push gallery/ui" in page.words
    assert "pusher on gallery" in page.words
    assert browser.post("/console/audit/replay", {**asked, "role": "king"}).status == 422
    assert desk.house.records(kind="grant.add", principal="jane") == []


def test_an_auditor_reviews_signs_and_takes_the_pack_away(desk: Desk) -> None:
    browser = desk.browser("ann", auditor=True)
    desk.project("gallery")
    second_over()
    begun = browser.post("/console/reviews", {"since": "1d"})
    page = browser.follow(begun)
    assert page.heading == "Review 1"
    assert "Changes of rights" in page.words
    numbers = [name.removeprefix("note-") for name in page.fields if name.startswith("note-")]
    assert browser.post("/console/reviews/1/sign-off", {"note": "early"}).status == 422
    refused = browser.post("/console/reviews/1/mark", {**page.fields, "mark": f"follow_up:{numbers[0]}"})
    assert refused.status == 422
    assert "followed up" in refused.error(f"note-{numbers[0]}")
    for number in numbers:
        seen = browser.get("/console/reviews/1").fields
        marked = browser.post("/console/reviews/1/mark", {**seen, "mark": f"fine:{number}", f"note-{number}": HOSTILE})
        assert marked.header("location") == f"/console/reviews/1?said=saved#finding-{number}"
    for stale in ({}, {"shown": page.fields["shown"]}):
        refused = browser.post("/console/reviews/1/sign-off", {"note": "seen", **stale})
        assert (refused.status, "look again before you sign" in refused.error("note")) == (422, True)
    seen = {"note": "seen", "shown": browser.get("/console/reviews/1").fields["shown"]}
    signed = browser.follow(browser.post("/console/reviews/1/sign-off", seen))
    assert "The review was signed off." in signed.words
    assert "<script>alert" not in signed.text
    assert "Sign off" not in signed.text

    pack = desk.browser("ann").get("/console/reviews/1/pack")
    assert pack.header("content-type") == "application/zip"
    assert desk.last("review.export")["principal"] == "ann"
    assert "1" in browser.get("/console/reviews").words


def reviewed(desk: Desk) -> tuple[Browser, list[str]]:
    """The browser of an auditor who has begun review 1, and the numbers of what it found."""
    browser = desk.browser("ann", auditor=True)
    for name in ("gallery", "attic", "cellar"):
        desk.project(name)
        desk.grant("ann", "puller", name)
    second_over()
    page = browser.follow(browser.post("/console/reviews", {"since": "1d"}))
    numbers = [name.removeprefix("note-") for name in page.fields if name.startswith("note-")]
    assert len(numbers) >= 3
    return browser, numbers


def test_a_finding_that_somebody_else_has_marked_meanwhile_is_not_marked_over_unseen(desk: Desk) -> None:
    ann, (first, second, *_) = reviewed(desk)
    root = desk.browser("root", administrator=True)
    stale = ann.get("/console/reviews/1").fields
    mark = "/console/reviews/1/mark"
    root.post(mark, {**stale, "csrf": root.csrf(), f"note-{first}": "ticket 17", "mark": f"follow_up:{first}"})
    mine = {**stale, f"note-{first}": "all well", f"note-{second}": "unsent"}
    told = ann.post(mark, {**mine, "mark": f"fine:{first}"})
    assert (told.status, "Somebody marked this finding" in told.words) == (409, True)
    assert "to be followed up: ticket 17" in told.words
    assert (told.fields[f"note-{first}"], told.fields[f"note-{second}"]) == ("all well", "unsent")
    assert desk.last("review.mark")["reason"] == "stale"
    # Beside another finding, too, what was seen of this one stays what was seen.
    other = ann.post(mark, {**mine, "mark": f"fine:{second}"})
    assert (other.status, other.fields[f"note-{first}"]) == (200, "all well")
    assert ann.post(mark, {**other.fields, "mark": f"fine:{first}"}).status == 409
    assert ann.post(mark, {**told.fields, f"note-{second}": "unsent", "mark": f"fine:{first}"}).status == 303
    assert (desk.last("review.mark")["before"]["note"], desk.last("review.mark")["after"]["note"]) == (
        "ticket 17",
        "all well",
    )


def test_notes_that_were_typed_beside_other_findings_are_kept_when_one_is_marked(desk: Desk) -> None:
    ann, (first, second, third, *_) = reviewed(desk)
    typed = {**ann.get("/console/reviews/1").fields, f"note-{second}": "a long  careful note"}
    marked = ann.post("/console/reviews/1/mark", {**typed, "mark": f"fine:{first}"})
    assert (marked.status, "Saved." in marked.words) == (200, True)
    assert (marked.fields[f"note-{second}"], marked.fields[f"note-{third}"]) == ("a long  careful note", "")
    assert ann.get("/console/reviews/1").fields[f"note-{second}"] == "", "it was not saved"
    done = ann.post("/console/reviews/1/mark", {**marked.fields, "mark": f"fine:{second}"})
    assert ann.follow(done).fields[f"note-{second}"] == "a long careful note"


def test_enter_in_a_note_decides_nothing_and_loses_nothing(desk: Desk) -> None:
    ann, (_, second, *_) = reviewed(desk)
    typed = {**ann.get("/console/reviews/1").fields, f"note-{second}": "bob must be asked"}
    told = ann.post("/console/reviews/1/mark", {**typed, "mark": ""})
    assert (told.status, told.fields[f"note-{second}"]) == (422, "bob must be asked")
    assert "Choose Fine or Follow up" in told.error(f"note-{second}")
    assert desk.house.records(kind="review.mark") == []
    assert "Choose Fine or Follow up" in ann.post("/console/reviews/1/mark", {"mark": ""}).words


def test_a_review_that_was_signed_off_meanwhile_says_so(desk: Desk) -> None:
    ann, numbers = reviewed(desk)
    stale = ann.get("/console/reviews/1").fields
    for number in numbers:
        desk.run(desk.acts.reviews.mark(OPERATOR, 1, int(number), "fine"))
    desk.run(desk.acts.reviews.sign_off(OPERATOR, 1))
    told = ann.post("/console/reviews/1/mark", {**stale, "mark": f"fine:{numbers[0]}"})
    assert (told.status, "was signed off by operator:root" in told.words) == (409, True)


def test_the_findings_of_a_review_are_leafed_through_and_marking_one_stays_there(desk: Desk) -> None:
    ann = desk.browser("ann", auditor=True)
    rule, last_rule = RULES[0], RULES[-1]
    picked = [(rule, Found(f"user-{number:02}", "held too much.")) for number in range(60)]
    runs = [Run(rule.name, 60, True), Run(last_rule.name, 0, True)]
    change = rows.begin("", 0, 86_400, Policy(), picked, runs, by="ann", now=86_400)
    written(desk.house, change.apply)
    numbers = walked(ann, "/console/reviews/1", lambda page: re.findall(r'id="finding-(\d+)"', page.text))
    assert numbers == [str(number + 1) for number in range(len(numbers))]
    assert len(numbers) == 60
    first = ann.get("/console/reviews/1")
    assert "Nothing was found." not in first.words
    last = ann.get("/console/reviews/1?after=000000050")
    assert "Nothing was found." in last.words
    marked = ann.post("/console/reviews/1/mark?after=000000050", {**last.fields, "mark": "fine:51"})
    assert marked.header("location") == "/console/reviews/1?after=000000050&said=saved#finding-51"


def test_reviews_are_leafed_through_to_the_oldest_and_narrowed(desk: Desk) -> None:
    ann, jane = desk.browser("ann", auditor=True), desk.browser("jane")
    desk.project("gallery")
    desk.grant("jane", "owner", "gallery")
    now = int(datetime.now(UTC).timestamp()) + 1
    for project in ("", *["gallery"] * 108, ""):
        written(desk.house, rows.begin(project, now, now + 1, Policy(), (), (), by="jane", now=now).apply)
    desk.run(desk.acts.reviews.sign_off(OPERATOR, 1))

    def listed(page: Sheet) -> list[str]:
        return re.findall(r">Review (\d+)</a>", page.text)

    assert walked(ann, "/console/reviews", listed) == [str(110 - number) for number in range(110)]
    assert listed(ann.get("/console/reviews?every=yes")) == ["110", "1"]
    assert listed(ann.get("/console/reviews?every=yes&open=yes")) == ["110"]
    assert walked(ann, "/console/reviews?open=yes", listed) == [str(110 - number) for number in range(109)]
    owned = walked(jane, "/console/reviews?project=gallery&open=yes", listed)
    assert owned == [str(109 - number) for number in range(108)]
    assert "Of every project" not in jane.get("/console/reviews?project=gallery").words
    assert listed(jane.get("/console/reviews?project=gallery&every=yes"))[0] == "109"


def test_a_list_of_reviews_has_no_leaf_beyond_its_end_and_leads_to_none(desk: Desk) -> None:
    ann = desk.browser("ann", auditor=True)
    now = int(datetime.now(UTC).timestamp())
    for _ in range(60):
        written(desk.house, rows.begin("", now, now + 1, Policy(), (), (), by="ann", now=now).apply)
    first = ann.get("/console/reviews").words
    assert "Review 60" in first
    for beyond in ("after=1", "after=0", "before=60", "before=999999"):
        assert ann.get(f"/console/reviews?{beyond}").words == first, beyond
    oldest = ann.get("/console/reviews?before=0")
    assert ("Review 1 " in oldest.words, "Next page" in oldest.words, "Previous page" in oldest.words) == (
        True,
        False,
        True,
    )
    assert "Next page" in ann.get("/console/reviews?before=10").words


def test_exports_have_the_places_that_the_api_has_and_a_page_says_when_all_are_taken(desk: Desk) -> None:
    browser, other = desk.browser("ann", auditor=True), desk.browser("bob", auditor=True)
    exporting = desk.acts.exporting
    ann = desk.run(desk.acts.sessions.find(browser.cookie, OPERATOR.origin)).caller
    with exporting.slot(ann) as first, exporting.slot(ann) as second:
        for target in ("/console/audit/export", "/console/audit/export?format=csv", "/console/reviews/1/pack"):
            told = browser.get(target)
            assert (told.status, told.header("retry-after")) == (429, "5")
            assert "2 exports of yours are under way" in told.words
        assert other.get("/console/audit/export").status == 200
        assert exporting.under_way == 2
    first.give_back()
    second.give_back()
    assert browser.get("/console/audit/export").status == 200
    assert exporting.under_way == 0


def test_a_download_that_nobody_reads_is_ended_and_its_place_is_free() -> None:
    exporting, closed = Exports(stall_seconds=0.05), []

    def pieces() -> Generator[bytes, None, None]:
        try:
            yield from (b"one", b"two")
        finally:
            closed.append(True)

    async def send(message: Any) -> None:
        if message.get("body") == b"two":
            await asyncio.Event().wait()

    with exporting.slot(OPERATOR) as slot:
        download = Download(slot, pieces(), "a.txt", "text/plain")
    assert exporting.under_way == 1
    asyncio.run(download({"method": "GET"}, None, send))
    assert (exporting.under_way, closed) == (0, [True])


def test_an_export_is_the_events_and_a_verification_says_how_the_trail_is(desk: Desk) -> None:
    browser = desk.browser("ann", auditor=True)
    happened(desk, Kind.MANIFEST_PULL)
    export = browser.get("/console/audit/export?kind=manifest.pull")
    assert export.header("content-disposition").startswith("attachment")
    assert export.text.count("\n") == 1
    assert browser.get("/console/audit/export?since=soon").status == 422
    assert "The trail is whole" in browser.post("/console/audit/verify").words


@pytest.mark.parametrize("target", ["/console/audit/events/x", "/console/audit/events/99999", "/console/reviews/0x1"])
def test_what_is_not_there_is_said_to_be_unknown(desk: Desk, target: str) -> None:
    assert desk.browser("ann", auditor=True).get(target).status == 404


def test_the_bars_fill_the_picture_and_no_refusal_is_too_small_to_see() -> None:
    since = datetime(2026, 11, 1, tzinfo=UTC)
    begin = int(since.timestamp())
    buckets = filled({begin: (10_000, 1, 0), begin + 3600: (5, 0, 0)}, 3600, since, since + timedelta(hours=3))
    drawn = chart.bars(Timeline(buckets, 3600, True, since, since + timedelta(hours=3)))
    assert [part.outcome for part in drawn[0].parts] == ["allowed", "denied"]
    assert all(part.height >= 2 for bar in drawn for part in bar.parts)
    assert all(0 <= part.y <= part.y + part.height <= chart.HEIGHT + 0.01 for bar in drawn for part in bar.parts)
    assert drawn[2].parts == ()


def test_what_was_sealed_away_is_told_and_looked_through_by_a_link(desk: Desk) -> None:
    old = datetime.now(UTC) - timedelta(days=100)
    digest = f"sha256:{'a' * 64}"
    pulled = {"project": "gallery", "repository": "gallery/ui", "digest": digest}
    happened(desk, Kind.MANIFEST_PULL, time=old, **pulled)
    happened(desk, Kind.BLOB_PULL)
    _project(desk)
    desk.run(desk.acts.evidence.retain(OPERATOR, datetime.now(UTC) - timedelta(days=20)))
    auditor = desk.browser("ann", auditor=True)

    for target, shown in (
        ("/console/audit?kind=manifest.pull", "gallery/ui@"),
        (f"/console/audit/who-pulled?target={digest}", "gallery/ui 1"),
    ):
        page = auditor.get(target)
        assert "are sealed away in 1 file under segments/" in page.words
        assert shown not in page.words
        link = re.search(r'href="([^"]*)">Look through them', page.text)
        assert link is not None
        found = auditor.get(html.unescape(link[1]))
        assert shown in found.words
        assert "sealed away" not in found.words


def _project(desk: Desk) -> None:
    with desk.house.database.lock(), desk.house.database.engine.connect() as connection:
        while project_tail(desk.house.database, connection):
            pass


def test_a_search_that_was_not_kept_says_so_beside_its_name(desk: Desk) -> None:
    ann = desk.browser("ann", auditor=True)
    searched = ann.get("/console/audit?outcome=denied&name=mine")
    assert (searched.status, searched.fields["name"]) == (200, "mine")
    assert "Nothing was kept yet" in searched.error("name")
    assert "name=mine" not in re.sub(r"<input[^>]*>", "", searched.text), (
        "its leaves and exports are of the search alone"
    )
    kept = ann.post("/console/audit/saved", searched.fields | {"name": "mine"})
    assert kept.status == 303
    assert ann.follow(kept).error("name") == ""


def test_a_search_that_cannot_be_keeps_the_name_it_was_to_be_kept_under(desk: Desk) -> None:
    ann = desk.browser("ann", auditor=True)
    for refused in (
        ann.post("/console/audit/saved", {"project": "NOPE!", "name": "mine"}),
        ann.get("/console/audit?project=NOPE!&name=mine"),
    ):
        assert (refused.status, refused.fields["name"], bool(refused.error("project"))) == (422, "mine", True)
        assert "Keep this search" in refused.words
