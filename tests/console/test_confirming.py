"""Something grave is confirmed: the password again, and a code, when signing in was a while ago; no form is lost."""

from __future__ import annotations

import re
import time

from sqlalchemy import select, update

from gateway.access.second_factors import code_at
from gateway.console.confirming import FRESH_SECONDS
from gateway.console.pages import GROUPS
from gateway.records.schema import sessions
from tests.console.browsing import PASSWORD, Browser, Desk, Sheet
from tests.console.test_console_sessions import with_factor
from tests.records.rows import written

ASKED = "Confirm that it is you"
GRAVE = {
    "/users/new",
    "/users/{user}/roles",
    "/users/{user}/password",
    "/users/{user}/second-factor",
    "/users/{user}/remove",
    "/projects/{project}/settings/remove",
    "/repository-removals/{repository:path}",
    "/audit/leak",
    "/account/tokens",
}


def later(desk: Desk, seconds: int = FRESH_SECONDS) -> None:
    """Every session began so long ago; it is still in use."""
    written(desk.house, lambda each: each.execute(update(sessions).values(created_at=int(time.time()) - seconds)))


def confirm(browser: Browser, page: str, asked: Sheet, password: str = PASSWORD) -> Sheet:
    return browser.post(page, {**asked.fields, "confirm_password": password})


def test_these_acts_are_grave() -> None:
    assert {page.path for group in GROUPS for page in group.pages if page.grave} == GRAVE


def test_a_browser_left_open_does_nothing_grave(desk: Desk) -> None:
    desk.project("gallery")
    desk.user("jane")
    root = desk.browser("root", administrator=True)
    later(desk)
    before = len(desk.house.records())
    posts: tuple[tuple[str, dict[str, str]], ...] = (
        ("users/new", {"name": "evil", "administrator": "yes"}),
        ("users/jane/roles", {"administrator": "yes", "version": "x"}),
        ("users/jane/password", {"password": "another good one"}),
        ("users/jane/second-factor", {}),
        ("users/jane/remove", {}),
        ("projects/gallery/settings/remove", {"typed": "gallery"}),
        ("repository-removals/gallery/ui", {"typed": "gallery/ui"}),
        ("audit/leak", {"credential": "jane", "since": "30d", "typed": "jane"}),
        ("account/tokens", {"name": "laptop", "actions": "manage", "days": "90"}),
    )
    assert len(posts) == len(GRAVE)
    for page, fields in posts:
        asked = root.post(f"/console/{page}", fields)
        assert (asked.status, asked.heading) == (401, ASKED), page
    wrong = confirm(root, f"/console/{page}", asked, "not the password")
    assert (wrong.status, wrong.heading) == (403, ASKED)
    assert wrong.error("confirm_password")
    assert [event["kind"] for event in desk.house.records()[before:]] == ["account.sign_in"]


def test_once_confirmed_the_form_is_sent_as_it_was_and_nothing_more_is_asked(desk: Desk) -> None:
    desk.user("jane")
    root = desk.browser("root", administrator=True)
    form = root.get("/console/users/jane").fields
    later(desk)
    page = "/console/users/jane/roles"
    asked = root.post(page, {**form, "auditor": "yes"})
    wrong = confirm(root, page, asked, "not the password")
    cookie = root.cookie
    done = confirm(root, page, wrong)
    assert "Saved." in root.follow(done).words
    assert desk.last("account.set")["after"]["auditor"] is True
    assert root.cookie != cookie, "a confirmed session goes on under its old cookie"
    again = root.fill("/console/users/new", name="joe", password="another good one")
    assert again.status == 303


