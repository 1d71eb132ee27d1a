"""Long lists, a leaf at a time, both ways; whatever comes or goes meanwhile."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.console.form import Form
from gateway.console.leaves import ROWS, leaf, newest
from tests.console.browsing import Browser, Desk, Sheet
from tests.console.stocked import team
from tests.house import OPERATOR

NAMES = [f"n{number:03}" for number in range(130)]


def plain(text: str) -> str:
    return text


def test_leaves_lead_forth_and_back_over_every_row_once() -> None:
    seen: list[str] = []
    shown = leaf(reversed(NAMES), plain, Form())
    assert (shown.before, shown.count) == ("", 130)
    while True:
        seen += shown.rows
        if not shown.after:
            break
        shown = leaf(NAMES, plain, Form([("after", shown.after)]))
    assert seen == NAMES
    back = leaf(NAMES, plain, Form([("before", shown.before)]))
    assert list(back.rows) == NAMES[50:100]
    assert list(leaf(NAMES, plain, Form([("before", back.before)])).rows) == NAMES[:50]


@given(st.lists(st.text(min_size=1, max_size=3), unique=True, max_size=200), st.text(max_size=3), st.booleans())
def test_any_name_leads_somewhere(names: list[str], name: str, backwards: bool) -> None:
    shown = leaf(names, plain, Form([("before" if backwards else "after", name)]))
    assert len(shown.rows) <= ROWS
    assert list(shown.rows) == sorted(shown.rows)
    if names and not backwards and name < max(names):
        assert shown.rows, "rows come after it, and none is shown"
    if shown.before:
        assert leaf(names, plain, Form([("before", shown.before)])).rows


def test_the_greatest_number_comes_first() -> None:
    numbers = [1, 9, 10, 123_456_789]
    assert sorted(numbers, key=newest) == sorted(numbers, reverse=True)


def walked(browser: Browser, page: str, found: Callable[[Sheet], list[str]]) -> list[str]:
    """What every leaf of *page* shows, by following its links or pressing its buttons; and back again to the first."""
    seen, sheet, first = [], browser.get(page), browser.get(page).text
    while True:
        assert sheet.status == 200, sheet.words
        seen += found(sheet)
        following = _beside(browser, sheet, "next", "after")
        if following is None:
            break
        sheet = following
    while following := _beside(browser, sheet, "(?:prev|first)", "before"):
        sheet = following
    assert found(sheet) == found(Sheet(200, (), first))
    return seen


def _beside(browser: Browser, sheet: Sheet, rel: str, way: str) -> Sheet | None:
    """The leaf beside the one that *sheet* shows; None if it leads to none."""
    if link := re.search(rf'rel="{rel}" href="([^"]+)"', sheet.text):
        return browser.get(link[1].replace("&amp;", "&"))
    if button := re.search(rf'name="turn" value="({way}:[^"]+)"', sheet.text):
        action = re.search(r'<form method="post" action="([^"]+)"', sheet.text.partition("<main")[2])
        assert action is not None
        return browser.follow(browser.post(action[1].replace("&amp;", "&"), {**sheet.fields, "turn": button[1]}))
    return None


@pytest.mark.long
def test_projects_members_robots_and_users_are_leafed_through(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    desk.project("gallery")
    for number in range(60):
        desk.user(f"user-{number:02}")
        desk.grant(f"user-{number:02}", "puller", "gallery")
        desk.project(f"project-{number:02}")
    for name in ("user-00", "user-07"):
        desk.grant(name, "pusher", "gallery/ui-*")

    def links(pattern: str) -> Callable[[Sheet], list[str]]:
        return lambda sheet: re.findall(pattern, sheet.text)

    users = walked(root, "/console/users", links(r'href="/console/users/(user-\d\d)"'))
    assert users == [f"user-{number:02}" for number in range(60)]
    projects = walked(root, "/console/projects", links(r'href="/console/projects/(project-\d\d)"'))
    assert projects == [f"project-{number:02}" for number in range(60)]
    members = walked(root, "/console/projects/gallery/members", links(r'<th scope="row">(user-\d\d)</th>'))
    assert sorted(members) == sorted([*users, "user-00", "user-07"])
    everywhere = walked(root, "/console/grants?role=puller", links(r"access\?account=(user-\d\d)"))
    assert everywhere == users
    narrowed = root.get("/console/projects/gallery/members?q=user-07").words
    assert "user-07" in narrowed
    assert "user-08" not in narrowed
    assert "No member has zzz" in root.get("/console/projects/gallery/members?q=zzz").words


def test_a_filter_is_kept_from_leaf_to_leaf(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    for number in range(55):
        desk.project(f"pa-{number:02}")
        if number < 5:
            desk.project(f"pb-{number:02}")
    sheet = root.get("/console/projects?q=pa-")
    [following] = re.findall(r'rel="next" href="([^"]+)"', sheet.text)
    rest = root.get(following.replace("&amp;", "&"))
    assert re.findall(r"/projects/(p[ab]-\d\d)", rest.text) == [f"pa-{number}" for number in range(50, 55)]
    assert rest.fields["q"] == "pa-"


@pytest.mark.long
def test_robots_and_a_users_grants_are_leafed_through(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    desk.project("gallery")
    desk.user("jane")
    for number in range(52):
        desk.run(desk.acts.robots.add_robot(OPERATOR, f"gallery+r{number:02}", "puller"))
        desk.grant("jane", "puller", f"gallery/r{number:02}")
    page = "/console/projects/gallery/robots"
    robots = walked(root, page, lambda sheet: re.findall(r'class="mono">gallery\+(r\d\d)<', sheet.text))
    reaches = walked(root, "/console/users/jane", lambda sheet: re.findall(r">gallery/(r\d\d)<", sheet.text))
    assert robots == reaches == [f"r{number:02}" for number in range(52)]


@pytest.mark.long
def test_what_was_deleted_a_tags_history_and_a_plan_are_leafed_through(desk: Desk) -> None:
    stock = team(desk)
    tags = [f"t{number:02}" for number in range(53)]
    stock.image("gallery/ui", *tags)
    jane = desk.browser("jane")
    desk.run(desk.acts.retention.set(OPERATOR, "gallery", last=1, matching=(), pulled_days=None))
    plan = walked(
        jane,
        "/console/projects/gallery/settings/retention/plan",
        lambda sheet: re.findall(r">gallery/ui:(t\d\d)<", sheet.text),
    )
    assert sorted(plan) == tags
    for tag in tags:
        desk.run(desk.acts.repositories.remove_tag(OPERATOR, "gallery/ui", tag))
    for page in ("/console/deleted/gallery/ui", "/console/projects/gallery/deleted"):
        deleted = walked(jane, page, lambda sheet: re.findall(r"restorations/(t\d\d)/", sheet.text))
        assert sorted(deleted) == tags, page
    for _ in range(26):
        desk.run(desk.acts.trash.restore_tag(OPERATOR, "gallery/ui", "t00"))
        desk.run(desk.acts.repositories.remove_tag(OPERATOR, "gallery/ui", "t00"))
    moves = walked(
        jane,
        "/console/tag-history/t00/gallery/ui",
        lambda sheet: re.findall(r"<code>(tag\.\w+)</code>", sheet.text),
    )
    assert moves[0] == "tag.delete"
    assert moves.count("tag.restore") == 26
