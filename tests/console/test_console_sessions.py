"""Signing in to the console and out of it: cookies, second factors, forms that survive, addresses that stay ours."""

from __future__ import annotations

import base64
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.second_factors import code_at
from gateway.console.session import COOKIE
from gateway.console.visit import local
from tests.console.browsing import PASSWORD, Browser, Desk, Sheet


def sign_in(browser: Browser, name: str, password: str = PASSWORD, page: str = "/console/sign-in") -> Sheet:
    return browser.fill(page, "/console/sign-in", name=name, password=password)


def with_factor(desk: Desk, name: str) -> tuple[Browser, bytes, list[str]]:
    """A browser of *name*, who has just set up a second factor; its key and recovery codes."""
    browser = desk.browser(name)
    begun = browser.post("/console/account/second-factor/begin", {"password": PASSWORD})
    [secret] = re.findall(r"secret=([A-Z2-7]+)", begun.text)
    key = base64.b32decode(secret)
    step = int(time.time()) // 30
    done = browser.post("/console/account/second-factor/confirm", {**begun.fields, "code": code_at(key, step)})
    assert "second factor is on" in done.words
    return browser, key, re.findall(r"<li>([a-z0-9-]+)</li>", done.text)


def test_who_signs_in_gets_a_cookie_that_only_our_pages_send_back(desk: Desk) -> None:
    desk.user("jane")
    browser = desk.browser()
    answer = sign_in(browser, "jane", page="/console/sign-in?next=/console/account")
    assert (answer.status, answer.header("location")) == (303, "/console/account")
    cookie = answer.header("set-cookie")
    assert cookie.startswith(f"{COOKIE}=")
    assert {part.strip() for part in cookie.split(";")[1:]} == {"Path=/", "Secure", "HttpOnly", "SameSite=Strict"}
    assert browser.follow(answer).heading == "jane"
    assert desk.last("account.sign_in")["outcome"] == "allowed"


def test_a_wrong_password_is_told_as_an_unknown_name_is(desk: Desk) -> None:
    desk.user("jane")
    wrong, unknown = sign_in(desk.browser(), "jane", "not the password"), sign_in(desk.browser(), "nobody", "x")
    assert wrong.status == unknown.status == 403
    assert wrong.words.replace("jane", "nobody") == unknown.words
    assert wrong.fields["name"] == "jane"
    assert wrong.fields["password"] == ""
    assert wrong.header("set-cookie") == ""
    assert desk.last("account.sign_in")["outcome"] == "denied"


def test_many_wrong_passwords_are_answered_with_patience(desk: Desk) -> None:
    desk.user("jane")
    browser = desk.browser()
    answers = [sign_in(browser, "jane", f"wrong number {number}") for number in range(25)]
    throttled = [answer for answer in answers if answer.status == 429]
    assert throttled
    assert int(throttled[0].header("retry-after")) > 0
    assert sign_in(browser, "jane").status == 429


def test_signing_in_changes_the_cookie_and_ends_what_it_named(desk: Desk) -> None:
    desk.user("jane")
    browser = desk.browser()
    browser.cookie = "a-cookie-that-somebody-planted-------------"
    sign_in(browser, "jane")
    first = browser.cookie
    assert first != "a-cookie-that-somebody-planted-------------"
    again = desk.browser()
    again.cookie = first
    answer = again.post("/console/sign-in", {"name": "jane", "password": PASSWORD})
    assert answer.status == 303
    assert again.cookie != first
    assert browser.get("/console/projects").status == 303, "the old cookie still names a session"
    assert again.get("/console/projects").status == 200


def test_signing_out_ends_the_session(desk: Desk) -> None:
    browser = desk.browser("jane")
    kept = browser.cookie
    answer = browser.post("/console/sign-out")
    assert "You are signed out." in browser.follow(answer).words
    assert "Max-Age=0" in answer.header("set-cookie")
    browser.cookie = kept
    assert browser.get("/console/projects").status == 303


def test_whoever_is_signed_in_is_not_asked_again(desk: Desk) -> None:
    answer = desk.browser("jane").get("/console/sign-in?next=/console/account/tokens")
    assert (answer.status, answer.header("location")) == (303, "/console/account/tokens")