def test_a_password_that_was_typed_survives_and_is_never_shown(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    later(desk)
    asked = root.fill("/console/users/new", name="jane", password="hunter2 hunter2")
    assert "hunter2" not in asked.text
    assert confirm(root, "/console/users/new", asked).status == 303
    assert desk.browser().post("/console/sign-in", {"name": "jane", "password": "hunter2 hunter2"}).status == 303


def test_what_is_refused_after_confirming_leaves_one_signed_in(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    later(desk)
    page = "/console/users/nobody/remove"
    assert confirm(root, page, root.post(page)).status == 404
    assert root.get("/console/users").status == 200


def test_a_second_factor_is_asked_for_too(desk: Desk) -> None:
    desk.user("root", administrator=True)
    desk.project("gallery")
    root, key, _ = with_factor(desk, "root")
    later(desk)
    page = "/console/projects/gallery/settings/remove"
    coded = confirm(root, page, root.post(page, {"typed": "gallery"}))
    assert (coded.status, coded.heading) == (401, ASKED)
    assert "confirm_code" in coded.fields
    wrong = root.post(page, {**coded.fields, "confirm_code": "000000"})
    assert (wrong.status, bool(wrong.error("confirm_code"))) == (403, True)
    assert desk.house.records(kind="project.remove") == []
    code = code_at(key, int(time.time()) // 30 + 1)
    assert "Removed." in root.follow(root.post(page, {**wrong.fields, "confirm_code": code})).words


def test_guessing_is_throttled_as_at_the_door(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    later(desk)
    asked = root.post("/console/users/new", {"name": "jane"})
    answers = [confirm(root, "/console/users/new", asked, f"wrong number {number}") for number in range(25)]
    assert {answer.status for answer in answers} == {403, 429}
    patient = confirm(root, "/console/users/new", asked)
    assert (patient.status, int(patient.header("retry-after")) > 0) == (429, True)


def test_a_form_is_confirmed_for_its_page_and_its_account_alone(desk: Desk) -> None:
    desk.user("jane")
    root, rick = desk.browser("root", administrator=True), desk.browser("rick", administrator=True)
    later(desk)
    asked = root.post("/console/users/jane/remove")
    sealed = {"carried": asked.fields["carried"], "confirm_password": PASSWORD}
    assert rick.post("/console/users/jane/remove", sealed).status == 400
    assert root.post("/console/users/rick/remove", sealed).status == 400
    assert root.post("/console/users/jane/remove", {**sealed, "carried": "x"}).status == 400
    # Nor does it open where forms travel through signing in.
    door = desk.browser().post("/console/sign-in", {**sealed, "name": "rick", "password": PASSWORD})
    assert (door.status, door.header("location")) == (303, "/console/")
    assert desk.house.records(kind="account.remove") == []


def test_what_was_sealed_for_something_else_is_no_form(desk: Desk) -> None:
    browser = desk.browser("jane")
    begun = browser.post("/console/account/second-factor/begin", {"password": PASSWORD})
    entered = {"name": "jane", "password": PASSWORD, "carried": begun.fields["enrolment"]}
    answer = desk.browser().post("/console/sign-in", entered)
    assert (answer.status, answer.header("location")) == (303, "/console/")


def test_a_session_that_ends_while_it_is_asked_loses_nothing_but_secrets(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    later(desk)
    filled = {"name": "jane", "auditor": "yes", "password": "hunter2 hunter2"}
    asked = root.post("/console/users/new", filled)
    written(desk.house, lambda each: each.execute(sessions.delete()))
    kept = root.post("/console/users/new", {**asked.fields, "confirm_password": PASSWORD})
    assert kept.status == 401
    resumed = root.post("/console/sign-in", {**kept.fields, "name": "root", "password": PASSWORD})
    assert resumed.heading == "Your form was kept"
    assert (resumed.fields["name"], resumed.fields["auditor"]) == ("jane", "yes")
    assert "hunter2" not in resumed.text + kept.text
    # What was left behind is typed on the page itself, where the rest is filled in again.
    assert re.search(r'<form[^>]*method="get" action="/console/users/new"', resumed.text)
    again = root.get("/console/users/new?name=jane&auditor=yes")
    assert (again.fields["name"], again.fields["auditor"]) == ("jane", "yes")
    assert desk.house.database.read_now(lambda each: each.execute(select(sessions.c.id)).all())


def test_a_password_without_the_phone_makes_no_fresh_session_of_an_old_one(desk: Desk) -> None:
    desk.user("root", administrator=True)
    root, key, _ = with_factor(desk, "root")
    later(desk)
    new = {"new_password": "stolen horse battery", "new_password_again": "stolen horse battery"}
    assert "code" in root.get("/console/account").fields
    for code in ("", "000000"):
        refused = root.post("/console/account/password", {"password": PASSWORD, "code": code, **new})
        assert (refused.status, bool(refused.error("code")), refused.error("password")) == (422, True, "")
    assert root.post("/console/account/tokens", {"name": "x", "actions": "manage", "days": "365"}).heading == ASKED
    code = code_at(key, int(time.time()) // 30 + 1)
    changed = root.post("/console/account/password", {"password": PASSWORD, "code": code, **new})
    assert "The password was changed" in root.follow(changed).words


def test_an_administrators_own_second_factor_is_removed_where_its_code_is_asked_for(desk: Desk) -> None:
    desk.user("root", administrator=True)
    root, _, _ = with_factor(desk, "root")
    sent = root.post("/console/users/root/second-factor")
    assert (sent.status, sent.header("location")) == (303, "/console/account/second-factor")
    assert "/console/users/root/second-factor" not in root.get("/console/users/root").text
    assert desk.house.records(kind="second_factor.disable") == []
