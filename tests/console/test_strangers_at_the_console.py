"""Strangers at the console: what they may learn by asking, and what they may make somebody else send."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from gateway.console import carrying
from tests.console.browsing import Desk
from tests.house import OPERATOR

FIELDS = (("principal", "mallory"), ("role", "owner"))
OF_A_PROJECT = (
    "/console/projects/{}",
    "/console/projects/{}/access",
    "/console/projects/{}/audit",
    "/console/projects/{}/deleted",
    "/console/projects/{}/members",
    "/console/projects/{}/settings",
    "/console/audit?project={}",
    "/console/audit/export?project={}",
    "/console/audit/who-pulled?target={}/app:v1",
    "/console/reviews?project={}",
    "/console/repositories/{}/app",
    "/console/deleted/{}/app",
    "/console/tag-history/v1/{}/app",
)


def test_a_link_to_the_sign_in_page_brings_no_form_with_it(desk: Desk) -> None:
    desk.user("root", administrator=True)
    sealed = carrying.seal(desk.console._parts.forms, "/console/projects/alpha/members", FIELDS)
    page = desk.browser().get(f"/console/sign-in?carried={sealed}")
    assert page.status == 200
    assert set(page.fields) == {"next", "name", "password"}


def test_whether_a_project_exists_is_not_told_to_who_holds_nothing_in_it(desk: Desk) -> None:
    desk.project("hidden")
    stranger = desk.browser("mallory")
    for path in OF_A_PROJECT:
        there, nowhere = (stranger.get(path.format(name)) for name in ("hidden", "absent"))
        assert there.status == nowhere.status >= 400, path
        assert there.words.replace("hidden", "absent") == nowhere.words, path


def test_a_number_tells_no_stranger_whose_event_or_review_it_is(desk: Desk) -> None:
    desk.project("hidden")
    now = datetime.now(UTC)
    begun = desk.run(desk.acts.reviews.begin(OPERATOR, now - timedelta(hours=1), now, project="hidden"))
    stranger = desk.browser("mallory")
    for kind, number in (("audit/events", desk.last("project.add")["id"]), ("reviews", begun.review.number)):
        there, nowhere = (stranger.get(f"/console/{kind}/{each}") for each in (number, 99_999_999))
        assert there.status == nowhere.status == 404
        assert there.words.replace(f" {number} ", " N ") == nowhere.words.replace(" 99999999 ", " N ")


def test_numbers_that_no_database_has_room_for_are_no_faults(desk: Desk) -> None:
    desk.project("alpha")
    root = desk.browser("root", administrator=True)
    now = datetime.now(UTC)
    review = desk.run(desk.acts.reviews.begin(OPERATOR, now - timedelta(hours=1), now)).review.number
    for digits in ("9" * 19, "9" * 40, "9" * 5000):
        for page in ("/console/audit", "/console/projects/alpha/audit"):
            assert root.get(f"{page}?before={digits}").status == 422
        assert root.get(f"/console/audit/leak?credential={digits}").status in {404, 422}
        marked = root.post(f"/console/reviews/{review}/mark", {"finding": digits, "mark": "fine"})
        assert marked.status in {404, 422}
