"""The frame: what every page carries, who gets to see one, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.console.application import ALWAYS, POLICY
from gateway.console.pages import GROUPS
from gateway.console.session import COOKIE
from tests.console.browsing import HOST, Desk

PAGES = [page for group in GROUPS for page in group.pages]
CLOSED = [page for page in PAGES if not page.open]
TEMPLATES = sorted((Path(__file__).parents[2] / "gateway/console/templates").glob("*.html"))


def address_of(path: str) -> str:
    return "/console" + re.sub(r"\{(\w+)(:path)?\}", r"some-\1", path)


def test_a_stranger_is_sent_to_sign_in_and_back(desk: Desk) -> None:
    answer = desk.browser().get("/console/projects?q=a")
    assert answer.status == 303
    assert answer.header("location") == "/console/sign-in?next=%2Fconsole%2Fprojects%3Fq%3Da"


def test_no_page_but_the_door_opens_to_a_stranger(desk: Desk) -> None:
    stranger = desk.browser()
    for page in CLOSED:
        if page.get is not None:
            answer = stranger.get(address_of(page.path))
            assert (answer.status, answer.header("location").partition("?")[0]) == (303, "/console/sign-in")
        if page.post is not None:
            answer = stranger.post(address_of(page.path), {"name": "kept"})
            assert answer.status == 401, page.path
    assert {page.path for page in PAGES if page.open} == {"/sign-in", "/sign-in/code"}


def test_every_form_needs_the_token_of_its_session(desk: Desk) -> None:
    root, other = desk.browser("root", administrator=True), desk.browser("other", administrator=True)
    for page in CLOSED:
        if page.post is not None:
            for token in ("", "wrong", other.csrf()):
                answer = root.post(address_of(page.path), {"csrf": token})
                assert (answer.status, "another session" in answer.words) == (403, True), page.path


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://{HOST}"},
        {"Origin": f"https://{HOST}.evil.example"},
        {"Origin": f"https://{HOST}", "Sec-Fetch-Site": "cross-site"},
        {"Origin": f"https://{HOST}", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_a_form_from_elsewhere_does_nothing(desk: Desk, headers: dict[str, str]) -> None:
    root = desk.browser("root", administrator=True)
    assert root.post("/console/projects/new", {"name": "gallery"}, headers).status == 403
    assert desk.browser().post("/console/sign-in", {"name": "root", "password": "x"}, headers).status == 403
    assert "gallery" not in root.get("/console/projects").words


def test_every_answer_carries_the_policy(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    answers = [
        root.get("/console/projects"),
        root.get("/console/nothing"),
        desk.browser().get("/console/projects"),
        desk.browser().get("/console/sign-in"),
        root.get("/console/static/console.css"),
        root.post("/console/projects/new", {"csrf": ""}),
    ]
    for answer in answers:
        for name, value in ALWAYS.items():
            assert answer.header(name) == value
        assert len(answer.header("x-request-id")) == 32
    pages = [answer for answer in answers if answer.header("content-type") != "text/css; charset=utf-8"]
    assert [answer.header("cache-control") for answer in pages] == ["no-store"] * 5
    assert "unsafe" not in POLICY
    assert "default-src 'none'" in POLICY


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_holds_a_script_or_style_of_its_own(template: Path) -> None:
    text = template.read_text()
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|\|\s*safe\b", text)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_form_that_changes_something_carries_the_token(template: Path) -> None:
    for form in re.findall(r'<form[^>]*method="post".*?</form>', template.read_text(), re.DOTALL):
        if "/sign-in" not in form.partition(">")[0]:
            assert "csrf_input()" in form or "{{ csrf_field }}" in form


def test_what_is_not_there_is_told_as_a_page(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    for path in ("/console/nothing", "/console/projects/none", "/console/users/nobody", "/console/static/none.css"):
        assert root.get(path).status == 404, path
    assert root.get("/console").status == 308


def test_a_method_that_a_page_does_not_answer_is_refused(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    assert root.post("/console/users").status == 400
    assert root.get("/console/sign-out").status == 400


def test_a_body_that_is_no_form_or_too_large_is_refused(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    origin = {"Origin": f"https://{HOST}"}
    assert root.post("/console/projects/new", {}, {**origin, "Content-Type": "application/json"}).status == 400
    assert root.post("/console/projects/new", {"name": "x" * 70_000}).status == 413
    assert root.post("/console/projects/new", {f"f{number}": "" for number in range(300)}).status == 400


def test_a_fault_tells_its_number_and_nothing_else(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    root = desk.browser("root", administrator=True)

    def broken(*_: object) -> None:
        raise RuntimeError("secret innards")

    monkeypatch.setattr(type(desk.acts.projects), "list_projects", broken)
    answer = root.get("/console/projects")
    assert answer.status == 500
    assert answer.header("x-request-id") in answer.words
    assert "innards" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("path", ["projects", "sign-in", "audit", "nothing"])
@pytest.mark.parametrize("who", ["", "root"])
def test_an_address_with_more_than_any_form_has_is_refused_as_a_page(desk: Desk, path: str, who: str) -> None:
    browser = desk.browser(who, administrator=True) if who else desk.browser()
    answer = browser.get(f"/console/{path}?said=saved&" + "&".join(f"f{number}=" for number in range(300)))
    assert (answer.status, answer.heading) == (400, "Not possible")
    assert "at most 200 fields" in answer.words
    assert "Saved." not in answer.words
    assert {name: answer.header(name) for name in ALWAYS} == ALWAYS


def test_what_fails_the_page_and_the_frame_too_is_told_by_a_bare_page(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = desk.browser("root", administrator=True)

    async def broken(*_: object) -> None:
        raise RuntimeError("secret innards")

    monkeypatch.setattr(type(desk.house.directory), "standing", broken)
    for path, status in (("projects", 500), ("nothing", 404)):
        answer = root.get(f"/console/{path}")
        assert (answer.status, answer.heading) == (status, "Registry gateway")
        assert answer.header("x-request-id") in answer.words
        assert "innards" not in answer.text
        assert {name: answer.header(name) for name in ALWAYS} == ALWAYS


def test_a_cookie_that_comes_twice_names_nobody(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    root.extra = {"cookie": f"{COOKIE}={root.cookie}; {COOKIE}=other"}
    root.cookie = ""
    assert root.get("/console/projects").status == 303


def test_an_authorization_header_means_nothing_here(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    made = root.fill("/console/account/tokens", name="laptop", actions="manage")
    [token] = re.findall(r"gwp_[\w-]+", made.text)
    stranger = desk.browser()
    stranger.extra = {"Authorization": f"Bearer {token}"}
    assert stranger.get("/console/projects").status == 303


def test_static_files_never_go_stale(desk: Desk) -> None:
    browser = desk.browser()
    page = browser.get("/console/sign-in")
    [address] = re.findall(r'href="(/console/static/console.css\?v=\w+)"', page.text)
    answer = browser.get(address)
    assert (answer.status, answer.header("content-type")) == (200, "text/css; charset=utf-8")
    assert "immutable" in answer.header("cache-control")
    assert browser.get(address, {"If-None-Match": answer.header("etag")}).status == 304


def test_places_are_shown_to_those_who_may_go_there(desk: Desk) -> None:
    desk.project("gallery", public=True)
    root, jane = desk.browser("root", administrator=True), desk.browser("jane")
    assert '/console/users"' in root.get("/console/projects").text
    assert '/console/users"' not in jane.get("/console/projects").text
    assert "/members" in root.get("/console/projects/gallery").text
    assert "/members" not in jane.get("/console/projects/gallery").text


def test_a_page_and_all_it_needs_weigh_less_than_100_kilobytes(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    for number in range(40):
        desk.project(f"project-{number}")
    page = root.get("/console/projects")
    parts = re.findall(r'(?:href|src)="(/console/static/[^"]+)"', page.text)
    assert any("htmx" in part for part in parts)
    weights = {part: len(root.get(part).text.encode()) for part in parts}
    assert len(page.text.encode()) + sum(weights.values()) <= 100_000, weights
