"""Nothing that clients, users or addresses say runs before anybody, on any page or in the pack that is handed over."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser

from gateway.access.principals import Caller, Origin, Principal, PrincipalKind
from gateway.app import Rooms
from gateway.audit.event import Event, Kind, Outcome
from gateway.gate import Act
from tests.browser.conftest import PASSWORD
from tests.browser.furnishing import beside, stock_of
from tests.browser.looking import Looker, looking
from tests.console.hostile import CORPUS
from tests.house import OPERATOR
from tests.services.gateway import Gateway

pytestmark = pytest.mark.long

DIGEST = "sha256:" + "4f" * 32
#: A form on which everything may be typed: its page, its fields, and the button that sends it.
FORMS = (
    ("/projects/new", ("name",), "Add project"),
    ("/projects/den/members", ("principal", "pattern"), "Add member"),
    ("/projects/den/robots", ("name",), "Add robot"),
    ("/projects/den/access", ("repository",), "Ask"),
    ("/projects/den/settings", ("immutable", "read_only", "quota"), "Save"),
    ("/projects/den/settings/retention", ("last", "matching", "pulled_days"), "Save"),
    ("/access", ("account", "repository"), "Ask"),
    ("/users/new", ("name",), "Add user"),
    ("/users", ("q",), "Find"),
    ("/audit", ("project", "repository", "principal", "kind", "digest", "address", "since", "until"), "Search"),
    ("/audit?outcome=denied", ("name",), "Keep this search"),
    ("/audit/who-pulled", ("target", "at"), "Find out"),
    ("/audit/leak", ("credential", "since"), "Show what it touched"),
    ("/audit/replay", ("principal", "reach"), "Find out"),
    ("/reviews", ("since", "until", "project"), "Begin"),
    ("/account/tokens", ("name", "projects"), "Make token"),
    ("/account/tokens", ("name",), "Make token"),
)
#: Where what was typed, kept and recorded is shown again.
SHOWN = (
    "/projects",
    "/projects/den/settings",
    "/projects/den/audit",
    "/audit",
    f"/audit/who-pulled?target={DIGEST}",
    "/audit/leak?credential=den/ci&since=1d",
    "/account/tokens",
    "/account/sessions",
    "/reviews/1",
)


@pytest.fixture(scope="module")
def said(gateway: Gateway) -> list[int]:
    """Every text of the corpus, said by a stranger and by a robot in every field of events; their numbers."""
    return beside(gateway, _happened)


def _happened(rooms: Rooms) -> list[int]:
    acts = rooms.administration
    asyncio.run(acts.projects.add_project(OPERATOR, "den"))
    asyncio.run(acts.robots.add_robot(OPERATOR, "den/ci", "pusher"))
    house = stock_of(rooms, "root").house
    robot = stock_of(rooms, "den+ci").who
    for text in CORPUS:
        origin = Origin("192.0.2.9", "192.0.2.9", text, "0" * 32)
        stranger = Caller(Principal(PrincipalKind.ANONYMOUS, 0, text), origin)
        facts = {"repository": text, "project": "den", "reference": text, "reason": text, "digest": DIGEST}
        for caller in (stranger, replace(robot, origin=origin)):
            for kind, outcome in ((Kind.MANIFEST_PULL, Outcome.ALLOWED), (Kind.MANIFEST_PUSH, Outcome.DENIED)):
                asyncio.run(rooms.ledger.commit(Act(Event(kind, caller, outcome).but(**facts))))
    return [event["id"] for event in house.records(kind="manifest.push")]


@pytest.fixture
def window(gateway: Gateway, chromium: Browser, said: list[int]) -> Iterator[Looker]:
    with looking(chromium, f"https://{gateway.registry}") as window:
        window.open("/console/")
        window.fill(name="root", password=PASSWORD)
        window.press("Sign in")
        yield window


def quiet(window: Looker, *told: object) -> None:
    """Nothing ran; whatever the policy of the page had to stop is a complaint that ends the test."""
    assert window.page.evaluate("window.hit === undefined && top.hit === undefined"), told
    assert window.complaints == [], told


def test_what_is_typed_into_a_form_is_text(window: Looker) -> None:
    for path, names, button in FORMS:
        for text in CORPUS:
            window.open(f"/console{path}")
            for name in names:
                window.page.locator(f"#{name}").first.fill(text)
            with window.page.expect_navigation():
                window.page.get_by_role("button", name=button, exact=True).click()
            quiet(window, path, text)


def test_what_stands_in_an_address_is_text(window: Looker) -> None:
    for text in CORPUS:
        there = quote(text, safe="")
        for path in (
            there,
            f"projects/{there}",
            f"projects/{there}/members",
            f"projects/den/members/edit?principal={there}&reach={there}",
            f"repositories/den/{there}",
            f"manifests/{there}/den/x",
            f"removals/{there}/den/x",
            f"tag-history/{there}/den/x",
            f"deleted/{there}",
            f"users/{there}",
            f"audit/events/{there}",
            f"reviews/{there}",
            f"projects?said={there}&q={there}",
            f"sign-in?next={there}",
        ):
            window.open(f"/console/{path}")
            quiet(window, path)


def test_what_was_recorded_is_text_on_every_page_and_in_the_pack(
    gateway: Gateway, window: Looker, said: list[int], tmp_path: Path
) -> None:
    for number in said:
        window.open(f"/console/audit/events/{number}")
        quiet(window, number)
    window.open("/console/reviews")
    window.press("Begin")
    notes = [str(each.get_attribute("id")) for each in window.page.locator("input[id^=note-]").all()]
    assert notes
    for place, which in enumerate(note.removeprefix("note-") for note in notes):
        finding = window.page.locator(f"#finding-{which}")
        finding.locator("input[id^=note-]").fill(CORPUS[place % len(CORPUS)])
        with window.page.expect_navigation():
            finding.get_by_role("button", name="Follow up").click()
        quiet(window, which)
    window.fill(note=CORPUS[0])
    window.press("Sign off")
    assert window.says("The review was signed off.")
    for path in SHOWN:
        window.open(f"/console{path}")
        quiet(window, path)
    window.open("/console/reviews/1")
    with window.page.expect_download() as download:
        window.page.get_by_role("link", name="Evidence pack").click()
    with zipfile.ZipFile(download.value.path()) as packed:
        packed.extractall(tmp_path)
    window.page.goto((tmp_path / "review.html").as_uri())
    assert window.says(CORPUS[0])
    quiet(window, "the pack, from the disk")
    assert window.page.locator("script, img, iframe, link, base, form").count() == 0
