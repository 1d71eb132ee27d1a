"""The page of a leaked credential, and what hostile clients wrote on every page of the auditor."""

from __future__ import annotations

import html
from dataclasses import replace
from urllib.parse import quote

import pytest

from gateway.access.principals import Caller, Origin, Principal, PrincipalKind
from gateway.audit.event import Event, Kind, Outcome
from gateway.gate import Act
from tests.console.browsing import Desk
from tests.console.hostile import CORPUS
from tests.console.stocked import stock_of
from tests.console.test_hostile_content import SOME_OR_ALL, sound, sound_refusal

DIGEST = "sha256:" + "4f" * 32


def furnish(desk: Desk) -> Caller:
    """A robot of jane's project that pulled something; the robot."""
    desk.project("gallery")
    desk.user("jane")
    desk.grant("jane", "owner", "gallery")
    desk.run(desk.acts.robots.add_robot(stock_of(desk, "jane").who, "gallery/ci", "pusher"))
    robot = stock_of(desk, "gallery+ci").who
    facts = {"project": "gallery", "repository": "gallery/ui", "digest": DIGEST, "action": "pull"}
    desk.run(desk.house.ledger.commit(Act(Event(Kind.MANIFEST_PULL, robot).but(**facts))))
    return robot


def test_an_auditor_is_shown_the_plan_and_cannot_revoke(desk: Desk) -> None:
    furnish(desk)
    ann = desk.browser("ann", auditor=True)
    page = ann.get("/console/audit/leak?credential=gallery/ci&since=1d")
    assert page.status == 200
    assert DIGEST in page.text
    assert "Revoke it" not in page.text
    sent = {"credential": "gallery/ci", "since": "1d", "typed": "gallery/ci"}
    assert ann.post("/console/audit/leak", sent).status == 403
    assert desk.last("credential.leak")["outcome"] == "denied"


def test_an_owner_revokes_its_robot_after_typing_its_name(desk: Desk) -> None:
    robot = furnish(desk)
    jane = desk.browser("jane")
    before = desk.run(desk.house.directory.standing(robot.principal))
    assert "Revoke it" in jane.get("/console/audit/leak?credential=gallery/ci&since=1d").text
    sent = {"credential": "gallery/ci", "since": "1d", "typed": "gallery"}
    refused = jane.post("/console/audit/leak", sent)
    assert refused.status == 422
    assert "Type gallery/ci" in refused.error("typed")
    assert desk.run(desk.house.directory.standing(robot.principal)) == before
    done = jane.post("/console/audit/leak", {**sent, "typed": "gallery/ci"})
    assert done.status == 200
    assert "was revoked" in done.words
    assert "Revoke it" not in done.text
    after = desk.run(desk.house.directory.standing(robot.principal))
    assert after.generation == before.generation + 1
    assert jane.get("/console/audit/leak?credential=nobody").status == 403


def test_what_names_no_credential_or_no_time_is_told_beside_its_field(desk: Desk) -> None:
    ann = desk.browser("ann", auditor=True)
    assert ann.get("/console/audit/leak").status == 200
    assert ann.get("/console/audit/leak?credential=nobody").error("credential")
    assert ann.get("/console/audit/leak?credential=personal:9").error("credential")
    assert ann.get("/console/audit/leak?credential=ann&since=soon").error("since")


def test_an_owner_is_shown_the_projects_it_may_review(desk: Desk) -> None:
    furnish(desk)
    jane = desk.browser("jane")
    page = jane.get("/console/reviews")
    assert page.status == 200
    assert "/console/reviews?project=gallery" in page.text
    assert jane.get("/console/reviews?project=gallery").status == 200
    wrong = jane.post("/console/reviews", {"since": "soon", "project": "gallery"})
    assert (wrong.status, bool(wrong.error("since"))) == (422, True)
    assert desk.browser("joe").get("/console/reviews").status == 403
    ann = desk.browser("ann", auditor=True)
    assert ann.post("/console/reviews", {"since": "1d", "project": "UPPER"}).error("project")


def test_a_table_for_spreadsheets_runs_nothing(desk: Desk) -> None:
    robot = furnish(desk)
    caller = replace(robot, origin=replace(robot.origin, agent="=cmd|' /C calc'!A0"))
    desk.run(desk.house.ledger.commit(Act(Event(Kind.BLOB_PULL, caller))))
    sheet = desk.browser("ann", auditor=True).get("/console/audit/export?format=csv&kind=blob.*")
    assert sheet.header("content-type").startswith("text/csv")
    assert sheet.text.startswith("id,time,kind,outcome,")
    assert ",'=cmd|" in sheet.text
    assert sheet.text.count("\r\n") == 2


@pytest.mark.parametrize("corpus", SOME_OR_ALL)
def test_what_clients_and_auditors_write_is_text_on_every_page_of_the_auditor(
    desk: Desk, corpus: tuple[str, ...]
) -> None:
    robot = furnish(desk)
    ann = desk.browser("ann", auditor=True)
    for text in corpus:
        origin = Origin("192.0.2.9", "192.0.2.9", text, "0" * 32)
        stranger = Caller(Principal(PrincipalKind.ANONYMOUS, 0, text), origin)
        facts = {"repository": text, "project": text, "reference": text, "reason": text, "digest": DIGEST}
        for caller in (stranger, replace(robot, origin=origin)):
            for kind, outcome in ((Kind.MANIFEST_PULL, Outcome.ALLOWED), (Kind.MANIFEST_PUSH, Outcome.DENIED)):
                desk.run(desk.house.ledger.commit(Act(Event(kind, caller, outcome).but(**facts))))
        shown = ann.get(f"/console/audit/events/{desk.last('manifest.push')['id']}")
        sound(shown)
        assert shown.status == 200
        said = quote(text, safe="")
        for path in ("audit", f"audit?principal={said}", f"audit?repository={said}&since={said}"):
            sound(ann.get(f"/console/{path}"))
        for path in (f"audit/who-pulled?target={said}&at={said}", f"audit/leak?credential={said}&since={said}"):
            sound(ann.get(f"/console/{path}"))
        sound_refusal(ann.get(f"/console/reviews?project={said}"))
        sound(ann.post("/console/audit/leak", {"credential": text, "since": text, "typed": ""}))
    sound(ann.get(f"/console/audit/who-pulled?target={DIGEST}"))
    leak = ann.get("/console/audit/leak?credential=gallery/ci&since=1d")
    sound(leak)
    assert CORPUS[0] in html.unescape(leak.text)
    page = ann.follow(ann.post("/console/reviews", {"since": "1d"}))
    numbers = [name.removeprefix("note-") for name in page.fields if name.startswith("note-")]
    for place, number in enumerate(numbers):
        note = corpus[place % len(corpus)]
        marked = {"finding": number, "mark": "follow_up", f"note-{number}": note}
        sound_refusal(ann.post("/console/reviews/1/mark", marked))
    sound(ann.get("/console/reviews/1"))
    sound(ann.get("/console/reviews"))
