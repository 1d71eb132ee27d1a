"""The frame: what every page carries, who gets to see one, and what it refuses."""

from __future__ import annotations

from tests.console.browsing import Desk


def test_a_stranger_is_sent_to_sign_in_and_back(desk: Desk) -> None:
    answer = desk.browser().get("/console/projects?q=a")
    assert answer.status == 303
    assert answer.header("location") == "/console/sign-in?next=%2Fconsole%2Fprojects%3Fq%3Da"


def test_a_project_can_be_added_and_is_seen(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    sheet = root.follow(root.fill("/console/projects/new", name="gallery", public="yes"))
    assert (sheet.status, sheet.heading) == (200, "gallery")
    assert "gallery" in root.get("/console/projects").words