def test_a_disabled_user_is_signed_out_at_once(desk: Desk) -> None:
    root, jane = desk.browser("root", administrator=True), desk.browser("jane")
    assert jane.get("/console/projects").status == 200
    root.post("/console/users/jane/state", {"enabled": "no"})
    assert jane.get("/console/projects").status == 303


# second factor


def test_a_second_factor_is_asked_for_after_the_password(desk: Desk) -> None:
    _, key, _ = with_factor(desk, "jane")
    browser = desk.browser()
    asked = sign_in(browser, "jane", page="/console/sign-in?next=/console/account")
    assert (asked.status, asked.heading) == (200, "Second factor")
    assert browser.get("/console/projects").status == 303, "the password alone signs in"
    wrong = browser.post("/console/sign-in/code", {**asked.fields, "code": "000000"})
    assert (wrong.status, wrong.heading) == (403, "Second factor")
    code = code_at(key, int(time.time()) // 30 + 1)
    answer = browser.post("/console/sign-in/code", {**wrong.fields, "code": code})
    assert (answer.status, answer.header("location")) == (303, "/console/account")
    assert browser.follow(answer).heading == "jane"


def test_a_recovery_code_signs_in_once(desk: Desk) -> None:
    _, _, codes = with_factor(desk, "jane")
    assert len(codes) == 10
    for status in (303, 403):
        browser = desk.browser()
        asked = sign_in(browser, "jane")
        assert browser.post("/console/sign-in/code", {**asked.fields, "code": codes[0]}).status == status


def test_a_forged_or_old_ticket_leads_back_to_the_password(desk: Desk) -> None:
    answer = desk.browser().post("/console/sign-in/code", {"ticket": "1.1.1.nonsense", "code": "123456"})
    assert (answer.status, answer.heading) == (403, "Sign in")


def test_setting_up_a_second_factor_gives_another_cookie_and_ends_other_sessions(desk: Desk) -> None:
    elsewhere = desk.browser("jane")
    before = elsewhere.cookie
    browser, _, _ = with_factor(desk, "jane")
    assert browser.cookie != before
    assert browser.get("/console/account").status == 200
    assert elsewhere.get("/console/account").status == 303


def test_who_finds_a_browser_left_open_sets_up_no_second_factor(desk: Desk) -> None:
    browser = desk.browser("jane")
    refused = browser.post("/console/account/second-factor/begin", {"password": "a guess or two"})
    assert refused.status == 422
    assert "wrong" in refused.error("password")
    assert "secret=" not in refused.text


def test_a_wrong_code_shows_the_same_key_again(desk: Desk) -> None:
    browser = desk.browser("jane")
    begun = browser.post("/console/account/second-factor/begin", {"password": PASSWORD})
    again = browser.post("/console/account/second-factor/confirm", {**begun.fields, "code": "000000"})
    secrets = [re.findall(r"secret=([A-Z2-7]+)", sheet.text) for sheet in (begun, again)]
    assert secrets[0] == secrets[1] != []
    assert "clock" in again.error("code")
    assert "<path d=" in again.text, "no QR code is drawn"


def test_a_second_factor_is_removed_with_a_code_of_it_alone(desk: Desk) -> None:
    browser, key, _ = with_factor(desk, "jane")
    refused = browser.post("/console/account/second-factor/disable", {"code": "000000"})
    assert (refused.status, bool(refused.error("code"))) == (422, True)
    code = code_at(key, int(time.time()) // 30 + 1)
    done = browser.post("/console/account/second-factor/disable", {"code": code})
    assert "There is no second factor" in browser.follow(done).words


def test_an_administrator_removes_the_second_factor_of_somebody_who_lost_it(desk: Desk) -> None:
    with_factor(desk, "jane")
    root = desk.browser("root", administrator=True)
    root.post("/console/users/jane/second-factor")
    assert sign_in(desk.browser(), "jane").status == 303


# a session that ends in the middle of a form


def test_a_form_that_met_an_expired_session_is_kept_through_signing_in(desk: Desk) -> None:
    desk.project("gallery")
    desk.user("jane")
    desk.user("root", administrator=True)
    browser = desk.browser()
    filled = {"csrf": "of the session that ended", "principal": "jane", "role": "pusher", "pattern": "ui-*"}
    kept = browser.post("/console/projects/gallery/members", filled)
    assert kept.status == 401
    assert "what you filled in is kept" in kept.words
    wrong = browser.post("/console/sign-in", {**kept.fields, "name": "root", "password": "wrong wrong"})
    resumed = browser.post("/console/sign-in", {**wrong.fields, "name": "root", "password": PASSWORD})
    assert (resumed.status, resumed.heading) == (200, "Your form was kept")
    assert {"principal": "jane", "role": "pusher", "pattern": "ui-*"}.items() <= resumed.fields.items()
    sent = browser.post("/console/projects/gallery/members", resumed.fields)
    assert "gallery/ui-*" in browser.follow(sent).words


def test_passwords_and_codes_are_not_carried_along(desk: Desk) -> None:
    desk.user("root", administrator=True)
    browser = desk.browser()
    filled = {"name": "bob", "password": "hunter2 hunter2", "code": "123456", "csrf": "x"}
    kept = browser.post("/console/users/new", filled)
    resumed = browser.post("/console/sign-in", {**kept.fields, "name": "root", "password": PASSWORD})
    assert "were not kept" in resumed.words
    assert "hunter2" not in resumed.text + kept.text
    assert "password" not in resumed.fields
    assert "code" not in resumed.fields


def test_a_forged_carried_form_is_as_good_as_none(desk: Desk) -> None:
    desk.user("root", administrator=True)
    forged = base64.urlsafe_b64encode(b"0" * 80).decode()
    for carried in ("x", forged, "é"):
        answer = desk.browser().post("/console/sign-in", {"name": "root", "password": PASSWORD, "carried": carried})
        assert (answer.status, answer.header("location")) == (303, "/console/")


# no redirect leaves us

FOREIGN = [
    "//evil.example",
    "///evil.example",
    "https://evil.example/console/",
    "https:evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/console//evil.example",
    "/console/..//evil.example",
    "/console/../v2/",
    "/console/./x",
    "/console\\@evil.example",
    "/console/\r\nSet-Cookie: a=b",
    "/console/%0d%0aSet-Cookie:%20a=b\n",
    "/consoleevil.example",
    "/console.evil.example/",
    "javascript:alert(1)",
    "/v2/",
    " /console/",
    "/console/\t/evil",
    "/console/%2e%2e/api/v1/openapi.json",
    "/console/projects/.%2E/%2e./v2/",
    "/console/%2e/projects",
    "",
]


@pytest.mark.parametrize("wanted", FOREIGN)
def test_no_next_leads_elsewhere(desk: Desk, wanted: str) -> None:
    desk.user("jane")
    answer = desk.browser().post("/console/sign-in", {"name": "jane", "password": PASSWORD, "next": wanted})
    assert (answer.status, answer.header("location")) == (303, "/console/")


@given(st.text(max_size=60) | st.builds("/console/{}".format, st.text(max_size=60)))
def test_whatever_is_asked_for_the_address_is_one_of_ours(text: str) -> None:
    found = local(text)
    assert re.fullmatch(r"/console/?|/console[/?][^\\\s]+", found)
    assert "//" not in found.partition("?")[0]
    assert local(found) == found


def test_a_page_with_its_query_is_returned_to() -> None:
    for address in ("/console/projects?q=ui-%2A&page=2", "/console/projects/a/members/edit?principal=a%2Bci&reach=a"):
        assert local(address) == address


def test_who_comes_from_another_site_is_offered_to_go_on(desk: Desk) -> None:
    browser = desk.browser()
    crossing = browser.get("/console/sign-in?next=/console/account", {"Sec-Fetch-Site": "cross-site"})
    assert 'href="/console/account">I am signed in already' in crossing.text
    assert "signed in already" not in browser.get("/console/sign-in").words
