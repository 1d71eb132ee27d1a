"""The console in a real browser: from signing in to a robot, with scripts and without, looked at on the way."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import PASSWORD
from tests.browser.looking import Looker, looking
from tests.services.gateway import Gateway


def sign_in(window: Looker, name: str = "root") -> None:
    window.open("/console/")
    window.fill(name=name, password=PASSWORD)
    window.press("Sign in")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_from_signing_in_to_a_robot_that_pushes(gateway: Gateway, chromium: Browser, scripts: bool) -> None:
    project = "gallery" if scripts else "plain"
    with looking(chromium, f"https://{gateway.registry}", scripts=scripts) as window:
        page = window.page
        sign_in(window)
        window.press("New project")
        window.fill(name=project)
        window.press("Add project")
        assert page.locator("h1").inner_text() == project
        window.press("Members")
        window.fill(principal="root", role="owner", pattern="ui-*")
        window.press("Add member")
        assert window.says(f"{project}/ui-*")
        window.press("Robots")
        window.fill(name="ci", role="pusher", days="30")
        window.press("Add robot")
        secret = page.locator("#secret").inner_text()
        assert re.fullmatch(r"gwr_[\w-]{43}[0-9a-z]{6}", secret)
        assert page.get_by_role("button", name="Copy it").is_visible() == scripts
        window.press("I have copied it")
        assert secret not in page.content()
        window.press("Sign out")
        assert window.says("You are signed out.")


@pytest.mark.long
def test_every_page_is_accessible_light_dark_and_narrow(gateway: Gateway, chromium: Browser) -> None:
    gateway.add_user("jane.doe", PASSWORD)
    for number in range(9):
        gateway.cli("project", "add", f"team-{number}", *(["--public"] if number % 3 == 0 else [])).must()
    gateway.cli("project", "set", "team-1", "--quota", "10GiB", "--immutable", "v*", "--read-only", "Moving").must()
    for role, reach in (("pusher", "team-1"), ("puller", "team-2/base-*")):
        gateway.cli("grant", "add", "jane.doe", role, reach).must()
    gateway.cli("robot", "add", "team-1/ci", "pusher").must()
    with looking(chromium, f"https://{gateway.registry}") as window:
        window.open("/console/projects")
        window.look("sign-in")
        window.fill(name="root", password="wrong wrong")
        window.press("Sign in")
        window.look("sign-in-wrong")
        sign_in(window)
        for name, path in PAGES.items():
            window.open(f"/console{path}")
            window.look(name)
        window.open("/console/projects/team-1/members")
        window.fill(principal="Nobody At All", pattern="**")
        window.press("Add member")
        window.look("members-wrong")
        window.open("/console/projects/team-1/robots/ci/rotate")
        window.press("Make a new secret")
        window.look("robot-secret")
        window.open("/console/account/second-factor")
        window.fill(password=PASSWORD)
        window.press("Set one up")
        window.look("second-factor-begin")
        window.open("/console/account/tokens")
        window.fill(name="laptop")
        window.press("Make token")
        window.look("token-secret")
        window.open("/console/account/tokens")
        window.look("tokens")


PAGES = {
    "projects": "/projects",
    "projects-found": "/projects?q=team-1",
    "project-new": "/projects/new",
    "project": "/projects/team-1",
    "members": "/projects/team-1/members",
    "member-edit": "/projects/team-1/members/edit?principal=jane.doe&reach=team-1",
    "member-remove": "/projects/team-1/members/remove?principal=jane.doe&reach=team-1",
    "robots": "/projects/team-1/robots",
    "robots-none": "/projects/team-2/robots",
    "robot-rotate": "/projects/team-1/robots/ci/rotate",
    "settings": "/projects/team-1/settings",
    "project-remove": "/projects/team-1/settings/remove",
    "users": "/users",
    "user": "/users/jane.doe",
    "user-new": "/users/new",
    "user-password": "/users/jane.doe/password",
    "account": "/account",
    "sessions": "/account/sessions",
    "tokens-none": "/account/tokens",
    "second-factor": "/account/second-factor",
    "not-found": "/nothing",
}


@pytest.mark.long
def test_projects_are_found_while_one_types(gateway: Gateway, chromium: Browser) -> None:
    for name in ("typed-6", "typed-7"):
        gateway.cli("project", "add", name).must()
    with looking(chromium, f"https://{gateway.registry}") as window:
        sign_in(window)
        window.open("/console/projects?q=typed")
        assert window.page.locator("tbody tr").count() == 2
        window.page.locator("#q").press("End")
        window.page.locator("#q").press_sequentially("-7")
        window.page.wait_for_url("**/console/projects?q=typed-7")
        assert window.page.locator("tbody tr").count() == 1
        assert window.page.locator("#q").input_value() == "typed-7"


@pytest.mark.long
def test_the_keyboard_alone_is_enough(gateway: Gateway, chromium: Browser) -> None:
    with looking(chromium, f"https://{gateway.registry}") as window:
        page = window.page
        window.open("/console/")
        page.keyboard.type("root")
        page.keyboard.press("Tab")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/projects")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
