"""What can be had back, what is kept, what proves the trail and how the gateway is: as pages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import insert, update

from gateway.access.principals import Caller
from gateway.administration.retention import Retention, Retentions
from gateway.audit.event import Event, Kind
from gateway.gate import Act
from gateway.oci.manifest import Manifest
from gateway.records import cursors
from gateway.records.evidence_tables import checkpoints as stored
from tests.administration.stocking import Stock
from tests.console.browsing import Browser, Desk
from tests.console.stocked import stock_of, team
from tests.house import OPERATOR
from tests.records.rows import written

UI = "gallery/ui"


def removed(browser: Browser, reference: str) -> None:
    assert browser.fill(f"/console/removals/{reference}/{UI}").status == 303


def pushed(desk: Desk) -> tuple[Browser, Manifest]:
    image = team(desk).image(UI, "v1", "latest")
    return desk.browser("jane"), image


def test_a_removal_says_until_when_it_can_be_had_back(desk: Desk) -> None:
    jane, image = pushed(desk)
    for reference in ("v1", image.digest.text):
        assert "can be had back until" in jane.get(f"/console/removals/{reference}/{UI}").words
    assert "This cannot be undone" in jane.get(f"/console/repository-removals/{UI}").words


def test_a_tag_comes_back_from_the_list_of_the_deleted(desk: Desk) -> None:
    jane, image = pushed(desk)
    removed(jane, "v1")
    for page in (f"/console/deleted/{UI}", "/console/projects/gallery/deleted"):
        listed = jane.get(page)
        assert listed.status == 200
        assert "by jane" in listed.words
        assert "until" in listed.words
    done = jane.follow(jane.fill(f"/console/deleted/{UI}", f"/console/restorations/v1/{UI}"))
    assert "Restored." in done.words
    assert jane.get(f"/console/manifests/v1/{UI}").status == 200
    assert "Nothing was deleted here" in jane.get(f"/console/deleted/{UI}").words
    assert desk.last("tag.restore")["digest"] == image.digest.text


def test_a_manifest_comes_back_with_its_tags(desk: Desk) -> None:
    jane, image = pushed(desk)
    removed(jane, image.digest.text)
    assert jane.get(f"/console/manifests/v1/{UI}").status == 404
    assert jane.post(f"/console/restorations/{image.digest}/{UI}").status == 303
    assert jane.get(f"/console/manifests/v1/{UI}").status == 200
    again = jane.post(f"/console/restorations/{image.digest}/{UI}")
    assert (again.status, "has no manifest" in again.words) == (422, True)


def test_a_tag_that_names_something_else_moves_back_only_after_a_question(desk: Desk) -> None:
    jane, image = pushed(desk)
    removed(jane, "v1")
    stock = team_stock(desk)
    other = stock.image(UI, "v1", layers=[b"other"])
    question = jane.post(f"/console/restorations/v1/{UI}", {"to": image.digest.text})
    assert (question.status, question.heading) == (409, f"Move tag v1 of {UI} back?")
    assert other.digest.text in question.words
    third = stock.image(UI, "v1", layers=[b"third"])
    stale = jane.post(f"/console/restorations/v1/{UI}", question.fields)
    assert (stale.status, third.digest.text in stale.words) == (409, True)
    assert jane.post(f"/console/restorations/v1/{UI}", stale.fields).status == 303
    assert image.digest.text in jane.get(f"/console/manifests/v1/{UI}").words


def team_stock(desk: Desk) -> Stock:
    return stock_of(desk, "jane")


def test_the_history_of_a_tag_tells_its_moves_and_goes_back(desk: Desk) -> None:
    jane, image = pushed(desk)
    team_stock(desk).image(UI, "v1", layers=[b"newer"])
    page = jane.get(f"/console/tag-history/v1/{UI}")
    assert page.heading == "History of v1"
    assert page.words.count("manifest.push") == 2
    assert page.text.count("Back to this") == 1
    question = jane.post(f"/console/restorations/v1/{UI}", {"to": image.digest.text})
    assert jane.post(f"/console/restorations/v1/{UI}", question.fields).status == 303
    assert "tag.restore" in jane.get(f"/console/tag-history/v1/{UI}").words


def test_who_may_only_pull_restores_nothing(desk: Desk) -> None:
    jane, image = pushed(desk)
    removed(jane, "v1")
    reader = desk.browser("reader")
    assert reader.get(f"/console/deleted/{UI}").status == 403
    assert reader.get("/console/projects/gallery/deleted").status == 403
    assert reader.get(f"/console/tag-history/v1/{UI}").status == 200
    assert reader.post(f"/console/restorations/v1/{UI}", {"to": image.digest.text}).status == 403
    assert reader.post(f"/console/restorations/{image.digest}/{UI}").status == 403


#: Pages about a project, and acts on it.
PAGES = (
    "deleted/{project}/ui",
    "projects/{project}/deleted",
    "tag-history/v1/{project}/ui",
    "restorations/v1/{project}/ui",
    "projects/{project}/settings/retention",
    "projects/{project}/settings/retention/plan",
    "projects/{project}/settings/retention/apply",
)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_of_another_project_is_refused_as_if_it_were_not_there(desk: Desk, method: str) -> None:
    pushed(desk)
    joe = desk.browser("joe")
    for page in PAGES:
        answers = []
        for project in ("gallery", "nowhere"):
            path = "/console/" + page.format(project=project)
            answer = joe.get(path) if method == "GET" else joe.post(path, {"to": "", "seen": ""})
            answers.append((answer.status, answer.words.replace(project, "it")))
        assert answers[0] == answers[1], page
        assert answers[0][0] >= 400, page


RETENTION = "/console/projects/gallery/settings/retention"


def test_retention_is_set_planned_and_applied(desk: Desk) -> None:
    jane, _ = pushed(desk)
    team_stock(desk).image(UI, "old", layers=[b"old"])
    saved = jane.follow(jane.fill(RETENTION, matching="v*\nlatest"))
    assert "keeps tags matching v*, tags matching latest." in saved.words
    plan = jane.get(f"{RETENTION}/plan")
    assert "1 of 3 tags would go." in plan.words
    assert "gallery/ui:old nothing keeps it" in plan.words
    assert "matches v*" in plan.words
    question = jane.get(f"{RETENTION}/apply")
    assert "These go: gallery/ui:old." in question.words
    assert "can be had back until" in question.words
    team_stock(desk).image(UI, "older", layers=[b"older"])
    changed = jane.post(f"{RETENTION}/apply", question.fields)
    assert (changed.status, "has changed meanwhile" in changed.words) == (409, True)
    done = jane.follow(jane.post(f"{RETENTION}/apply", changed.fields))
    assert "old" in done.words
    assert "older" in done.words
    assert "0 of 2 tags would go." in jane.get(f"{RETENTION}/plan").words


def test_what_retention_cannot_be_is_told_beside_its_field(desk: Desk) -> None:
    jane, _ = pushed(desk)
    page = jane.fill(RETENTION, last="0", pulled_days="soon", matching="v**x!")
    assert page.status == 422
    assert all(page.error(name) for name in ("last", "pulled_days", "matching"))
    assert page.fields["pulled_days"] == "soon"


def test_whoever_saves_retention_second_sees_what_the_first_did(desk: Desk) -> None:
    jane, _ = pushed(desk)
    form = jane.get(RETENTION).fields
    jane.fill(RETENTION, last="3")
    second = jane.post(RETENTION, {**form, "last": "5"})
    assert (second.status, "keeps the last 3 now" in second.words) == (409, True)
    assert second.fields["last"] == "5"
    assert jane.post(RETENTION, second.fields).status == 303


def test_retention_that_somebody_saves_at_the_same_moment_is_not_lost(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    jane, _ = pushed(desk)
    form = jane.get(RETENTION).fields
    save = Retentions.set

    async def late(self: Retentions, caller: Caller, project: str, **wanted: Any) -> Retention:
        # Whatever the console has looked at by now, somebody else is first to commit.
        monkeypatch.undo()
        await save(desk.acts.retention, OPERATOR, project, last=20, matching=("v*",))
        return await save(self, caller, project, **wanted)

    monkeypatch.setattr(Retentions, "set", late)
    second = jane.post(RETENTION, {**form, "last": "1"})

    assert (second.status, "keeps the last 20, tags matching v* now" in second.words) == (409, True)
    assert second.fields["last"] == "1"
    assert desk.run(desk.acts.retention.show(OPERATOR, "gallery")) == Retention(20, ("v*",))
    assert jane.post(RETENTION, second.fields).status == 303
    assert desk.run(desk.acts.retention.show(OPERATOR, "gallery")).last == 1


def test_evidence_is_told_and_given_to_auditors(desk: Desk) -> None:
    ann = desk.browser("ann", auditor=True)
    empty = ann.get("/console/audit/evidence")
    assert "None was made yet" in empty.words
    assert "There are no sinks" in empty.words
    assert ann.get("/console/audit/evidence/checkpoint").status == 404
    made = desk.run(desk.acts.evidence.checkpoint(OPERATOR))
    commit = desk.house.ledger.commit
    event = Event(Kind.AUDIT_DELIVERY, OPERATOR)
    desk.run(commit(Act(event, cursors.want({"siem": ("syslog", "logs.example:6514")}))))
    desk.run(commit(Act(event, cursors.fail("siem", "The connection was refused."))))
    page = ann.get("/console/audit/evidence")
    assert f"number 1, of event {made.seq}" in page.words
    assert "siem syslog logs.example:6514 failing since" in page.words
    assert "The connection was refused." in page.words
    key = ann.get("/console/audit/evidence/key")
    assert key.text.startswith("-----BEGIN PUBLIC KEY-----")
    assert "attachment" in key.header("content-disposition")
    assert ann.get("/console/audit/evidence/checkpoint").text == f"{made.line}\n"
    assert desk.browser("jane").get("/console/audit/evidence").status == 403


@pytest.mark.parametrize("line", ["{}", "", '{"type":"checkpoint"', "[" * 5000])
def test_a_row_that_is_no_checkpoint_is_told_of_and_given_to_nobody(desk: Desk, line: str) -> None:
    ann = desk.browser("ann", auditor=True)
    forged = {"number": 2**40, "seq": 10**12, "made_at": 2**62, "line": line}
    written(desk.house, lambda connection: connection.execute(insert(stored).values(forged)))
    told = f"The row of checkpoint {2**40} is no statement of this gateway: somebody edited it."

    page = ann.get("/console/audit/evidence")
    assert told in page.words
    assert "gateway audit verify" in page.words
    assert ann.get("/console/audit/evidence/checkpoint").status == 404
    made = desk.run(desk.acts.evidence.checkpoint(OPERATOR))
    written(desk.house, lambda connection: connection.execute(update(stored).values(made_at=2**62)))
    page = ann.get("/console/audit/evidence")
    assert told in page.words
    assert f"number 1, of event {made.seq}" in page.words
    assert ann.get("/console/audit/evidence/checkpoint").text == f"{made.line}\n"


def test_the_gateway_is_made_read_only_for_a_reason(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    page = root.get("/console/system")
    assert "The gateway takes changes." in page.words
    assert "The clock is not behind the newest event." in page.words
    assert root.fill("/console/system", "/console/system/read-only", reason="").error("reason")
    told = root.follow(root.fill("/console/system", "/console/system/read-only", reason="Moving house"))
    assert "read-only since" in told.words
    assert "Moving house" in told.words
    assert "takes changes." in root.follow(root.post("/console/system/writable")).words


def test_an_administrator_sees_the_keys_that_sign_tokens_and_what_became_of_them(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    assert "There are no keys yet" in root.get("/console/system/keys").words
    now = datetime.now(UTC)
    first = desk.run(desk.house.ledger.commit(Act(Event(Kind.KEY_ADD, OPERATOR), desk.acts.keys.stored.add_first(now))))
    second = desk.run(desk.acts.keys.rotate_key(OPERATOR)).kid
    desk.run(desk.acts.keys.rotate_key(OPERATOR))
    desk.run(desk.acts.keys.revoke_key(OPERATOR, second))

    told = {row.kid: row.state for row in desk.run(desk.acts.keys.list_keys(OPERATOR))}
    page = root.get("/console/system/keys")

    assert sorted(told.values()) == ["current", "next", "previous", "revoked"]
    assert told[first.result.kid] == "previous"
    for kid, state in told.items():
        row = page.text.partition(f"<code>{kid}</code>")[2].partition("</tr>")[0]
        assert f">{state}</span>" in row
        assert ("no end yet" in row) == (state in {"current", "next"})
    assert "PRIVATE" not in page.text
    assert '"/console/system/keys"' in root.get("/console/system").text
    assert desk.last("key.list")["principal"] == "root"


def test_the_system_is_for_administrators(desk: Desk) -> None:
    for browser in (desk.browser("ann", auditor=True), desk.browser("jane")):
        assert browser.get("/console/system/keys").status == 403
        assert browser.get("/console/system").status == 403
        assert browser.post("/console/system/read-only", {"reason": "No"}).status == 403
        assert browser.post("/console/system/writable").status == 403
        assert '"/console/system"' not in browser.get("/console/projects").text
