"""Bad input: told beside the field it stands in, with everything else kept; and no form that was filled in is lost."""

from __future__ import annotations

import pytest

from gateway.console.form import Form
from tests.console.browsing import PASSWORD, Browser, Desk
from tests.console.stocked import team

MEMBERS = "/console/projects/gallery/members"


@pytest.fixture
def ann(desk: Desk) -> Browser:
    """An auditor's browser, before two projects and their people."""
    team(desk)
    return desk.browser("ann", auditor=True)


@pytest.mark.parametrize(
    ("address", "field"),
    [
        ("audit?project=No+Name&principal=jane", "project"),
        ("audit?repository=UPPER&principal=jane", "repository"),
        ("audit?since=2026-05-01&until=2026-04-01&principal=jane", "until"),
        ("audit?outcome=perhaps&principal=jane", "outcome"),
        ("audit/who-pulled?target=gallery/ui:v1&at=soon", "at"),
        ("audit/leak?credential=jane&since=soon", "since"),
        ("grants?account=jane&project=No+Name", "project"),
    ],
)
def test_what_cannot_be_is_told_beside_its_field_alone(ann: Browser, address: str, field: str) -> None:
    page = ann.get(f"/console/{address}")
    assert page.status == 422
    asked = Form.read(address.partition("?")[2])
    assert [name for name, _ in asked.pairs if page.error(name)] == [field]
    for name, value in asked.pairs:
        assert name in {"outcome"} or page.fields[name] == value


def test_forms_tell_each_flaw_beside_its_own_field(desk: Desk, ann: Browser) -> None:
    jane = desk.browser("jane")
    member = jane.post(MEMBERS, {"principal": "reader", "role": "king", "pattern": "ui-*"})
    assert (member.status, bool(member.error("role")), member.error("principal")) == (422, True, "")
    robot = jane.post("/console/projects/gallery/robots", {"name": "ci", "role": "king", "days": "90"})
    assert (robot.status, bool(robot.error("role")), robot.error("name")) == (422, True, "")
    replayed = ann.post("/console/audit/replay", {"verb": "grant", "principal": "jane", "reach": "!!", "role": "king"})
    assert (replayed.error("principal"), bool(replayed.error("reach")), bool(replayed.error("role"))) == (
        "",
        True,
        True,
    )
    kept = ann.post("/console/audit/saved", {"name": "mine", "since": "soon", "principal": "jane"})
    assert (kept.status, bool(kept.error("since")), kept.error("name")) == (422, True, "")
    assert (kept.fields["principal"], kept.fields["name"]) == ("jane", "mine")


def test_no_form_is_offered_that_would_be_filled_in_for_nothing(desk: Desk, ann: Browser) -> None:
    jane = desk.browser("jane")
    for page in ("users/new", "projects/new"):
        assert ann.get(f"/console/{page}").status == 403
    assert jane.get("/console/audit/verify").status == 403


def test_a_nul_is_no_character_that_a_database_is_asked_for(ann: Browser) -> None:
    assert Form.read("q=a%00b&q=%00").values("q") == ("a\ufffdb", "\ufffd")
    for page in ("users?q=%00", "audit?principal=%00", "grants?after=%00", "projects/gallery/access?after=%00"):
        assert ann.get(f"/console/{page}").status == 200


def test_a_form_of_a_tab_that_was_left_open_can_be_sent_from_the_new_session(desk: Desk, ann: Browser) -> None:
    jane = desk.browser("jane")
    stale = jane.get(MEMBERS).fields
    # Signed in again, in another tab of the same browser.
    jane.post("/console/sign-in", {"name": "jane", "password": PASSWORD, "csrf": ""})
    told = jane.post(MEMBERS, {**stale, "principal": "ann", "role": "pusher", "pattern": "ui-*"})
    assert (told.status, told.heading) == (403, "Your form was kept")
    assert "ann" not in jane.get(MEMBERS).words
    assert told.fields["csrf"] != stale["csrf"]
    assert jane.post(MEMBERS, told.fields).status == 303
    assert "ann pusher gallery/ui-*" in jane.get(MEMBERS).words


def test_a_password_of_such_a_form_is_not_shown_again(desk: Desk, ann: Browser) -> None:
    root = desk.browser("root", administrator=True)
    told = root.post("/console/users/new", {"csrf": "stale", "name": "kim", "password": "hunter2 hunter2"})
    assert told.status == 403
    assert "hunter2" not in told.text
    assert 'method="get" action="/console/users/new"' in told.text
    assert root.get("/console/users/new?name=kim").fields["name"] == "kim"
