"""Effective access, as pages: of an account, and of a repository."""

from __future__ import annotations

from tests.console.browsing import Desk
from tests.console.stocked import team


def test_everybody_sees_what_they_themselves_can_do(desk: Desk) -> None:
    team(desk)
    page = desk.browser("reader").get("/console/access")
    assert page.heading == "Access of reader"
    assert "gallery pull puller on gallery" in page.words


def test_somebody_is_asked_about_on_one_repository(desk: Desk) -> None:
    team(desk)
    desk.grant("reader", "pusher", "gallery/ui-*")
    auditor = desk.browser("auditor", auditor=True)
    page = auditor.get("/console/access?account=reader&repository=gallery/api")
    assert "pull yes puller on gallery" in page.words
    assert "push no Nothing gives it." in page.words
    assert "pusher on gallery/ui-*, because it does not cover gallery/api" in page.words


def test_an_account_that_is_not_there_is_told_beside_the_field(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    page = root.get("/console/access?account=nobody")
    assert (page.status, "There is no user nobody" in page.error("account")) == (422, True)
    assert page.fields["account"] == "nobody"


def test_asking_about_others_is_for_who_may_review(desk: Desk) -> None:
    team(desk)
    assert desk.browser("reader").get("/console/access?account=jane").status == 403


def test_an_owner_sees_who_can_do_what_on_a_repository(desk: Desk) -> None:
    team(desk)
    desk.user("root", administrator=True)
    jane = desk.browser("jane")
    page = jane.get("/console/projects/gallery/access?repository=gallery/ui")
    assert "jane yes yes yes yes yes owner on gallery" in page.words
    assert "reader yes no no no no puller on gallery" in page.words
    assert "Administrators root" in page.words
    assert "Who can do what in all of gallery" in jane.get("/console/projects/gallery/access").words


def test_a_name_outside_the_grammar_is_told_beside_the_field(desk: Desk) -> None:
    team(desk)
    page = desk.browser("jane").get("/console/projects/gallery/access?repository=UPPER")
    assert (page.status, page.error("repository") != "") == (422, True)
    assert page.fields["repository"] == "UPPER"


def test_who_may_not_review_sees_nobodys_access(desk: Desk) -> None:
    team(desk)
    reader = desk.browser("reader")
    assert reader.get("/console/projects/gallery/access").status == 403
    assert "/access" not in reader.get("/console/projects/gallery").text.partition('class="tabs"')[2]
