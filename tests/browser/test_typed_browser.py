"""What was typed in a browser is neither lost, nor taken for something else than was meant."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import PASSWORD
from tests.browser.looking import Looker, looking
from tests.house import second_over
from tests.services.gateway import Gateway

pytestmark = pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])


@pytest.fixture(scope="module")
def happened(gateway: Gateway) -> None:
    """An auditor, and grants that a review finds: one finding for each who gave some."""
    gateway.add_user("ann", PASSWORD, "--auditor")
    for name in ("joe", "jane", "kim"):
        gateway.add_user(name, PASSWORD)
        gateway.cli("project", "add", f"of-{name}").must()
        gateway.cli("grant", name, "owner", f"of-{name}").must()
    second_over()


@pytest.fixture
def window(gateway: Gateway, chromium: Browser, happened: None, scripts: bool) -> Iterator[Looker]:
    with looking(chromium, f"https://{gateway.registry}", scripts=scripts) as window:
        sign_in(window, "ann")
        yield window


def sign_in(window: Looker, name: str) -> None:
    window.open("/console/")
    window.fill(name=name, password=PASSWORD)
    window.press("Sign in")


def begun(window: Looker) -> list[str]:
    """A new review in the window; the numbers of what it found."""
    window.open("/console/reviews")
    window.press("Begin")
    found = [str(each.get_attribute("id")) for each in window.page.locator("div.found").all()]
    assert len(found) >= 3
    return [each.removeprefix("finding-") for each in found]


def decide(page: Page, number: str, words: str) -> None:
    page.locator(f"#finding-{number}").get_by_role("button", name=words).click()
    page.wait_for_load_state()


def mark_of(page: Page, number: str) -> str:
    badge = page.locator(f"#finding-{number} h3 .badge")
    return badge.inner_text() if badge.count() else ""


def test_enter_in_a_note_marks_nothing_and_keeps_the_note(window: Looker, scripts: bool) -> None:
    _, second, *_ = begun(window)
    page = window.page
    page.fill(f"#note-{second}", "bob must be asked")
    page.press(f"#note-{second}", "Enter")
    page.wait_for_url("**/mark")
    assert page.input_value(f"#note-{second}") == "bob must be asked"
    assert page.evaluate("document.activeElement.id") == f"note-{second}"
    assert "Choose Fine or Follow up" in page.locator(f"#note-{second}-error").inner_text()
    if scripts:
        window.look("review-nothing-chosen")
    decide(page, second, "Follow up")
    assert mark_of(page, second) == "follow up"


def test_marking_one_finding_keeps_the_other_notes_and_stays_where_it_is(window: Looker) -> None:
    first, *_, last = begun(window)
    page = window.page
    page.set_viewport_size({"width": 900, "height": 400})
    page.fill(f"#note-{first}", "a long careful note")
    decide(page, last, "Fine")
    assert (mark_of(page, last), mark_of(page, first)) == ("fine", "")
    assert page.input_value(f"#note-{first}") == "a long careful note"
    assert page.locator(f"#finding-{last}").is_visible()
    box = page.locator(f"#finding-{last}").bounding_box()
    assert box is not None
    assert 0 <= box["y"] < 400
    decide(page, first, "Follow up")
    page.wait_for_url(f"**/reviews/*#finding-{first}")
    assert window.says("Saved.")
    assert (mark_of(page, first), page.input_value(f"#note-{first}")) == ("follow up", "a long careful note")


def test_what_somebody_else_said_meanwhile_is_shown_before_it_is_replaced(
    gateway: Gateway, chromium: Browser, window: Looker, scripts: bool
) -> None:
    first, *_ = begun(window)
    with looking(chromium, f"https://{gateway.registry}", scripts=scripts) as other:
        sign_in(other, "root")
        other.page.goto(window.page.url)
        other.page.fill(f"#note-{first}", "ticket 17: this was not agreed")
        decide(other.page, first, "Follow up")
        decide(window.page, first, "Fine")
        assert mark_of(window.page, first) == "follow up"
        assert window.says("Somebody marked this finding while you had it open.")
        assert window.says("ticket 17: this was not agreed")
        if scripts:
            window.look("review-overtaken")
        decide(window.page, first, "Fine")
        assert mark_of(window.page, first) == "fine"


def test_a_note_that_was_left_alone_hides_nothing_and_nothing_is_signed_that_was_not_seen(
    gateway: Gateway, chromium: Browser, window: Looker, scripts: bool
) -> None:
    first, second, *others = begun(window)
    page = window.page
    for number in (second, *others):
        decide(page, number, "Fine")
    with looking(chromium, f"https://{gateway.registry}", scripts=scripts) as other:
        sign_in(other, "root")
        other.page.goto(page.url.partition("?")[0].partition("#")[0])
        other.page.fill(f"#note-{second}", "not agreed after all")
        decide(other.page, second, "Follow up")
    page.fill(f"#note-{first}", "asked joe")
    page.press(f"#note-{first}", "Enter")
    page.wait_for_url("**/mark")
    assert (page.input_value(f"#note-{second}"), mark_of(page, second)) == ("not agreed after all", "follow up")
    assert page.locator(f"#note-{second}-error").count() == 0
    decide(page, first, "Fine")
    page.wait_for_url(f"**/reviews/*#finding-{first}")
    assert page.input_value(f"#note-{second}") == "not agreed after all"


def test_what_was_typed_is_signed_off_with_its_mark_or_not_at_all(window: Looker, scripts: bool) -> None:
    numbers = begun(window)
    page = window.page
    for number in numbers:
        decide(page, number, "Fine")
    page.fill("#note", "looked through")
    page.press("#note", "Enter")
    page.wait_for_url("**/mark")
    assert "nothing was signed yet" in page.locator("#note-error").inner_text()
    page.fill(f"#note-{numbers[1]}", "a long careful note")
    window.press("Sign off")
    page.wait_for_url("**/sign-off")
    assert "nothing was saved yet" in page.locator(f"#note-{numbers[1]}-error").inner_text()
    assert page.evaluate("document.activeElement.id") == f"note-{numbers[1]}"
    assert page.input_value(f"#note-{numbers[1]}") == "a long careful note"
    if scripts:
        window.look("review-not-signed-yet")
    decide(page, numbers[1], "Fine")
    assert page.input_value("#note") == "looked through"
    window.press("Sign off")
    assert window.says("The review was signed off.")
    assert window.says("a long careful note")


def test_two_clicks_mark_once_and_are_told_of_nobody_else(window: Looker) -> None:
    first, second, *_ = begun(window)
    page = window.page
    page.locator(f"#finding-{first}").get_by_role("button", name="Fine").dblclick()
    page.wait_for_url(f"**/reviews/*#finding-{first}")
    assert (mark_of(page, first), window.page.get_by_text("Somebody marked").count()) == ("fine", 0)
    page.fill(f"#note-{first}", "typed on")
    decide(page, second, "Fine")
    page.reload()
    assert (page.input_value(f"#note-{first}"), window.page.get_by_text("Somebody marked").count()) == ("typed on", 0)
    review, _, rest = page.url.partition("/mark")
    assert rest.startswith("#finding-")
    page.goto(f"{review}/mark")
    assert page.url == review


def test_the_search_that_is_kept_is_the_one_that_was_typed(window: Looker) -> None:
    window.open("/console/audit")
    name = f"denied {id(window)}"
    window.fill(name=name)
    window.press("Keep this search")
    assert window.says("there is nothing to keep")
    window.fill(outcome="denied", principal="joe", name=name)
    window.press("Keep this search")
    assert window.says("Saved.")
    assert "csrf" not in window.page.url
    window.open("/console/audit")
    window.press(name)
    assert (window.page.input_value("#outcome"), window.page.input_value("#principal")) == ("denied", "joe")
    window.press("Search")
    assert "csrf" not in window.page.url, "a search has its fields in its address"


def test_enter_in_the_name_of_a_search_says_that_it_was_not_kept(window: Looker, scripts: bool) -> None:
    window.open("/console/audit?outcome=denied")
    page = window.page
    name = f"mine {id(window)}"
    page.fill("#name", name)
    page.press("#name", "Enter")
    page.wait_for_url("**name=mine*")
    assert "Nothing was kept yet" in page.locator("#name-error").inner_text()
    assert (page.evaluate("document.activeElement.id"), page.input_value("#outcome")) == ("name", "denied")
    if scripts:
        window.look("search-not-kept-yet")
    window.press("Keep this search")
    assert window.says("Saved.")
    page.fill("#project", "NOPE!")
    page.fill("#name", name)
    window.press("Keep this search")
    assert page.input_value("#name") == name
    if scripts:
        window.look("search-flawed")
